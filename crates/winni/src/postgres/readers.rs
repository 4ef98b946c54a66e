//! The reading connections: opened as they are needed, kept when they are good.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::address::Address;
use super::at_address;
use super::connection::{Connection, Limits};
use super::schema::DEFAULT_TENANT;
use super::snapshot::Snapshot;
use crate::store::{Error, Result};

/// Reading connections; who needs a further one waits.
const READERS: usize = 6;

/// Connections that read.
pub(super) struct Readers {
    pub(super) address: Arc<Address>,
    idle: Mutex<Vec<Connection>>,
    pub(super) permits: Semaphore,
}

impl Readers {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self { address, idle: Mutex::default(), permits: Semaphore::new(READERS) }
    }

    /// A connection that was idle may have broken meanwhile; then a new one is tried.
    pub(super) fn with<T>(&self, work: impl Fn(&Snapshot<'_>) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(connection) = idle {
            match self.run(connection, &work) {
                (Err(Error::Unavailable(_)), false) => {}
                (done, _) => return done.map_err(|e| at_address(e, &self.address)),
            }
            // The others have broken with it.
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let connection = Connection::open(&self.address, Limits::READING);
        let done = connection.and_then(|connection| self.run(connection, &work).0);
        done.map_err(|e| at_address(e, &self.address))
    }

    /// Runs `work` in one transaction that sees one moment, and keeps the connection if it is still good; whether it is.
    fn run<T>(&self, connection: Connection, work: &impl Fn(&Snapshot<'_>) -> Result<T>) -> (Result<T>, bool) {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let done = connection.transaction(begin, || work(&Snapshot::new(&connection, DEFAULT_TENANT)));
        let is_usable = connection.is_usable();
        if is_usable {
            self.keep(connection);
        }
        (done, is_usable)
    }

    pub(super) fn keep(&self, connection: Connection) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
    }
}
