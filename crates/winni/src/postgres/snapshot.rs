//! Reading what was kept: the questions of `tables`, in PostgreSQL's SQL.
//!
//! What was announced is fetched at once and answered from memory; anything else costs one journey to the server.
//!
//! Rows are found one by one in the order in which a query names its tables: `LATERAL (… OFFSET 0)` leaves the planner no
//! other. What it knows of tables that grow is always old, and a plan that reads a whole one is a catastrophe later.

use std::cell::RefCell;
use std::collections::HashMap;

use tokio_postgres::Row;
use uuid::Uuid;

use super::connection::Connection;
use super::error::damaged;
use super::value::given;
use crate::content::manifest::BlockHash;
use crate::conversation::identity::Role;
use crate::store::{Error, Result};
use crate::tables::{Content, ContentRow, Held, Lines, Location, MessageRow, Source};

/// What [`message_of`] reads, in its order.
pub(super) const MESSAGE_COLUMNS: &str = "m.id, c.uuid, m.turn, m.role, m.complete, m.exchange, m.element, m.elements, \
     m.content, x.uuid, m.created_at, m.metadata";

/// The first column after [`MESSAGE_COLUMNS`].
pub(super) const AFTER_MESSAGE: usize = 12;

/// Where [`MESSAGE_COLUMNS`] come from.
pub(super) const MESSAGES: &str = "message m
     CROSS JOIN LATERAL (SELECT uuid FROM conversation WHERE tenant = m.tenant AND id = m.conversation OFFSET 0) c
     LEFT JOIN LATERAL (SELECT uuid FROM exchange WHERE tenant = m.tenant AND id = m.exchange OFFSET 0) x ON true";

/// The columns of `message m` that [`held_of`] reads, in its order.
pub(super) const HELD_COLUMNS: &str = "m.exchange, m.element, m.elements, m.content";

const CONTENT_COLUMNS: &str = "x.id, x.epoch, x.api, x.pack, x.pack_offset, x.pack_length, x.request_form, \
     x.request_data, x.request_base, x.response_form, x.response_data, x.digests";

/// One tenant's record as a connection (or the transaction on it) sees it.
pub(super) struct Snapshot<'c> {
    pub(super) connection: &'c Connection,
    pub(super) tenant: i64,
    rows: RefCell<HashMap<i64, ContentRow>>,
    located: RefCell<HashMap<(i32, BlockHash), Option<Location>>>,
    contents: RefCell<HashMap<i64, Vec<u8>>>,
}

impl<'c> Snapshot<'c> {
    pub(super) fn new(connection: &'c Connection, tenant: i64) -> Self {
        let (rows, located, contents) = Default::default();
        Self { connection, tenant, rows, located, contents }
    }

    pub(super) fn conversation_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        let row = self
            .connection
            .query_opt("SELECT id FROM conversation WHERE tenant = $1 AND uuid = $2", &[&self.tenant, &uuid])?;
        Ok(row.map(|row| row.get(0)))
    }

    pub(super) fn exchange_row(&self, uuid: Uuid) -> Result<Option<i64>> {
        let row = self
            .connection
            .query_opt("SELECT id FROM exchange WHERE tenant = $1 AND uuid = $2", &[&self.tenant, &uuid])?;
        Ok(row.map(|row| row.get(0)))
    }
}

