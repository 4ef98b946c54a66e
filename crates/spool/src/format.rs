//! The bytes on disk, version 1. Pure: nothing here reads or writes a file.
//!
//! `docs/spool-format.md` has the same as tables; the committed folder `tests/fixtures/v1` freezes it. All integers are
//! little-endian. A segment is a 64-byte header and then records without padding; a record is a 32-byte header and its
//! payload. A record's header has a checksum of its own, so that a reader can trust a length, and step over a payload,
//! without reading the payload. That checksum is seeded with the recorder's id and the segment's number: a block of an older,
//! deleted segment that a file system brings back after a power failure is never mistaken for a record of this one.

use std::fmt;

use uuid::Uuid;

/// The format's version, in every segment header.
pub(crate) const VERSION: u32 = 1;
/// The length of a segment's header.
pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;
/// The length of a record's header.
pub(crate) const RECORD_HEADER_BYTES: u64 = 32;
/// The largest payload of one record. A larger part is split into several records; anything else is refused.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;

const MAGIC: [u8; 8] = *b"ICCMSPL\n";
/// The stored kind of a Part that says where its bytes stand, in place of the bytes.
const COMPOSED_PART: u8 = 7;

/// Who recorded: one life of one recording process. A new process is a new recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecorderId(pub Uuid);

impl fmt::Display for RecorderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A place in a recorder's log: byte `offset` of the file of segment `segment`. Ordered as the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The segment's number, from 0.
    pub segment: u64,
    /// The byte within the segment's file.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} offset {}", self.segment, self.offset)
    }
}

/// Which of an entry's byte streams a part belongs to. The spool gives no meaning to the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u8);

/// What a record's flag bits say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u16);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// On an End: the entry was dropped without being finished.
    pub const ABANDONED: Self = Self(1);
    /// On an End or LifeEnd: written by recovery, because the recorder died before it could.
    pub const RECOVERED: Self = Self(1 << 1);
    /// On a Part: belongs to the same append as the Part of this entry and channel before it, which was too large for one record.
    pub const CONTINUED: Self = Self(1 << 2);

    /// Whether all bits of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The first record of a life (sequence number 0); its payload says what the recorder is.
    LifeBegin,
    /// An entry begins; its sequence number is the record's.
    Begin,
    /// Bytes of one of an entry's channels.
    Part(Channel),
    /// An entry has ended. Its payload is empty when `flags` say abandoned or recovered.
    End {
        /// Who ended it.
        flags: Flags,
    },
    /// A whole item in one record.
    Note,
    /// The last record of a life; it has a sequence number of its own, the highest of the life.
    LifeEnd {
        /// Who ended it.
        flags: Flags,
    },
}

impl Kind {
    /// Whether a record of this kind takes a new sequence number (the others carry their entry's).
    pub(crate) const fn allots_seq(self) -> bool {
        matches!(self, Self::LifeBegin | Self::Begin | Self::Note | Self::LifeEnd { .. })
    }

    const fn code(self) -> (u8, u8, u16) {
        match self {
            Self::LifeBegin => (1, 0, 0),
            Self::Begin => (2, 0, 0),
            Self::Part(Channel(channel)) => (3, channel, 0),
            Self::End { flags } => (4, 0, flags.0),
            Self::Note => (5, 0, 0),
            Self::LifeEnd { flags } => (6, 0, flags.0),
        }
    }

    const fn from_code(kind: u8, channel: u8, flags: Flags) -> Option<Self> {
        Some(match kind {
            1 => Self::LifeBegin,
            2 => Self::Begin,
            3 | COMPOSED_PART => Self::Part(Channel(channel)),
            4 => Self::End { flags },
            5 => Self::Note,
            6 => Self::LifeEnd { flags },
            _ => return None,
        })
    }
}

/// What stands at the head of every segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) recorder: RecorderId,
    pub(crate) number: u64,
    /// The next sequence number to be allotted when this segment was begun: with it the sequence survives the release of all
    /// earlier segments.
    pub(crate) first_seq: u64,
    /// Wall clock (ns since 1970) at monotonic zero of this life.
    pub(crate) began_unix_ns: u64,
    /// How long the segment before this one was when it was left: what a loss of power takes from its end leaves no other
    /// trace. 0: there was none, or it was larger than 4 GiB.
    pub(crate) previous_bytes: u32,
}

/// Why a segment header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Nothing but zeros: the file was created, its content never reached the disk.
    Unwritten,
    /// Wrong magic or checksum.
    Damaged,
    /// Sound, but of another version.
    Version(u32),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES as usize];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(SEGMENT_HEADER_BYTES as u32).to_le_bytes());
        bytes[16..32].copy_from_slice(self.recorder.0.as_bytes());
        bytes[32..40].copy_from_slice(&self.number.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_seq.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.began_unix_ns.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.previous_bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES as usize]) -> Result<Self, HeaderFault> {
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(HeaderFault::Unwritten);
        }
        if bytes[..8] != MAGIC || u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(HeaderFault::Damaged);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(HeaderFault::Version(version));
        }
        let mut recorder = [0; 16];
        recorder.copy_from_slice(&bytes[16..32]);
        Ok(Self {
            recorder: RecorderId(Uuid::from_bytes(recorder)),
            number: u64_at(bytes, 32),
            first_seq: u64_at(bytes, 40),
            began_unix_ns: u64_at(bytes, 48),
            previous_bytes: u32_at(bytes, 56),
        })
    }

    /// What the checksums of this segment's record headers start from.
    pub(crate) fn seed(&self) -> u32 {
        seed(self.recorder, self.number)
    }
}

/// What the checksums of a segment's record headers start from.
pub(crate) fn seed(recorder: RecorderId, segment: u64) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(recorder.0.as_bytes()), &segment.to_le_bytes())
}

/// What stands before every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    /// Only [`Flags::CONTINUED`] is not already in the kind.
    pub(crate) continued: bool,
    /// A Part whose payload is a table of where its bytes stand (see [`recipe`](crate::recipe)).
    pub(crate) composed: bool,
    pub(crate) seq: u64,
    pub(crate) mono_ns: u64,
    pub(crate) payload_len: u32,
    pub(crate) payload_crc: u32,
}

impl RecordHeader {
    pub(crate) fn encode(&self, seed: u32) -> [u8; RECORD_HEADER_BYTES as usize] {
        let (mut kind, channel, mut flags) = self.kind.code();
        if self.continued {
            flags |= Flags::CONTINUED.0;
        }
        if self.composed {
            kind = COMPOSED_PART;
        }
        let mut bytes = [0; RECORD_HEADER_BYTES as usize];
        bytes[4..8].copy_from_slice(&self.payload_crc.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[12] = kind;
        bytes[13] = channel;
        bytes[14..16].copy_from_slice(&flags.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.mono_ns.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `None`: these bytes are not a record header of this segment.
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES as usize], seed: u32) -> Option<Self> {
        if u32_at(bytes, 0) != crc32c::crc32c_append(seed, &bytes[4..]) {
            return None;
        }
        let payload_len = u32_at(bytes, 8);
        if payload_len as usize > MAX_PAYLOAD_BYTES {
            return None;
        }
        let flags = Flags(u16::from_le_bytes([bytes[14], bytes[15]]));
        Some(Self {
            kind: Kind::from_code(bytes[12], bytes[13], flags)?,
            continued: flags.contains(Flags::CONTINUED),
            composed: bytes[12] == COMPOSED_PART,
            seq: u64_at(bytes, 16),
            mono_ns: u64_at(bytes, 24),
            payload_len,
            payload_crc: u32_at(bytes, 4),
        })
    }
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
