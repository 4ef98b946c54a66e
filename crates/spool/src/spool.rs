//! The handle on a living log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use crate::entry::Entry;
use crate::error::{Error, Result};
use crate::filesystem::{Disk, FileSystem};
use crate::folder::Newborn;
use crate::format::{Channel, Flags, Kind, Position, RecorderId};
use crate::lock;
use crate::options::{Durability, Options};
use crate::piece::{Claim, Piece, part_pieces};
use crate::repeats::Stream;
use crate::shared::Shared;
use crate::sync::{self, SyncThread};
use crate::writer::{Clock, Life, Writer};

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
        writer.append_new(Claim::Life, begin, None)?;
        if let Some(repeats) = options.repeats() {
            writer.look_for(repeats);
        }
        let (folder, held) = newborn.settle()?;
        writer.moved_to(folder.clone());

        let shared = Arc::new(Shared::new(writer, recorder, options, folder, held));
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
        self.shared().written()
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
