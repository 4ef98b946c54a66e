//! Asking the full-text index.

use std::ops::Range;

use tokio_postgres::types::ToSql;

use super::connection::Value;
use super::indexing::{TITLE, lexeme};
use super::schema::WORDS_PART;
use super::snapshot::{AFTER_MESSAGE, MESSAGE_COLUMNS, Snapshot, message_of};
use super::value::{given, text_key};
use crate::conversation::text;
use crate::indexing::{role_mark, session_mark};
use crate::model::{SearchHit, SearchQuery};
use crate::reading::{ContentReader, metadata_of};
use crate::search::MAX_COUNTED;
use crate::search::names::{ERROR_MARK, model_matches, project_matches, tool_mark};
use crate::search::query::{self, Condition, Filter, Query, Term};
use crate::search::snippet;
use crate::store::Result;

/// How much a word tells in a dump of a tool, in the model's words, in the user's and in the title.
const WEIGHTS: &str = "'{0.025, 0.2, 0.4, 1.0}'::real[]";

pub(super) fn search(snapshot: &Snapshot<'_>, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let parsed = query::parse(query)?;
    let Some(matching) = Matching::of(snapshot, &parsed)? else {
        return Ok((Vec::new(), 0));
    };
    let [offset, limit, counted] =
        [query.offset, query.limit, MAX_COUNTED].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
    let sql = "SELECT next_message FROM total WHERE tenant = $1";
    let end: i64 = snapshot.connection.query_one(sql, &[&snapshot.tenant])?.try_get(0)?;
    let mut found = matching.newest(snapshot, end, counted, true)?;
    let total = found.len() as u64;
    // Beyond those that are counted the rest stands, by time.
    let more = offset.saturating_add(limit).saturating_sub(counted);
    let rest = match found.last() {
        Some(last) if found.len() == counted && more > 0 => matching.newest(snapshot, last.message, more, false)?,
        _ => Vec::new(),
    };
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let page: Vec<Match> = found.into_iter().chain(rest).skip(offset).take(limit).collect();
    Ok((hits(snapshot, &parsed, &page)?, total))
}

/// A message that matches, and how much.
struct Match {
    message: i64,
    weight: f32,
}

/// A query in SQL: which messages match. `f` is the first part of their words, `m` a message where one is asked for.
struct Matching {
    /// `FROM … WHERE …`
    from: String,
    /// What a match weighs, if words are looked for; `words` are its own.
    weight: Option<String>,
    /// From $2 on.
    parameters: Vec<Value>,
}

