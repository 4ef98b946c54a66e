//! Reading a log, record by record, in bounded memory.
//!
//! A reader hands out where records and their payloads lie, and reads a payload only when asked; it steps over a large one
//! by its length, which the record header's own checksum vouches for. Headers come through a window of 64 KiB, so that
//! small records cost no system call each.
//!
//! A reader that follows a living spool looks no further than the end that the writer has published, and so never sees a record
//! that is being written or about to be undone.

use std::path::Path;
use std::sync::Arc;

use crate::blob::Blob;
use crate::error::{Error, Result};
use crate::filesystem::{Disk, DiskFile, read_up_to};
use crate::folder::{Folder, SegmentFiles};
use crate::format::{
    HeaderFault, Kind, Position, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use crate::payload::{Payload, read_range};
use crate::recipe::{self, Head};
use crate::spool::Spool;
use crate::window::Window;

/// One record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// Where the record begins.
    pub position: Position,
    /// Where it ends; [`Reader::resume_at`] goes on from here.
    pub end: Position,
    /// The sequence number of the item that it belongs to.
    pub seq: u64,
    /// What it says.
    pub kind: Kind,
    /// A Part that belongs to the same append as the Part of this entry and channel before it.
    pub continued: bool,
    /// When it was appended, in nanoseconds since this life began; never less than the record's before it.
    pub mono_ns: u64,
    /// The same as wall clock, in nanoseconds since 1970: the life's beginning plus `mono_ns`.
    pub unix_ns: u64,
    /// Its payload, not yet read.
    pub payload: Payload,
}

/// Reads the records of one recorder in their order.
#[derive(Debug)]
pub struct Reader {
    files: Arc<SegmentFiles>,
    /// The spool that is followed; `None` for a folder at rest.
    live: Option<Spool>,
    /// Of a folder at rest: what precedes this segment is released, its file is only kept for others.
    first: u64,
    /// Where the next record begins.
    at: Position,
    current: Option<Current>,
    window: Window,
    /// The record before the position was so large that the next header is likely to stand far from the one after it.
    after_large: bool,
    /// Where the segment before the position's ended.
    left: Option<Position>,
    /// A last segment that has been reported as unreadable; not to be reported again at each call.
    given_up: Option<u64>,
}

/// The segment that is being read.
#[derive(Debug)]
struct Current {
    header: SegmentHeader,
    seed: u32,
    file: Arc<dyn DiskFile>,
    /// How far it may be read, as of the last look.
    end: u64,
    /// Whether there was a later segment at that look, so that `end` is final.
    is_left: bool,
}

/// What stands at the reader's position.
enum Next {
    Record(RecordHeader),
    /// The readable part of the segment ends here, at the end of a record.
    End,
    /// It ends within a record.
    Torn,
}

impl Reader {
    /// Reads along with a living spool, from the first retained segment. Keeps the spool open.
    #[must_use]
    pub fn follow(spool: &Spool) -> Self {
        let first = spool.first_segment();
        Self::new(spool.shared().files.clone(), Some(spool.clone()), first)
    }

    /// Reads a folder at rest, from its first segment. (Of a folder that is being written to it sees what is there at each
    /// call; its owner had better [`follow`](Self::follow).)
    pub fn open(dir: &Path) -> Result<Self> {
        let folder = Folder { fs: Arc::new(Disk), dir: dir.to_owned() };
        Self::at_rest(Arc::new(SegmentFiles::new(folder)), 0)
    }

    /// Reads from the first segment that exists from `first` on.
    pub(crate) fn at_rest(files: Arc<SegmentFiles>, first: u64) -> Result<Self> {
        let mut reader = Self::new(files, None, first);
        reader.rewind()?;
        Ok(reader)
    }

    fn new(files: Arc<SegmentFiles>, live: Option<Spool>, first: u64) -> Self {
        let at = Position { segment: first, offset: SEGMENT_HEADER_BYTES };
        Self {
            files,
            live,
            first,
            at,
            current: None,
            window: Window::default(),
            after_large: false,
            left: None,
            given_up: None,
        }
    }

    /// Where the next record will begin.
    #[must_use]
    pub const fn position(&self) -> Position {
        self.at
    }

    /// Goes back to the first retained segment.
    pub fn rewind(&mut self) -> Result<()> {
        let first = match &self.live {
            Some(spool) => spool.first_segment(),
            None => self.segment_from(self.first)?.unwrap_or(self.first),
        };
        self.resume_at(Position { segment: first, offset: SEGMENT_HEADER_BYTES });
        Ok(())
    }

    /// Goes on reading at a position that a record or [`position`](Self::position) gave. Any other position reads as damage.
    pub fn resume_at(&mut self, position: Position) {
        (self.current, self.left) = (None, None);
        self.at = Position { offset: position.offset.max(SEGMENT_HEADER_BYTES), ..position };
    }

