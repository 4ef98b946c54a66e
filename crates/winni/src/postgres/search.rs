//! Asking the full-text index.

use std::ops::Range;

use tokio_postgres::types::ToSql;

use super::connection::Params;
use super::indexing::{TITLE, lexeme};
use super::schema::WORDS_PART;
use super::snapshot::{AFTER_MESSAGE, MESSAGE_COLUMNS, Snapshot, message_of};
use super::value::{given, text_key};
use crate::conversation::identity::Role;
use crate::conversation::text;
use crate::indexing::{role_mark, session_mark};
use crate::model::{SearchHit, SearchQuery};
use crate::reading::{ContentReader, metadata_of};
use crate::search::MAX_COUNTED;
use crate::search::names::{ERROR_MARK, model_matches, project_matches, tool_mark};
use crate::search::query::{self, Condition, Filter, Query, Term};
use crate::search::snippet;
use crate::store::Result;

/// Ranking weighs each match. Beyond so many the newest are weighed and stand before the rest, which is by time.
const MAX_RANKED: usize = 2_000;

/// How much a word tells in a dump of a tool, in the model's words, in the user's and in the title.
const WEIGHTS: [f32; 4] = [0.025, 0.2, 0.4, 1.0];

pub(super) fn search(snapshot: &Snapshot<'_>, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let parsed = query::parse(query)?;
    let Some(matching) = Matching::of(snapshot, &parsed)? else {
        return Ok((Vec::new(), 0));
    };
    let wanted = query.offset.saturating_add(query.limit).max(MAX_COUNTED);
    let found = matching.newest(snapshot, usize::try_from(wanted).unwrap_or(usize::MAX))?;
    let page = matching.page(snapshot, &parsed, &found, query.offset, query.limit)?;
    Ok((hits(snapshot, &parsed, &page)?, MAX_COUNTED.min(found.len() as u64)))
}

/// A query in SQL: which messages match. `f` is the first part of their words, `m` a message where one is asked for.
struct Matching {
    /// `FROM … WHERE …`
    from: String,
    /// From $2 on: each is a tsquery.
    queries: Vec<String>,
    /// All that is wanted, to be ranked by.
    wanted: String,
}

impl Matching {
    /// `None` if nothing can match.
    fn of(snapshot: &Snapshot<'_>, query: &Query) -> Result<Option<Self>> {
        let mut wanted: Vec<String> = query.terms.iter().filter(|t| !t.excluded).map(tsquery).collect();
        let mut unwanted: Vec<String> = query.terms.iter().filter(|t| t.excluded).map(tsquery).collect();
        let mut rows = String::new();
        for condition in &query.conditions {
            let Some(mark) = mark(snapshot, &condition.filter)? else {
                rows += &narrowed(snapshot, condition)?;
                continue;
            };
            match (mark.is_empty(), condition.excluded) {
                (true, true) => {}
                (true, false) => return Ok(None),
                (false, true) => unwanted.push(mark),
                (false, false) => wanted.push(mark),
            }
        }
        if wanted.is_empty() {
            let roles: Vec<String> = (0..Role::ALL.len()).map(|role| marked(&role_mark(role))).collect();
            wanted.push(roles.join(" | "));
        }
        // The first part of a message has all of its words, and no places of those in further ones.
        let is_phrase = |query: &&String| query.contains(" <-> ");
        let mut all: Vec<String> = wanted.iter().map(|query| format!("({})", query.replace(" <-> ", " & "))).collect();
        all.extend(unwanted.iter().filter(|query| !is_phrase(query)).map(|query| format!("!({query})")));
        let mut queries = vec![all.join(" & ")];
        let mut from = String::from("FROM message_words f");
        if !rows.is_empty() {
            from += " JOIN message m ON m.tenant = $1 AND m.id = f.message";
        }
        from += " WHERE f.tenant = $1 AND f.part = 0 AND f.words @@ $2::text::tsquery";
        let phrases = |of: &[String]| of.iter().filter(is_phrase).cloned().collect::<Vec<_>>();
        for (phrase, not) in
            phrases(&wanted).iter().map(|p| (p, "")).chain(phrases(&unwanted).iter().map(|p| (p, "NOT ")))
        {
            queries.push(phrase.clone());
            // Few messages have further parts.
            from += &format!(
                " AND {not}(f.words @@ ${query}::text::tsquery OR f.message = ANY(array(
                      SELECT w.message FROM message_words w
                      WHERE w.tenant = $1 AND w.part > 0 AND w.words @@ ${query}::text::tsquery)))",
                query = queries.len() + 1
            );
        }
        from += &rows;
        let terms: Vec<String> = query.terms.iter().filter(|t| !t.excluded).map(tsquery).collect();
        Ok(Some(Self { from, queries, wanted: terms.join(" | ") }))
    }

    /// The newest matches, so many at most, from the newest on. Parts of the index are looked at together, as many as what was
    /// found so far promises to be needed.
    fn newest(&self, snapshot: &Snapshot<'_>, wanted: usize) -> Result<Vec<i64>> {
        let sql = "SELECT next_message FROM total WHERE tenant = $1";
        let next: i64 = snapshot.connection.query_one(sql, &[&snapshot.tenant])?.try_get(0)?;
        let mut unseen = (next - 1).max(0) / WORDS_PART + 1;
        let (mut seen, mut width) = (0, 1);
        let mut found = Vec::new();
        while unseen > 0 && found.len() < wanted {
            width = width.min(unseen);
            unseen -= width;
            seen += width;
            self.add_newest(snapshot, unseen..unseen + width, wanted - found.len(), &mut found)?;
            width = next_width(wanted.saturating_sub(found.len()), found.len(), seen);
        }
        Ok(found)
    }

    fn add_newest(
        &self,
        snapshot: &Snapshot<'_>,
        parts: Range<i64>,
        wanted: usize,
        found: &mut Vec<i64>,
    ) -> Result<()> {
        let last = self.queries.len() + 1;
        let sql = format!(
            "SELECT array(SELECT f.message {} AND f.message >= ${} AND f.message < ${} ORDER BY f.message DESC LIMIT ${})",
            self.from,
            last + 1,
            last + 2,
            last + 3
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&snapshot.tenant];
        parameters.extend(self.queries.iter().map(|q| q as &(dyn ToSql + Sync)));
        let (from, until) = (parts.start * WORDS_PART, parts.end * WORDS_PART);
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        parameters.extend([&from as &(dyn ToSql + Sync), &until, &wanted]);
        let row = snapshot.connection.query_one(&sql, &parameters)?;
        found.extend(row.try_get::<_, Vec<i64>>(0)?);
        Ok(())
    }

    /// A page of what was found, the most telling first: message and rank.
    fn page(
        &self,
        snapshot: &Snapshot<'_>,
        query: &Query,
        found: &[i64],
        offset: u64,
        limit: u64,
    ) -> Result<Vec<(i64, f64)>> {
        let ranked = &found[..if query.has_words() { MAX_RANKED.min(found.len()) } else { 0 }];
        let [offset, limit] = [offset, limit].map(|n| usize::try_from(n).unwrap_or(usize::MAX));
        let mut page = Vec::new();
        if offset < ranked.len() {
            let first = i64::try_from(offset).unwrap_or(i64::MAX);
            let most = i64::try_from(limit.min(ranked.len() - offset)).unwrap_or(i64::MAX);
            // Weighed before they are sorted, because the words are wide.
            let sql = "SELECT message, max(weight)::float8 FROM
                     (SELECT message, ts_rank($3::real[], words, $4::text::tsquery) AS weight FROM message_words
                      WHERE tenant = $1 AND message = ANY($2) OFFSET 0) w
                 GROUP BY message ORDER BY 2 DESC, 1 DESC LIMIT $5 OFFSET $6";
            let parameters: Params<'_> = &[&snapshot.tenant, &ranked, &&WEIGHTS[..], &self.wanted, &most, &first];
            for row in snapshot.connection.query(sql, parameters)? {
                page.push((row.try_get(0)?, row.try_get::<_, Option<f64>>(1)?.unwrap_or_default()));
            }
        }
        let rest = found.iter().skip(offset.max(ranked.len())).take(limit - page.len());
        page.extend(rest.map(|message| (*message, 0.0)));
        Ok(page)
    }
}

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