impl Matching {
    /// `None` if nothing can match.
    fn of(snapshot: &Snapshot<'_>, query: &Query) -> Result<Option<Self>> {
        let terms: Vec<String> = query.terms.iter().filter(|t| !t.excluded).map(tsquery).collect();
        let mut wanted = terms.clone();
        let mut unwanted: Vec<String> = query.terms.iter().filter(|t| t.excluded).map(tsquery).collect();
        let mut matching = Self { from: String::new(), weight: None, parameters: Vec::new() };
        let (mut moments, mut rows) = (String::new(), String::new());
        for condition in &query.conditions {
            let Some(mark) = mark(snapshot, &condition.filter)? else {
                let narrowed = matching.narrowed(snapshot, condition)?;
                match condition.filter {
                    Filter::Since(_) | Filter::Until(_) => moments += &narrowed,
                    _ => rows += &narrowed,
                }
                continue;
            };
            match (mark.is_empty(), condition.excluded) {
                (true, true) => {}
                (true, false) => return Ok(None),
                (false, true) => unwanted.push(mark),
                (false, false) => wanted.push(mark),
            }
        }
        let message = if rows.is_empty() { "" } else { "JOIN message m ON m.tenant = $1 AND m.id = f.message" };
        matching.from = format!("FROM message_words f {message} WHERE f.tenant = $1 AND f.part = 0");
        // The first part of a message has all of its words, and no places of those in further ones.
        let is_phrase = |query: &&String| query.contains(" <-> ");
        let mut all: Vec<String> = wanted.iter().map(|query| format!("({})", query.replace(" <-> ", " & "))).collect();
        all.extend(unwanted.iter().filter(|query| !is_phrase(query)).map(|query| format!("!({query})")));
        if !all.is_empty() {
            let all = matching.query(all.join(" & "));
            matching.from += &format!(" AND f.words @@ {all}");
        }
        let phrases = |of: &[String]| of.iter().filter(is_phrase).cloned().collect::<Vec<_>>();
        for (phrase, not) in
            phrases(&wanted).into_iter().map(|p| (p, "")).chain(phrases(&unwanted).into_iter().map(|p| (p, "NOT ")))
        {
            let phrase = matching.query(phrase);
            // Few messages have further parts.
            matching.from += &format!(
                " AND {not}(f.words @@ {phrase} OR f.message = ANY(array(
                      SELECT w.message FROM message_words w
                      WHERE w.tenant = $1 AND w.part > 0 AND w.words @@ {phrase})))"
            );
        }
        matching.from += &(moments + &rows);
        if !terms.is_empty() {
            let terms = matching.query(terms.join(" | "));
            matching.weight = Some(format!("ts_rank({WEIGHTS}, words, {terms})"));
        }
        Ok(Some(matching))
    }

    /// The newest matches before a message, so many at most, from the newest on. Parts of the index are looked at together, as
    /// many as what was found so far promises to be needed.
    fn newest(&self, snapshot: &Snapshot<'_>, before: i64, most: usize, weighed: bool) -> Result<Vec<Match>> {
        let (mut before, mut seen, mut width) = (before, 0, 1);
        let mut found = Vec::new();
        while before > 0 && found.len() < most {
            let from = ((before - 1) / WORDS_PART + 1 - width).max(0) * WORDS_PART;
            self.add_newest(snapshot, from..before, most - found.len(), weighed, &mut found)?;
            before = from;
            seen += width;
            width = next_width(most - found.len(), found.len(), seen);
        }
        Ok(found)
    }

    fn add_newest(
        &self,
        snapshot: &Snapshot<'_>,
        messages: Range<i64>,
        most: usize,
        weighed: bool,
        found: &mut Vec<Match>,
    ) -> Result<()> {
        let last = self.parameters.len() + 1;
        let (words, weight) = match &self.weight {
            Some(weight) if weighed => (", f.words", weight.as_str()),
            _ => ("", "0::real"),
        };
        // Weighed where they are found: their words are wide, and would have to be visited again.
        let sql = format!(
            "SELECT array_agg(message ORDER BY message DESC), array_agg(weight ORDER BY message DESC) FROM
                 (SELECT message, {weight} AS weight FROM
                      (SELECT f.message {words} {} AND f.message >= ${} AND f.message < ${}
                       ORDER BY f.message DESC LIMIT ${}) n) w",
            self.from,
            last + 1,
            last + 2,
            last + 3
        );
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&snapshot.tenant];
        parameters.extend(self.parameters.iter().map(|value| &**value));
        parameters.extend([&messages.start as &(dyn ToSql + Sync), &messages.end, &most]);
        let row = snapshot.connection.query_one(&sql, &parameters)?;
        let messages: Vec<i64> = row.try_get::<_, Option<_>>(0)?.unwrap_or_default();
        let weights: Vec<f32> = row.try_get::<_, Option<_>>(1)?.unwrap_or_default();
        found.extend(messages.into_iter().zip(weights).map(|(message, weight)| Match { message, weight }));
        Ok(())
    }

    /// The place of a parameter.
    fn parameter(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.parameters.push(Box::new(value));
        format!("${}", self.parameters.len() + 1)
    }

    fn query(&mut self, query: String) -> String {
        format!("{}::text::tsquery", self.parameter(query))
    }

    /// A condition on the rows of messages.
    fn narrowed(&mut self, snapshot: &Snapshot<'_>, condition: &Condition) -> Result<String> {
        let not = if condition.excluded { "NOT " } else { "" };
        let sql = match &condition.filter {
            Filter::Since(at) => format!("{MOMENT} >= {}", self.parameter(*at)),
            Filter::Until(at) => format!("{MOMENT} < {}", self.parameter(*at)),
            Filter::Model(wanted) => {
                // Methods and paths are names, too; no exchange has one as its model.
                let sql = "SELECT id, text FROM name WHERE tenant = $1";
                let models = numbers(snapshot, sql, |name| model_matches(name, wanted))?;
                format!(
                    "EXISTS (SELECT FROM exchange e WHERE e.tenant = m.tenant AND e.conversation = m.conversation
                             AND e.model IN ({models}))"
                )
            }
            Filter::Project(wanted) => {
                let sql = "SELECT id, project FROM session WHERE tenant = $1 AND project IS NOT NULL";
                let sessions = numbers(snapshot, sql, |folder| project_matches(folder, wanted))?;
                format!(
                    "EXISTS (SELECT FROM conversation c WHERE c.tenant = m.tenant AND c.id = m.conversation
                             AND c.session IN ({sessions}))"
                )
            }
            Filter::Role(_) | Filter::Tool(_) | Filter::Session(_) | Filter::HasError => return Ok(String::new()),
        };
        Ok(format!(" AND {not}{sql}"))
    }
}

