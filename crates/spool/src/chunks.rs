//! Pieces of what was written lately, to be found again: where they are cut, and a bounded memory of them.
//!
//! A stream is cut where its own bytes say so (a gear hash over the last 64 bytes), so that bytes which come again behind an
//! insertion are cut at the same places again. The memory keeps the bytes themselves: a chunk is only taken for known when it
//! was compared. Its key (length and CRC-32C) merely finds it, and a collision costs a repetition.
//!
//! Owner: the writer, under its lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::recipe::Extent;

/// No chunk but a stream's last is shorter. Up to here nothing is hashed.
pub(crate) const MIN_CHUNK: usize = 4 << 10;
/// No chunk is longer.
pub(crate) const MAX_CHUNK: usize = 32 << 10;
/// A boundary every 4 KiB on average, behind the minimum: 8 KiB a chunk. (Twice that was measured: a change costs a chunk, and
/// larger ones made the bodies of a growing session twice as dear.) The upper bits, because all 64 bytes reach those.
const BOUNDARY: u64 = 0xfff << 52;
/// So many bytes decide about a boundary.
const HORIZON: usize = 64;

/// Half of what is remembered, in bytes of chunks.
const GENERATION_BYTES: usize = 16 << 20;
/// How many beginnings of streams are tried when one begins.
const BEGINNINGS: usize = 8;

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

/// Bytes that stand in the log, and where.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) places: Vec<Extent>,
    /// The lowest segment among its places.
    oldest: u64,
}

impl Chunk {
    pub(crate) fn new(bytes: Box<[u8]>, places: Vec<Extent>) -> Self {
        let oldest = places.iter().map(|place| place.segment).min().unwrap_or(0);
        Self { bytes, places, oldest }
    }

    /// Where `len` of its bytes stand, from its byte `from` on.
    pub(crate) fn places(&self, from: usize, len: usize) -> impl Iterator<Item = Extent> + '_ {
        let (mut skip, mut left) = (from as u64, len as u64);
        self.places.iter().filter_map(move |place| {
            let skipped = skip.min(place.len);
            let taken = left.min(place.len - skipped);
            skip -= skipped;
            left -= taken;
            (taken > 0).then(|| place.slice(skipped, taken))
        })
    }
}

#[derive(Debug)]
struct Slot {
    chunk: Arc<Chunk>,
    /// The chunk that came behind it the last time.
    next: Option<Key>,
}

/// Chunks written or repeated lately. Two generations: when the young one is full, the old one is forgotten and the young
/// one grows old; a chunk that is met again is young again.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    young: HashMap<Key, Slot>,
    old: HashMap<Key, Slot>,
    young_bytes: usize,
    beginnings: VecDeque<Key>,
    /// Chunks with bytes in a lower segment are unknown.
    from_segment: u64,
}

impl Memory {
    /// Chunks with bytes in a segment below `segment` are not to be referred to any more.
    pub(crate) fn forget_before(&mut self, segment: u64) {
        self.from_segment = self.from_segment.max(segment);
    }

    pub(crate) fn get(&mut self, key: Key) -> Option<Arc<Chunk>> {
        if !self.young.contains_key(&key) {
            let slot = self.old.remove(&key)?;
            self.put(key, slot);
        }
        let chunk = &self.young.get(&key)?.chunk;
        (chunk.oldest >= self.from_segment).then(|| chunk.clone())
    }

    pub(crate) fn insert(&mut self, key: Key, chunk: Chunk) {
        self.old.remove(&key);
        self.put(key, Slot { chunk: Arc::new(chunk), next: None });
    }

    fn put(&mut self, key: Key, slot: Slot) {
        if self.young_bytes + slot.chunk.bytes.len() > GENERATION_BYTES {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += slot.chunk.bytes.len();
        if let Some(replaced) = self.young.insert(key, slot) {
            self.young_bytes -= replaced.chunk.bytes.len();
        }
    }

    /// The chunk that came behind `key` the last time.
    pub(crate) fn next(&self, key: Key) -> Option<Key> {
        self.young.get(&key).or_else(|| self.old.get(&key))?.next
    }

    /// `next` came behind `key`; a stream began with it if there is no `key`.
    pub(crate) fn link(&mut self, key: Option<Key>, next: Key) {
        let Some(key) = key else {
            self.beginnings.retain(|known| *known != next);
            self.beginnings.truncate(BEGINNINGS - 1);
            return self.beginnings.push_front(next);
        };
        if let Some(slot) = self.young.get_mut(&key).or_else(|| self.old.get_mut(&key)) {
            slot.next = Some(next);
        }
    }

    /// The known beginning that agrees longest with a stream that begins with `bytes`.
    pub(crate) fn beginning(&mut self, bytes: &[u8]) -> Option<Key> {
        let mut best = (0, None);
        for key in self.beginnings.clone() {
            let Some(chunk) = self.get(key) else { continue };
            let common = common_prefix(&chunk.bytes, bytes);
            if common > best.0 {
                best = (common, Some(key));
            }
            if common == chunk.bytes.len().min(bytes.len()) {
                break;
            }
        }
        best.1
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
