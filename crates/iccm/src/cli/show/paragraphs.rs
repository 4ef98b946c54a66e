//! How long values are shortened, and how a tool's input reads.

use serde_json::Value;

/// An input whose compact JSON is no longer than this stays on one line (which may wrap).
const ONE_LINE_INPUT: usize = 200;

/// Bytes that a line is taken to have on average, so that one endless line does not fill the screen either.
const BYTES_PER_LINE: usize = 120;

/// A text's first lines, and how many there are more.
#[derive(Debug, PartialEq)]
pub(super) struct Shortened<'a> {
    pub(super) text: &'a str,
    pub(super) more_lines: usize,
    pub(super) more_bytes: usize,
}

/// At most `lines` lines, and as many bytes as they have on average.
pub(super) fn shorten(text: &str, lines: usize) -> Shortened<'_> {
    let text = text.trim_end();
    let by_lines = text.match_indices('\n').nth(lines.saturating_sub(1)).map_or(text.len(), |(at, _)| at);
    let mut end = by_lines.min(lines * BYTES_PER_LINE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = &text[end..];
    // What is no longer than the remark about it is better shown.
    if rest.len() <= BYTES_PER_LINE && rest.trim_start().lines().count() <= 1 {
        return Shortened { text, more_lines: 0, more_bytes: 0 };
    }
    let more_lines = rest.lines().filter(|line| !line.is_empty()).count();
    Shortened { text: &text[..end], more_lines, more_bytes: text.len() - end }
}

impl Shortened<'_> {
    /// What tells the reader that something is left out.
    pub(super) fn remark(&self) -> Option<String> {
        match (self.more_lines, self.more_bytes) {
            (_, 0) => None,
            (0 | 1, bytes) => Some(format!("… {bytes} more bytes (--full shows them)")),
            (lines, _) => Some(format!("… {lines} more lines (--full shows them)")),
        }
    }
}

/// A tool's input, laid out for reading.
#[derive(Debug, PartialEq)]
pub(super) enum Input {
    /// Short enough to stand beside the tool's name.
    Compact(String),
    /// A field a line; values may have several lines.
    Fields(Vec<(String, String)>),
}

/// Lays a tool's input out. Strings of several lines are shown as such, as code in JSON's escapes cannot be read.
pub(super) fn lay_out(input: &Value) -> Input {
    let compact = spaced_json(input);
    match input {
        Value::Object(fields) if compact.len() > ONE_LINE_INPUT || has_lines(fields.values()) => {
            let shown = |value: &Value| value.as_str().map_or_else(|| spaced_json(value), str::to_owned);
            Input::Fields(fields.iter().map(|(name, value)| (name.clone(), shown(value))).collect())
        }
        Value::Null => Input::Compact(String::new()),
        _ => Input::Compact(compact),
    }
}

fn has_lines<'a>(mut values: impl Iterator<Item = &'a Value>) -> bool {
    values.any(|value| value.as_str().is_some_and(|text| text.trim_end().contains('\n')))
}

/// JSON on one line with a space after colons and commas, as people write it.
pub(super) fn spaced_json(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(spaced_json).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{}: {}", Value::from(name.as_str()), spaced_json(value)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn long_texts_are_shortened_by_lines_and_by_bytes() {
        let ten = "line\n".repeat(10);
        let short = shorten(&ten, 3);
        assert_eq!((short.text, short.more_lines), ("line\nline\nline", 7));
        assert_eq!(short.remark().unwrap(), "… 7 more lines (--full shows them)");
        let endless = "ä".repeat(1000);
        let short = shorten(&endless, 2);
        assert_eq!((short.text.len(), short.more_bytes), (240, 1760));
        assert_eq!(short.remark().unwrap(), "… 1760 more bytes (--full shows them)");
        assert_eq!(shorten("one\ntwo\n", 2).remark(), None);
        assert_eq!(shorten("one\ntwo\nthree", 2).text, "one\ntwo\nthree");
    }

    #[test]
    fn short_inputs_stay_on_one_line() {
        let input = json!({"command": "cargo test", "timeout": 5, "list": [1, 2]});
        assert_eq!(
            lay_out(&input),
            Input::Compact(r#"{"command": "cargo test", "timeout": 5, "list": [1, 2]}"#.into())
        );
    }

    #[test]
    fn inputs_with_code_are_laid_out_by_field() {
        let input = json!({"file_path": "/x.rs", "content": "fn a() {\n}\n", "n": 1});
        let Input::Fields(fields) = lay_out(&input) else { unreachable!() };
        assert_eq!(fields[1], ("content".to_owned(), "fn a() {\n}\n".to_owned()));
        assert_eq!(fields[2], ("n".to_owned(), "1".to_owned()));
    }
}
