//! Filling the full-text index (FTS5, contentless) behind the traffic.
//!
//! A message is either in the queue or in the index, never in both: so its words can be erased from wherever they are.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::append::Writer;
use super::tables::{HELD_COLUMNS, Tables, held_of};
use crate::indexing::{Entry, Place, entries, role_mark, session_mark};
use crate::ingest::fresh::Fresh;
use crate::model::Outcome;
use crate::store::Result;

/// Reads up to `max` waiting messages. The writing thread is not asked: it has traffic to store.
pub(super) fn waiting(connection: &Connection, tenant: i64, fresh: &Fresh, max: usize) -> Result<Vec<Entry>> {
    let mut query = connection
        .prepare_cached("SELECT message FROM message_unindexed WHERE tenant = ?1 ORDER BY message LIMIT ?2")?;
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let messages: Vec<i64> =
        query.query_map(params![tenant, max], |row| row.get(0))?.collect::<std::result::Result<_, _>>()?;
    let place = |message| Ok((message, place(connection, tenant, message)?));
    entries(&Tables { connection, tenant }, fresh, messages.into_iter().map(place).collect::<Result<_>>()?)
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
            turn: row.get::<_, i64>(1)? as u64,
            role: row.get(2)?,
            session: row.get(3)?,
            title: row.get(4)?,
            failed: row.get::<_, Option<bool>>(5)?.unwrap_or(false),
            held: held_of(row, 6)?,
        })
    });
    Ok(found.optional()?)
}

/// A conversation's title, of `conversation c JOIN session s`: an agent names its session, which is then what its main
/// lines are about.
pub(super) const TITLE: &str = "CASE WHEN c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL
     THEN coalesce(s.title, c.title) ELSE c.title END";

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
