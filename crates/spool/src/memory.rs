//! What was written lately: the bytes themselves, to be compared, and where they stand.
//!
//! Guaranteed: the bytes of all chunks together lie in one arena of [`MEMORY_BYTES`], which is touched as it fills and then used
//! round and round, so that bodies that never repeat take no more than that, and leave no holes behind. A chunk is only known
//! as long as its bytes are there; one that is met again is made young again before the arena comes round to it.
//!
//! Owner: the writer, under its lock.

use std::collections::{HashMap, VecDeque};

use crate::chunks::{Key, MAX_CHUNK, common_prefix};
use crate::recipe::Extent;

/// The bytes of all that is remembered.
pub(crate) const MEMORY_BYTES: usize = 16 << 20;
/// How many beginnings of streams are tried when one begins.
const BEGINNINGS: usize = 8;

/// Where a chunk's bytes are in the arena: how many bytes had been put into it before them. What was put is overwritten when
/// the arena has come round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    at: u64,
    len: usize,
}

impl Held {
    const NOWHERE: Self = Self { at: 0, len: 0 };
}

#[derive(Debug)]
struct Arena {
    bytes: Vec<u8>,
    capacity: usize,
    /// How many bytes were put into it, those included that were left out at its end.
    put: u64,
}

impl Arena {
    /// Makes room for `len` bytes, which is not more than a chunk, at one stretch.
    fn room(&mut self, len: usize) -> (Held, usize) {
        // Reserved when the first bytes come, and by the kernel only page by page.
        self.bytes.reserve_exact(self.capacity - self.bytes.len());
        let mut begin = (self.put % self.capacity as u64) as usize;
        if begin + len > self.capacity {
            self.put += (self.capacity - begin) as u64;
            begin = 0;
        }
        let held = Held { at: self.put, len };
        self.put += len as u64;
        if self.bytes.len() < begin + len {
            self.bytes.resize(begin + len, 0);
        }
        (held, begin)
    }

    fn put(&mut self, bytes: &[u8]) -> Held {
        let (held, begin) = self.room(bytes.len());
        self.bytes[begin..begin + bytes.len()].copy_from_slice(bytes);
        held
    }

    /// Puts in again what is there.
    fn renew(&mut self, held: Held) -> Held {
        let from = self.index(held);
        let (renewed, to) = self.room(held.len);
        self.bytes.copy_within(from..from + held.len, to);
        renewed
    }

    /// How many bytes were put in since.
    const fn age(&self, held: Held) -> u64 {
        self.put - held.at
    }

    /// Whether the bytes are still there, also when one more chunk is put in.
    const fn holds(&self, held: Held) -> bool {
        held.len > 0 && self.age(held) + 2 * MAX_CHUNK as u64 <= self.capacity as u64
    }

    const fn index(&self, held: Held) -> usize {
        (held.at % self.capacity as u64) as usize
    }

    fn get(&self, held: Held) -> &[u8] {
        let from = self.index(held);
        &self.bytes[from..from + held.len]
    }
}

/// Bytes that stand in the log, and where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'m> {
    pub(crate) bytes: &'m [u8],
    pub(crate) places: &'m [Extent],
}

impl<'m> Chunk<'m> {
    /// Where `len` of its bytes stand, from its byte `from` on.
    pub(crate) fn places(&self, from: usize, len: usize) -> impl Iterator<Item = Extent> + 'm {
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
    held: Held,
    places: Vec<Extent>,
    /// The lowest segment among its places.
    oldest: u64,
    /// The chunk that came behind it the last time.
    next: Option<Key>,
}

/// Chunks written or repeated lately.
#[derive(Debug)]
pub(crate) struct Memory {
    arena: Arena,
    slots: HashMap<Key, Slot>,
    /// The slots, more or less in the order in which the arena comes round to them.
    order: VecDeque<(Key, Held)>,
    beginnings: VecDeque<Key>,
    /// Chunks with bytes in a lower segment are unknown.
    from_segment: u64,
}

impl Memory {
    /// Remembers up to `capacity` bytes; a few chunks at least.
    pub(crate) fn new(capacity: usize) -> Self {
        let arena = Arena { bytes: Vec::new(), capacity: capacity.max(8 * MAX_CHUNK), put: 0 };
        let (slots, order, beginnings) = (HashMap::new(), VecDeque::new(), VecDeque::new());
        Self { arena, slots, order, beginnings, from_segment: 0 }
    }

    /// Chunks with bytes in a segment below `segment` are not to be referred to any more.
    pub(crate) fn forget_before(&mut self, segment: u64) {
        self.from_segment = self.from_segment.max(segment);
    }