/// When a message was said. The index knows it of those that were indexed since migration 7.
const MOMENT: &str = "coalesce(f.created_at, (SELECT created_at FROM message WHERE tenant = $1 AND id = f.message))";

/// How many parts to look at next: as many as promise what is missing, at most as many as were seen, and always one.
fn next_width(missing: usize, found: usize, seen: i64) -> i64 {
    let in_each = (found as i64 / seen).max(1);
    let missing = i64::try_from(missing).unwrap_or(i64::MAX);
    (missing / in_each).saturating_add(1).clamp(1, seen)
}

/// A term as a tsquery.
fn tsquery(term: &Term) -> String {
    let last = term.words.len().saturating_sub(1);
    let words = term.words.iter().enumerate().map(|(at, word)| {
        let prefix = if term.prefix && at == last { ":*" } else { "" };
        format!("{}{prefix}", lexeme(word))
    });
    words.collect::<Vec<_>>().join(" <-> ")
}

fn marked(mark: &str) -> String {
    lexeme(&format!("~{mark}"))
}

/// The mark that a filter asks for: empty if no message has it, `None` if it is nothing that documents are marked with.
fn mark(snapshot: &Snapshot<'_>, filter: &Filter) -> Result<Option<String>> {
    Ok(Some(match filter {
        Filter::Role(role) => marked(&role_mark(*role as usize)),
        Filter::HasError => marked(ERROR_MARK),
        Filter::Tool(name) => match name.strip_suffix('*') {
            Some(begin) => format!("{}:*", marked(&tool_mark(begin))),
            None => marked(&tool_mark(name)),
        },
        Filter::Session(name) => {
            let sql = "SELECT id FROM session WHERE tenant = $1 AND key = $2";
            let row = snapshot.connection.query_opt(sql, &[&snapshot.tenant, &text_key(name)])?;
            row.map(|row| marked(&session_mark(row.get(0)))).unwrap_or_default()
        }
        Filter::Since(_) | Filter::Until(_) | Filter::Model(_) | Filter::Project(_) => return Ok(None),
    }))
}

/// The numbers of the rows whose text fits, with commas between them; never none, as SQL wants it, and no row is below 1.
fn numbers(snapshot: &Snapshot<'_>, sql: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
    let mut numbers = vec!["0".to_owned()];
    for row in snapshot.connection.query(sql, &[&snapshot.tenant])? {
        if fits(&given(row.try_get(1)?)) {
            numbers.push(row.try_get::<_, i64>(0)?.to_string());
        }
    }
    Ok(numbers.join(","))
}

