//! Storing a batch: every item once, in one transaction with the recorder's watermark.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::exchange;
use super::frames;
use super::fresh::Fresh;
use super::lines::Lines;
use super::memory::Memory;
use super::schema;
use crate::model::{Batch, Gap, Item, Timestamp};
use crate::store::{Error, Result, Watermark};

/// A row of `record`, measured.
const RECORD_ROW: u64 = 10;

/// The writing side: the one connection that changes the database, and what it remembers between batches.
pub(super) struct Writer {
    path: PathBuf,
    pub(super) connection: Connection,
    file: FileId,
    pub(super) tenant: i64,
    memory: Memory,
}

/// Which file a path stood for when it was opened.
type FileId = (u64, u64);

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let connection = schema::open_writer(path)?;
        let tenant = schema::DEFAULT_TENANT;
        let memory = Memory::new(block_key(&connection, tenant)?);
        let file = file_id(path)
            .ok_or_else(|| Error::Unavailable(format!("{} was removed while opening it", path.display())))?;
        Ok(Self { path: path.to_owned(), connection, file, tenant, memory })
    }

    /// A database file that was removed or replaced under an open connection takes writes that nobody will ever read.
    /// The file is opened anew, and the error makes the caller ask what the new one holds.
    pub(super) fn check_file(&mut self) -> Result<()> {
        if file_id(&self.path) == Some(self.file) {
            return Ok(());
        }
        let path = self.path.clone();
        let fresh = self.fresh();
        fresh.clear();
        *self = Writer::open(&path)?;
        self.memory.fresh = fresh;
        Err(Error::Unavailable(format!("{} was removed or replaced; it has been opened anew", path.display())))
    }

    /// The secret under which content is named.
    /// What was stored last, for who indexes it.
    pub(super) fn fresh(&self) -> Arc<Fresh> {
        self.memory.fresh.clone()
    }

    pub(super) fn block_key(&self) -> [u8; 32] {
        self.memory.key
    }

    pub(super) fn append(&mut self, batch: Batch) -> Result<Watermark> {
        self.check_file()?;
        let result = self.try_append(batch);
        if result.is_err() {
            self.memory.forget_uncommitted();
        }
        result
    }

    fn try_append(&mut self, batch: Batch) -> Result<Watermark> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let tenant = self.tenant;
        self.memory.heed_erasures(&transaction, tenant)?;
        let recorder = recorder_row(&transaction, tenant, batch.recorder)?;
        for (seq, item) in batch.items {
            if !holds(&transaction, tenant, recorder, seq)? {
                store_item(&transaction, tenant, recorder, seq, item, &mut self.memory)?;
            }
        }
        let watermark = advance(&transaction, tenant, recorder)?;
        transaction.commit()?;
        Ok(watermark)
    }

    pub(super) fn watermark(&mut self, recorder: Uuid) -> Result<Watermark> {
        self.check_file()?;
        let row = find_recorder(&self.connection, self.tenant, recorder)?;
        row.map_or_else(|| Ok(Watermark::default()), |row| read_watermark(&self.connection, self.tenant, row))
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

fn block_key(connection: &Connection, tenant: i64) -> Result<[u8; 32]> {
    Ok(connection.query_row("SELECT block_key FROM tenant WHERE id = ?1", [tenant], |row| row.get(0))?)
}

fn find_recorder(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT id FROM recorder WHERE tenant = ?1 AND uuid = ?2")?
        .query_row(params![tenant, uuid.as_bytes()], |row| row.get(0))
        .optional()?)
}

