//! The connection that fills the full-text index, beside the one that writes: the server then works on both at once.

use std::sync::{Arc, Mutex, PoisonError};

use super::address::Address;
use super::connection::{Connection, Limits};
use super::indexing::{self, Ready};
use super::schema::{self, DEFAULT_TENANT};
use crate::moving;
use crate::store::Result;

/// Fills the index of one database; connects when it is asked for the first time, and again when the connection has broken.
pub(super) struct Indexer {
    address: Arc<Address>,
    open: Mutex<Option<Open>>,
}

struct Open {
    connection: Connection,
    /// The message that the parts of the index end before, as far as it is known.
    reaches: i64,
}

impl Indexer {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self { address, open: Mutex::default() }
    }

    /// Puts entries into the index, in one transaction.
    pub(super) fn index(&self, read: &[Ready]) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| !open.connection.is_usable()) {
            *open = None;
            *open = Some(Open { connection: Connection::open(&self.address, Limits::WRITING)?, reaches: 0 });
        }
        let Some(Open { connection, reaches }) = &mut *open else { return Ok(()) };
        let last = read.iter().map(Ready::message).max().unwrap_or(0);
        if last >= *reaches {
            *reaches = schema::make_words_parts(connection, last)?;
        }
        connection.transaction("BEGIN", || {
            // Somebody may be moving a record here.
            if schema::moved(connection)? == Some(false) {
                return Err(moving::unfinished());
            }
            indexing::index(connection, DEFAULT_TENANT, read)
        })
    }
}
