//! What was read ahead of one segment, so that small reads cost no system call each.

use std::io;

use crate::filesystem::{DiskFile, read_up_to};

/// Bytes of a segment that have been read ahead.
#[derive(Debug, Default)]
pub(crate) struct Window {
    segment: u64,
    offset: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) const CAPACITY: usize = 64 << 10;

    /// Bytes of a segment, if the window holds them all.
    pub(crate) fn get(&self, segment: u64, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        if segment != self.segment { None } else { self.bytes.get(from..from.checked_add(len)?) }
    }

    /// Reads as much as fits from `offset` on, but not beyond `end`.
    pub(crate) fn fill(&mut self, segment: u64, file: &dyn DiskFile, offset: u64, end: u64) -> io::Result<()> {
        let len = end.saturating_sub(offset).min(Self::CAPACITY as u64) as usize;
        (self.segment, self.offset) = (segment, offset);
        self.bytes.resize(len, 0);
        let read = read_up_to(file, &mut self.bytes, offset).inspect_err(|_| self.bytes.clear())?;
        self.bytes.truncate(read);
        Ok(())
    }
}
