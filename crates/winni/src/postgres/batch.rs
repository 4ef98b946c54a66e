//! Writing a batch: the questions and changes of `tables`, with few journeys to the server.
//!
//! What a batch adds is gathered and written with binary COPY at its end; what it asks of its own additions is answered
//! from memory. Whatever memory does not answer is asked with SQL, after what was gathered has been written, so that
//! memory can save journeys and never change an answer.
//!
//! A batch holds the lock on the tenant's row of `total` from its first statement to its commit: writers take turns,
//! whichever process they are in, and numbers become visible in their order.

mod adding;
mod lookups;
mod pending;
mod rows;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::connection::{Connection, Value};
use super::places::Places;
use super::snapshot::Snapshot;
use crate::content::manifest::BlockHash;
use crate::store::Result;
use crate::tables::Location;
pub(super) use lookups::watermark;
use pending::Pending;
pub(super) use rows::message_values;

/// What a writer may remember from one batch to the next; forgotten when a batch fails.
#[derive(Default)]
pub(super) struct Remembered {
    sessions: HashMap<String, i64>,
    recorders: HashMap<Uuid, i64>,
    /// Epochs that have partitions.
    epochs: HashSet<i32>,
}

/// The numbers that come next, and totals.
#[derive(Clone, Copy)]
struct Counters {
    captured: i64,
    stored: i64,
    unrecorded: i64,
    next_exchange: i64,
    next_message: i64,
    next_pack: i64,
    next_frame: i64,
}

/// One transaction that adds to the record.
pub(super) struct Batch<'c> {
    pub(super) reads: Snapshot<'c>,
    remembered: RefCell<&'c mut Remembered>,
    erasures: i64,
    counters: Cell<Counters>,
    pending: RefCell<Pending>,
    /// Every block that this transaction has added.
    blocks: RefCell<HashMap<(i32, BlockHash), Location>>,
    places: RefCell<Places>,
}

/// Locks the tenant and reads where its numbers are.
const LOCK: &str = "SELECT erasures, next_exchange, next_message, next_pack, next_frame,
     (SELECT finished FROM moving WHERE tenant = $1) FROM total WHERE tenant = $1 FOR NO KEY UPDATE";

impl<'c> Batch<'c> {
    /// Runs `work` in a transaction of the tenant's only writer. Tells how many exchanges, messages and
    /// frames there have been, too.
    pub(super) fn run<T>(
        connection: &'c Connection,
        tenant: i64,
        remembered: &'c mut Remembered,
        work: impl FnOnce(&Batch<'c>) -> Result<T>,
    ) -> Result<(T, [i64; 3])> {
        connection.transaction("BEGIN", || {
            let row = connection.query_one(LOCK, &[&tenant])?;
            // Somebody may have begun to move a record here since this writer connected.
            if row.get::<_, Option<bool>>(5) == Some(false) {
                return Err(crate::moving::sides::unfinished());
            }
            let batch = Batch {
                reads: Snapshot::new(connection, tenant),
                remembered: RefCell::new(remembered),
                erasures: row.get(0),
                counters: Cell::new(Counters {
                    captured: 0,
                    stored: 0,
                    unrecorded: 0,
                    next_exchange: row.get(1),
                    next_message: row.get(2),
                    next_pack: row.get(3),
                    next_frame: row.get(4),
                }),
                pending: RefCell::default(),
                blocks: RefCell::default(),
                places: RefCell::default(),
            };
            let done = work(&batch)?;
            batch.finish()?;
            let Counters { next_exchange, next_message, next_frame, .. } = batch.counters.get();
            Ok((done, [next_exchange, next_message, next_frame]))
        })
    }

    fn finish(&self) -> Result<()> {
        self.flush()?;
        let Counters { captured, stored, unrecorded, next_exchange, next_message, next_pack, next_frame } =
            self.counters.get();
        self.reads.connection.execute(
            "UPDATE total SET captured_bytes = captured_bytes + $2, stored_bytes = stored_bytes + $3,
                 unrecorded = unrecorded + $4, next_exchange = $5, next_message = $6, next_pack = $7,
                 next_frame = $8
             WHERE tenant = $1",
            &[&self.tenant(), &captured, &stored, &unrecorded, &next_exchange, &next_message, &next_pack, &next_frame],
        )?;
        Ok(())
    }

    pub(super) fn tenant(&self) -> i64 {
        self.reads.tenant
    }

    /// The connection, with everything written that was gathered: for questions that memory does not answer.
    pub(super) fn sql(&self) -> Result<&'c Connection> {
        self.flush()?;
        Ok(self.reads.connection)
    }

    fn counted(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    pub(super) fn next_message(&self) -> i64 {
        let next = self.counters.get().next_message;
        self.counted(|c| c.next_message += 1);
        next
    }

    pub(super) fn next_frame(&self) -> i64 {
        let next = self.counters.get().next_frame;
        self.counted(|c| c.next_frame += 1);
        next
    }

    /// Gathers rows of messages with their numbers; all of them wait for the index.
    pub(super) fn add_messages(&self, rows: Vec<(i64, Vec<Value>)>) {
        let mut pending = self.pending.borrow_mut();
        for (message, row) in rows {
            pending.messages.push(row);
            pending.unindexed.push(vec![Box::new(self.tenant()), Box::new(message)]);
        }
    }

    /// Writes what was gathered.
    fn flush(&self) -> Result<()> {
        self.pending.take().write(self.reads.connection, self.tenant())
    }
}
