//! The end of the log: where records are encoded, written, and undone when writing fails.
//!
//! Guarantees: an append is whole or absent. It lies in one segment; it goes out as one `pwrite` unless it is larger than the
//! scratch buffer; when a write fails, the file is cut back to where the append began, and the sequence number that it would
//! have taken is still free. When even the cut fails, the writer is poisoned, for nobody can tell what is on the disk.
//!
//! Refuses: to outgrow its bound. Ordinary appends leave a reserve untouched, so that what closes the books always fits: an End
//! for each running entry, gap notes, the LifeEnd.
//!
//! Of the channel that repeats itself (if there is one) it writes only what does not stand in the log already, and otherwise where it
//! stands: an optimisation, decided by each append for itself, and invisible to readers.
//!
//! One thread at a time: the [`Spool`](crate::Spool) keeps the writer behind its lock.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::bounds::Limits;
use crate::error::{Error, Result};
use crate::filesystem::{DiskFile, write_all_at};
use crate::folder::Folder;
use crate::format::{
    self, Kind, MAX_PAYLOAD_BYTES, Position, RECORD_HEADER_BYTES, RecordHeader, RecorderId, SEGMENT_HEADER_BYTES,
    SegmentHeader,
};
use crate::piece::{Claim, Piece};
use crate::plan::Plan;
use crate::repeats::{Repeats, Stream, Written};
use crate::reserve::Reserve;
use crate::segments::Segments;

/// An append is gathered up to this many bytes; a payload beyond it is written from where it stands, without a copy.
const SCRATCH_BYTES: usize = 128 << 10;

/// The most that one append may come to; with the bound on `segment_bytes` it keeps offsets below 2^33.
const MAX_APPEND_BYTES: u64 = 1 << 32;

/// Nanoseconds since this life began.
pub(crate) type Clock = Box<dyn Fn() -> u64 + Send + Sync>;

/// Whose log this is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Life {
    pub(crate) recorder: RecorderId,
    pub(crate) began_unix_ns: u64,
}

pub(crate) struct Writer {
    folder: Folder,
    life: Life,
    limits: Limits,
    clock: Clock,
    poisoned: Arc<AtomicBool>,
    file: Arc<dyn DiskFile>,
    segments: Segments,
    repeats: Option<Repeats>,
    reserve: Reserve,
    seed: u32,
    /// The end of the last whole append in the current segment.
    offset: u64,
    next_seq: u64,
    last_mono_ns: u64,
    running: u64,
    ended: bool,
    scratch: Vec<u8>,
}

/// Where an existing log is taken up again.
pub(crate) struct Tail {
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) next_seq: u64,
}

impl Writer {
    /// Begins a log with its first segment, or goes on with a fresh segment behind a damaged one.
    pub(crate) fn begin(
        folder: Folder,
        life: Life,
        limits: Limits,
        clock: Clock,
        number: u64,
        first_seq: u64,
    ) -> Result<Self> {
        let Life { recorder, began_unix_ns } = life;
        let header = SegmentHeader { recorder, number, first_seq, began_unix_ns, previous_bytes: 0 };
        let file = folder.create_segment(&header)?;
        let tail = Tail { number, offset: SEGMENT_HEADER_BYTES, next_seq: first_seq };
        Ok(Self::on(folder, life, limits, clock, file, &tail))
    }

    /// Goes on writing behind the last whole record of a log.
    pub(crate) fn on(
        folder: Folder,
        life: Life,
        limits: Limits,
        clock: Clock,
        file: Arc<dyn DiskFile>,
        tail: &Tail,
    ) -> Self {
        let Tail { number, offset, next_seq } = *tail;
        let seed = format::seed(life.recorder, number);
        Self {
            folder,
            life,
            limits,
            clock,
            poisoned: Arc::default(),
            file,
            segments: Segments::beginning_with(number),
            repeats: None,
            reserve: Reserve::Unmade(0),
            seed,
            offset,
            next_seq,
            last_mono_ns: 0,
            running: 0,
            ended: false,
            scratch: Vec::new(),
        }
    }

    /// From now on bytes of one channel are not written again if they stand in the log.
    pub(crate) fn look_for(&mut self, repeats: Repeats) {
        self.repeats = Some(repeats);
    }

