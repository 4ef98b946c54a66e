//! What counts as a word, and when two words are the same.
//!
//! A word is a run of letters, digits and combining marks; in scripts that put no space between words (Han, Kana, Thai …)
//! each character is a word, so that phrases of them find what they should. Words are compared in lower case, without
//! diacritics and compatibility forms, and by their first [`MAX_CHARS`] characters.

use std::borrow::Cow;
use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// What lies beyond is taken for the same: no word is longer, and base64 is no word.
const MAX_CHARS: usize = 64;

/// The words of a text in order: where each stands, and as it is compared. None of them is empty, and none holds an ASCII
/// character that is not a lower-case letter or a digit.
pub(crate) fn tokens(text: &str) -> impl Iterator<Item = (Range<usize>, Cow<'_, str>)> {
    Words { text, at: 0 }.filter_map(|range| {
        let folded = fold(&text[range.clone()]);
        (!folded.is_empty()).then_some((range, folded))
    })
}

/// The ranges of words.
struct Words<'t> {
    text: &'t str,
    at: usize,
}

impl Iterator for Words<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.text[self.at..];
        let (skipped, first) = rest.char_indices().find(|(_, c)| is_word(*c))?;
        let start = self.at + skipped;
        let after = &self.text[start + first.len_utf8()..];
        let ends = |c: char| match stands_alone(first) {
            true => !is_combining_mark(c),
            false => !is_word(c) || stands_alone(c),
        };
        let length = after.find(ends).unwrap_or(after.len());
        self.at = start + first.len_utf8() + length;
        Some(start..self.at)
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || (!c.is_ascii() && (c.is_alphanumeric() || is_combining_mark(c)))
}

/// Whether the character is of a script that writes words without spaces between them.
fn stands_alone(c: char) -> bool {
    !c.is_ascii()
        && matches!(u32::from(c),
            0x0E00..=0x0EFF | 0x1000..=0x109F | 0x1780..=0x17FF | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0x3400..=0x4DBF
            | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0xFF66..=0xFF9F | 0x20000..=0x323AF)
}

/// The word as it is compared.
fn fold(word: &str) -> Cow<'_, str> {
    if word.is_ascii() {
        let word = &word[..word.len().min(MAX_CHARS)];
        return match word.bytes().any(|b| b.is_ascii_uppercase()) {
            true => Cow::Owned(word.to_ascii_lowercase()),
            false => Cow::Borrowed(word),
        };
    }
    let folded = word.nfkd().flat_map(char::to_lowercase).map(|c| if c == 'ς' { 'σ' } else { c });
    Cow::Owned(folded.filter(|c| is_word(*c) && !is_diacritic(*c)).take(MAX_CHARS).collect())
}

/// Marks that people leave out when they type; vowel signs of other scripts are not among them.
fn is_diacritic(c: char) -> bool {
    matches!(u32::from(c), 0x0300..=0x036F | 0x1AB0..=0x1AFF | 0x1DC0..=0x1DFF | 0x20D0..=0x20FF | 0xFE20..=0xFE2F)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<String> {
        tokens(text).map(|(_, token)| token.into_owned()).collect()
    }

    #[test]
    fn words_are_compared_as_people_type_them() {
        assert_eq!(of("Crème BRÛLÉE, naïve_user's"), ["creme", "brulee", "naive", "user", "s"]);
        assert_eq!(of("Cre\u{0301}me"), ["creme"]);
        assert_eq!(of("ΟΔΟΣ οδός İstanbul ﬁn Ｆｕｌｌ"), ["οδοσ", "οδοσ", "istanbul", "fin", "full"]);
        assert_eq!(of("src/main.rs:42 → std::fs"), ["src", "main", "rs", "42", "std", "fs"]);
        assert_eq!(of("हिन्दी").len(), 1);
    }

    #[test]
    fn scripts_without_spaces_are_found_by_parts() {
        assert_eq!(of("数据库v2"), ["数", "据", "库", "v2"]);
        assert_eq!(of("カメラ"), ["カ", "メ", "ラ"]);
    }

    #[test]
    fn an_endless_word_is_known_by_its_beginning() {
        assert_eq!(of(&"Ab".repeat(5000)), ["ab".repeat(32)]);
    }

    proptest! {
        #[test]
        fn tokens_stand_where_they_say_and_stay_what_they_are(text: String) {
            let mut end = 0;
            for (range, token) in tokens(&text) {
                prop_assert!(range.start >= end && text.is_char_boundary(range.start) && range.end <= text.len());
                prop_assert!(!token.is_empty() && token.chars().count() <= MAX_CHARS);
                prop_assert!(token.chars().all(|c| !c.is_ascii() || c.is_ascii_digit() || c.is_ascii_lowercase()));
                end = range.end;
            }
        }
    }
}
