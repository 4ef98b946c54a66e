//! The key in a call of `fiedler_set_key`, the one message whose content is a secret by its meaning.

use std::borrow::Cow;

const TOOL: &[u8] = b"\"fiedler_set_key\"";
const PARAMETER: &[u8] = b"\"api_key\"";
const STAND_IN: &[u8] = b"[redacted]";

/// The message as it may be kept: the same bytes, unless it calls that tool; then without the key.
pub fn without_tool_key(message: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memmem::find(message, TOOL).is_none() {
        return Cow::Borrowed(message);
    }
    let mut clean = Vec::with_capacity(message.len());
    let mut rest = message;
    while let Some((start, end)) = value(rest) {
        clean.extend_from_slice(&rest[..start]);
        clean.extend_from_slice(STAND_IN);
        rest = &rest[end..];
    }
    if clean.is_empty() {
        return Cow::Borrowed(message);
    }
    clean.extend_from_slice(rest);
    Cow::Owned(clean)
}

/// Where the next such parameter's text stands, without its quotes; to the end if it has none.
fn value(message: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    loop {
        let after = from + memchr::memmem::find(&message[from..], PARAMETER)? + PARAMETER.len();
        let blanks = |at: usize| message[at..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        let colon = after + blanks(after);
        let quote = colon + 1 + message.get(colon + 1..).map_or(0, |_| blanks(colon + 1));
        if message.get(colon) == Some(&b':') && message.get(quote) == Some(&b'"') {
            return Some((quote + 1, text_end(message, quote + 1)));
        }
        from = after;
    }
}

fn text_end(message: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(byte) = message.get(at) {
        match byte {
            b'"' => return at,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    message.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(message: &str) -> String {
        String::from_utf8(without_tool_key(message.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn the_key_goes_and_the_rest_stays() {
        let call = |key: &str| {
            format!(r#"{{"params":{{"name":"fiedler_set_key","arguments":{{"api_key" : "{key}","provider":"xai"}}}}}}"#)
        };
        assert_eq!(clean(&call("sk-test-0")), call("[redacted]"));
        assert_eq!(clean(&call(r#"a\"b\\"#)), call("[redacted]"));
        let twice = r#"["fiedler_set_key",{"api_key":"a"},{"api_key":3},{"api_key":"b"}]"#;
        assert_eq!(
            clean(twice),
            r#"["fiedler_set_key",{"api_key":"[redacted]"},{"api_key":3},{"api_key":"[redacted]"}]"#
        );
    }

    #[test]
    fn nothing_else_is_touched_and_nothing_panics() {
        for message in [
            r#"{"name":"other","api_key":"stays"}"#,
            "",
            r#""fiedler_set_key" "api_key""#,
            r#""fiedler_set_key""api_key":"#,
        ] {
            assert_eq!(clean(message), message);
        }
        assert_eq!(clean(r#""fiedler_set_key""api_key":"cut\"#), r#""fiedler_set_key""api_key":"[redacted]"#);
    }
}