    /// The next record, or `None` when there is no more at the moment. After [`Error::Damaged`] the next call goes on behind
    /// the damage: at the next segment, because what follows a broken header cannot be found.
    #[expect(clippy::should_implement_trait, reason = "an iterator ends for good; this goes on when there is more")]
    pub fn next(&mut self) -> Result<Option<Record>> {
        loop {
            if self.current.is_none() && !self.enter()? {
                return Ok(None);
            }
            let position = self.at;
            match self.peek()? {
                Next::Record(header) => return self.step_over(&header),
                Next::End if self.leave() => {}
                Next::Torn if self.leave() => {
                    return Err(Error::Damaged { position, what: "the segment ends within a record" });
                }
                Next::End | Next::Torn => return Ok(None),
            }
        }
    }

    /// A payload's bytes, checked against its checksum.
    pub fn read(&self, payload: &Payload) -> Result<Vec<u8>> {
        let len = payload.len as usize;
        match self.window.get(payload.segment, payload.offset, len) {
            Some(bytes) if payload.extents == 0 && crc32c::crc32c(bytes) == payload.crc => Ok(bytes.to_vec()),
            // What is read ahead and wrong is read again: only the disk's word counts.
            _ => {
                let mut bytes = Vec::new();
                read_range(&self.files, payload, 0..len, &mut bytes)?;
                Ok(bytes)
            }
        }
    }

    /// The concatenation of some payloads of this reader's log, to be read later.
    #[must_use]
    pub fn blob(&self, payloads: &[Payload]) -> Blob {
        Blob::new(self.files.clone(), payloads)
    }

