//! The passage of a message that shows why it was found.

use std::borrow::Cow;
use std::ops::Range;

use super::query::Term;
use super::tokens::tokens;

/// Characters shown before the first match of the passage, and in all.
const BEFORE: usize = 60;
const LENGTH: usize = 220;

/// Matches beyond this many are not weighed: some early passage shows what a dump of megabytes is about.
const MAX_MATCHES: usize = 1_000;

/// A place where a term matches.
struct Match {
    term: usize,
    range: Range<usize>,
}

/// The passage that most of the terms occur in, every occurrence between `[` and `]`; the first one of several. The text's
/// beginning if none occurs.
pub(crate) fn snippet(text: &str, terms: &[Term]) -> String {
    let matches = matches(text, terms);
    let first = best(text, &matches);
    let from = matches.get(first).map_or(0, |m| m.range.start);
    let start = text[..from].char_indices().rev().nth(BEFORE).map_or(0, |(at, _)| at);
    let end = text[start..].char_indices().nth(LENGTH).map_or(text.len(), |(at, _)| start + at);
    let mut out = String::from(if start > 0 { "…" } else { "" });
    let mut at = start;
    for Match { range, .. } in matches.iter().filter(|m| m.range.start >= start && m.range.end <= end) {
        if range.start < at {
            continue;
        }
        out.push_str(&text[at..range.start]);
        out.push('[');
        out.push_str(&text[range.clone()]);
        out.push(']');
        at = range.end;
    }
    out.push_str(&text[at..end]);
    if end < text.len() {
        out.push('…');
    }
    out.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether any term that is wanted occurs.
pub(crate) fn occurs(text: &str, terms: &[Term]) -> bool {
    !matches(text, terms).is_empty()
}

/// Where the wanted terms occur, by place.
fn matches(text: &str, terms: &[Term]) -> Vec<Match> {
    let longest = terms.iter().map(|t| t.words.len()).max().unwrap_or(0);
    let mut recent: std::collections::VecDeque<(Range<usize>, Cow<'_, str>)> = std::collections::VecDeque::new();
    let mut found: Vec<Match> = Vec::new();
    for token in tokens(text) {
        if recent.len() >= longest.max(1) {
            recent.pop_front();
        }
        recent.push_back(token);
        for (number, term) in terms.iter().enumerate().filter(|(_, t)| !t.excluded && t.words.len() <= recent.len()) {
            let words = recent.range(recent.len() - term.words.len()..);
            let last = term.words.len() - 1;
            let fits =
                |(n, ((_, found), wanted)): (usize, (&(_, Cow<'_, str>), &String))| match term.prefix && n == last {
                    true => found.starts_with(wanted.as_str()),
                    false => found == wanted,
                };
            if words.clone().zip(&term.words).enumerate().all(fits)
                && let (Some((begin, _)), Some((end, _))) = (words.clone().next(), recent.back())
            {
                found.push(Match { term: number, range: begin.start..end.end });
            }
        }
        if found.len() >= MAX_MATCHES {
            break;
        }
    }
    found.sort_by_key(|m| (m.range.start, std::cmp::Reverse(m.range.end)));
    found
}

/// The match with which the best passage begins.
fn best(text: &str, matches: &[Match]) -> usize {
    let mut best = (0, 0);
    for (number, first) in matches.iter().enumerate() {
        // Bytes for characters: a passage in a script of several bytes is judged by its beginning.
        let end = (first.range.start + LENGTH - BEFORE).min(text.len());
        let mut terms: Vec<usize> =
            matches[number..].iter().take_while(|m| m.range.end <= end).take(64).map(|m| m.term).collect();
        terms.sort_unstable();
        terms.dedup();
        if terms.len() > best.0 {
            best = (terms.len(), number);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::query::parse;
    use super::*;
    use crate::model::SearchQuery;

    fn of(text: &str, query: &str) -> String {
        let query = parse(&SearchQuery { text: query.into(), ..SearchQuery::default() }).unwrap();
        snippet(text, &query.terms)
    }

    #[test]
    fn a_snippet_shows_the_match_in_its_passage() {
        let text = format!("{} the quick fox {}", "a ".repeat(200), "b ".repeat(200));
        let snippet = of(&text, "QUICK");
        assert!(snippet.contains("the [quick] fox"), "{snippet}");
        assert!(snippet.starts_with('…') && snippet.ends_with('…'));
    }

    #[test]
    fn phrases_and_prefixes_are_marked_as_they_matched() {
        assert_eq!(of("the bug, the Búg fix", r#""the bug" fi*"#), "[the bug], [the Búg] [fix]");
        assert_eq!(of("a b a", r#""a b""#), "[a b] a");
        assert_eq!(of("数据库", "据库"), "数[据库]");
        assert_eq!(of("nothing here", "tool:x"), "nothing here");
    }

    #[test]
    fn the_passage_with_most_of_the_words_is_shown() {
        let text = format!("alpha {} alpha beta {}", "x ".repeat(300), "y ".repeat(300));
        assert!(of(&text, "alpha beta").contains("[alpha] [beta]"));
    }

    proptest! {
        #[test]
        fn any_text_and_terms_give_a_snippet(text: String, word in "\\PC{1,3}", prefix: bool) {
            let words: Vec<String> = tokens(&word).map(|(_, t)| t.into_owned()).collect();
            if !words.is_empty() {
                let terms = [Term { words, prefix, excluded: false }];
                let passage = snippet(&format!("{text} {word} {text}"), &terms);
                prop_assert!(passage.contains('['));
                prop_assert!(occurs(&word, &terms));
            }
        }
    }
}
