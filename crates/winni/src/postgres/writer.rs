//! The writing side: one connection at a time, and what it remembers between batches.

use std::sync::Arc;

use super::address::Address;
use super::batch::{Batch, Remembered};
use super::connection::{Connection, Limits};
use super::error::damaged;
use super::schema::{self, DEFAULT_TENANT};
use super::statistics::Statistics;
use super::stored;
use crate::handed_in::Accepted;
use crate::ingest;
use crate::ingest::fresh::Fresh;
use crate::ingest::memory::Memory;
use crate::model;
use crate::moving::sides::unfinished;
use crate::store::{Error, Result, Watermark};
use crate::writing::{Stored, Writes};

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
    statistics: Statistics,
}

impl Open {
    fn new(address: &Address, tenant: i64) -> Result<Self> {
        let connection = Connection::open(address, Limits::WRITING)?;
        schema::migrate(&connection)?;
        if schema::moved(&connection)? == Some(false) {
            return Err(unfinished());
        }
        let row = connection.query_one("SELECT block_key FROM tenant WHERE id = $1", &[&tenant])?;
        let key = row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| damaged("the tenant's key is not 32 bytes"))?;
        let statistics = Statistics::of(&connection)?;
        Ok(Self { connection, memory: Memory::new(key), remembered: Remembered::default(), statistics })
    }
}

impl Writer {
    /// Connects, and brings the database to this program's schema.
    pub(super) fn open(address: Arc<Address>) -> Result<Self> {
        let open = Open::new(&address, DEFAULT_TENANT)?;
        Ok(Self { address, tenant: DEFAULT_TENANT, fresh: open.memory.fresh.clone(), open: Some(open) })
    }

    /// Connects when it is asked for the first time.
    pub(super) fn unopened(address: Arc<Address>) -> Self {
        Self { address, tenant: DEFAULT_TENANT, fresh: Arc::new(Fresh::new()), open: None }
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
        let Open { connection, memory, remembered, statistics } = self.opened()?;
        match Batch::run(connection, tenant, remembered, |batch| work(batch, memory)) {
            Ok((done, rows)) => {
                statistics.keep_up(connection, rows);
                Ok(done)
            }
            Err(error) => {
                memory.forget_uncommitted();
                *remembered = Remembered::default();
                Err(error)
            }
        }
    }

    pub(super) fn append(&mut self, batch: model::Batch) -> Result<Watermark> {
        self.run(|tables, memory| ingest::append(tables, batch, memory))
    }
}

impl Writes for Writer {
    fn store(&mut self, calls: Vec<Accepted>) -> Result<Vec<Result<Stored>>> {
        self.run(|batch, memory| {
            let mut done = Vec::with_capacity(calls.len());
            for call in &calls {
                match stored::store(batch, &memory.key, call) {
                    Err(error @ (Error::Unavailable(_) | Error::Damaged(_))) => return Err(error),
                    stored => done.push(stored),
                }
            }
            Ok(done)
        })
    }
}
