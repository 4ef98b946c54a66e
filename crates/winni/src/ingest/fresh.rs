//! What the messages stored last say, so that indexing them does not read it back.
//!
//! Only a memory: what it does not hold stands in the database. It holds what no transaction has taken back; readers ask
//! it about committed messages alone, so what is not committed yet harms nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::recent::Recent;
use crate::tables::Source;

/// Bytes of messages in each generation, near enough: half a second's, for who indexes twice a second.
const BYTES: usize = 3 * 1024 * 1024;

/// Contents by exchange and first element.
pub(crate) struct Fresh(Mutex<Recent<(i64, i64), Arc<Value>>>);

impl Fresh {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Recent::new(BYTES)))
    }

    pub(crate) fn put(&self, exchange: i64, source: Source, content: Arc<Value>) {
        let weight = weight(&content);
        if weight <= BYTES / 4 {
            self.held().put((exchange, source.first), content, weight);
        }
    }

    pub(crate) fn get(&self, exchange: i64, source: Source) -> Option<Arc<Value>> {
        self.held().get(&(exchange, source.first))
    }

    pub(crate) fn clear(&self) {
        self.held().clear();
    }

    /// A thread that panicked while it held this left nothing half done.
    fn held(&self) -> MutexGuard<'_, Recent<(i64, i64), Arc<Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Roughly what a value takes in memory.
fn weight(value: &Value) -> usize {
    const NODE: usize = 48;
    match value {
        Value::String(text) => NODE + text.len(),
        Value::Array(items) => NODE + items.iter().map(weight).sum::<usize>(),
        Value::Object(fields) => NODE + fields.iter().map(|(name, v)| NODE + name.len() + weight(v)).sum::<usize>(),
        _ => NODE,
    }
}
