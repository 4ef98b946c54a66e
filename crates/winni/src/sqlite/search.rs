//! Asking the full-text index.
//!
//! Counting and finding need the index alone as long as the query narrows by what a document is marked with; moments,
//! models and projects are looked up for each match. A file holds one tenant's words.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, OptionalExtension, params, params_from_iter};

use super::indexing::{TITLE, role_mark, session_mark};
use super::reading::{AFTER_MESSAGE, ContentReader, MESSAGE_COLUMNS, MessageRow, metadata_of};
use crate::conversation::identity::Role;
use crate::conversation::text;
use crate::model::{SearchHit, SearchQuery};
use crate::search::names::{ERROR_MARK, model_matches, project_matches, tool_mark};
use crate::search::query::{self, Condition, Filter, Query, Term};
use crate::search::snippet;
use crate::store::Result;

/// Ranking weighs each match. Beyond so many the newest are weighed and stand before the rest, which is by time.
const MAX_RANKED: u64 = 2_000;

/// How much more a word in the title, in the user's and in the model's words tells than one in a dump of a tool; marks are
/// no words.
const RANK: &str = "bm25(message_words, 40.0, 16.0, 8.0, 1.0, 0.0)";

pub(super) fn search(connection: &Connection, tenant: i64, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let parsed = query::parse(query)?;
    let Some(matching) = Matching::of(connection, tenant, &parsed)? else {
        return Ok((Vec::new(), 0));
    };
    let total = matching.count(connection)?;
    let messages = matching.page(connection, &parsed, total, query.offset, query.limit)?;
    let mut reader = ContentReader::new(connection, tenant);
    let hits = messages.into_iter().map(|(message, rank)| hit(connection, tenant, &parsed, message, rank, &mut reader));
    Ok((hits.collect::<Result<_>>()?, total))
}

/// A query in SQL: which rows of `message_words w` match.
struct Matching {
    /// `FROM …  WHERE …`
    from: String,
    parameters: Vec<Sql>,
}

impl Matching {
    /// `None` if nothing can match.
    fn of(connection: &Connection, tenant: i64, query: &Query) -> Result<Option<Self>> {
        let mut wanted: Vec<String> = query.terms.iter().filter(|t| !t.excluded).map(words).collect();
        let mut unwanted: Vec<String> = query.terms.iter().filter(|t| t.excluded).map(words).collect();
        let mut rows = Rows { connection, tenant, sql: String::new(), parameters: Vec::new() };
        for condition in &query.conditions {
            let Some(mark) = mark(connection, tenant, &condition.filter)? else {
                rows.narrow(condition)?;
                continue;
            };
            match (mark.is_empty(), condition.excluded) {
                (true, true) => {}
                (true, false) => return Ok(None),
                (false, true) => unwanted.push(format!("marks : {mark}")),
                (false, false) => wanted.push(format!("marks : {mark}")),
            }
        }
        if wanted.is_empty() {
            let roles: Vec<String> = (0..Role::ALL.len()).map(role_mark).collect();
            wanted.push(format!("marks : ({})", roles.join(" OR ")));
        }
        let mut expression = wanted.join(" AND ");
        if !unwanted.is_empty() {
            expression = format!("({expression}) NOT ({})", unwanted.join(" OR "));
        }
        let mut parameters = vec![Sql::Text(expression)];
        let mut from = String::from("FROM message_words ");
        if !rows.sql.is_empty() {
            from.push_str("CROSS JOIN message m ON m.id = message_words.rowid CROSS JOIN conversation c ON c.id = m.conversation ");
        }
        from.push_str("WHERE message_words MATCH ?1");
        from.push_str(&rows.sql);
        parameters.append(&mut rows.parameters);
        Ok(Some(Self { from, parameters }))
    }

    fn count(&self, connection: &Connection) -> Result<u64> {
        let mut query = connection.prepare_cached(&format!("SELECT count(*) {}", self.from))?;
        Ok(query.query_row(params_from_iter(&self.parameters), |row| row.get::<_, i64>(0))? as u64)
    }

    /// A page of the ranked matches: message and rank.
    fn page(
        &self,
        connection: &Connection,
        query: &Query,
        total: u64,
        offset: u64,
        limit: u64,
    ) -> Result<Vec<(i64, f64)>> {
        let newest = "ORDER BY message_words.rowid DESC";
        let ranked_of = if query.has_words() { MAX_RANKED.min(total) } else { 0 };
        let mut page = Vec::new();
        if offset < ranked_of {
            let sql = format!(
                "SELECT id, weight FROM (SELECT message_words.rowid AS id, {RANK} AS weight {} {newest} LIMIT {MAX_RANKED})
                 ORDER BY weight, id DESC",
                self.from
            );
            self.rows(connection, &sql, offset, limit.min(ranked_of - offset), &mut page)?;
        }
        let missing = limit - page.len() as u64;
        if missing > 0 && total > ranked_of {
            let sql = format!("SELECT message_words.rowid, 0.0 {} {newest}", self.from);
            self.rows(connection, &sql, offset.max(ranked_of), missing, &mut page)?;
        }
        Ok(page)
    }

