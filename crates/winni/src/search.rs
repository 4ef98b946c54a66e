//! What people type to search, and the passages they get to see. Shared by all backends.

/// One condition of a query, in the order in which it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Words that must stand next to each other; the last may be a prefix.
    pub(crate) words: Vec<String>,
    pub(crate) prefix: bool,
    pub(crate) excluded: bool,
}

/// Reads a query: words (all must occur), `"phrases"`, `-excluded`, `prefix*`. Anything else that is no letter or digit
/// separates words, so that no query is a syntax error.
pub(crate) fn parse(query: &str) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut rest = query.trim_start();
    while !rest.is_empty() {
        let excluded = rest.starts_with('-');
        let body = if excluded { &rest[1..] } else { rest };
        let (text, after) = match body.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => body.split_once(char::is_whitespace).unwrap_or((body, "")),
        };
        let prefix = text.ends_with('*');
        let words: Vec<String> =
            text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect();
        if !words.is_empty() {
            terms.push(Term { words, prefix, excluded });
        }
        rest = after.trim_start();
    }
    terms
}

/// Characters shown around the first match.
const BEFORE: usize = 60;
const LENGTH: usize = 220;

/// The passage around the first word that was searched for, every occurrence between `[` and `]`.
pub(crate) fn snippet(text: &str, terms: &[Term]) -> String {
    let wanted: Vec<(&str, bool)> = terms
        .iter()
        .filter(|t| !t.excluded)
        .flat_map(|t| t.words.iter().enumerate().map(|(n, w)| (w.as_str(), t.prefix && n + 1 == t.words.len())))
        .collect();
    let words = word_ranges(text);
    let hit = |range: &std::ops::Range<usize>| {
        let word = text[range.clone()].to_lowercase();
        wanted.iter().any(|(w, prefix)| if *prefix { word.starts_with(w) } else { word == *w })
    };
    let first = words.iter().find(|r| hit(r)).map_or(0, |r| r.start);
    let start = text[..first].char_indices().rev().nth(BEFORE).map_or(0, |(at, _)| at);
    let end = text[start..].char_indices().nth(LENGTH).map_or(text.len(), |(at, _)| start + at);
    let mut out = String::from(if start > 0 { "…" } else { "" });
    let mut at = start;
    for range in words.iter().filter(|r| r.start >= start && r.end <= end && hit(r)) {
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

fn word_ranges(text: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        match (c.is_alphanumeric(), start) {
            (true, None) => start = Some(at),
            (false, Some(from)) => {
                ranges.push(from..at);
                start = None;
            }
            _ => {}
        }
    }
    ranges.extend(start.map(|from| from..text.len()));
    ranges
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn term(words: &[&str], prefix: bool, excluded: bool) -> Term {
        Term { words: words.iter().map(|w| (*w).to_owned()).collect(), prefix, excluded }
    }

    #[test]
    fn a_query_has_words_phrases_prefixes_and_exclusions() {
        assert_eq!(
            parse(r#"Fix "the Bug" -legacy migr* src/main.rs"#),
            [
                term(&["fix"], false, false),
                term(&["the", "bug"], false, false),
                term(&["legacy"], false, true),
                term(&["migr"], true, false),
                term(&["src", "main", "rs"], false, false),
            ]
        );
        assert_eq!(parse(r#" " -* ( "#), []);
    }

    #[test]
    fn a_snippet_shows_the_match_in_its_passage() {
        let text = format!("{} the quick fox {}", "a ".repeat(200), "b ".repeat(200));
        let snippet = snippet(&text, &parse("QUICK"));
        assert!(snippet.contains("the [quick] fox"), "{snippet}");
        assert!(snippet.starts_with('…') && snippet.ends_with('…'));
    }

    proptest! {
        #[test]
        fn any_text_and_query_give_a_snippet(text: String, query: String) {
            let _passage = snippet(&text, &parse(&query));
        }
    }
}
