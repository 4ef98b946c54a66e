//! The handle on a living log.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::Notify;
use uuid::Uuid;

use crate::bounds::Limits;
use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::filesystem::{Disk, FileSystem, Lock};
use crate::folder::{Newborn, SegmentFiles};
use crate::format::{Channel, Flags, Kind, Position, RecorderId};
use crate::lock;
use crate::memory::{MEMORY_BYTES, Memory};
use crate::piece::{Claim, Piece, part_pieces};
use crate::repeats::{Repeats, Stream};
use crate::sync::{self, GroupCommit, SyncThread};
use crate::writer::{Clock, Life, Writer};

/// What the records of a spool survive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The death of the process: a record is with the kernel when its append returns.
    #[default]
    Process,
    /// Also the loss of power, for what [`Spool::sync_to`] has confirmed.
    Power,
}

/// How a spool is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// A segment is left for a new one before it would grow beyond this many bytes (a single larger append stays whole).
    pub segment_bytes: u64,
    /// The bound of this recorder's folder, in bytes. A part of it (72 KiB, and 4 KiB for each running entry) is reserved
    /// for what closes the books: Ends, notes, the LifeEnd.
    pub max_bytes: u64,
    /// What the records survive.
    pub durability: Durability,
    /// A channel whose bytes are likely to repeat what entries before them wrote to it. Of those that stand in one of the last
    /// segments it is only written where they stand. This costs up to 16 MiB of memory (touched as it fills), and 32 KiB for each running entry
    /// that has written to the channel.
    pub repeating: Option<Channel>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 8 << 30, durability: Durability::Process, repeating: None }
    }
}

impl Options {
    fn limits(&self) -> Result<Limits> {
        if self.segment_bytes < 1 << 10 {
            return Err(Error::Options("a segment must have room for 1 KiB at least"));
        }
        if self.segment_bytes > 1 << 32 {
            return Err(Error::Options("a segment must not be larger than 4 GiB"));
        }
        if self.max_bytes < 256 << 10 {
            return Err(Error::Options("the bound must leave room for 256 KiB at least"));
        }
        Ok(Limits { segment_bytes: self.segment_bytes, max_bytes: self.max_bytes })
    }

    fn repeats(&self) -> Option<Repeats> {
        // Segments that are kept only because later ones refer to them must leave most of the bound to what is new.
        let window = (self.max_bytes / 4 / self.segment_bytes).min(MAX_WINDOW);
        self.repeating.map(|channel| Repeats { channel, window, memory: Memory::new(MEMORY_BYTES) })
    }
}

/// At most so many segments before the current one are referred to. So no segment is kept for long after it was stored.
const MAX_WINDOW: u64 = 2;

/// What a spool takes from its surroundings; a test puts its own here.
pub(crate) struct Surroundings {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) clock: Clock,
    pub(crate) began_unix_ns: u64,
    pub(crate) new_id: Box<dyn FnMut() -> RecorderId>,
}

impl Surroundings {
    fn real() -> Self {
        let began = Instant::now();
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            fs: Arc::new(Disk),
            clock: Box::new(move || nanos(began.elapsed())),
            began_unix_ns: nanos(since_1970),
            new_id: Box::new(|| RecorderId(Uuid::now_v7())),
        }
    }
}

fn nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// What the handles, the entries, the readers and the sync thread of one spool share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) writer: Mutex<Writer>,
    pub(crate) files: Arc<SegmentFiles>,
    pub(crate) commit: GroupCommit,
    pub(crate) poisoned: Arc<AtomicBool>,
    recorder: RecorderId,
    options: Options,
    /// The log's end as readers see it, packed (see [`pack`]); set after the bytes are written.
    written: AtomicU64,
    changed: Notify,
    ended: AtomicBool,
    releasing: Mutex<()>,
    _lock: Box<dyn Lock>,
}

impl Shared {
    pub(crate) fn dir(&self) -> &Path {
        &self.files.folder().dir
    }