impl Content for Snapshot<'_> {
    fn content_row(&self, exchange: i64) -> Result<Option<ContentRow>> {
        if let Some(row) = self.rows.borrow().get(&exchange) {
            return Ok(Some(row.clone()));
        }
        let sql = format!("SELECT {CONTENT_COLUMNS} FROM exchange x WHERE x.tenant = $1 AND x.id = $2");
        let row = self.connection.query_opt(&sql, &[&self.tenant, &exchange])?;
        row.map(|row| content_row_of(&row)).transpose()
    }

    fn locate(&self, epoch: i32, hash: &BlockHash) -> Result<Option<Location>> {
        if let Some(known) = self.located.borrow().get(&(epoch, *hash)) {
            return Ok(*known);
        }
        let row = self.connection.query_opt(
            "SELECT pack, at, length FROM block WHERE tenant = $1 AND epoch = $2 AND hash = $3",
            &[&self.tenant, &epoch, &&hash[..]],
        )?;
        row.map(|row| location_of(&row, 0)).transpose()
    }

    fn pieces(&self, epoch: i32, pack: i64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let rows = self.connection.query(
            "SELECT data FROM pack_piece WHERE tenant = $1 AND epoch = $2 AND pack = $3 ORDER BY piece",
            &[&self.tenant, &epoch, &pack],
        )?;
        rows.iter().try_for_each(|row| take(row.try_get(0)?))
    }

    fn stored_content(&self, id: i64) -> Result<Vec<u8>> {
        if let Some(content) = self.contents.borrow().get(&id) {
            return Ok(content.clone());
        }
        let row = self
            .connection
            .query_opt("SELECT data FROM stored_content WHERE tenant = $1 AND id = $2", &[&self.tenant, &id])?
            .ok_or_else(|| damaged(format!("the content {id} of a stored message is missing")))?;
        Ok(row.try_get(0)?)
    }

    fn assistant_turn(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        let sql = format!(
            "SELECT {HELD_COLUMNS} FROM message m
             WHERE m.tenant = $1 AND m.conversation = $2 AND m.turn = $3 AND m.role = 1"
        );
        let row = self.connection.query_opt(&sql, &[&self.tenant, &conversation, &(turn as i64)])?;
        row.map(|row| held_of(&row, 0)).transpose()
    }

    fn assistant_before(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        let sql = format!(
            "SELECT {HELD_COLUMNS} FROM message m
             WHERE m.tenant = $1 AND m.conversation = $2 AND m.turn < $3 AND m.role = 1 ORDER BY m.turn DESC LIMIT 1"
        );
        let row = self.connection.query_opt(&sql, &[&self.tenant, &conversation, &(turn as i64)])?;
        row.map(|row| held_of(&row, 0)).transpose()
    }

    fn expect_content(&self, exchanges: &[i64]) -> Result<()> {
        self.rows.borrow_mut().clear();
        if exchanges.is_empty() {
            return Ok(());
        }
        let sql = format!(
            "WITH RECURSIVE needed (id) AS (
                 SELECT unnest($2::bigint[])
                 UNION
                 SELECT b.request_base FROM needed n
                 CROSS JOIN LATERAL (SELECT request_base FROM exchange WHERE tenant = $1 AND id = n.id OFFSET 0) b
                 WHERE b.request_base IS NOT NULL)
             SELECT {CONTENT_COLUMNS} FROM needed n
             CROSS JOIN LATERAL (SELECT * FROM exchange WHERE tenant = $1 AND id = n.id OFFSET 0) x"
        );
        let rows = self.connection.query(&sql, &[&self.tenant, &exchanges])?;
        let mut known = self.rows.borrow_mut();
        for row in &rows {
            known.insert(row.try_get(0)?, content_row_of(row)?);
        }
        Ok(())
    }

    fn expect_blocks(&self, epoch: i32, hashes: &[BlockHash]) -> Result<()> {
        let wanted: Vec<&[u8]> = hashes.iter().map(|h| &h[..]).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let rows = self.connection.query(LOCATE, &[&self.tenant, &epoch, &wanted])?;
        self.add_located(epoch, hashes, &rows)
    }

    fn expect_stored(&self, ids: &[i64]) -> Result<()> {
        self.contents.borrow_mut().clear();
        if ids.is_empty() {
            return Ok(());
        }
        let sql = "SELECT s.id, s.data FROM unnest($2::bigint[]) AS w (id)
             CROSS JOIN LATERAL (SELECT id, data FROM stored_content WHERE tenant = $1 AND id = w.id OFFSET 0) s";
        for row in self.connection.query(sql, &[&self.tenant, &ids])? {
            self.contents.borrow_mut().insert(row.try_get(0)?, row.try_get(1)?);
        }
        Ok(())
    }
}

/// Where many blocks stand, to be read by [`Snapshot::add_located`].
pub(super) const LOCATE: &str = "SELECT w.hash, b.pack, b.at, b.length FROM unnest($3::bytea[]) AS w (hash)
     CROSS JOIN LATERAL (SELECT pack, at, length FROM block
                         WHERE tenant = $1 AND epoch = $2 AND hash = w.hash OFFSET 0) b";

/// Places that are remembered at once.
const MAX_LOCATED: usize = 20_000;

