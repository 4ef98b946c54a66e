//! Sessions, conversations and messages in SQLite: finding a request's place, adding turns.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::indexing;
use crate::conversation::identity::{Chain, Role};
use crate::conversation::threading::{self, Known, Place, Step};
use crate::model::Timestamp;
use crate::store::Result;

/// A row of `message` with its indexes and its place in the queue for the index, measured.
pub(super) const MESSAGE_ROW: u64 = 84;

/// Where a turn's content is: elements of a request's history, or the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) first: i64,
    pub(super) count: i64,
}

impl Source {
    /// The exchange's response.
    pub(super) const RESPONSE: Source = Source { first: -1, count: 1 };
}

/// A turn to be added.
pub(super) struct NewTurn {
    pub(super) turn: u64,
    pub(super) role: Role,
    pub(super) complete: bool,
    pub(super) chain: Chain,
    pub(super) source: Source,
}

/// A conversation to be added.
pub(super) struct NewConversation {
    pub(super) session: i64,
    pub(super) agent: Option<String>,
    pub(super) parent: Option<i64>,
    pub(super) fork: Option<(i64, u64)>,
    pub(super) title: Option<String>,
    pub(super) at: Timestamp,
}

fn known_of(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        conversation: row.get(0)?,
        turn: row.get::<_, i64>(1)? as u64,
        tip: row.get::<_, i64>(2)? as u64,
        tip_complete: row.get::<_, Option<bool>>(3)?.unwrap_or(true),
        local: row.get(4)?,
    })
}

/// The tables of one tenant, within a transaction.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tenant: i64,
}

