//! Where a stream is cut into chunks that can be found again.
//!
//! It is cut where its own bytes say so (a gear hash over the last 64 bytes), so that bytes which come again behind an insertion
//! are cut at the same places again. A chunk's key (length and CRC-32C) merely finds it: chunks are compared, and a collision
//! costs a repetition.

/// No chunk but a stream's last is shorter. Up to here nothing is hashed.
pub(crate) const MIN_CHUNK: usize = 4 << 10;
/// No chunk is longer.
pub(crate) const MAX_CHUNK: usize = 32 << 10;
/// A boundary every 4 KiB on average, behind the minimum: 8 KiB a chunk. (Twice that was measured: a change costs a chunk, and
/// larger ones made the bodies of a growing session twice as dear.) The upper bits, because all 64 bytes reach those.
const BOUNDARY: u64 = 0xfff << 52;
/// So many bytes decide about a boundary.
const HORIZON: usize = 64;

const GEAR: [u64; 256] = gear();

/// A random number for each byte (SplitMix64); which does not matter, it is stored nowhere.
const fn gear() -> [u64; 256] {
    let (mut table, mut state, mut byte) = ([0; 256], 0_u64, 0);
    while byte < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[byte] = mixed ^ (mixed >> 31);
        byte += 1;
    }
    table
}

/// Where the chunk that consists of `open` and the beginning of `rest` ends: its length, if the end is within `rest`. The caller
/// knows that there is no boundary before `clear`.
pub(crate) fn find_end(open: &[u8], rest: &[u8], clear: usize) -> Option<usize> {
    let until = MAX_CHUNK.min(open.len() + rest.len());
    let from = clear.max(open.len()).max(MIN_CHUNK);
    if from < until {
        let byte = |at: usize| if at < open.len() { open[at] } else { rest[at - open.len()] };
        let mut hash = (from - HORIZON..from).fold(0, |hash, at| roll(hash, byte(at)));
        for (index, next) in rest[from - open.len()..until - open.len()].iter().enumerate() {
            hash = roll(hash, *next);
            if hash & BOUNDARY == 0 {
                return Some(from + index + 1);
            }
        }
    }
    (until == MAX_CHUNK).then_some(MAX_CHUNK)
}

const fn roll(hash: u64, byte: u8) -> u64 {
    (hash << 1).wrapping_add(GEAR[byte as usize])
}

/// Finds a chunk; different chunks may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self((bytes.len() as u64) << 32 | u64::from(crc32c::crc32c(bytes)))
    }
}

/// Compared as blocks first: those go at the speed of memory.
const BLOCK: usize = 512;

pub(crate) fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.chunks_exact(BLOCK).zip(other.chunks_exact(BLOCK));
    let same = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    same + one[same..].iter().zip(&other[same..]).take_while(|(one, other)| one == other).count()
}

pub(crate) fn common_suffix(one: &[u8], other: &[u8]) -> usize {
    let blocks = one.rchunks_exact(BLOCK).zip(other.rchunks_exact(BLOCK));
    let same = blocks.take_while(|(one, other)| one == other).count() * BLOCK;
    let (one, other) = (&one[..one.len() - same], &other[..other.len() - same]);
    same + one.iter().rev().zip(other.iter().rev()).take_while(|(one, other)| one == other).count()
}
