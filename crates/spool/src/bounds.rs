//! How large a log may grow, and what of that is kept back so that its books can always be closed.

use crate::piece::Claim;

/// Room kept back for the End of each running entry, headers included.
const END_RESERVE: u64 = 4 << 10;
/// Room kept back for notes.
const NOTE_RESERVE: u64 = 64 << 10;
/// Room kept back for the LifeEnd.
const LIFE_END_RESERVE: u64 = 4 << 10;

/// How large things may grow, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// A segment that would grow beyond this is left and a new one begun. A single append larger than it stays whole.
    pub(crate) segment_bytes: u64,
    /// All segments together.
    pub(crate) max_bytes: u64,
}

impl Limits {
    /// Whether a log of `total` bytes, with so many entries running, may take `bytes` more. What stays free afterwards must hold
    /// the Ends of the entries then running and the LifeEnd, and, unless notes themselves ask, the notes. An End that fits in its
    /// entry's reserve passes always: that room was kept when the entry began.
    pub(crate) fn admits(&self, claim: Claim, running: u64, total: u64, bytes: u64) -> bool {
        let running = match claim {
            Claim::Begin => running + 1,
            Claim::End if bytes <= END_RESERVE => return true,
            Claim::End => running.saturating_sub(1),
            Claim::Life => return true,
            Claim::Part | Claim::Note => running,
        };
        let notes = if claim == Claim::Note { 0 } else { NOTE_RESERVE };
        let kept = running.saturating_mul(END_RESERVE).saturating_add(notes + LIFE_END_RESERVE);
        total.saturating_add(bytes).saturating_add(kept) <= self.max_bytes
    }
}
