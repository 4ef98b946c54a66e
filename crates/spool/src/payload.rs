//! One payload: where it lies in the log, and reading it from there.

use std::io;
use std::ops::Range;

use crate::error::{Error, Result};
use crate::filesystem::{DiskFile, read_up_to};
use crate::folder::SegmentFiles;
use crate::format::Position;
use crate::recipe::{self, Extent};

/// Where a record's payload lies (or, for bytes that stood in the log already, where it is written where they stand). Read
/// it with [`Reader::read`](crate::Reader::read), or make a [`Blob`](crate::Blob) of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// The segment's number.
    pub segment: u64,
    /// The byte within the segment's file at which it, or the table of its extents, begins.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Its CRC-32C.
    pub(crate) crc: u32,
    /// How many extents it is made of, by the table at `offset`; 0: it stands there itself.
    pub(crate) extents: u32,
}

/// Appends the bytes `range` of a payload to `out`; checks them when the range is the whole payload.
pub(crate) fn read_range(
    files: &SegmentFiles,
    payload: &Payload,
    range: Range<usize>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let start = out.len();
    let position = Position { segment: payload.segment, offset: payload.offset };
    let file = files.get(payload.segment).map_err(Error::io("opening a segment"))?;
    if payload.extents == 0 {
        fill(&*file, payload.offset + range.start as u64, range.len(), position, out)?;
    } else {
        read_extents(files, &read_extent_table(&*file, payload)?, &range, position, out)?;
    }
    if range.len() == payload.len as usize && crc32c::crc32c(&out[start..]) != payload.crc {
        return Err(Error::Damaged { position, what: "a payload's checksum is wrong" });
    }
    Ok(())
}

fn read_extent_table(file: &dyn DiskFile, payload: &Payload) -> Result<Vec<Extent>> {
    let position = Position { segment: payload.segment, offset: payload.offset };
    let mut table = Vec::new();
    fill(file, payload.offset, recipe::table_bytes(payload.extents) as usize, position, &mut table)?;
    recipe::decode(&table).ok_or(Error::Damaged { position, what: "a table of references is damaged" })
}

/// Appends the bytes `range` of what the extents name, one piece after the other.
fn read_extents(
    files: &SegmentFiles,
    extents: &[Extent],
    range: &Range<usize>,
    position: Position,
    out: &mut Vec<u8>,
) -> Result<()> {
    let (mut skip, mut left) = (range.start as u64, range.len() as u64);
    for extent in extents {
        let skipped = skip.min(extent.len);
        let taken = left.min(extent.len - skipped);
        (skip, left) = (skip - skipped, left - taken);
        if taken > 0 {
            let file = match files.get(extent.segment) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(Error::Damaged { position, what: "a segment that is referred to is missing" });
                }
                file => file.map_err(Error::io("opening a segment"))?,
            };
            fill(&*file, extent.offset + skipped, taken as usize, position, out)?;
        }
    }
    Ok(())
}

/// Appends `len` bytes of a file.
fn fill(file: &dyn DiskFile, offset: u64, len: usize, position: Position, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.resize(start + len, 0);
    let read = read_up_to(file, &mut out[start..], offset).map_err(Error::io("reading a segment"))?;
    if read < len {
        return Err(Error::Damaged { position, what: "the segment ends within a payload" });
    }
    Ok(())
}
