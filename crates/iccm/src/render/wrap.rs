//! Wrapping and cutting by the columns that characters take on a terminal.

/// Columns that a character takes: 0 for combining marks, 2 for East Asian wide characters and emoji, else 1. An approximation
/// of Unicode TR 11 by its large blocks; a rare character that it misjudges makes a line a column too long or too short.
pub(crate) fn char_width(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36F | 0x200B..=0x200D | 0x20D0..=0x20FF | 0xFE00..=0xFE0F => 0,
        0x1100..=0x115F
        | 0x2E80..=0x303E
        | 0x3041..=0xA4CF
        | 0xAC00..=0xD7A3
        | 0xF900..=0xFAFF
        | 0xFE30..=0xFE6F
        | 0xFF00..=0xFF60
        | 0xFFE0..=0xFFE6
        | 0x1F300..=0x1F64F
        | 0x1F680..=0x1F6FF
        | 0x1F900..=0x1F9FF
        | 0x20000..=0x3FFFD => 2,
        _ => 1,
    }
}

/// Columns that a text without newlines takes.
pub(crate) fn text_width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

/// Lines of `text`, tabs expanded, none wider than `width` columns (`None`: as they are). Breaks at spaces where it can and
/// keeps the indentation of a line that fits.
pub(crate) fn wrap(text: &str, width: Option<usize>) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = line.replace('\t', "    ");
        let line = line.trim_end();
        match width {
            Some(width) if text_width(line) > width => wrap_line(line, width.max(1), &mut lines),
            _ => lines.push(line.to_owned()),
        }
    }
    lines
}

fn wrap_line(line: &str, width: usize, lines: &mut Vec<String>) {
    let mut rest = line;
    while text_width(rest) > width {
        let fits = fitting_prefix(rest, width);
        let indentation = rest.len() - rest.trim_start().len();
        // A space right after the prefix is a good place, too; one within the indentation is none.
        let space = rest[..fits].rfind(' ').filter(|at| *at > indentation);
        let at = if rest[fits..].starts_with(' ') { fits } else { space.unwrap_or(fits) };
        lines.push(rest[..at].trim_end().to_owned());
        rest = rest[at..].trim_start();
    }
    if !rest.is_empty() {
        lines.push(rest.to_owned());
    }
}

/// Bytes of the longest prefix that fits; at least one character, so that wrapping always gets on.
fn fitting_prefix(text: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += char_width(c);
        if used > width && at > 0 {
            return at;
        }
    }
    text.len()
}

/// The text, or as much of it as fits with an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text_width(text) <= width {
        return text.to_owned();
    }
    let fits = fitting_prefix(text, width.saturating_sub(1));
    format!("{}…", text[..fits].trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaks_at_spaces_and_through_long_words() {
        assert_eq!(wrap("the quick brown fox", Some(10)), ["the quick", "brown fox"]);
        assert_eq!(wrap("abcdefghij", Some(4)), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("one two", Some(3)), ["one", "two"]);
    }

    #[test]
    fn keeps_blank_lines_and_indentation() {
        assert_eq!(wrap("a\n\n\tb", Some(20)), ["a", "", "    b"]);
        assert_eq!(wrap("        deeply indented", Some(14)), ["        deeply", "indented"]);
    }

    #[test]
    fn wide_characters_count_twice() {
        assert_eq!(text_width("世界"), 4);
        assert_eq!(wrap("世界世界", Some(5)), ["世界", "世界"]);
        assert_eq!(cut("世界世界", 5), "世界…");
        assert_eq!(wrap("世", Some(1)), ["世"]);
    }

    #[test]
    fn without_a_width_nothing_is_wrapped() {
        assert_eq!(wrap("a very long line", None), ["a very long line"]);
    }
}