    fn rows(
        &self,
        connection: &Connection,
        sql: &str,
        offset: u64,
        limit: u64,
        page: &mut Vec<(i64, f64)>,
    ) -> Result<()> {
        let [offset, limit] = [offset, limit].map(|n| i64::try_from(n).unwrap_or(i64::MAX));
        let mut query = connection.prepare_cached(&format!("{sql} LIMIT {limit} OFFSET {offset}"))?;
        let rows = query.query_map(params_from_iter(&self.parameters), |row| {
            // FTS5's rank is the better the smaller it is.
            Ok((row.get(0)?, -row.get::<_, f64>(1)?))
        })?;
        for row in rows {
            page.push(row?);
        }
        Ok(())
    }
}

/// A term in FTS5's language. Words hold no ASCII character but letters and digits, so quoting them is enough.
fn words(term: &Term) -> String {
    let star = if term.prefix { " *" } else { "" };
    format!("{{title user assistant rest}} : \"{}\"{star}", term.words.join(" "))
}

/// The mark that a filter asks for: empty if no message has it, `None` if it is nothing that documents are marked with.
fn mark(connection: &Connection, tenant: i64, filter: &Filter) -> Result<Option<String>> {
    Ok(Some(match filter {
        Filter::Role(role) => role_mark(*role as usize),
        Filter::HasError => ERROR_MARK.into(),
        Filter::Tool(name) => match name.strip_suffix('*') {
            Some(begin) => format!("{} *", tool_mark(begin)),
            None => tool_mark(name),
        },
        Filter::Session(name) => connection
            .prepare_cached("SELECT id FROM session WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![tenant, name], |row| row.get(0))
            .optional()?
            .map(session_mark)
            .unwrap_or_default(),
        Filter::Since(_) | Filter::Until(_) | Filter::Model(_) | Filter::Project(_) => return Ok(None),
    }))
}

/// Conditions on the rows of messages and conversations.
struct Rows<'c> {
    connection: &'c Connection,
    tenant: i64,
    sql: String,
    parameters: Vec<Sql>,
}

impl Rows<'_> {
    fn narrow(&mut self, condition: &Condition) -> Result<()> {
        let not = if condition.excluded { "NOT " } else { "" };
        let sql = match &condition.filter {
            Filter::Since(at) => format!("m.created_at >= {}", at.0),
            Filter::Until(at) => format!("m.created_at < {}", at.0),
            Filter::Model(wanted) => {
                let models = self.numbers(
                    "SELECT id, text FROM name WHERE tenant = ?1 AND id IN
                    (SELECT model FROM exchange WHERE tenant = ?1)",
                    |name| model_matches(name, wanted),
                )?;
                format!(
                    "EXISTS (SELECT 1 FROM exchange e WHERE e.tenant = {} AND e.conversation = c.id
                         AND e.model IN ({models}))",
                    self.tenant
                )
            }
            Filter::Project(wanted) => {
                let sessions = self
                    .numbers("SELECT id, project FROM session WHERE tenant = ?1 AND project IS NOT NULL", |folder| {
                        project_matches(folder, wanted)
                    })?;
                format!("c.session IN ({sessions})")
            }
            Filter::Role(_) | Filter::Tool(_) | Filter::Session(_) | Filter::HasError => return Ok(()),
        };
        self.sql.push_str(&format!(" AND {not}{sql}"));
        Ok(())
    }

    /// The numbers of the rows whose text fits, with commas between them.
    fn numbers(&self, sql: &str, fits: impl Fn(&str) -> bool) -> Result<String> {
        let mut query = self.connection.prepare_cached(sql)?;
        let mut rows = query.query([self.tenant])?;
        let mut numbers: Vec<String> = Vec::new();
        while let Some(row) = rows.next()? {
            if fits(&row.get::<_, String>(1)?) {
                numbers.push(row.get::<_, i64>(0)?.to_string());
            }
        }
        Ok(numbers.join(","))
    }
}

fn hit(
    connection: &Connection,
    tenant: i64,
    query: &Query,
    message: i64,
    rank: f64,
    reader: &mut ContentReader<'_>,
) -> Result<SearchHit> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS}, s.name, c.metadata, {TITLE}
         FROM message m JOIN conversation c ON c.id = m.conversation JOIN session s ON s.id = c.session
         LEFT JOIN exchange x ON x.id = m.exchange WHERE m.tenant = ?1 AND m.id = ?2"
    ))?;
    let (row, session_id, metadata, title) = select.query_row(params![tenant, message], |row| {
        let after = |n: usize| row.get::<_, Option<String>>(AFTER_MESSAGE + n);
        Ok((MessageRow::of(row)?, after(0)?.unwrap_or_default(), after(1)?, after(2)?.unwrap_or_default()))
    })?;
    let content = reader.content(row.held)?;
    let said = text::words(&content);
    // A message may have been found by the title of the conversation that it begins.
    let shown =
        if snippet::occurs(&said, &query.terms) || !snippet::occurs(&title, &query.terms) { &said } else { &title };
    Ok(SearchHit {
        conversation_id: row.conversation_uuid,
        session_id,
        message_id: row.uuid(),
        turn: row.turn,
        role: row.role.name().to_owned(),
        snippet: snippet::snippet(shown, &query.terms),
        rank,
        created_at: row.created_at,
        content,
        conversation_metadata: metadata_of(metadata.as_deref()),
    })
}