impl Snapshot<'_> {
    /// What [`LOCATE`] has found of these blocks.
    pub(super) fn add_located(&self, epoch: i32, hashes: &[BlockHash], rows: &[Row]) -> Result<()> {
        let mut located = self.located.borrow_mut();
        if located.len() + hashes.len() > MAX_LOCATED {
            located.clear();
        }
        located.extend(hashes.iter().map(|hash| ((epoch, *hash), None)));
        for row in rows {
            let hash = row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| damaged("a block's name is not 16 bytes"))?;
            located.insert((epoch, hash), Some(location_of(row, 1)?));
        }
        Ok(())
    }
}

impl Lines for Snapshot<'_> {
    fn fork_of(&self, conversation: i64) -> Result<Option<(i64, u64)>> {
        let row = self.connection.query_opt(
            "SELECT fork_of, fork_turn FROM conversation WHERE tenant = $1 AND id = $2 AND fork_turn IS NOT NULL
               AND fork_of IS NOT NULL",
            &[&self.tenant, &conversation],
        )?;
        row.map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)? as u64))).transpose()
    }

    fn first_turn(&self, conversation: i64) -> Result<Option<u64>> {
        let row = self.connection.query_one(
            "SELECT min(turn) FROM message WHERE tenant = $1 AND conversation = $2",
            &[&self.tenant, &conversation],
        )?;
        Ok(row.try_get::<_, Option<i64>>(0)?.map(|turn| turn as u64))
    }

    fn messages(&self, conversation: i64, after: u64, last: u64) -> Result<Vec<MessageRow>> {
        let sql = format!(
            "SELECT {MESSAGE_COLUMNS} FROM {MESSAGES}
             WHERE m.tenant = $1 AND m.conversation = $2 AND m.turn > $3 AND m.turn <= $4 ORDER BY m.turn"
        );
        let turn = |turn: u64| i64::try_from(turn).unwrap_or(i64::MAX);
        let rows = self.connection.query(&sql, &[&self.tenant, &conversation, &turn(after), &turn(last)])?;
        rows.iter().map(message_of).collect()
    }
}

/// Reads [`HELD_COLUMNS`] from column `first` on.
pub(super) fn held_of(row: &Row, first: usize) -> Result<Held> {
    Ok(match row.try_get(first)? {
        Some(exchange) => {
            Held::Exchange(exchange, Source { first: row.try_get(first + 1)?, count: row.try_get(first + 2)? })
        }
        None => Held::Content(row.try_get(first + 3)?),
    })
}

/// Reads [`MESSAGE_COLUMNS`].
pub(super) fn message_of(row: &Row) -> Result<MessageRow> {
    let role: i16 = row.try_get(3)?;
    Ok(MessageRow {
        id: row.try_get(0)?,
        conversation_uuid: row.try_get(1)?,
        turn: row.try_get::<_, i64>(2)? as u64,
        role: Role::ALL.get(role as usize).copied().unwrap_or(Role::User),
        complete: row.try_get(4)?,
        held: held_of(row, 5)?,
        exchange_uuid: row.try_get(9)?,
        created_at: row.try_get(10)?,
        metadata: row.try_get::<_, Option<String>>(11)?.map(given),
    })
}

fn content_row_of(row: &Row) -> Result<ContentRow> {
    let envelope = match row.try_get::<_, Option<i64>>(3)? {
        Some(_) => Some(location_of(row, 3)?),
        None => None,
    };
    Ok(ContentRow {
        epoch: row.try_get(1)?,
        api: row.try_get::<_, Option<i16>>(2)?.map(i64::from),
        envelope,
        request_form: row.try_get::<_, i16>(6)?.into(),
        request_data: row.try_get(7)?,
        request_base: row.try_get(8)?,
        response_form: row.try_get::<_, i16>(9)?.into(),
        response_data: row.try_get(10)?,
        digests: row.try_get(11)?,
    })
}

pub(super) fn location_of(row: &Row, first: usize) -> Result<Location> {
    let size = |column: usize| {
        let number: i64 = row.try_get(column)?;
        usize::try_from(number).map_err(|_| Error::Damaged("a place in a pack is negative".into()))
    };
    Ok(Location { pack: row.try_get(first)?, offset: size(first + 1)?, length: size(first + 2)? })
}
