//! Storing a batch: every item once, in one transaction with the recorder's watermark.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};
use uuid::Uuid;

use super::schema;
use super::tables::Tables;
use crate::ingest;
use crate::ingest::fresh::Fresh;
use crate::ingest::memory::Memory;
use crate::model::Batch;
use crate::moving::sides::unfinished;
use crate::store::{Error, Result, Watermark};

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
        if schema::moved(&connection)? == Some(false) {
            return Err(unfinished());
        }
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
            // Somebody may have begun to move a record here since.
            return match schema::moved(&self.connection)? {
                Some(false) => Err(unfinished()),
                _ => Ok(()),
            };
        }
        let path = self.path.clone();
        let fresh = self.fresh();
        fresh.clear();
        *self = Writer::open(&path)?;
        self.memory.fresh = fresh;
        Err(Error::Unavailable(format!("{} was removed or replaced; it has been opened anew", path.display())))
    }

    /// What was stored last, for who indexes it.
    pub(super) fn fresh(&self) -> Arc<Fresh> {
        self.memory.fresh.clone()
    }

    /// The secret under which content is named.
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
        let tables = Tables { connection: &transaction, tenant: self.tenant };
        let watermark = ingest::append(&tables, batch, &mut self.memory)?;
        transaction.commit()?;
        Ok(watermark)
    }

    pub(super) fn watermark(&mut self, recorder: Uuid) -> Result<Watermark> {
        self.check_file()?;
        let tables = Tables { connection: &self.connection, tenant: self.tenant };
        let row = tables.find_recorder(recorder)?;
        row.map_or_else(|| Ok(Watermark::default()), |row| tables.read_watermark(row))
    }
}

fn file_id(path: &Path) -> Option<FileId> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

fn block_key(connection: &Connection, tenant: i64) -> Result<[u8; 32]> {
    Ok(connection.query_row("SELECT block_key FROM tenant WHERE id = ?1", [tenant], |row| row.get(0))?)
}