    /// Appends records that take a new sequence number, which is returned. `stream`: of the entry that they begin.
    pub(crate) fn append_new<'a>(
        &mut self,
        claim: Claim,
        pieces: impl Iterator<Item = Piece<'a>> + Clone,
        stream: Option<&mut Stream>,
    ) -> Result<(u64, Position)> {
        let seq = self.next_seq;
        if self.ended {
            return Err(Error::Ended);
        }
        let position = self.append(claim, seq, pieces, stream)?;
        self.next_seq += 1;
        match claim {
            Claim::Begin => self.running += 1,
            // Of the two life records the first has sequence number 0.
            Claim::Life => self.ended = seq != 0,
            _ => {}
        }
        Ok((seq, position))
    }

    /// Appends records of the entry `seq`. Returns where the log now ends.
    pub(crate) fn append<'a>(
        &mut self,
        claim: Claim,
        seq: u64,
        pieces: impl Iterator<Item = Piece<'a>> + Clone,
        mut stream: Option<&mut Stream>,
    ) -> Result<Position> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(Error::Poisoned);
        }
        let plans = self.plan(pieces.clone(), stream.as_deref_mut());
        let appended = self.append_planned(claim, seq, pieces, &plans);
        if let (Some(stream), Some(repeats)) = (stream, &mut self.repeats) {
            match &appended {
                Ok(written) => stream.settle(written, &mut repeats.memory),
                Err(_) => stream.break_off(),
            }
            if claim == Claim::End && appended.is_ok() {
                stream.finish(&mut repeats.memory);
            }
        }
        appended.map(|_| self.position())
    }

    /// Looks for what of the pieces stands in the log already. One plan for each piece of the channel that repeats itself.
    fn plan<'a>(&mut self, pieces: impl Iterator<Item = Piece<'a>>, stream: Option<&mut Stream>) -> Vec<Plan> {
        let (Some(repeats), Some(stream)) = (&mut self.repeats, stream) else {
            return Vec::new();
        };
        let oldest = self.segments.current().saturating_sub(repeats.window);
        repeats.memory.forget_before(oldest.max(self.segments.kept_from()));
        let channel = Kind::Part(repeats.channel);
        let repeating = pieces.filter(|piece| piece.kind == channel);
        repeating.map(|piece| Plan::new(stream, piece.payload, &mut repeats.memory)).collect()
    }

    fn append_planned<'a>(
        &mut self,
        claim: Claim,
        seq: u64,
        pieces: impl Iterator<Item = Piece<'a>> + Clone,
        plans: &[Plan],
    ) -> Result<Vec<Written>> {
        let mut bytes = 0;
        for piece in pieces.clone() {
            if piece.payload.len() > MAX_PAYLOAD_BYTES {
                return Err(Error::TooLarge(piece.payload.len()));
            }
            bytes += RECORD_HEADER_BYTES + piece.payload.len() as u64;
        }
        if bytes > MAX_APPEND_BYTES {
            return Err(Error::TooLarge(usize::try_from(bytes).unwrap_or(usize::MAX)));
        }
        bytes -= plans.iter().map(Plan::saves).sum::<u64>();
        let rotates = self.offset > SEGMENT_HEADER_BYTES && self.offset + bytes > self.limits.segment_bytes;
        let more = bytes + if rotates { SEGMENT_HEADER_BYTES } else { 0 };
        if !self.limits.admits(claim, self.running, self.total_bytes(), more) {
            return Err(Error::Full);
        }
        let closes_books = matches!(claim, Claim::End | Claim::Note | Claim::Life);
        if !closes_books && !self.reserve.admits_data(&self.folder) {
            return Err(Error::Full);
        }
        let mut outcome = self.put_down(seq, rotates, pieces.clone(), plans);
        if matches!(outcome, Err(Error::Full)) && closes_books && self.reserve.release(&self.folder) {
            let rotates = rotates && self.offset > SEGMENT_HEADER_BYTES;
            outcome = self.put_down(seq, rotates, pieces, plans);
        }
        let (offset, written) = outcome?;
        self.offset = offset;
        if claim == Claim::Begin {
            self.reserve.keep(&self.folder);
        }
        for segment in plans.iter().filter_map(Plan::refers_to) {
            self.segments.refer_to(segment);
        }
        if claim == Claim::End {
            self.running = self.running.saturating_sub(1);
        }
        Ok(written)
    }

    /// Writes the records, all or nothing, into a new segment if the log `rotates`.
    fn put_down<'a>(
        &mut self,
        seq: u64,
        rotates: bool,
        pieces: impl Iterator<Item = Piece<'a>>,
        plans: &[Plan],
    ) -> Result<(u64, Vec<Written>)> {
        if rotates {
            self.rotate()?;
        }
        self.write(seq, pieces, plans).map_err(|error| self.undo(error))
    }

    /// The end of the log.
    pub(crate) const fn position(&self) -> Position {
        Position { segment: self.segments.current(), offset: self.offset }
    }

    /// Bytes of all retained segments.
    pub(crate) const fn total_bytes(&self) -> u64 {
        self.segments.retained_bytes() + self.offset
    }

    pub(crate) fn file(&self) -> Arc<dyn DiskFile> {
        self.file.clone()
    }

    pub(crate) fn poisoned(&self) -> Arc<AtomicBool> {
        self.poisoned.clone()
    }

    pub(crate) const fn running(&self) -> u64 {
        self.running
    }

    pub(crate) const fn segments(&self) -> &Segments {
        &self.segments
    }

    pub(crate) const fn segments_mut(&mut self) -> &mut Segments {
        &mut self.segments
    }

    /// The folder has been renamed (it is given its name when its life has begun).
    pub(crate) fn moved_to(&mut self, folder: Folder) {
        self.folder = folder;
    }

    /// Leaves the current segment for a new one. When that fails the current one stays in use.
    fn rotate(&mut self) -> Result<()> {
        let header = SegmentHeader {
            recorder: self.life.recorder,
            number: self.segments.current() + 1,
            first_seq: self.next_seq,
            began_unix_ns: self.life.began_unix_ns,
            previous_bytes: u32::try_from(self.offset).unwrap_or(0),
        };
        self.file = self.folder.create_segment(&header).inspect_err(|error| {
            if matches!(error, Error::Poisoned) {
                self.poisoned.store(true, Ordering::Release);
            }
        })?;
        self.segments.leave_for(header.number, self.offset);
        self.seed = header.seed();
        self.offset = SEGMENT_HEADER_BYTES;
        Ok(())
    }

    /// Encodes and writes the records from the current end on; returns the new end, and where the bytes that have a plan stand.
    fn write<'a>(
        &mut self,
        seq: u64,
        pieces: impl Iterator<Item = Piece<'a>>,
        plans: &[Plan],
    ) -> Result<(u64, Vec<Written>)> {
        let mono_ns = (self.clock)().max(self.last_mono_ns);
        self.last_mono_ns = mono_ns;
        self.scratch.clear();
        let repeating = self.repeats.as_ref().filter(|_| !plans.is_empty()).map(|repeats| Kind::Part(repeats.channel));
        let (mut plans, mut written) = (plans.iter(), Vec::new());
        let (mut end, mut at) = (self.offset, self.offset);
        for Piece { kind, continued, payload } in pieces {
            let plan = if Some(kind) == repeating { plans.next() } else { None };
            let stands_at = at + RECORD_HEADER_BYTES;
            let table =
                plan.and_then(|plan| plan.table(payload, self.segments.current(), stands_at)).unwrap_or_default();
            let behind_table = stands_at + table.len() as u64;
            if let Some(plan) = plan {
                written.extend(plan.written(self.segments.current(), behind_table));
            }
            let new = || {
                let planned = plan.into_iter().flat_map(|plan| plan.new_bytes(payload));
                planned.chain(plan.is_none().then_some(payload))
            };
            let payload_crc = new().fold(crc32c::crc32c(&table), crc32c::crc32c_append);
            at = behind_table + new().map(|bytes| bytes.len() as u64).sum::<u64>();
            let composed = !table.is_empty();
            let payload_len = (at - stands_at) as u32;
            let header = RecordHeader { kind, continued, composed, seq, mono_ns, payload_len, payload_crc };
            self.put(&mut end, &header.encode(self.seed))?;
            self.put(&mut end, &table)?;
            new().try_for_each(|bytes| self.put(&mut end, bytes))?;
        }
        self.flush(&mut end)?;
        Ok((end, written))
    }

    fn put(&mut self, end: &mut u64, bytes: &[u8]) -> Result<()> {
        if self.scratch.len() + bytes.len() > SCRATCH_BYTES {
            self.flush(end)?;
        }
        if bytes.len() > SCRATCH_BYTES {
            write_all_at(&*self.file, bytes, *end).map_err(Error::io("writing to a segment"))?;
            *end += bytes.len() as u64;
        } else {
            self.scratch.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn flush(&mut self, end: &mut u64) -> Result<()> {
        write_all_at(&*self.file, &self.scratch, *end).map_err(Error::io("writing to a segment"))?;
        *end += self.scratch.len() as u64;
        self.scratch.clear();
        Ok(())
    }

    /// Cuts away what a failed append left behind, and passes on its error, or `Poisoned` when the cut fails too.
    fn undo(&self, error: Error) -> Error {
        match self.file.set_len(self.offset) {
            Ok(()) => error,
            Err(cut) => {
                tracing::error!(%error, %cut, "a failed write to the spool could not be undone; recording stops until a restart");
                self.poisoned.store(true, Ordering::Release);
                Error::Poisoned
            }
        }
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("dir", &self.folder.dir).field("end", &self.position()).finish_non_exhaustive()
    }
}
