//! Text from the record, made safe for a terminal.
//!
//! What a model or a tool wrote may hold escape sequences (which can rewrite the screen, set the clipboard or a title) and
//! invisible characters that make text read differently from what it is. None of them passes; each leaves a visible trace.

use std::borrow::Cow;

/// Makes everything but printable characters, newlines and tabs visible. `\r\n` becomes `\n`.
pub(crate) fn neutralise(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| is_dangerous(c) || c == '\r') {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\r' if rest.peek() == Some(&'\n') => {}
            _ if !is_dangerous(c) => safe.push(c),
            _ => push_visible(&mut safe, c),
        }
    }
    Cow::Owned(safe)
}

/// Like [`neutralise`], with every run of white space turned into one space.
pub(crate) fn one_line(text: &str) -> String {
    neutralise(&text.split_whitespace().collect::<Vec<_>>().join(" ")).into_owned()
}

fn is_dangerous(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        _ if c.is_control() => true,
        // Line and paragraph separators, and what reorders text that stands near it (Unicode UAX #9, "Trojan Source").
        '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => true,
        // Invisible: byte order mark, interlinear annotations, tags (with which hidden instructions are written).
        '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E007F}' => true,
        _ => false,
    }
}

fn push_visible(out: &mut String, c: char) {
    let picture = match c {
        '\0'..='\u{1F}' => char::from_u32(0x2400 + u32::from(c)),
        '\u{7F}' => Some('\u{2421}'),
        _ => None,
    };
    match picture {
        Some(picture) => out.push(picture),
        None => out.extend(c.escape_unicode()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escape_sequences_become_visible() {
        assert_eq!(neutralise("\u{1b}]0;owned\u{7}\u{1b}[2J"), "␛]0;owned␇␛[2J");
        assert_eq!(neutralise("c1 \u{9b}31m"), "c1 \\u{9b}31m");
        assert_eq!(neutralise("a\rb\u{7f}"), "a␍b␡");
    }

    #[test]
    fn reordering_and_invisible_characters_become_visible() {
        assert_eq!(neutralise("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(neutralise("\u{e0041}"), "\\u{e0041}");
    }

    #[test]
    fn ordinary_text_is_not_touched() {
        let text = "Grüße, 世界 👩‍💻\n\tindented";
        assert!(matches!(neutralise(text), Cow::Borrowed(t) if t == text));
        assert_eq!(neutralise("dos\r\nlines"), "dos\nlines");
        assert_eq!(one_line(" a\n\n b\tc "), "a b c");
    }
}
