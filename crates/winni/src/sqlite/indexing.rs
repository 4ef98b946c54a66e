//! Filling the full-text index (FTS5, contentless) behind the traffic.
//!
//! A message is either in the queue or in the index, never in both: so its words can be erased from wherever they are.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use serde_json::Value;

use super::append::Writer;
use super::fresh::Fresh;
use super::reading::ContentReader;
use super::stored::{HELD_COLUMNS, Held};
use crate::conversation::identity::Role;
use crate::model::Outcome;
use crate::search::document::{self, Document};
use crate::store::Result;

/// Bytes of words that are read at a time, unless one message alone has more.
const MAX_WAITING: usize = 4 * 1024 * 1024;

/// What a message's document is made from, beside what it says.
#[derive(Clone, Debug, PartialEq)]
struct Place {
    conversation: i64,
    turn: i64,
    role: usize,
    session: i64,
    /// The conversation's, if this is its first message.
    title: Option<String>,
    failed: bool,
    held: Held,
}

/// What the index is to hold of a message.
pub(super) struct Entry {
    message: i64,
    /// What it was made from; `None` if the message has gone meanwhile.
    place: Option<Place>,
    document: Document,
}

/// Reads up to `max` waiting messages. The writing thread is not asked: it has traffic to store.
pub(super) fn waiting(connection: &Connection, tenant: i64, fresh: &Fresh, max: usize) -> Result<Vec<Entry>> {
    let mut query = connection
        .prepare_cached("SELECT message FROM message_unindexed WHERE tenant = ?1 ORDER BY message LIMIT ?2")?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let messages: Vec<i64> =
        query.query_map(params![tenant, max], |row| row.get(0))?.collect::<std::result::Result<_, _>>()?;
    let mut reader = ContentReader::new(connection, tenant);
    let (mut entries, mut bytes) = (Vec::with_capacity(messages.len()), 0);
    for message in messages {
        if bytes > MAX_WAITING {
            break;
        }
        let entry = entry(connection, tenant, message, &mut Contents { fresh, reader: &mut reader })?;
        bytes += entry.document.fields.iter().map(String::len).sum::<usize>();
        entries.push(entry);
    }
    Ok(entries)
}

/// Contents from memory, or else from the database.
struct Contents<'a, 'c> {
    fresh: &'a Fresh,
    reader: &'a mut ContentReader<'c>,
}

impl Contents<'_, '_> {
    fn content(&mut self, held: Held) -> Result<Arc<Value>> {
        let fresh = match held {
            Held::Exchange(exchange, source) => self.fresh.get(exchange, source),
            Held::Content(_) => None,
        };
        fresh.map_or_else(|| self.reader.content(held).map(Arc::new), Ok)
    }
}

fn entry(connection: &Connection, tenant: i64, message: i64, contents: &mut Contents<'_, '_>) -> Result<Entry> {
    let Some(place) = place(connection, tenant, message)? else {
        return Ok(Entry { message, place: None, document: Document::default() });
    };
    let content = contents.content(place.held)?;
    let before = match document::answers_a_tool(&content) {
        true => said_before(connection, tenant, &place, contents)?,
        false => None,
    };
    let role = Role::ALL.get(place.role).copied().unwrap_or(Role::User);
    let document = Document::of(&document::Source {
        role,
        content: &content,
        before: before.as_deref(),
        title: place.title.as_deref(),
        failed: place.failed,
    });
    Ok(Entry { message, place: Some(place), document })
}

