//! The spool: a durable append-only log in local files, between the traffic and the database.
//!
//! A recording process owns one [`Spool`], a folder of its own with numbered segments, and appends what passes through it
//! before it passes it on. A drain reads along ([`Reader::follow`]), stores what it reads, and releases what is stored
//! ([`Spool::release_before`]). When the process is gone, whoever comes next takes its folder over ([`recovery::adopt`]). The spool
//! knows bytes, channels and sequence numbers; what they mean is its callers' business.
//!
//! # What it guarantees
//!
//! - **Whole or absent.** A call's records are all in the log or none of them is. A failed write is undone, and consumes no
//!   sequence number: the numbers of a life have no gap. The log has one order, and so has each entry in it.
//! - **Written survives the process.** When an append returns, its bytes are with the kernel; `kill -9` loses nothing of them.
//! - **Synced survives the power.** When [`Spool::sync_to`] returns, everything before the position is on the disk. Positions are
//!   named by their guarantee, `written >= synced`. One sync serves all who wait.
//! - **Checked.** Each record has two CRC-32C, over header and payload; no byte is handed out as a whole payload unverified.
//! - **Recovered.** Adoption cuts a torn tail back to the last whole record, ends every unfinished entry with
//!   [`Flags::RECOVERED`], ends the life, and may be interrupted and repeated at any point.
//! - **Bounded.** A folder does not outgrow [`Options::max_bytes`], and within it there is always room to close the books; on a disk
//!   that others fill there is a reserve for it. A reader
//!   holds a window of 64 KiB, whatever the size of what it steps over.
//!
//! # What it refuses
//!
//! - To go on after a disk failure whose outcome is unknown: a failed fsync, or a failed undo, makes every later call
//!   [`Error::Poisoned`].
//! - To block for room: a full spool says [`Error::Full`] at once, and the caller has a policy.
//! - To be shared: one process writes to a folder, and the lock in it says who.
//! - To be asynchronous about appends: they are one short system call, on the caller's thread, on purpose. Only waiting (for a
//!   sync, for more records) is a future. Reading blocks and belongs on a blocking thread.
//!
//! The bytes on disk are described in `docs/spool-format.md`.

mod blob;
mod bounds;
mod chunks;
mod commit;
mod entry;
mod error;
mod filesystem;
mod folder;
mod format;
mod memory;
mod options;
mod payload;
mod piece;
mod plan;
mod reader;
mod recipe;
pub mod recovery;
mod references;
mod repeats;
mod reserve;
mod scan;
mod segments;
mod shared;
mod spool;
mod sync;
#[cfg(test)]
mod tests;
mod window;
mod writer;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use blob::Blob;
pub use entry::Entry;
pub use error::{Error, Result};
pub use format::{Channel, Flags, Kind, MAX_PAYLOAD_BYTES, Position, RecorderId};
pub use options::{Durability, Options};
pub use payload::Payload;
pub use reader::{Reader, Record};
pub use spool::Spool;

/// Locks. A panic of another holder is ignored: no holder leaves a guarded value half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
