//! Reading what was kept: the questions of [`crate::tables`], in SQLite's SQL.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::error::damaged;
use crate::content::manifest::BlockHash;
use crate::conversation::identity::Role;
use crate::model::Timestamp;
use crate::store::Result;
use crate::tables::{Content, ContentRow, Held, Lines, Location, MessageRow, Source};

/// The epoch of everything that is recorded here, until retention needs more; what was moved here has brought its own.
pub(super) const EPOCH: i32 = 0;

/// The tables of one tenant, as a connection (or the transaction on it) sees them.
#[derive(Clone, Copy)]
pub(super) struct Tables<'c> {
    pub(super) connection: &'c Connection,
    pub(super) tenant: i64,
}

/// What [`message_of`] reads, in its order.
pub(super) const MESSAGE_COLUMNS: &str = "m.id, c.uuid, m.turn, m.role, m.complete, m.exchange, m.element, \
     m.elements, m.content, x.uuid, m.created_at, m.metadata";

/// The first column after [`MESSAGE_COLUMNS`].
pub(super) const AFTER_MESSAGE: usize = 12;

/// The columns of `message m` that [`held_of`] reads, in its order.
pub(super) const HELD_COLUMNS: &str = "m.exchange, m.element, m.elements, m.content";

/// Reads [`HELD_COLUMNS`] from column `first` on.
pub(super) fn held_of(row: &Row<'_>, first: usize) -> rusqlite::Result<Held> {
    Ok(match row.get(first)? {
        Some(exchange) => Held::Exchange(exchange, Source { first: row.get(first + 1)?, count: row.get(first + 2)? }),
        None => Held::Content(row.get(first + 3)?),
    })
}

/// Reads [`MESSAGE_COLUMNS`].
pub(super) fn message_of(row: &Row<'_>) -> rusqlite::Result<MessageRow> {
    let role: usize = row.get(3)?;
    Ok(MessageRow {
        id: row.get(0)?,
        conversation_uuid: Uuid::from_bytes(row.get(1)?),
        turn: row.get::<_, i64>(2)? as u64,
        role: Role::ALL.get(role).copied().unwrap_or(Role::User),
        complete: row.get(4)?,
        held: held_of(row, 5)?,
        exchange_uuid: row.get::<_, Option<[u8; 16]>>(9)?.map(Uuid::from_bytes),
        created_at: Timestamp(row.get(10)?),
        metadata: row.get(11)?,
    })
}

impl Tables<'_> {
    pub(super) fn conversation_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM conversation WHERE tenant = ?1 AND uuid = ?2")?
            .query_row(params![self.tenant, uuid.as_bytes()], |row| row.get(0))
            .optional()?)
    }

    pub(super) fn exchange_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM exchange WHERE tenant = ?1 AND uuid = ?2")?
            .query_row(params![self.tenant, uuid.as_bytes()], |row| row.get(0))
            .optional()?)
    }
}

impl Content for Tables<'_> {
    fn content_row(&self, exchange: i64) -> Result<Option<ContentRow>> {
        let mut query = self.connection.prepare_cached(
            "SELECT pack, pack_offset, pack_length, request_form, request_data, request_base, response_form,
                    response_data, digests, api, epoch
             FROM exchange WHERE tenant = ?1 AND id = ?2",
        )?;
        let row = query.query_row(params![self.tenant, exchange], |row| {
            let envelope = match row.get::<_, Option<i64>>(0)? {
                Some(pack) => Some(Location { pack, offset: row.get(1)?, length: row.get(2)? }),
                None => None,
            };
            Ok(ContentRow {
                epoch: row.get(10)?,
                api: row.get(9)?,
                envelope,
                request_form: row.get(3)?,
                request_data: row.get(4)?,
                request_base: row.get(5)?,
                response_form: row.get(6)?,
                response_data: row.get(7)?,
                digests: row.get(8)?,
            })
        });
        Ok(row.optional()?)
    }

    fn locate(&self, epoch: i32, hash: &BlockHash) -> Result<Option<Location>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT pack, offset, length FROM block WHERE tenant = ?1 AND epoch = ?2 AND hash = ?3")?;
        let location = query.query_row(params![self.tenant, epoch, hash], |row| {
            Ok(Location { pack: row.get(0)?, offset: row.get(1)?, length: row.get(2)? })
        });
        Ok(location.optional()?)
    }

    fn pieces(&self, epoch: i32, pack: i64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut query = self.connection.prepare_cached(
            "SELECT data FROM pack_piece WHERE tenant = ?1 AND epoch = ?2 AND pack = ?3 ORDER BY piece",
        )?;
        let mut rows = query.query(params![self.tenant, epoch, pack])?;
        while let Some(row) = rows.next()? {
            take(row.get_ref(0)?.as_blob().map_err(|e| damaged(e.to_string()))?)?;
        }
        Ok(())
    }

    fn stored_content(&self, id: i64) -> Result<Vec<u8>> {
        let mut query =
            self.connection.prepare_cached("SELECT data FROM stored_content WHERE tenant = ?1 AND id = ?2")?;
        let data = query.query_row(params![self.tenant, id], |row| row.get(0)).optional()?;
        data.ok_or_else(|| damaged(format!("the content {id} of a stored message is missing")))
    }

    fn assistant_turn(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        Ok(self
            .connection
            .prepare_cached(&format!(
                "SELECT {HELD_COLUMNS} FROM message m
                 WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn = ?3 AND m.role = 1"
            ))?
            .query_row(params![self.tenant, conversation, turn as i64], |row| held_of(row, 0))
            .optional()?)
    }

    fn assistant_before(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        Ok(self
            .connection
            .prepare_cached(&format!(
                "SELECT {HELD_COLUMNS} FROM message m
                 WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn < ?3 AND m.role = 1
                 ORDER BY m.turn DESC LIMIT 1"
            ))?
            .query_row(params![self.tenant, conversation, turn as i64], |row| held_of(row, 0))
            .optional()?)
    }
}

impl Lines for Tables<'_> {
    fn fork_of(&self, conversation: i64) -> Result<Option<(i64, u64)>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT fork_of, fork_turn FROM conversation WHERE tenant = ?1 AND id = ?2")?;
        let fork: Option<(Option<i64>, Option<i64>)> =
            query.query_row(params![self.tenant, conversation], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        Ok(fork.and_then(|(of, turn)| of.zip(turn)).map(|(of, turn)| (of, turn as u64)))
    }

    fn first_turn(&self, conversation: i64) -> Result<Option<u64>> {
        let first: Option<i64> = self
            .connection
            .prepare_cached("SELECT min(turn) FROM message WHERE tenant = ?1 AND conversation = ?2")?
            .query_row(params![self.tenant, conversation], |row| row.get(0))?;
        Ok(first.map(|turn| turn as u64))
    }

    fn messages(&self, conversation: i64, after: u64, last: u64) -> Result<Vec<MessageRow>> {
        let mut query = self.connection.prepare_cached(&format!(
            "SELECT {MESSAGE_COLUMNS} FROM message m
             JOIN conversation c ON c.id = m.conversation LEFT JOIN exchange x ON x.id = m.exchange
             WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn > ?3 AND m.turn <= ?4 ORDER BY m.turn"
        ))?;
        let turn = |turn: u64| i64::try_from(turn).unwrap_or(i64::MAX);
        let rows = query.query_map(params![self.tenant, conversation, turn(after), turn(last)], message_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }
}
