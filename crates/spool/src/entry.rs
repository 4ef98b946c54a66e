//! One running item of the log: begun, appended to, and ended exactly once: by its owner, by being dropped, or by recovery.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::format::{Channel, Flags, Kind, Position};
use crate::lock;
use crate::piece::{Claim, Piece, part_pieces};
use crate::repeats::Stream;
use crate::spool::Spool;
use crate::writer::Writer;

/// One running item of a [`Spool`]. It may be shared between threads (behind an `Arc`); its records get the order of the
/// calls. An entry that is dropped without being finished is ended with [`Flags::ABANDONED`], as far as the disk allows.
#[derive(Debug)]
pub struct Entry {
    spool: Spool,
    seq: u64,
    begun: Position,
    /// Only changed under the writer's lock.
    closed: AtomicBool,
    /// Only used under the writer's lock. `None`: no channel of it is expected to repeat what was written.
    stream: Mutex<Option<Stream>>,
}

impl Entry {
    pub(crate) const fn new(spool: Spool, seq: u64, begun: Position, stream: Option<Stream>) -> Self {
        Self { spool, seq, begun, closed: AtomicBool::new(false), stream: Mutex::new(stream) }
    }

    /// The entry's sequence number.
    #[must_use]
    pub const fn seq(&self) -> u64 {
        self.seq
    }

    /// Where the log ended when the entry was begun with its first parts: what to sync to for them.
    #[must_use]
    pub const fn begun(&self) -> Position {
        self.begun
    }

    /// Appends bytes of one channel. Returns where they end: what to sync to for them.
    pub fn append(&self, channel: Channel, bytes: &[u8]) -> Result<Position> {
        self.append_all(&[(channel, bytes)])
    }

    /// Appends several parts, all or nothing, in one write.
    pub fn append_all(&self, parts: &[(Channel, &[u8])]) -> Result<Position> {
        self.write(|writer| writer.append(Claim::Part, self.seq, part_pieces(parts), lock(&self.stream).as_mut()))
    }

    /// Appends last parts and the End, all or nothing, in one write, and consumes the entry. When it fails the entry is ended as
    /// abandoned; use [`close`](Self::close) to try again with less.
    pub fn finish(self, parts: &[(Channel, &[u8])], payload: &[u8]) -> Result<Position> {
        self.close(parts, payload)
    }

    /// As [`finish`](Self::finish), but an entry that could not be ended stays as it was. Up to 4 KiB, headers (32 bytes a
    /// record, and perhaps 64 for a new segment) included, fit whatever else the bound refuses.
    pub fn close(&self, parts: &[(Channel, &[u8])], payload: &[u8]) -> Result<Position> {
        self.end(parts, Flags::NONE, payload)
    }

    fn end(&self, parts: &[(Channel, &[u8])], flags: Flags, payload: &[u8]) -> Result<Position> {
        let end = std::iter::once(Piece::control(Kind::End { flags }, payload));
        self.write(|writer| {
            let mut stream = lock(&self.stream);
            let end = writer.append(Claim::End, self.seq, part_pieces(parts).chain(end), stream.as_mut())?;
            *stream = None;
            self.closed.store(true, Ordering::Relaxed);
            Ok(end)
        })
    }

    fn write(&self, append: impl FnOnce(&mut Writer) -> Result<Position>) -> Result<Position> {
        let guarded = |writer: &mut Writer| match self.closed.load(Ordering::Relaxed) {
            true => Err(Error::Closed),
            false => append(writer).map(|end| ((), end)),
        };
        Ok(self.spool.append(guarded)?.1)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !*self.closed.get_mut() {
            // Best effort: when it fails, whoever adopts the folder ends the entry.
            let _ = self.end(&[], Flags::ABANDONED, &[]);
        }
    }
}