fn hits(snapshot: &Snapshot<'_>, query: &Query, page: &[Match]) -> Result<Vec<SearchHit>> {
    let sql = format!(
        "SELECT {MESSAGE_COLUMNS}, s.name, c.metadata, {TITLE}
         FROM unnest($2::bigint[]) WITH ORDINALITY AS p (id, at)
         CROSS JOIN LATERAL (SELECT * FROM message WHERE tenant = $1 AND id = p.id OFFSET 0) m
         CROSS JOIN LATERAL (SELECT * FROM conversation WHERE tenant = $1 AND id = m.conversation OFFSET 0) c
         CROSS JOIN LATERAL (SELECT name, title FROM session WHERE tenant = $1 AND id = c.session OFFSET 0) s
         LEFT JOIN LATERAL (SELECT uuid FROM exchange WHERE tenant = $1 AND id = m.exchange OFFSET 0) x ON true
         ORDER BY p.at"
    );
    let ids: Vec<i64> = page.iter().map(|found| found.message).collect();
    let rows = snapshot.connection.query(&sql, &[&snapshot.tenant, &ids])?;
    let messages = rows.iter().map(message_of).collect::<Result<Vec<_>>>()?;
    let mut reader = ContentReader::new(snapshot);
    reader.expect(messages.iter().map(|m| m.held))?;
    let mut hits = Vec::with_capacity(rows.len());
    for ((row, message), found) in rows.iter().zip(messages).zip(page) {
        let after = |n: usize| row.try_get::<_, Option<String>>(AFTER_MESSAGE + n).map(|text| text.map(given));
        let content = reader.content(message.held)?;
        let said = text::words(&content);
        let title = after(2)?.unwrap_or_default();
        // A message may have been found by the title of the conversation that it begins.
        let shown =
            if snippet::occurs(&said, &query.terms) || !snippet::occurs(&title, &query.terms) { &said } else { &title };
        hits.push(SearchHit {
            conversation_id: message.conversation_uuid,
            session_id: after(0)?.unwrap_or_default(),
            message_id: message.uuid(),
            turn: message.turn,
            role: message.role.name().to_owned(),
            snippet: snippet::snippet(shown, &query.terms),
            rank: f64::from(found.weight),
            created_at: message.created_at,
            content,
            conversation_metadata: metadata_of(after(1)?.as_deref()),
        });
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::super::PostgresStore;
    use super::super::address::Address;
    use super::super::connection::{Connection, Limits};
    use super::*;
    use crate::model::{Destination, NewConversation, NewMessage, Role, Timestamp};
    use crate::store::Store;

    /// As in a database that was indexed before migration 7.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_index_does_not_know_of_moments_the_messages_tell() {
        let database = e2e::postgres::shared().database();
        let store = PostgresStore::open(database.url()).await.unwrap();
        let at = |micros| NewMessage {
            role: Role::User,
            content: format!("wombat {micros}").into(),
            turn: None,
            metadata: serde_json::Value::Null,
            created_at: Some(Timestamp(micros)),
        };
        let messages = (0..6).map(|n| at(n * 1_000_000)).collect();
        store.store_messages(Destination::New(NewConversation::default()), messages).await.unwrap();
        while store.index_pending(10).await.unwrap() > 0 {}
        let found = async |since, until| {
            let [since, until] = [since, until].map(|micros| Some(Timestamp(micros)));
            let query = SearchQuery { text: "wombat".into(), since, until, limit: 10, ..SearchQuery::default() };
            let (mut hits, total) = store.search(query).await.unwrap();
            assert_eq!(hits.len() as u64, total);
            hits.sort_by_key(|hit| hit.turn);
            hits.into_iter().map(|hit| hit.created_at.0 / 1_000_000).collect::<Vec<_>>()
        };
        for forgotten in ["message > 6", "message % 2 = 0", "true"] {
            let (url, sql) =
                (database.url().to_owned(), format!("UPDATE message_words SET created_at = NULL WHERE {forgotten}"));
            let forget = move || Connection::open(&Address::parse(&url)?, Limits::WRITING)?.execute(&sql, &[]);
            tokio::task::spawn_blocking(forget).await.unwrap().unwrap();
            assert_eq!(found(1_000_000, 4_000_000).await, [1, 2, 3], "{forgotten}");
            assert_eq!(found(i64::MIN, i64::MAX).await, [0, 1, 2, 3, 4, 5], "{forgotten}");
        }
    }

    #[test]
    fn a_search_always_goes_on_whatever_page_is_wanted() {
        assert_eq!(next_width(usize::MAX, 0, 1), 1);
        assert_eq!(next_width(usize::MAX, 0, 8), 8);
        assert_eq!(next_width(1_600, 400, 1), 1);
        assert_eq!(next_width(900, 1_100, 2), 2);
        assert_eq!(next_width(100, 1_900, 4), 1);
    }
}
