//! The writing side: one connection at a time, and what it remembers between batches.

use std::sync::Arc;

use uuid::Uuid;

use super::address::Address;
use super::batch::{Batch, Remembered, read_watermark};
use super::connection::{Connection, Limits};
use super::error::damaged;
use super::schema::{self, DEFAULT_TENANT};
use crate::ingest;
use crate::ingest::fresh::Fresh;
use crate::ingest::memory::Memory;
use crate::store::{Result, Watermark};
use crate::{model, moving};

/// Writes to one database; connects again when the connection has broken.
pub(super) struct Writer {
    address: Arc<Address>,
    tenant: i64,
    /// What was stored last, for who indexes it.
    pub(super) fresh: Arc<Fresh>,
    open: Option<Open>,
}

/// A connection, and what is known of the database behind it. Another connection may lead to another database: one that was
/// restored, or one whose last transaction did not survive.
struct Open {
    connection: Connection,
    memory: Memory,
    remembered: Remembered,
}

impl Open {
    fn new(address: &Address, tenant: i64) -> Result<Self> {
        let connection = Connection::open(address, Limits::WRITING)?;
        schema::migrate(&connection)?;
        if schema::moved(&connection)? == Some(false) {
            return Err(moving::unfinished());
        }
        let row = connection.query_one("SELECT block_key FROM tenant WHERE id = $1", &[&tenant])?;
        let key = row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| damaged("the tenant's key is not 32 bytes"))?;
        Ok(Self { connection, memory: Memory::new(key), remembered: Remembered::default() })
    }
}

impl Writer {
    /// Connects, and brings the database to this program's schema.
    pub(super) fn open(address: Arc<Address>) -> Result<Self> {
        let open = Open::new(&address, DEFAULT_TENANT)?;
        Ok(Self { address, tenant: DEFAULT_TENANT, fresh: open.memory.fresh.clone(), open: Some(open) })
    }

    fn opened(&mut self) -> Result<&mut Open> {
        if self.open.as_ref().is_none_or(|open| !open.connection.is_usable()) {
            self.open = None;
            self.fresh.clear();
            let mut open = Open::new(&self.address, self.tenant)?;
            open.memory.fresh = self.fresh.clone();
            self.open = Some(open);
        }
        self.open.as_mut().ok_or_else(|| damaged("a connection vanished"))
    }

    /// Runs `work` in a transaction of the tenant's only writer. What it has learnt is forgotten if it fails.
    pub(super) fn run<T>(&mut self, work: impl FnOnce(&Batch<'_>, &mut Memory) -> Result<T>) -> Result<T> {
        let tenant = self.tenant;
        let Open { connection, memory, remembered } = self.opened()?;
        let done = Batch::run(connection, tenant, remembered, |batch| work(batch, memory));
        if done.is_err() {
            memory.forget_uncommitted();
            *remembered = Remembered::default();
        }
        done
    }

    pub(super) fn append(&mut self, batch: model::Batch) -> Result<Watermark> {
        self.run(|tables, memory| ingest::append(tables, batch, memory))
    }

    pub(super) fn watermark(&mut self, recorder: Uuid) -> Result<Watermark> {
        let tenant = self.tenant;
        let connection = &self.opened()?.connection;
        let row =
            connection.query_opt("SELECT id FROM recorder WHERE tenant = $1 AND uuid = $2", &[&tenant, &recorder])?;
        match row {
            Some(row) => read_watermark(connection, tenant, row.try_get(0)?),
            None => Ok(Watermark::default()),
        }
    }
}
