//! The spool from outside: what its callers rely on.
//!
//! Nothing here starts a process: between its fork and its exec a child holds the locks of all spools of this process.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod bounds;
mod concurrency;
mod damage;
mod locks;
mod model;
mod reading;
mod repeats;
mod torn_tail;

use std::fs;
use std::path::{Path, PathBuf};

use spool::recovery::{Adopted, adopt};
use spool::{Channel, Durability, Flags, Kind, Options, Position, Reader, Spool};

const REQUEST: Channel = Channel(1);
const RESPONSE: Channel = Channel(2);

/// A record as a test compares it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    seq: u64,
    kind: Kind,
    payload: Vec<u8>,
}

fn seen(seq: u64, kind: Kind, payload: &[u8]) -> Seen {
    Seen { seq, kind, payload: payload.to_vec() }
}

fn recovered_end(seq: u64) -> Seen {
    seen(seq, Kind::End { flags: Flags::RECOVERED }, b"")
}

fn recovered_life_end(seq: u64) -> Seen {
    seen(seq, Kind::LifeEnd { flags: Flags::RECOVERED }, b"")
}

/// Everything that the reader gives from where it is.
fn drain(reader: &mut Reader) -> Vec<Seen> {
    let mut all = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        all.push(seen(record.seq, record.kind, &reader.read(&record.payload).unwrap()));
    }
    all
}

fn small_segments() -> Options {
    Options { segment_bytes: 1024, max_bytes: 64 << 20, durability: Durability::Process, repeating: None }
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.seg"))
}

/// Copies a recorder's segments as they are at this moment into a root of their own: what a `kill -9` would leave.
fn crash_copy(spool: &Spool) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(spool.recorder().to_string());
    fs::create_dir(&dir).unwrap();
    for entry in fs::read_dir(spool.dir()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() != "lock" {
            fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
        }
    }
    root
}

fn adopt_one(root: &Path) -> Adopted {
    let mut adopted = adopt(root).unwrap();
    assert_eq!(adopted.len(), 1);
    adopted.remove(0)
}

fn end_of(segment: u64, offset: u64) -> Position {
    Position { segment, offset }
}
