//! Full-text search in SQLite (FTS5, contentless): filled behind the traffic, asked in ranked order.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::append::Writer;
use super::reading::{AFTER_MESSAGE, ContentReader, MESSAGE_COLUMNS, MessageRow, metadata_of, tools};
use super::stored::{HELD_COLUMNS, Held};
use crate::conversation::text::{self, Block};
use crate::model::{SearchHit, SearchQuery};
use crate::search::{self, Term};
use crate::store::{Error, Result};

/// Words of one message beyond this many bytes are not indexed: a tool's dump of megabytes is not what people look for.
const MAX_INDEXED: usize = 256 * 1024;

/// Words that are read at a time, unless one message alone has more.
const MAX_WAITING: usize = 16 * 1024 * 1024;

/// What the index is to hold of a message.
pub(super) struct Words {
    message: i64,
    /// Where it was read from; `None` if it has gone meanwhile.
    held: Option<Held>,
    words: String,
    tools: String,
}

/// Reads the words of up to `max` waiting messages. The writing thread is not asked: it has traffic to store.
pub(super) fn waiting(connection: &Connection, tenant: i64, max: usize) -> Result<Vec<Words>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT u.message, m.conversation, m.turn, {HELD_COLUMNS}
         FROM message_unindexed u LEFT JOIN message m ON m.id = u.message WHERE u.tenant = ?1 ORDER BY u.message LIMIT ?2",
    ))?;
    let rows = query.query_map(params![tenant, max as i64], |row| {
        let found = match row.get::<_, Option<i64>>(1)? {
            Some(conversation) => Some((conversation, row.get::<_, i64>(2)?, Held::of(row, 3)?)),
            None => None,
        };
        Ok((row.get(0)?, found))
    })?;
    let mut reader = ContentReader::new(connection, tenant);
    let mut waiting = Vec::new();
    let mut bytes = 0;
    for row in rows {
        if bytes > MAX_WAITING {
            break;
        }
        // A message that has gone meanwhile (an answer that broke off and was replaced) leaves the queue with no words.
        let (message, found) = row?;
        let mut words = Words { message, held: None, words: String::new(), tools: String::new() };
        if let Some((conversation, turn, held)) = found {
            let content = reader.content(held)?;
            let before = match answers_a_tool(&content) {
                true => content_before(connection, tenant, conversation, turn, &mut reader)?,
                false => None,
            };
            words.held = Some(held);
            words.tools = tools(&content, before.as_ref()).join(" ");
            words.words = text::words(&content);
            words.words.truncate(words.words.floor_char_boundary(MAX_INDEXED));
        }
        bytes += words.words.len() + words.tools.len();
        waiting.push(words);
    }
    Ok(waiting)
}

fn answers_a_tool(content: &Value) -> bool {
    text::blocks(content).iter().any(|block| matches!(block, Block::ToolResult { .. }))
}

/// Puts words into the index, of messages that are still what they were when they were read.
pub(super) fn index(writer: &mut Writer, words: &[Words]) -> Result<usize> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for Words { message, held, words, tools } in words {
        let waits = transaction
            .prepare_cached("DELETE FROM message_unindexed WHERE tenant = ?1 AND message = ?2")?
            .execute(params![tenant, message])?;
        let stands = transaction
            .prepare_cached(&format!("SELECT {HELD_COLUMNS} FROM message m WHERE m.tenant = ?1 AND m.id = ?2"))?
            .query_row(params![tenant, message], |row| Held::of(row, 0))
            .optional()?;
        if waits > 0 && stands.is_some() && stands == *held {
            transaction
                .prepare_cached("INSERT INTO message_words (rowid, words, tools) VALUES (?1, ?2, ?3)")?
                .execute(params![message, words, tools])?;
        }
    }
    transaction.commit()?;
    Ok(words.len())
}

fn content_before(
    connection: &Connection,
    tenant: i64,
    conversation: i64,
    turn: i64,
    reader: &mut ContentReader<'_>,
) -> Result<Option<Value>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {HELD_COLUMNS} FROM message m
             WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn < ?3 AND m.role = 1 ORDER BY m.turn DESC LIMIT 1",
        ))?
        .query_row(params![tenant, conversation, turn], |row| Held::of(row, 0))
        .optional()?;
    found.map(|held| reader.content(held)).transpose()
}

pub(super) fn search(connection: &Connection, tenant: i64, query: &SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
    let terms = search::parse(&query.text);
    if !terms.iter().any(|t| !t.excluded) {
        return Err(Error::Invalid("the query has no word to look for; give at least one that is not excluded".into()));
    }
    let matching = match_expression(&terms, query.tool.as_deref());
    let from = "FROM message_words w JOIN message m ON m.id = w.rowid
         JOIN conversation c ON c.id = m.conversation JOIN session s ON s.id = c.session
         LEFT JOIN exchange x ON x.id = m.exchange
         WHERE message_words MATCH ?2 AND m.tenant = ?1 AND x.erased IS NOT 1
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
        "SELECT {MESSAGE_COLUMNS}, s.name, c.metadata, bm25(message_words) {from} ORDER BY bm25(message_words), m.id DESC LIMIT ?8 OFFSET ?9"
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
        |row| {
            let after = |n: usize| AFTER_MESSAGE + n;
            let metadata: Option<String> = row.get(after(1))?;
            Ok((MessageRow::of(row)?, row.get::<_, String>(after(0))?, metadata, row.get::<_, f64>(after(2))?))
        },
    )?;
    let mut reader = ContentReader::new(connection, tenant);
    let mut hits = Vec::new();
    for row in rows {
        let (row, session_id, metadata, bm25) = row?;
        let content = reader.content(row.held)?;
        hits.push(SearchHit {
            conversation_id: row.conversation_uuid,
            session_id,
            message_id: row.uuid(),
            turn: row.turn,
            role: row.role.name().to_owned(),
            snippet: search::snippet(&text::words(&content), &terms),
            rank: -bm25,
            created_at: row.created_at,
            content,
            conversation_metadata: metadata_of(metadata.as_deref()),
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