    /// Opens the segment at the position. `false`: there is none (yet).
    fn enter(&mut self) -> Result<bool> {
        let number = self.at.segment;
        if self.given_up == Some(number) && !self.is_left(number)? {
            return Ok(false);
        }
        let file = match self.files.get(number) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return self.enter_behind_gap(),
            Err(error) => return Err(Error::io("opening a segment")(error)),
        };
        match read_header(&*file, number)? {
            Ok(header) => {
                self.current = Some(Current { header, seed: header.seed(), file, end: 0, is_left: false });
                match self.left.take() {
                    Some(position) if position.offset < u64::from(header.previous_bytes) => {
                        Err(Error::Damaged { position, what: "the segment's end is missing" })
                    }
                    _ => Ok(true),
                }
            }
            Err(HeaderFault::Version(version)) => Err(Error::Version(version)),
            Err(HeaderFault::Unwritten) if !self.is_left(number)? => Ok(false),
            Err(_) => Err(self.give_up("the segment's header is damaged")?),
        }
    }

    fn enter_behind_gap(&mut self) -> Result<bool> {
        let missing = self.at;
        let Some(next) = self.segment_from(missing.segment)? else {
            return Ok(false);
        };
        self.resume_at(Position { segment: next, offset: 0 });
        Err(Error::Damaged { position: missing, what: "a segment is missing" })
    }

    /// Reads the header at the position, as far as the segment may be read.
    fn peek(&mut self) -> Result<Next> {
        if !self.reaches(RECORD_HEADER_BYTES)? {
            let end = self.current.as_ref().map_or(0, |current| current.end);
            return Ok(if end == self.at.offset { Next::End } else { Next::Torn });
        }
        let Some(header) = self.header_at_position()? else {
            return Err(self.give_up("a record's header is damaged")?);
        };
        let whole = self.reaches(RECORD_HEADER_BYTES + u64::from(header.payload_len))?;
        Ok(if whole { Next::Record(header) } else { Next::Torn })
    }

    /// Whether `len` bytes from the position on may be read; looks for more when they may not.
    fn reaches(&mut self, len: u64) -> Result<bool> {
        let until = self.at.offset.saturating_add(len);
        if self.current.as_ref().is_some_and(|current| current.end >= until) {
            return Ok(true);
        }
        // In this order: once a later segment is seen, this one's length is final.
        let is_left = self.is_left(self.at.segment)?;
        let published = self.live.as_ref().filter(|_| !is_left).map(|spool| spool.written());
        let Some(current) = &mut self.current else {
            return Ok(false);
        };
        current.end = match published {
            // The writer may have gone on to the next segment just now; then this one is looked at again when it is left.
            Some(end) if end.segment == self.at.segment => end.offset,
            // Begun for an append that then failed: nothing in it is published.
            Some(end) if end.segment < self.at.segment => SEGMENT_HEADER_BYTES,
            _ => current.file.len().map_err(Error::io("reading a segment's length"))?,
        };
        current.is_left = is_left;
        Ok(current.end >= until)
    }

    fn header_at_position(&mut self) -> Result<Option<RecordHeader>> {
        let Some(seed) = self.current.as_ref().map(|current| current.seed) else { return Ok(None) };
        let bytes = self.ahead(self.at.offset, RECORD_HEADER_BYTES as usize)?.and_then(|bytes| bytes.first_chunk());
        Ok(bytes.and_then(|bytes| RecordHeader::decode(bytes, seed)))
    }

    fn step_over(&mut self, header: &RecordHeader) -> Result<Option<Record>> {
        let Some(current) = &self.current else { return Ok(None) };
        let began_unix_ns = current.header.began_unix_ns;
        let Position { segment, offset } = self.at;
        let at = offset + RECORD_HEADER_BYTES;
        let end = Position { segment, offset: at + u64::from(header.payload_len) };
        let plain = Payload { segment, offset: at, len: header.payload_len, crc: header.payload_crc, extents: 0 };
        let payload = if header.composed { self.composed(plain)? } else { Some(plain) };
        self.at = end;
        self.after_large = header.payload_len as usize >= Window::CAPACITY / 4;
        let Some(payload) = payload else {
            let position = Position { segment, offset };
            return Err(Error::Damaged { position, what: "a table of references is damaged" });
        };
        Ok(Some(Record {
            position: Position { segment, offset },
            end,
            seq: header.seq,
            kind: header.kind,
            continued: header.continued,
            mono_ns: header.mono_ns,
            unix_ns: began_unix_ns.saturating_add(header.mono_ns),
            payload,
        }))
    }

    /// The payload that a stored one describes; `None` if its table is damaged.
    fn composed(&mut self, stored: Payload) -> Result<Option<Payload>> {
        let Payload { segment, offset, len, .. } = stored;
        let Some(head) = self.ahead(offset, recipe::HEAD_BYTES.min(len as usize))? else { return Ok(None) };
        let Some(head) = head.first_chunk().and_then(|head| Head::decode(head, len)) else { return Ok(None) };
        let table_bytes = head.table_bytes() as usize;
        let sound = if table_bytes <= Window::CAPACITY {
            self.ahead(offset, table_bytes)?.and_then(recipe::decode).is_some()
        } else {
            let mut table = vec![0; table_bytes];
            let Some(current) = &self.current else { return Ok(None) };
            let read = read_up_to(&*current.file, &mut table, offset).map_err(Error::io("reading a segment"))?;
            read == table_bytes && recipe::decode(&table).is_some()
        };
        Ok(sound.then_some(Payload { segment, offset, len: head.len, crc: head.crc, extents: head.extents }))
    }

    /// `len` bytes of the current segment, through the window.
    fn ahead(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        let (Some(current), segment) = (&self.current, self.at.segment) else { return Ok(None) };
        if self.window.get(segment, offset, len).is_none() {
            let ahead = if self.after_large { Window::CAPACITY / 16 } else { Window::CAPACITY };
            let end = current.end.min(offset + ahead.max(len) as u64);
            let filled = self.window.fill(segment, &*current.file, offset, end);
            filled.map_err(Error::io("reading a segment"))?;
        }
        Ok(self.window.get(segment, offset, len))
    }

    /// Goes on to the next segment, if there is one.
    fn leave(&mut self) -> bool {
        if !self.current.as_ref().is_some_and(|current| current.is_left) {
            return false;
        }
        let end = self.at;
        self.resume_at(Position { segment: end.segment + 1, offset: 0 });
        self.left = Some(end);
        true
    }

    /// Leaves what cannot be read behind, and says so once.
    fn give_up(&mut self, what: &'static str) -> Result<Error> {
        let position = self.at;
        if self.is_left(position.segment)? {
            self.resume_at(Position { segment: position.segment + 1, offset: 0 });
        } else {
            self.current = None;
            self.given_up = Some(position.segment);
        }
        Ok(Error::Damaged { position, what })
    }

    /// Whether the log has gone on to a later segment.
    fn is_left(&self, segment: u64) -> Result<bool> {
        match &self.live {
            Some(spool) => Ok(spool.written().segment > segment),
            None => Ok(self.segment_from(segment + 1)?.is_some()),
        }
    }

    /// The lowest segment that exists from `number` on.
    fn segment_from(&self, number: u64) -> Result<Option<u64>> {
        let numbers = self.files.folder().segments().map_err(Error::io("listing the segments"))?;
        Ok(numbers.into_iter().find(|existing| *existing >= number))
    }
}

/// Reads and checks a segment's header; a file that is too short for one counts as unwritten.
pub(crate) fn read_header(file: &dyn DiskFile, number: u64) -> Result<std::result::Result<SegmentHeader, HeaderFault>> {
    let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
    let read = read_up_to(file, &mut bytes, 0).map_err(Error::io("reading a segment's header"))?;
    if read < bytes.len() {
        return Ok(Err(HeaderFault::Unwritten));
    }
    Ok(SegmentHeader::decode(&bytes).and_then(|header| match header.number == number {
        true => Ok(header),
        false => Err(HeaderFault::Damaged),
    }))
}
