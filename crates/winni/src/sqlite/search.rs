//! Full-text search in SQLite (FTS5, contentless): filled behind the traffic, asked in ranked order.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::append::Writer;
use super::lines::Source;
use super::reading::{ContentReader, MESSAGE_COLUMNS, MessageRow, tools};
use crate::conversation::text;
use crate::model::{SearchHit, SearchQuery};
use crate::search::{self, Term};
use crate::store::{Error, Result};

/// Words of one message beyond this many bytes are not indexed: a tool's dump of megabytes is not what people look for.
const MAX_INDEXED: usize = 256 * 1024;

/// Indexes up to `max` waiting messages; how many it did.
pub(super) fn index_pending(writer: &mut Writer, max: usize) -> Result<usize> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let waiting = waiting(&writer.connection, tenant, max)?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for &message in &waiting {
        index(&transaction, tenant, message)?;
        transaction
            .prepare_cached("DELETE FROM message_unindexed WHERE tenant = ?1 AND message = ?2")?
            .execute(params![tenant, message])?;
    }
    transaction.commit()?;
    Ok(waiting.len())
}

fn waiting(connection: &Connection, tenant: i64, max: usize) -> Result<Vec<i64>> {
    let mut query = connection
        .prepare_cached("SELECT message FROM message_unindexed WHERE tenant = ?1 ORDER BY message LIMIT ?2")?;
    let rows = query.query_map(params![tenant, max as i64], |row| row.get(0))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

/// A message that has gone meanwhile (an answer that broke off and was replaced) is passed over.
fn index(connection: &Connection, tenant: i64, message: i64) -> Result<()> {
    let found = connection
        .prepare_cached(
            "SELECT exchange, element, elements, conversation, turn FROM message WHERE tenant = ?1 AND id = ?2",
        )?
        .query_row(params![tenant, message], |row| {
            Ok((row.get(0)?, Source { first: row.get(1)?, count: row.get(2)? }, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((exchange, source, conversation, turn)) = found else {
        return Ok(());
    };
    let mut reader = ContentReader::new(connection, tenant);
    let content = reader.content(exchange, source)?;
    let before = content_before(connection, tenant, conversation, turn, &mut reader)?;
    let mut words = text::words(&content);
    let end = (0..=MAX_INDEXED.min(words.len())).rev().find(|&at| words.is_char_boundary(at)).unwrap_or(0);
    words.truncate(end);
    connection
        .prepare_cached("INSERT INTO message_words (rowid, words, tools) VALUES (?1, ?2, ?3)")?
        .execute(params![message, words, tools(&content, before.as_ref()).join(" ")])?;
    Ok(())
}

fn content_before(
    connection: &Connection,
    tenant: i64,
    conversation: i64,
    turn: i64,
    reader: &mut ContentReader<'_>,
) -> Result<Option<Value>> {
    let found = connection
        .prepare_cached(
            "SELECT exchange, element, elements FROM message
             WHERE tenant = ?1 AND conversation = ?2 AND turn < ?3 AND role = 1 ORDER BY turn DESC LIMIT 1",
        )?
        .query_row(params![tenant, conversation, turn], |row| {
            Ok((row.get(0)?, Source { first: row.get(1)?, count: row.get(2)? }))
        })
        .optional()?;
    found.map(|(exchange, source)| reader.content(exchange, source)).transpose()
}

pub(super) fn search(connection: &Connection, tenant: i64, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let terms = search::parse(&query.text);
    if !terms.iter().any(|t| !t.excluded) {
        return Err(Error::Invalid("the query has no word to look for; give at least one that is not excluded".into()));
    }
    let matching = match_expression(&terms, query.tool.as_deref());
    let from = "FROM message_words w JOIN message m ON m.id = w.rowid
         JOIN conversation c ON c.id = m.conversation JOIN session s ON s.id = c.session
         JOIN exchange x ON x.id = m.exchange
         WHERE message_words MATCH ?2 AND m.tenant = ?1 AND x.erased = 0
         AND (?3 IS NULL OR m.role = ?3) AND (?4 IS NULL OR s.name = ?4)
         AND (?5 IS NULL OR m.created_at >= ?5) AND (?6 IS NULL OR m.created_at < ?6)
         AND (?7 IS NULL OR EXISTS (SELECT 1 FROM exchange e JOIN name n ON n.id = e.model
              WHERE e.tenant = ?1 AND e.conversation = m.conversation AND n.text = ?7))";
    let role = match &query.role {
        Some(name) => {
            let role = crate::conversation::identity::Role::of(name);
            Some(role.ok_or_else(|| Error::Invalid(format!("no role `{name}`; use user, assistant, system or tool")))?
                as i64)
        }
        None => None,
    };
    let (since, until) = (query.since.map(|t| t.0), query.until.map(|t| t.0));
    let total: i64 = connection
        .prepare_cached(&format!("SELECT count(*) {from}"))?
        .query_row(params![tenant, matching, role, query.session_id, since, until, query.model], |row| row.get(0))?;
    let mut select = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS}, s.name, bm25(message_words) {from} ORDER BY bm25(message_words), m.id DESC LIMIT ?8 OFFSET ?9"
    ))?;
    let rows = select.query_map(
        params![
            tenant,
            matching,
            role,
            query.session_id,
            since,
            until,
            query.model,
            query.limit as i64,
            query.offset as i64
        ],
        |row| Ok((MessageRow::of(row)?, row.get::<_, String>(10)?, row.get::<_, f64>(11)?)),
    )?;
    let mut reader = ContentReader::new(connection, tenant);
    let mut hits = Vec::new();
    for row in rows {
        let (row, session_id, bm25) = row?;
        let content = reader.content(row.exchange, row.source)?;
        hits.push(SearchHit {
            conversation_id: row.conversation_uuid,
            session_id,
            message_id: row.uuid(),
            turn: row.turn,
            role: row.role.name().to_owned(),
            snippet: search::snippet(&text::words(&content), &terms),
            rank: -bm25,
            created_at: row.created_at,
        });
    }
    Ok((hits, total as u64))
}

/// The query in FTS5's language. Words are letters and digits only, so quoting them is enough.
fn match_expression(terms: &[Term], tool: Option<&str>) -> String {
    let quoted = |t: &Term| format!("\"{}\"{}", t.words.join(" "), if t.prefix { "*" } else { "" });
    let wanted: Vec<String> = terms.iter().filter(|t| !t.excluded).map(quoted).collect();
    let mut expression = format!("{{words}} : ({})", wanted.join(" AND "));
    let excluded: Vec<String> = terms.iter().filter(|t| t.excluded).map(quoted).collect();
    if !excluded.is_empty() {
        expression = format!("({expression}) NOT ({{words}} : ({}))", excluded.join(" OR "));
    }
    if let Some(tool) = tool {
        let words: Vec<&str> = tool.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
        expression = format!("({expression}) AND ({{tools}} : \"{}\")", words.join(" "));
    }
    expression
}
