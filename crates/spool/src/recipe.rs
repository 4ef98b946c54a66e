//! Parts that stand elsewhere: how a record says where its bytes are, in place of the bytes.
//!
//! The payload of such a record is a table of extents, and behind it those bytes that stand nowhere yet. An extent names plain
//! bytes of this recorder's log, by segment, offset in the file and length; the record's own new bytes are named in the same
//! way. Extents never name a table, so nothing has to be followed twice. The table has a checksum of its own and carries the
//! one of the whole part: an extent that leads to other bytes than it did when it was written is damage, never a wrong answer.

use crate::format::{MAX_PAYLOAD_BYTES, u32_at, u64_at};

/// Bytes of the log, in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) segment: u64,
    /// In the segment's file.
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Extent {
    /// `len` of its bytes, from its byte `from` on.
    pub(crate) const fn slice(self, from: u64, len: u64) -> Self {
        Self { offset: self.offset + from, len, ..self }
    }

    /// Takes `next` in if it goes on where this one ends.
    pub(crate) fn extend(&mut self, next: Self) -> bool {
        let follows = self.segment == next.segment && self.offset + self.len == next.offset;
        if follows {
            self.len += next.len;
        }
        follows
    }
}

/// The length of a table without its extents.
pub(crate) const HEAD_BYTES: usize = 16;
const EXTENT_BYTES: usize = 24;

/// What stands in front of the extents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The part's length, and the CRC-32C of its bytes.
    pub(crate) len: u32,
    pub(crate) crc: u32,
    /// How many extents follow; never 0.
    pub(crate) extents: u32,
}

impl Head {
    /// `None`: no table begins so in a payload of `stored` bytes.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES], stored: u32) -> Option<Self> {
        let head = Self { len: u32_at(bytes, 4), crc: u32_at(bytes, 8), extents: u32_at(bytes, 12) };
        let fits = table_bytes(head.extents) <= u64::from(stored) && head.len as usize <= MAX_PAYLOAD_BYTES;
        (head.extents > 0 && fits).then_some(head)
    }

    /// The table's length.
    pub(crate) const fn table_bytes(&self) -> u64 {
        table_bytes(self.extents)
    }
}

/// The length of a table with so many extents.
pub(crate) const fn table_bytes(extents: u32) -> u64 {
    HEAD_BYTES as u64 + EXTENT_BYTES as u64 * extents as u64
}

/// Encodes a table.
pub(crate) fn encode(len: u32, crc: u32, extents: &[Extent]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + EXTENT_BYTES * extents.len());
    bytes.extend_from_slice(&[0; 4]);
    for word in [len, crc, extents.len() as u32] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for extent in extents {
        for word in [extent.segment, extent.offset, extent.len] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
    }
    let checksum = crc32c::crc32c(&bytes[4..]);
    bytes[..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Decodes the extents of a whole table. `None`: it is damaged.
pub(crate) fn decode(table: &[u8]) -> Option<Vec<Extent>> {
    let head = Head::decode(table.first_chunk()?, u32::try_from(table.len()).ok()?)?;
    if head.table_bytes() != table.len() as u64 || u32_at(table, 0) != crc32c::crc32c(&table[4..]) {
        return None;
    }
    let extent = |bytes: &[u8]| Extent { segment: u64_at(bytes, 0), offset: u64_at(bytes, 8), len: u64_at(bytes, 16) };
    let extents: Vec<_> = table[HEAD_BYTES..].chunks_exact(EXTENT_BYTES).map(extent).collect();
    let total = extents.iter().try_fold(0_u64, |total, extent| total.checked_add(extent.len));
    let reach = |extent: &Extent| extent.offset.checked_add(extent.len).is_some();
    (total == Some(u64::from(head.len)) && extents.iter().all(reach)).then_some(extents)
}