fn recorder_row(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<i64> {
    if let Some(row) = find_recorder(connection, tenant, uuid)? {
        return Ok(row);
    }
    connection.execute("INSERT INTO recorder (tenant, uuid) VALUES (?1, ?2)", params![tenant, uuid.as_bytes()])?;
    Ok(connection.last_insert_rowid())
}

fn holds(connection: &Connection, tenant: i64, recorder: i64, seq: u64) -> Result<bool> {
    Ok(connection
        .prepare_cached("SELECT 1 FROM record WHERE tenant = ?1 AND recorder = ?2 AND seq = ?3")?
        .exists(params![tenant, recorder, seq as i64])?)
}

fn store_item(
    transaction: &Transaction<'_>,
    tenant: i64,
    recorder: i64,
    seq: u64,
    item: Item,
    memory: &mut Memory,
) -> Result<()> {
    let mut detail = None;
    let kind = match item {
        Item::LifeBegin { at, about } => {
            transaction.execute(
                "UPDATE recorder SET begun_at = ?3, about = ?4 WHERE tenant = ?1 AND id = ?2",
                params![tenant, recorder, at.0, about],
            )?;
            0
        }
        Item::Exchange(exchange) => {
            exchange::store(transaction, tenant, recorder, seq, *exchange, memory)?;
            1
        }
        Item::Gap(gap) => {
            detail = Some(gap_detail(&gap));
            transaction.execute(
                "UPDATE total SET unrecorded = unrecorded + ?2 WHERE tenant = ?1",
                params![tenant, gap.exchanges as i64],
            )?;
            2
        }
        Item::Frame(frame) => {
            let lines = Lines { connection: transaction, tenant };
            frames::store(lines, frames::Place { recorder, seq, exchange: None }, &frame, memory)?;
            4
        }
        Item::ConnectionEnd(end) => {
            detail = Some(serde_json::json!(end).to_string().into_bytes());
            5
        }
        Item::LifeEnd { at, orderly } => {
            transaction.execute(
                "UPDATE recorder SET ended_at = ?3, orderly = ?4 WHERE tenant = ?1 AND id = ?2",
                params![tenant, recorder, at.map(|t| t.0), orderly],
            )?;
            3
        }
    };
    transaction
        .prepare_cached("INSERT INTO record (tenant, recorder, seq, kind, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![tenant, recorder, seq as i64, kind, detail])?;
    count(transaction, tenant, 0, RECORD_ROW)
}

fn gap_detail(gap: &Gap) -> Vec<u8> {
    let Gap { from, until, exchanges, bytes } = gap;
    serde_json::json!({"from": from, "until": until, "exchanges": exchanges, "bytes": bytes}).to_string().into_bytes()
}

/// Adds to the tenant's totals.
pub(super) fn count(connection: &Connection, tenant: i64, captured: u64, stored: u64) -> Result<()> {
    connection
        .prepare_cached(
            "UPDATE total SET captured_bytes = captured_bytes + ?2, stored_bytes = stored_bytes + ?3 WHERE tenant = ?1",
        )?
        .execute(params![tenant, captured as i64, stored as i64])?;
    Ok(())
}

/// Moves the recorder's `contiguous` over what has become gap-free.
fn advance(connection: &Connection, tenant: i64, recorder: i64) -> Result<Watermark> {
    let watermark = read_watermark(connection, tenant, recorder)?;
    connection
        .prepare_cached("UPDATE recorder SET contiguous = ?3 WHERE tenant = ?1 AND id = ?2")?
        .execute(params![tenant, recorder, watermark.contiguous as i64])?;
    Ok(watermark)
}

fn read_watermark(connection: &Connection, tenant: i64, recorder: i64) -> Result<Watermark> {
    let stored: i64 = connection
        .prepare_cached("SELECT contiguous FROM recorder WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant, recorder], |row| row.get(0))?;
    let mut watermark = Watermark { contiguous: stored as u64, beyond: Vec::new() };
    let mut query = connection
        .prepare_cached("SELECT seq FROM record WHERE tenant = ?1 AND recorder = ?2 AND seq >= ?3 ORDER BY seq")?;
    let mut rows = query.query(params![tenant, recorder, stored])?;
    while let Some(row) = rows.next()? {
        let seq = row.get::<_, i64>(0)? as u64;
        if seq == watermark.contiguous {
            watermark.contiguous += 1;
        } else {
            watermark.beyond.push(seq);
        }
    }
    Ok(watermark)
}

/// Microseconds from `start` to `t`, for columns that count from the exchange's start.
pub(super) fn since(start: Timestamp, t: Option<Timestamp>) -> Option<i64> {
    t.map(|t| t.0 - start.0)
}
