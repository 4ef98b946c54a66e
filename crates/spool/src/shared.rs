//! What stands below the handles on a living log.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::commit::GroupCommit;
use crate::error::{Error, Result};
use crate::filesystem::Lock;
use crate::folder::{Folder, SegmentFiles};
use crate::format::{Position, RecorderId};
use crate::lock;
use crate::options::Options;
use crate::writer::Writer;

/// What the handles, the entries, the readers and the sync thread of one spool share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: Mutex<Writer>,
    pub(crate) files: Arc<SegmentFiles>,
    pub(crate) commit: GroupCommit,
    pub(crate) poisoned: Arc<AtomicBool>,
    pub(crate) recorder: RecorderId,
    pub(crate) options: Options,
    /// The log's end as readers see it, packed (see [`pack`]); set after the bytes are written.
    written: AtomicU64,
    pub(crate) changed: Notify,
    pub(crate) ended: AtomicBool,
    pub(crate) releasing: Mutex<()>,
    _lock: Box<dyn Lock>,
}

impl Shared {
    /// Of a log that has its first record; `held` is the lock on its folder.
    pub(crate) fn new(
        writer: Writer,
        recorder: RecorderId,
        options: Options,
        folder: Folder,
        held: Box<dyn Lock>,
    ) -> Self {
        Self {
            poisoned: writer.poisoned(),
            written: AtomicU64::new(pack(writer.position())),
            writer: Mutex::new(writer),
            files: Arc::new(SegmentFiles::new(folder)),
            commit: GroupCommit::new(Position::default()),
            recorder,
            options,
            changed: Notify::new(),
            ended: AtomicBool::new(false),
            releasing: Mutex::default(),
            _lock: held,
        }
    }

    /// The log's end, for who must not wait for the writer.
    pub(crate) fn written(&self) -> Position {
        unpack(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.files.folder().dir
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.commit.poison();
        self.changed.notify_waiters();
    }

    /// Runs an append under the lock and publishes the new end of the log.
    pub(crate) fn write<T>(&self, append: impl FnOnce(&mut Writer) -> Result<(T, Position)>) -> Result<(T, Position)> {
        let outcome = {
            let mut writer = lock(&self.writer);
            let outcome = append(&mut writer);
            if let Ok((_, end)) = &outcome {
                self.written.store(pack(*end), Ordering::Release);
            }
            outcome
        };
        match &outcome {
            Ok(_) => self.changed.notify_waiters(),
            Err(Error::Poisoned) => self.poison(),
            Err(_) => {}
        }
        outcome
    }
}

/// Segment and offset in one word, so that a reader gets both at once without the writer's lock: 31 bits of segment number
/// (at 64 MiB each: 128 PiB in one life) and 33 bits of offset (a segment is at most 4 GiB, plus one append).
const fn pack(position: Position) -> u64 {
    position.segment << OFFSET_BITS | position.offset
}

const fn unpack(word: u64) -> Position {
    Position { segment: word >> OFFSET_BITS, offset: word & ((1 << OFFSET_BITS) - 1) }
}

const OFFSET_BITS: u32 = 33;