/// A condition on the rows of messages.
fn narrowed(snapshot: &Snapshot<'_>, condition: &Condition) -> Result<String> {
    let not = if condition.excluded { "NOT " } else { "" };
    // Microseconds as a number: a moment that a timestamp cannot hold is before or after all that it can.
    let moment = "(extract(epoch FROM m.created_at) * 1000000)";
    let sql = match &condition.filter {
        Filter::Since(at) => format!("{moment} >= {}", at.0),
        Filter::Until(at) => format!("{moment} < {}", at.0),
        Filter::Model(wanted) => {
            let models = numbers(
                snapshot,
                "SELECT id, text FROM name n WHERE tenant = $1 AND EXISTS
                     (SELECT FROM exchange x WHERE x.tenant = $1 AND x.model = n.id)",
                |name| model_matches(name, wanted),
            )?;
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

fn hits(snapshot: &Snapshot<'_>, query: &Query, page: &[(i64, f64)]) -> Result<Vec<SearchHit>> {
    let sql = format!(
        "SELECT {MESSAGE_COLUMNS}, s.name, c.metadata, {TITLE}
         FROM unnest($2::bigint[]) WITH ORDINALITY AS p (id, at)
         CROSS JOIN LATERAL (SELECT * FROM message WHERE tenant = $1 AND id = p.id OFFSET 0) m
         CROSS JOIN LATERAL (SELECT * FROM conversation WHERE tenant = $1 AND id = m.conversation OFFSET 0) c
         CROSS JOIN LATERAL (SELECT name, title FROM session WHERE tenant = $1 AND id = c.session OFFSET 0) s
         LEFT JOIN LATERAL (SELECT uuid FROM exchange WHERE tenant = $1 AND id = m.exchange OFFSET 0) x ON true
         ORDER BY p.at"
    );
    let ids: Vec<i64> = page.iter().map(|(id, _)| *id).collect();
    let rows = snapshot.connection.query(&sql, &[&snapshot.tenant, &ids])?;
    let messages = rows.iter().map(message_of).collect::<Result<Vec<_>>>()?;
    let mut reader = ContentReader::new(snapshot);
    reader.expect(messages.iter().map(|m| m.held))?;
    let mut hits = Vec::with_capacity(rows.len());
    for ((row, message), (_, rank)) in rows.iter().zip(messages).zip(page) {
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
            rank: *rank,
            created_at: message.created_at,
            content,
            conversation_metadata: metadata_of(after(1)?.as_deref()),
        });
    }
    Ok(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_always_goes_on_whatever_page_is_wanted() {
        assert_eq!(next_width(usize::MAX, 0, 1), 1);
        assert_eq!(next_width(usize::MAX, 0, 8), 8);
        assert_eq!(next_width(1_600, 400, 1), 1);
        assert_eq!(next_width(900, 1_100, 2), 2);
        assert_eq!(next_width(100, 1_900, 4), 1);
    }
}