    /// The chunk of this name. Whoever has met it had better [`renew`](Self::renew) it.
    pub(crate) fn get(&self, key: Key) -> Option<Chunk<'_>> {
        let slot = self.slots.get(&key).filter(|slot| self.is_known(slot))?;
        Some(Chunk { bytes: self.arena.get(slot.held), places: &slot.places })
    }

    fn is_known(&self, slot: &Slot) -> bool {
        slot.oldest >= self.from_segment && self.arena.holds(slot.held)
    }

    /// A chunk was met again: if the arena is on its way round to it, its bytes are put in anew.
    pub(crate) fn renew(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let is_old = self.arena.age(slot.held) > self.arena.capacity as u64 / 2;
        if is_old && self.arena.holds(slot.held) && slot.oldest >= self.from_segment {
            slot.held = self.arena.renew(slot.held);
            let held = slot.held;
            self.order.push_back((key, held));
            self.forget_overwritten();
        }
    }

    /// Takes a chunk's bytes in, at most [`MAX_CHUNK`], before it is known where they will stand.
    pub(crate) fn hold(&mut self, bytes: &[u8]) -> Held {
        if bytes.len() > MAX_CHUNK { Held::NOWHERE } else { self.arena.put(bytes) }
    }

    /// Bytes that are held stand at `places`.
    pub(crate) fn insert(&mut self, key: Key, held: Held, places: Vec<Extent>) {
        if self.arena.holds(held) {
            let oldest = places.iter().map(|place| place.segment).min().unwrap_or(0);
            self.slots.insert(key, Slot { held, places, oldest, next: None });
            self.order.push_back((key, held));
        }
        self.forget_overwritten();
    }

    fn forget_overwritten(&mut self) {
        while let Some((key, held)) = self.order.pop_front_if(|(_, held)| !self.arena.holds(*held)) {
            // Unless the name has got newer bytes in the meantime.
            if self.slots.get(&key).is_some_and(|slot| slot.held == held) {
                self.slots.remove(&key);
            }
        }
    }

    /// The chunk that came behind `key` the last time.
    pub(crate) fn next(&self, key: Key) -> Option<Key> {
        self.slots.get(&key)?.next
    }

    /// `next` came behind `key`; a stream began with it if there is no `key`.
    pub(crate) fn link(&mut self, key: Option<Key>, next: Key) {
        let Some(key) = key else {
            if self.beginnings.front() != Some(&next) {
                self.beginnings.retain(|known| *known != next);
                self.beginnings.truncate(BEGINNINGS - 1);
                self.beginnings.push_front(next);
            }
            return;
        };
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.next = Some(next);
        }
    }

    /// The known beginning that agrees longest with a stream that begins with `bytes`.
    pub(crate) fn beginning(&self, bytes: &[u8]) -> Option<Key> {
        let mut best = (0, None);
        for key in &self.beginnings {
            let Some(chunk) = self.get(*key) else { continue };
            let common = common_prefix(chunk.bytes, bytes);
            if common > best.0 {
                best = (common, Some(*key));
            }
            if common == chunk.bytes.len().min(bytes.len()) {
                break;
            }
        }
        best.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: usize = 8 * MAX_CHUNK;

    fn chunk(n: u64, len: usize) -> (Key, Vec<u8>, Vec<Extent>) {
        let bytes: Vec<u8> = (0..len as u64).map(|at| ((at * (n + 3)) >> 3) as u8 ^ n as u8).collect();
        (Key::of(&bytes), bytes, vec![Extent { segment: 0, offset: n << 20, len: len as u64 }])
    }

    fn insert(memory: &mut Memory, n: u64, len: usize) -> Key {
        let (key, bytes, places) = chunk(n, len);
        let held = memory.hold(&bytes);
        memory.insert(key, held, places);
        key
    }

    #[test]
    fn what_is_known_is_what_was_put_in_however_often_the_arena_comes_round() {
        let mut memory = Memory::new(CAPACITY);
        let len = |n: u64| 1_000 + (n as usize * 7_919) % (MAX_CHUNK - 1_000);
        for n in 0..500 {
            insert(&mut memory, n, len(n));
            let known = (0..=n).filter(|n| {
                let (key, bytes, places) = chunk(*n, len(*n));
                memory.get(key).is_some_and(|found| {
                    assert!(found.bytes == bytes && found.places == places, "chunk {n}");
                    true
                })
            });
            let bytes: usize = known.map(len).sum();
            assert!(bytes <= CAPACITY && (n < 20 || bytes > CAPACITY / 2), "{bytes} bytes are known");
        }
        assert_eq!(memory.arena.bytes.capacity(), CAPACITY, "and no more was ever taken");
        assert!(memory.slots.len() < 100 && memory.order.len() < 100, "{} names", memory.slots.len());
    }

    #[test]
    fn what_is_met_again_and_again_stays() {
        let mut memory = Memory::new(CAPACITY);
        let (met, other) = (insert(&mut memory, 1_000, 20_000), insert(&mut memory, 1_001, 20_000));
        for n in 0..100 {
            insert(&mut memory, n, 10_000);
            memory.renew(met);
        }
        assert!(memory.get(met).is_some_and(|found| found.bytes == chunk(1_000, 20_000).1));
        assert!(memory.get(other).is_none());
    }

    #[test]
    fn what_stands_in_a_segment_that_goes_is_unknown() {
        let mut memory = Memory::new(CAPACITY);
        let key = insert(&mut memory, 1, 5_000);
        memory.forget_before(1);
        assert!(memory.get(key).is_none());
    }
}
