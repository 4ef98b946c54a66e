//! Tests that need the crate's inside: a clock, ids and a file system of their own.

mod births;
mod failing_disk;
mod faults;
mod frozen;
mod hostile;
mod reserve;
mod sim;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use uuid::Uuid;

use crate::filesystem::FileSystem;
use crate::options::Options;
use crate::spool::{Spool, Surroundings};
use crate::{Kind, Reader, RecorderId, Result};

/// A life in which nothing is left to chance: the clock goes a millisecond at each look.
fn surroundings(fs: Arc<dyn FileSystem>) -> Surroundings {
    let ticks = AtomicU64::new(0);
    let mut ids = 0;
    Surroundings {
        fs,
        clock: Box::new(move || ticks.fetch_add(1_000_000, Ordering::Relaxed)),
        began_unix_ns: 1_700_000_000_000_000_000,
        new_id: Box::new(move || {
            ids += 1;
            RecorderId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + ids))
        }),
    }
}

fn spool_on(fs: Arc<dyn FileSystem>, root: &Path, options: Options) -> Result<Spool> {
    Spool::create_in(root, options, b"about", surroundings(fs))
}

/// All records with their payloads.
fn read_all(mut reader: Reader) -> Vec<(u64, Kind, Vec<u8>)> {
    let mut records = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        records.push((record.seq, record.kind, reader.read(&record.payload).unwrap()));
    }
    records
}
