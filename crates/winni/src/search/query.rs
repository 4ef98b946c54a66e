//! The language of searches.
//!
//! `words` all occur, in any order and place of a message; `"a phrase"` and anything that is typed without a space
//! (`src/main.rs`) stand together; `begin*` is a prefix, of a phrase's last word too; `-word` and `-"a phrase"` do not occur.
//! `role:user`, `model:sonnet`, `tool:Bash`, `session:ID`, `project:/home/ada/app`, `since:2026-11-01`, `until:2h` and
//! `has:error` narrow the search; a value with spaces is quoted, and `-` before a filter turns it round. No query is a
//! syntax error, but a filter that cannot be meant is refused and told what it could be.

use super::moment;
use super::tokens::tokens;
use crate::conversation::identity::Role;
use crate::model::{SearchQuery, Timestamp};
use crate::store::{Error, Result};

/// Words that must stand next to each other, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    /// Never empty; as [`tokens`] gives them.
    pub(crate) words: Vec<String>,
    /// Whether the last word is the beginning of one.
    pub(crate) prefix: bool,
    pub(crate) excluded: bool,
}

/// What a message must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    Role(Role),
    Model(String),
    Tool(String),
    Session(String),
    Project(String),
    Since(Timestamp),
    Until(Timestamp),
    HasError,
}

/// A filter, or its opposite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) filter: Filter,
    pub(crate) excluded: bool,
}

/// A query as the backends render it. All terms and conditions must hold; at least one of them is not an exclusion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) terms: Vec<Term>,
    pub(crate) conditions: Vec<Condition>,
}

impl Query {
    /// Whether there is a word to look for; if not, the newest messages that fit the conditions are wanted.
    pub(crate) fn has_words(&self) -> bool {
        self.terms.iter().any(|t| !t.excluded)
    }
}

/// Reads a query's text and joins it with the query's fields.
pub(crate) fn parse(query: &SearchQuery) -> Result<Query> {
    let mut parsed = Query { terms: Vec::new(), conditions: fields(query)? };
    let mut rest = query.text.trim_start();
    while !rest.is_empty() {
        let piece;
        (piece, rest) = Piece::take(rest);
        match piece.key {
            Some(key) => {
                let filter = filter(key, piece.value)?;
                if piece.excluded && matches!(filter, Filter::Since(_) | Filter::Until(_)) {
                    return Err(Error::Invalid(format!(
                        "-{key}: makes no sense; use since: for what came after a moment, until: for what came before"
                    )));
                }
                parsed.conditions.push(Condition { filter, excluded: piece.excluded });
            }
            None => parsed.terms.extend(term(&piece)),
        }
    }
    if !parsed.has_words() && parsed.conditions.iter().all(|c| c.excluded) {
        return Err(Error::Invalid(
            "the query has no word to look for; give at least one word or filter that is not excluded".into(),
        ));
    }
    Ok(parsed)
}

/// What stands between two spaces, a quoted part being one.
struct Piece<'q> {
    excluded: bool,
    key: Option<&'q str>,
    value: &'q str,
    prefix: bool,
}

const KEYS: [&str; 8] = ["role", "model", "tool", "session", "project", "since", "until", "has"];

impl<'q> Piece<'q> {
    /// The first piece, and what follows it.
    fn take(text: &'q str) -> (Self, &'q str) {
        let body = text.strip_prefix('-');
        let (excluded, body) = (body.is_some(), body.unwrap_or(text));
        let key = body.split_once(':').map(|(key, _)| key).filter(|k| KEYS.contains(&k.to_ascii_lowercase().as_str()));
        let value = key.map_or(body, |key| &body[key.len() + 1..]);
        let (value, quoted, rest) = match value.strip_prefix('"') {
            Some(quoted) => {
                let (value, rest) = quoted.split_once('"').unwrap_or((quoted, ""));
                (value, true, rest)
            }
            None => {
                let end = value.find(char::is_whitespace).unwrap_or(value.len());
                (&value[..end], false, &value[end..])
            }
        };
        let (prefix, rest) = match (quoted, rest.strip_prefix('*')) {
            (true, Some(rest)) => (true, rest),
            _ => (value.ends_with('*'), rest),
        };
        (Self { excluded, key, value, prefix }, rest.trim_start())
    }
}

fn term(piece: &Piece<'_>) -> Option<Term> {
    let words: Vec<String> = tokens(piece.value).map(|(_, token)| token.into_owned()).collect();
    (!words.is_empty()).then_some(Term { words, prefix: piece.prefix, excluded: piece.excluded })
}