impl Lines<'_> {
    /// The session's number; it is created if it is new. `derived`: the client named none.
    pub(super) fn session(&self, name: &str, derived: bool) -> Result<i64> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM session WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![self.tenant, name], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.connection
            .prepare_cached("INSERT INTO session (tenant, name, derived) VALUES (?1, ?2, ?3)")?
            .execute(params![self.tenant, name, derived])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Where a history belongs. Without a session, all conversations of clients that name none are local.
    pub(super) fn place(&self, session: Option<i64>, agent: Option<&str>, history: &[Step]) -> Result<Place> {
        threading::place(history, session.is_some(), |length, chain| {
            let mut known = match session {
                Some(session) => self.known_in_session(session, agent, length, chain)?,
                None => Vec::new(),
            };
            // Another agent's line is nothing to continue or to fork from.
            if agent.is_none() {
                known.extend(self.known_elsewhere(session, chain)?);
            }
            Ok(known)
        })
    }

    /// Asked by session first: a prompt that is common may open any number of conversations in other sessions.
    fn known_in_session(&self, session: i64, agent: Option<&str>, turn: u64, chain: &Chain) -> Result<Vec<Known>> {
        let mut query = self.connection.prepare_cached(
            "SELECT m.conversation, m.turn, c.tip, t.complete, 1
             FROM conversation c CROSS JOIN message m LEFT JOIN message t
                  ON t.tenant = c.tenant AND t.conversation = c.id AND t.turn = c.tip
             WHERE c.tenant = ?1 AND c.session = ?2 AND c.agent IS ?3
               AND m.tenant = ?1 AND m.conversation = c.id AND m.turn = ?4 AND m.chain = ?5",
        )?;
        let rows = query.query_map(params![self.tenant, session, agent, turn as i64, chain], known_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// The newest conversations of other sessions, or of clients that name none. In an index the rows of one chain stand
    /// in the order of their ids, so that the newest come first without sorting.
    fn known_elsewhere(&self, session: Option<i64>, chain: &Chain) -> Result<Vec<Known>> {
        let mut query = self.connection.prepare_cached(
            "SELECT m.conversation, m.turn, c.tip, t.complete, ?3 IS NULL AND s.derived
             FROM message m INDEXED BY message_by_chain CROSS JOIN conversation c CROSS JOIN session s LEFT JOIN message t
                  ON t.tenant = c.tenant AND t.conversation = c.id AND t.turn = c.tip
             WHERE m.tenant = ?1 AND m.chain = ?2 AND c.id = m.conversation AND s.id = c.session
               AND c.agent IS NULL AND c.session IS NOT ?3
             ORDER BY m.id DESC LIMIT 16",
        )?;
        let rows = query.query_map(params![self.tenant, chain, session], known_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    pub(super) fn create(&self, new: &NewConversation) -> Result<i64> {
        let uuid = Uuid::now_v7();
        self.connection
            .prepare_cached(
                "INSERT INTO conversation
                 (tenant, uuid, session, agent, parent, fork_of, fork_turn, title, source, created_at, updated_at, tip)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'captured', ?9, ?9, ?10)",
            )?
            .execute(params![
                self.tenant,
                uuid.as_bytes(),
                new.session,
                new.agent,
                new.parent,
                new.fork.map(|f| f.0),
                new.fork.map(|f| f.1 as i64),
                new.title,
                new.at.0,
                new.fork.map_or(0, |f| f.1 as i64),
            ])?;
        Ok(self.connection.last_insert_rowid())
    }

    /// Makes `turns` the end of the conversation; what it had from the first of them on (an answer that broke off)
    /// gives way.
    pub(super) fn add(&self, conversation: i64, exchange: i64, turns: &[NewTurn], at: Timestamp) -> Result<()> {
        let Some(first) = turns.first() else { return Ok(()) };
        self.make_way(conversation, first.turn)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO message (tenant, conversation, turn, role, complete, chain, exchange, element, elements, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let mut queue =
            self.connection.prepare_cached("INSERT INTO message_unindexed (tenant, message) VALUES (?1, ?2)")?;
        for turn in turns {
            insert.execute(params![
                self.tenant,
                conversation,
                turn.turn as i64,
                turn.role as i64,
                turn.complete,
                turn.chain,
                exchange,
                turn.source.first,
                turn.source.count,
                at.0,
            ])?;
            queue.execute(params![self.tenant, self.connection.last_insert_rowid()])?;
        }
        let tip = first.turn + turns.len() as u64 - 1;
        self.connection
            .prepare_cached(
                "UPDATE conversation SET tip = ?3, updated_at = max(updated_at, ?4) WHERE tenant = ?1 AND id = ?2",
            )?
            .execute(params![self.tenant, conversation, tip as i64, at.0])?;
        Ok(())
    }

    /// Removes a conversation's turns from one on. Nearly always there are none.
    fn make_way(&self, conversation: i64, turn: u64) -> Result<()> {
        let from = params![self.tenant, conversation, turn as i64];
        let gives_way = self
            .connection
            .prepare_cached("SELECT 1 FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3")?
            .exists(from)?;
        if !gives_way {
            return Ok(());
        }
        // What gives way leaves the index too: nobody could erase its words from there later.
        self.connection
            .prepare_cached(
                "DELETE FROM message_words WHERE rowid IN (SELECT id FROM message
                 WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3
                   AND id NOT IN (SELECT message FROM message_unindexed WHERE tenant = ?1))",
            )?
            .execute(from)?;
        self.connection
            .prepare_cached("DELETE FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3")?
            .execute(from)?;
        Ok(())
    }

    /// The chain and wholeness of one turn held by the conversation itself.
    pub(super) fn turn(&self, conversation: i64, turn: u64) -> Result<Option<(Chain, bool)>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT chain, complete FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn = ?3",
            )?
            .query_row(params![self.tenant, conversation, turn as i64], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    pub(super) fn session_of(&self, conversation: i64) -> Result<i64> {
        Ok(self
            .connection
            .prepare_cached("SELECT session FROM conversation WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, conversation], |row| row.get(0))?)
    }

    /// The session's captured conversations that no agent id was given for, newest first: number and last turn.
    pub(super) fn main_lines(&self, session: i64, limit: u64) -> Result<Vec<(i64, u64)>> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, tip FROM conversation WHERE tenant = ?1 AND session = ?2 AND agent IS NULL AND source = 'captured'
             ORDER BY updated_at DESC, id DESC LIMIT ?3",
        )?;
        let rows = query.query_map(params![self.tenant, session, limit as i64], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// The newest conversation of an agent in a session.
    pub(super) fn of_agent(&self, session: i64, agent: &str) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT id FROM conversation WHERE tenant = ?1 AND session = ?2 AND agent = ?3 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![self.tenant, session, agent], |row| row.get(0))
            .optional()?)
    }

    pub(super) fn set_session_title(&self, session: i64, title: &str) -> Result<()> {
        let changed = self
            .connection
            .prepare_cached("UPDATE session SET title = ?3 WHERE tenant = ?1 AND id = ?2 AND title IS NOT ?3")?
            .execute(params![self.tenant, session, title])?;
        if changed > 0 {
            indexing::requeue_titles(self.connection, self.tenant, session)?;
        }
        Ok(())
    }

    /// Remembers the first project folder that the session named.
    pub(super) fn set_project(&self, session: i64, folder: &str) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE session SET project = ?3 WHERE tenant = ?1 AND id = ?2 AND project IS NULL")?
            .execute(params![self.tenant, session, folder])?;
        Ok(())
    }

    pub(super) fn set_summary_at(&self, session: i64, at: Option<Timestamp>) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE session SET summary_at = ?3 WHERE tenant = ?1 AND id = ?2")?
            .execute(params![self.tenant, session, at.map(|t| t.0)])?;
        Ok(())
    }

    pub(super) fn summary_at(&self, session: i64) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached("SELECT summary_at FROM session WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, session], |row| row.get(0))?)
    }

    /// The number of a text that many rows share.
    pub(super) fn name(&self, text: &str) -> Result<i64> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM name WHERE tenant = ?1 AND text = ?2")?
            .query_row(params![self.tenant, text], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.connection
            .prepare_cached("INSERT INTO name (tenant, text) VALUES (?1, ?2)")?
            .execute(params![self.tenant, text])?;
        Ok(self.connection.last_insert_rowid())
    }
}