    pub(crate) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.commit.poison();
        self.changed.notify_waiters();
    }

    /// Runs an append under the lock and publishes the new end of the log.
    fn write<T>(&self, append: impl FnOnce(&mut Writer) -> Result<(T, Position)>) -> Result<(T, Position)> {
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

/// A recorder's log, open for appending. Cheap to clone; the folder's lock is held until the last clone, and the last
/// [`Entry`], is gone. Dropping the last one waits for a sync that is running. A spool that is dropped without
/// [`end_life`](Self::end_life) is closed by whoever adopts its folder.
#[derive(Debug, Clone)]
pub struct Spool {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    _thread: SyncThread,
}

impl Spool {
    /// Begins a new life in a folder of its own below `root`, which is created when missing. `about` is the payload of the
    /// LifeBegin record, sequence number 0. With [`Durability::Power`] all of it is on the disk on return.
    pub fn create(root: &Path, options: Options, about: &[u8]) -> Result<Self> {
        Self::create_in(root, options, about, Surroundings::real())
    }

    pub(crate) fn create_in(root: &Path, options: Options, about: &[u8], mut around: Surroundings) -> Result<Self> {
        let limits = options.limits()?;
        let newborn = Newborn::create(&around.fs, root, &mut around.new_id)?;
        let recorder = newborn.recorder;
        let life = Life { recorder, began_unix_ns: around.began_unix_ns };
        let mut writer = Writer::begin(newborn.folder.clone(), life, limits, around.clock, 0, 0)?;
        let begin = std::iter::once(Piece::control(Kind::LifeBegin, about));
        let (_, written) = writer.append_new(Claim::Life, begin, None)?;
        if let Some(repeats) = options.repeats() {
            writer.look_for(repeats);
        }
        let (folder, held) = newborn.settle()?;
        writer.moved_to(folder.clone());

        let shared = Arc::new(Shared {
            poisoned: writer.poisoned(),
            writer: Mutex::new(writer),
            files: Arc::new(SegmentFiles::new(folder)),
            commit: GroupCommit::new(Position::default()),
            recorder,
            options,
            written: AtomicU64::new(pack(written)),
            changed: Notify::new(),
            ended: AtomicBool::new(false),
            releasing: Mutex::default(),
            _lock: held,
        });
        if options.durability == Durability::Power {
            sync::sync_now(&shared)?;
        }
        let thread = sync::spawn(&shared)?;
        Ok(Self { owner: Arc::new(Owner { shared, _thread: thread }) })
    }

    /// Who records here.
    #[must_use]
    pub fn recorder(&self) -> RecorderId {
        self.shared().recorder
    }

    /// The recorder's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.shared().dir()
    }

    /// What the records survive, as chosen at the creation.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared().options.durability
    }

    /// Begins an entry: takes the next sequence number and appends its Begin and first parts, all or nothing, in one write.
    pub fn begin(&self, payload: &[u8], parts: &[(Channel, &[u8])]) -> Result<Entry> {
        let pieces = std::iter::once(Piece::control(Kind::Begin, payload)).chain(part_pieces(parts));
        let mut stream = self.shared().options.repeating.map(|_| Stream::default());
        let (seq, begun) = self.append(|writer| writer.append_new(Claim::Begin, pieces, stream.as_mut()))?;
        Ok(Entry::new(self.clone(), seq, begun, stream))
    }

    /// Appends an entry that is whole already: its Begin, its parts and its End, all or nothing, in one write. Takes nothing of
    /// what is reserved. Returns its sequence number and where it ends: what to sync to for it.
    pub fn whole(&self, payload: &[u8], parts: &[(Channel, &[u8])], end: &[u8]) -> Result<(u64, Position)> {
        let begin = std::iter::once(Piece::control(Kind::Begin, payload));
        let end = std::iter::once(Piece::control(Kind::End { flags: Flags::NONE }, end));
        let pieces = begin.chain(part_pieces(parts)).chain(end);
        self.append(|writer| writer.append_new(Claim::Part, pieces, None))
    }

    /// Appends a whole item in one record; returns its sequence number. May use room that is reserved for notes.
    pub fn note(&self, payload: &[u8]) -> Result<u64> {
        let piece = std::iter::once(Piece::control(Kind::Note, payload));
        Ok(self.append(|writer| writer.append_new(Claim::Note, piece, None))?.0)
    }

    /// Bytes on disk: of all segments that exist, headers and stored records included.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        lock(&self.shared().writer).total_bytes()
    }

    /// How many entries are begun and not finished.
    #[must_use]
    pub fn running(&self) -> u64 {
        lock(&self.shared().writer).running()
    }

    /// The end of the log: everything before it survives the process. Never less than [`synced`](Self::synced).
    #[must_use]
    pub fn written(&self) -> Position {
        unpack(self.shared().written.load(Ordering::Acquire))
    }

    /// Everything before this survives a loss of power.
    #[must_use]
    pub fn synced(&self) -> Position {
        self.shared().commit.synced()
    }

    /// The lowest segment that is not released. (Files of lower ones remain as long as later segments refer to them.)
    #[must_use]
    pub fn first_segment(&self) -> u64 {
        lock(&self.shared().writer).segments().wanted_from()
    }

    /// Whether a disk failure has stopped this spool (see [`Error::Poisoned`]).
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.shared().poisoned.load(Ordering::Acquire)
    }

    /// Waits until everything before `position` survives a loss of power. One sync serves all who wait. Works at either level
    /// of durability. A position beyond [`written`](Self::written) counts as `written`.
    pub async fn sync_to(&self, position: Position) -> Result<()> {
        self.shared().commit.reached(position.min(self.written())).await
    }

    /// Waits until the log reaches beyond `position` and returns its end. Returns at once, and then possibly with nothing
    /// new, when the life has ended or the spool is poisoned. Each append wakes the waiters; a reader that wants
    /// batches had better pause a little after it was woken.
    pub async fn wait_beyond(&self, position: Position) -> Position {
        let shared = self.shared();
        loop {
            // Made before the check: it is woken by every append from here on, also by one between check and wait.
            let changed = shared.changed.notified();
            let over = shared.ended.load(Ordering::Acquire) || self.is_poisoned();
            let written = self.written();
            if written > position || over {
                return written;
            }
            changed.await;
        }
    }

    /// Releases all segments with a number lower than `segment`; never the one that is written to. The caller knows that
    /// everything in them is stored elsewhere. Their files are deleted, except those that a segment which is not released
    /// refers to: they go when that one is released.
    pub fn release_before(&self, segment: u64) -> Result<()> {
        let shared = self.shared();
        let _releasing = lock(&shared.releasing);
        loop {
            let next = lock(&shared.writer).segments_mut().release_before(segment);
            let Some(next) = next else { return Ok(()) };
            // The segments that remain must be there when these are gone, or a loss of power leaves no log at all.
            if shared.options.durability == Durability::Power && self.synced().segment < self.first_segment() {
                sync::sync_now(shared)?;
            }
            // Outside the writer's lock, because deleting a large file takes milliseconds.
            shared.files.remove(next)?;
            lock(&shared.writer).segments_mut().deleted(next);
        }
    }

    /// Ends this life: appends the LifeEnd and syncs all that was written (also with [`Durability::Process`]; this blocks).
    /// Afterwards nothing can be begun. Refused while entries are running.
    pub fn end_life(&self, payload: &[u8]) -> Result<()> {
        let piece = std::iter::once(Piece::control(Kind::LifeEnd { flags: Flags::NONE }, payload));
        self.append(|writer| match writer.running() {
            0 => writer.append_new(Claim::Life, piece, None),
            running => Err(Error::StillRunning(running)),
        })?;
        self.shared().ended.store(true, Ordering::Release);
        self.shared().changed.notify_waiters();
        sync::sync_now(self.shared())
    }

    /// Deletes the folder of a life that has ended: all that is in it is stored elsewhere. Readers and blobs of it fail afterwards.
    pub fn remove(&self) -> Result<()> {
        if !self.shared().ended.load(Ordering::Acquire) {
            return Err(Error::StillRunning(self.running()));
        }
        let _releasing = lock(&self.shared().releasing);
        self.shared().files.folder().remove().map_err(Error::io("removing the spool's folder"))
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    pub(crate) fn append<T>(&self, append: impl FnOnce(&mut Writer) -> Result<(T, Position)>) -> Result<(T, Position)> {
        self.shared().write(append)
    }
}