fn place(connection: &Connection, tenant: i64, message: i64) -> Result<Option<Place>> {
    let mut query = connection.prepare_cached(&format!(
        "SELECT m.conversation, m.turn, m.role, c.session,
                CASE WHEN NOT EXISTS (SELECT 1 FROM message b WHERE b.tenant = m.tenant
                                      AND b.conversation = m.conversation AND b.turn < m.turn)
                     THEN {TITLE} END,
                x.outcome <> ?3 OR x.status >= 400, {HELD_COLUMNS}
         FROM message m JOIN conversation c ON c.id = m.conversation JOIN session s ON s.id = c.session
         LEFT JOIN exchange x ON x.id = m.exchange
         WHERE m.tenant = ?1 AND m.id = ?2"
    ))?;
    let found = query.query_row(params![tenant, message, Outcome::Complete as i64], |row| {
        Ok(Place {
            conversation: row.get(0)?,
            turn: row.get(1)?,
            role: row.get(2)?,
            session: row.get(3)?,
            title: row.get(4)?,
            failed: row.get::<_, Option<bool>>(5)?.unwrap_or(false),
            held: Held::of(row, 6)?,
        })
    });
    Ok(found.optional()?)
}

/// A conversation's title, of `conversation c JOIN session s`: an agent names its session, which is then what its main
/// lines are about.
pub(super) const TITLE: &str = "CASE WHEN c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL
     THEN coalesce(s.title, c.title) ELSE c.title END";

/// What the model said last before a message.
fn said_before(
    connection: &Connection,
    tenant: i64,
    place: &Place,
    contents: &mut Contents<'_, '_>,
) -> Result<Option<Arc<Value>>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {HELD_COLUMNS} FROM message m
             WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn < ?3 AND m.role = ?4 ORDER BY m.turn DESC LIMIT 1",
        ))?
        .query_row(params![tenant, place.conversation, place.turn, Role::Assistant as i64], |row| Held::of(row, 0))
        .optional()?;
    found.map(|held| contents.content(held)).transpose()
}

/// Puts entries into the index, of messages that are still what they were when they were read; others wait for the next
/// time.
pub(super) fn index(writer: &mut Writer, entries: &[Entry]) -> Result<usize> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for Entry { message, place: read, document } in entries {
        if place(&transaction, tenant, *message)? != *read {
            continue;
        }
        let waits = transaction
            .prepare_cached("DELETE FROM message_unindexed WHERE tenant = ?1 AND message = ?2")?
            .execute(params![tenant, message])?;
        let Some(place) = read.as_ref().filter(|_| waits > 0) else { continue };
        let [title, user, assistant, rest] = &document.fields;
        let mut marks = document.marks.join(" ");
        marks.push_str(&format!(" {} {}", role_mark(place.role), session_mark(place.session)));
        transaction
            .prepare_cached(
                "INSERT INTO message_words (rowid, title, user, assistant, rest, marks) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![message, title, user, assistant, rest, marks])?;
    }
    transaction.commit()?;
    Ok(entries.len())
}

/// The mark of a role's messages.
pub(super) fn role_mark(role: usize) -> String {
    format!("r{role}")
}

/// The mark of a session's messages.
pub(super) fn session_mark(session: i64) -> String {
    format!("s{session}")
}

/// Queues the first messages of a session's captured main lines anew: they carry its title.
pub(super) fn requeue_titles(connection: &Connection, tenant: i64, session: i64) -> Result<()> {
    let mut query = connection.prepare_cached(
        "SELECT (SELECT m.id FROM message m WHERE m.tenant = c.tenant AND m.conversation = c.id ORDER BY m.turn LIMIT 1)
         FROM conversation c
         WHERE c.tenant = ?1 AND c.session = ?2 AND c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL",
    )?;
    let firsts: Vec<Option<i64>> =
        query.query_map(params![tenant, session], |row| row.get(0))?.collect::<std::result::Result<_, _>>()?;
    firsts.into_iter().flatten().try_for_each(|message| requeue(connection, tenant, message))
}

/// Queues a message anew, whose document is another now.
pub(super) fn requeue(connection: &Connection, tenant: i64, message: i64) -> Result<()> {
    let queued = connection
        .prepare_cached("INSERT OR IGNORE INTO message_unindexed (tenant, message) VALUES (?1, ?2)")?
        .execute(params![tenant, message])?;
    if queued > 0 {
        connection.prepare_cached("DELETE FROM message_words WHERE rowid = ?1")?.execute([message])?;
    }
    Ok(())
}
