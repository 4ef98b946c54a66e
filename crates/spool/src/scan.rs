//! One segment, read from end to end, every byte checked.

use crate::error::{Error, Result};
use crate::filesystem::{DiskFile, read_up_to};
use crate::format::{RECORD_HEADER_BYTES, RecordHeader};
use crate::recipe::{self, Extent, Head};
use crate::window::Window;

/// A segment that is being read from end to end.
pub(crate) struct Scan<'a> {
    pub(crate) file: &'a dyn DiskFile,
    pub(crate) number: u64,
    pub(crate) seed: u32,
    pub(crate) len: u64,
    pub(crate) window: Window,
}

impl Scan<'_> {
    /// The record at `offset`, if its header is sound, and what is wrong with it, if anything is.
    pub(crate) fn record(&mut self, offset: u64) -> Result<(Option<RecordHeader>, Option<&'static str>)> {
        let header = self.bytes(offset, RECORD_HEADER_BYTES as usize)?.and_then(|bytes| bytes.first_chunk().copied());
        let Some(header) = header else {
            return Ok((None, Some("the segment ends within a record")));
        };
        let Some(record) = RecordHeader::decode(&header, self.seed) else {
            return Ok((None, Some("a record's header is damaged")));
        };
        let begin = offset + RECORD_HEADER_BYTES;
        let end = begin + u64::from(record.payload_len);
        if end > self.len {
            return Ok((None, Some("the segment ends within a record")));
        }
        let sound = self.checksum(begin, end)? == Some(record.payload_crc);
        Ok((Some(record), (!sound).then_some("a payload's checksum is wrong")))
    }

    /// The extents of a sound record's payload; empty if it has no sound table.
    pub(crate) fn table(&self, begin: u64, stored: u32) -> Result<Vec<Extent>> {
        let mut head = [0; recipe::HEAD_BYTES];
        read_up_to(self.file, &mut head, begin).map_err(Error::io("reading a segment"))?;
        let Some(head) = Head::decode(&head, stored) else { return Ok(Vec::new()) };
        let mut table = vec![0; head.table_bytes() as usize];
        read_up_to(self.file, &mut table, begin).map_err(Error::io("reading a segment"))?;
        Ok(recipe::decode(&table).unwrap_or_default())
    }

    fn checksum(&mut self, begin: u64, end: u64) -> Result<Option<u32>> {
        let (mut crc, mut at) = (0, begin);
        while at < end {
            let len = (end - at).min(Window::CAPACITY as u64);
            let Some(bytes) = self.bytes(at, len as usize)? else {
                return Ok(None);
            };
            crc = crc32c::crc32c_append(crc, bytes);
            at += len;
        }
        Ok(Some(crc))
    }

    /// `len` bytes at `offset`, if the segment has them.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<Option<&[u8]>> {
        if self.window.get(self.number, offset, len).is_none() {
            let filled = self.window.fill(self.number, self.file, offset, self.len);
            filled.map_err(Error::io("reading a segment"))?;
        }
        Ok(self.window.get(self.number, offset, len))
    }
}