fn filter(key: &str, value: &str) -> Result<Filter> {
    let key = key.to_ascii_lowercase();
    if value.is_empty() {
        return Err(Error::Invalid(format!("{key}: needs a value right after the colon, in quotes if it has spaces")));
    }
    let moment = |read: fn(&str) -> std::result::Result<Timestamp, String>| {
        read(value).map_err(|why| Error::Invalid(format!("{key}:{value}: {why}")))
    };
    Ok(match key.as_str() {
        "role" => Filter::Role(role(value)?),
        "model" => Filter::Model(value.to_owned()),
        "tool" => Filter::Tool(value.to_owned()),
        "session" => Filter::Session(value.to_owned()),
        "project" => Filter::Project(value.to_owned()),
        "since" => Filter::Since(moment(moment::since)?),
        "until" => Filter::Until(moment(moment::until)?),
        _ if value.eq_ignore_ascii_case("error") => Filter::HasError,
        _ => return Err(Error::Invalid(format!("has:{value}: what a message can have is an error, has:error"))),
    })
}

fn role(name: &str) -> Result<Role> {
    Role::of(&name.to_lowercase())
        .ok_or_else(|| Error::Invalid(format!("there is no role `{name}`; use user, assistant, system or tool")))
}

fn fields(query: &SearchQuery) -> Result<Vec<Condition>> {
    let mut filters = Vec::new();
    if let Some(name) = &query.role {
        filters.push(Filter::Role(role(name)?));
    }
    filters.extend(query.model.clone().map(Filter::Model));
    filters.extend(query.tool.clone().map(Filter::Tool));
    filters.extend(query.session_id.clone().map(Filter::Session));
    filters.extend(query.project.clone().map(Filter::Project));
    filters.extend(query.since.map(Filter::Since));
    filters.extend(query.until.map(Filter::Until));
    filters.extend(query.has_error.then_some(Filter::HasError));
    Ok(filters.into_iter().map(|filter| Condition { filter, excluded: false }).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Query> {
        parse(&SearchQuery { text: text.into(), ..SearchQuery::default() })
    }

    fn term(words: &[&str], prefix: bool, excluded: bool) -> Term {
        Term { words: words.iter().map(|w| (*w).to_owned()).collect(), prefix, excluded }
    }

    #[track_caller]
    fn refused(text: &str) -> String {
        match read(text) {
            Err(Error::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_query_has_words_phrases_prefixes_and_exclusions() {
        let query = read(r#"Fix "the Bug" -legacy migr* src/main.rs "über al"* -"not this" http://x"#).unwrap();
        assert_eq!(
            query.terms,
            [
                term(&["fix"], false, false),
                term(&["the", "bug"], false, false),
                term(&["legacy"], false, true),
                term(&["migr"], true, false),
                term(&["src", "main", "rs"], false, false),
                term(&["uber", "al"], true, false),
                term(&["not", "this"], false, true),
                term(&["http", "x"], false, false),
            ]
        );
        assert_eq!(query.conditions, []);
    }

    #[test]
    fn filters_stand_among_the_words() {
        let query = read(
            r#"role:User crash -Tool:Bash project:"/a b" has:error model:opus session:s since:2026-01-01T00:00:00Z"#,
        );
        let query = query.unwrap();
        assert_eq!(query.terms, [term(&["crash"], false, false)]);
        let condition = |filter, excluded| Condition { filter, excluded };
        assert_eq!(
            query.conditions,
            [
                condition(Filter::Role(Role::User), false),
                condition(Filter::Tool("Bash".into()), true),
                condition(Filter::Project("/a b".into()), false),
                condition(Filter::HasError, false),
                condition(Filter::Model("opus".into()), false),
                condition(Filter::Session("s".into()), false),
                condition(Filter::Since(Timestamp(1_767_225_600_000_000)), false),
            ]
        );
        let fields = SearchQuery { has_error: true, tool: Some("Bash".into()), ..SearchQuery::default() };
        assert_eq!(parse(&fields).unwrap(), read("tool:Bash has:error").unwrap());
    }

    #[test]
    fn what_cannot_be_meant_is_told_what_could_be() {
        assert!(refused("").contains("no word"));
        assert!(refused(r#" " -* ( "#).contains("no word"));
        assert!(refused("-x -role:user").contains("not excluded"));
        assert!(refused("x role:boss").contains("user, assistant, system or tool"));
        assert!(refused("x since:yesterday").starts_with("since:yesterday: a moment is written like"));
        assert!(refused("x has:luck").contains("has:error"));
        assert!(refused("x tool:").starts_with("tool: needs a value"));
        assert!(refused("x -until:2h").starts_with("-until:"));
    }

    proptest! {
        #[test]
        fn no_text_is_a_syntax_error(text: String) {
            if let Err(error) = read(&text) {
                prop_assert!(matches!(error, Error::Invalid(_)));
            }
        }

        #[test]
        fn pieces_end(text in "[-a :\"*]{0,20}(role|has):[a \"*]{0,8}") {
            let _outcome = read(&text);
        }
    }
}
