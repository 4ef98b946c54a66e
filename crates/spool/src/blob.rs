//! Bytes of a log that are read later, in pieces, by whoever needs them.

use std::io;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::folder::SegmentFiles;
use crate::payload::{Payload, read_range};
use crate::window::Window;

/// The concatenation of some payloads, such as a body that arrived in many parts. Cheap to clone, usable from any thread. It opens
/// the segments when it reads and keeps none of their bytes; it works until they are released.
#[derive(Debug, Clone)]
pub struct Blob {
    files: Arc<SegmentFiles>,
    pieces: Arc<[Placed]>,
}

/// Small pieces, such as the events of a stream, stand close together; so much is read at a time.
const READ_AHEAD: u64 = 8 << 10;

/// A payload and where the blob is with it.
#[derive(Debug, Clone, Copy)]
struct Placed {
    payload: Payload,
    /// The blob's offset behind this piece.
    end: u64,
}

impl Blob {
    pub(crate) fn new(files: Arc<SegmentFiles>, payloads: &[Payload]) -> Self {
        let mut end = 0;
        let pieces = payloads.iter().map(|payload| {
            end += u64::from(payload.len);
            Placed { payload: *payload, end }
        });
        Self { files, pieces: pieces.collect() }
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pieces.last().map_or(0, |piece| piece.end)
    }

    /// The payloads, in order.
    pub fn pieces(&self) -> impl Iterator<Item = Payload> + '_ {
        self.pieces.iter().map(|piece| piece.payload)
    }

    /// Up to `max` bytes from `offset` on; fewer only at the blob's end. A payload that lies whole within the range is checked
    /// against its checksum; of one that does not, the range is read as it stands. Blocks.
    pub fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let until = self.size().min(offset.saturating_add(max as u64));
        let mut bytes = Vec::with_capacity(usize::try_from(until.saturating_sub(offset)).unwrap_or(0));
        let first = self.pieces.partition_point(|piece| piece.end <= offset);
        let mut window = Window::default();
        for piece in &self.pieces[first..] {
            let begin = piece.end - u64::from(piece.payload.len);
            if begin >= until {
                break;
            }
            let from = offset.saturating_sub(begin);
            let to = until.min(piece.end) - begin;
            if let Some(whole) = self.read_small(&piece.payload, &mut window)?
                && let Some(wanted) = whole.get(from as usize..to as usize)
            {
                bytes.extend_from_slice(wanted);
                continue;
            }
            read_range(&self.files, &piece.payload, from as usize..to as usize, &mut bytes)?;
        }
        Ok(bytes)
    }

    /// A payload that is small, checked against its checksum. `None`: it is not small, or not what it should be; then it
    /// is read by itself.
    fn read_small<'w>(&self, payload: &Payload, window: &'w mut Window) -> Result<Option<&'w [u8]>> {
        let (len, Payload { segment, offset, .. }) = (payload.len as usize, *payload);
        if payload.extents > 0 || payload.len > Self::SMALL {
            return Ok(None);
        }
        if window.get(segment, offset, len).is_none() {
            let last = self.pieces.iter().rev().find(|piece| piece.payload.segment == segment);
            // What stands beyond the last piece may be just being written.
            let end = last.map_or(offset, |last| last.payload.offset + u64::from(last.payload.len));
            let end = if last.is_some_and(|last| last.payload.extents > 0) { offset + len as u64 } else { end };
            let file = self.files.get(segment).map_err(Error::io("opening a segment"))?;
            let filled = window.fill(segment, &*file, offset, end.min(offset + READ_AHEAD));
            filled.map_err(Error::io("reading a segment"))?;
        }
        Ok(window.get(segment, offset, len).filter(|bytes| crc32c::crc32c(bytes) == payload.crc))
    }

    const SMALL: u32 = 2 << 10;
}
