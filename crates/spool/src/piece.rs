//! What an append consists of, and what it is for.

use crate::format::{Channel, Kind, MAX_PAYLOAD_BYTES};

/// What an append is for, which decides how much of the bound it may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Begins an entry.
    Begin,
    /// Ordinary data.
    Part,
    /// Ends an entry: has the entry's own reserve.
    End,
    /// Has the reserve of notes.
    Note,
    /// Whatever it takes.
    Life,
}

/// One record of an append.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    pub(crate) kind: Kind,
    pub(crate) continued: bool,
    pub(crate) payload: &'a [u8],
}

impl<'a> Piece<'a> {
    pub(crate) const fn control(kind: Kind, payload: &'a [u8]) -> Self {
        Self { kind, continued: false, payload }
    }
}

/// The records that parts become: one each, more for a part that is too large for one.
pub(crate) fn part_pieces<'a>(parts: &'a [(Channel, &'a [u8])]) -> impl Iterator<Item = Piece<'a>> + Clone {
    parts.iter().flat_map(|(channel, bytes)| {
        let kind = Kind::Part(*channel);
        let (first, rest) = bytes.split_at(bytes.len().min(MAX_PAYLOAD_BYTES));
        let rest = rest.chunks(MAX_PAYLOAD_BYTES).map(move |payload| Piece { kind, continued: true, payload });
        std::iter::once(Piece { kind, continued: false, payload: first }).chain(rest)
    })
}
