//! Streams that repeat what was written before: which of their bytes need not be written again.
//!
//! An agent resends its history with every turn. A [`Stream`] follows one entry's channel across its appends, in constant memory
//! (one unfinished chunk), and says of each append which bytes stand in the log already. Every byte of which it says so was compared
//! with the bytes that were written there. It guesses first: what came behind a chunk the last time is compared directly. Only
//! where that fails the chunk's end is looked for and the chunk looked up; one that is unknown is compared with the one that had been
//! expected in its place, from both ends, because most changes are small.
//!
//! Refused: to promise anything. What is forgotten, too old or not found is written again.

use std::ops::Range;

use crate::chunks::{Key, common_prefix, common_suffix, find_end};
use crate::format::Channel;
use crate::memory::{Chunk, Held, Memory};
use crate::recipe::Extent;

/// Fewer known bytes in a row than this are written again: an extent takes room in the table and time when it is read.
const MIN_KNOWN: usize = 1 << 10;
/// A record with fewer known bytes than this is written plain.
pub(crate) const MIN_SAVED: u64 = 4 << 10;
/// A chunk that is scattered over more places is not built upon.
const MAX_PLACES: usize = 8;
/// One that was written in more pieces is not remembered: finding its bytes again would cost more than they take.
const MAX_PIECES: usize = 16;

/// What the writer knows of repetitions.
#[derive(Debug)]
pub(crate) struct Repeats {
    /// The channel whose bytes are looked for.
    pub(crate) channel: Channel,
    /// So many segments before the current one may be referred to.
    pub(crate) window: u64,
    pub(crate) memory: Memory,
}

/// Where some bytes of a stream come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// They are to be written; by their offsets in the stream.
    New(Range<u64>),
    /// They stand there already.
    Known(Extent),
}

/// A chunk that is being written.
#[derive(Debug)]
struct Fresh {
    key: Key,
    held: Held,
    places: Vec<Source>,
}

/// Where new bytes of a stream have been written.
#[derive(Debug)]
pub(crate) struct Written {
    /// Offset in the stream.
    pub(crate) at: u64,
    pub(crate) extent: Extent,
}

/// One entry's channel, on its way into the log.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// The bytes of the chunk that has no end yet, and where they come from.
    open: Vec<u8>,
    places: Vec<Source>,
    /// The chunk that is likely to come, and how many bytes of the one that does come agree with it.
    expected: Option<Key>,
    agreed: usize,
    previous: Option<Key>,
    has_begun: bool,
    /// How many bytes have passed; where the part that is being taken begins.
    length: u64,
    part_begin: u64,
    sources: Vec<Source>,
    /// Found by the append that is under way, and true once it has succeeded.
    fresh: Vec<Fresh>,
    links: Vec<(Option<Key>, Key)>,
}

impl Stream {
    /// Says where the bytes of the next part come from, in their order, and which of the stream's bytes they are. After the append, [`settle`](Self::settle) or
    /// [`break_off`](Self::break_off) has to follow.
    pub(crate) fn take(&mut self, part: &[u8], memory: &mut Memory) -> (Vec<Source>, Range<u64>) {
        self.part_begin = self.length;
        if !self.has_begun {
            self.has_begun = true;
            self.expected = memory.beginning(part);
        }
        let mut rest = part;
        while !rest.is_empty() {
            rest = self.step(rest, memory);
        }
        (std::mem::take(&mut self.sources), self.part_begin..self.length)
    }

    /// Goes on to the end of a chunk, or of the part; returns what is left of the part.
    fn step<'a>(&mut self, rest: &'a [u8], memory: &mut Memory) -> &'a [u8] {
        let open = self.open.len();
        let expected = self.expected.and_then(|key| Some((key, memory.get(key)?)));
        if let Some((key, chunk)) = expected {
            if self.agreed == open {
                self.agreed += common_prefix(&chunk.bytes[open..], rest);
            }
            if self.agreed == chunk.bytes.len() {
                let len = self.agreed - open;
                self.add_known(chunk, open, len);
                self.pass(key, memory);
                return &rest[len..];
            }
        }
        let Some(end) = find_end(&self.open, rest, self.agreed) else {
            let same = self.agreed.max(open) - open;
            match expected {
                Some((_, chunk)) => drop(self.add_changed(chunk, open, &rest[same..])),
                None => self.add_new(rest.len()),
            }
            self.open.extend_from_slice(rest);
            return &[];
        };
        let (tail, rest) = rest.split_at(end - open);
        if open == 0 {
            self.end_chunk(tail, 0, memory);
        } else {
            let mut bytes = std::mem::take(&mut self.open);
            bytes.extend_from_slice(tail);
            self.end_chunk(&bytes, open, memory);
            bytes.clear();
            self.open = bytes;
        }
        rest
    }

    /// A chunk has come to its end; its bytes up to `open` belong to earlier appends.
    fn end_chunk(&mut self, bytes: &[u8], open: usize, memory: &mut Memory) {
        let key = Key::of(bytes);
        if let Some(chunk) = memory.get(key).filter(|chunk| chunk.bytes == bytes) {
            self.add_known(chunk, open, bytes.len() - open);
            return self.pass(key, memory);
        }
        let mut next = self.expected;
        let expected = self.expected.and_then(|key| Some((key, memory.get(key)?)));
        match expected.filter(|(_, chunk)| chunk.places.len() <= MAX_PLACES) {
            Some((key, chunk)) => {
                let suffix = self.add_changed(chunk, open, &bytes[self.agreed.max(open)..]);
                if suffix >= MIN_KNOWN {
                    next = memory.next(key);
                }
            }
            None => self.add_new(bytes.len() - open),
        }
        let places = std::mem::take(&mut self.places);
        self.fresh.push(Fresh { key, held: memory.hold(bytes), places });
        self.begin_chunk(key, next);
    }

    /// What comes behind `open` bytes agrees with `chunk` as far as is known, and goes on with `rest`, whose end may agree with the
    /// chunk's end. Returns how many bytes of that do.
    fn add_changed(&mut self, chunk: Chunk<'_>, open: usize, rest: &[u8]) -> usize {
        let suffix = common_suffix(rest, &chunk.bytes[self.agreed..]);
        self.add_known(chunk, open, self.agreed.saturating_sub(open));
        self.add_new(rest.len() - suffix);
        self.add_known(chunk, chunk.bytes.len() - suffix, suffix);
        suffix
    }

    /// A known chunk has passed.
    fn pass(&mut self, key: Key, memory: &mut Memory) {
        memory.renew(key);
        self.begin_chunk(key, memory.next(key));
    }

    fn begin_chunk(&mut self, previous: Key, expected: Option<Key>) {
        self.links.push((self.previous, previous));
        self.previous = Some(previous);
        self.expected = expected;
        self.agreed = 0;
        self.open.clear();
        self.places.clear();
    }

    /// The next `len` bytes stand in `chunk` from its byte `from` on.
    fn add_known(&mut self, chunk: Chunk<'_>, from: usize, len: usize) {
        if len < MIN_KNOWN {
            return self.add_new(len);
        }
        for place in chunk.places(from, len) {
            self.length += place.len;
            for list in [&mut self.sources, &mut self.places] {
                let goes_on = match list.last_mut() {
                    Some(Source::Known(last)) => last.extend(place),
                    _ => false,
                };
                if !goes_on {
                    list.push(Source::Known(place));
                }
            }
        }
    }

    /// The next `len` bytes have to be written.
    fn add_new(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        let range = self.length..self.length + len as u64;
        self.length = range.end;
        for list in [&mut self.sources, &mut self.places] {
            match list.last_mut() {
                // Not across parts: they are written apart.
                Some(Source::New(last)) if last.end == range.start && last.start >= self.part_begin => {
                    last.end = range.end
                }
                _ => list.push(Source::New(range.clone())),
            }
        }
    }

    /// The append has succeeded; `written` says where its new bytes stand, in the order of the stream.
    pub(crate) fn settle(&mut self, written: &[Written], memory: &mut Memory) {
        for Fresh { key, held, places } in self.fresh.drain(..) {
            if places.len() > MAX_PIECES {
                continue;
            }
            // All places are found; a chunk of which one is not would not be worth knowing.
            if let Some(places) = places.iter().map(|place| settled(place, written)).collect() {
                memory.insert(key, held, places);
            }
        }
        for (previous, key) in self.links.drain(..) {
            memory.link(previous, key);
        }
        let places: Option<Vec<_>> =
            self.places.iter().map(|place| settled(place, written).map(Source::Known)).collect();
        match places {
            Some(places) => self.places = places,
            None => self.break_off(),
        }
    }

    /// The append has failed, or cannot be followed: what is open is forgotten, and the stream goes on from here.
    pub(crate) fn break_off(&mut self) {
        *self = Self { has_begun: true, length: self.length, ..Self::default() };
    }

    /// The stream has ended: its last chunk, cut by nothing but that, may come again too.
    pub(crate) fn finish(&mut self, memory: &mut Memory) {
        // What is that short as a whole is written plain if it comes again.
        if self.open.len() < MIN_KNOWN || self.length < MIN_SAVED {
            return;
        }
        let (key, held) = (Key::of(&self.open), memory.hold(&self.open));
        self.fresh.push(Fresh { key, held, places: std::mem::take(&mut self.places) });
        self.links.push((self.previous, key));
        self.settle(&[], memory);
    }
}

/// Where a place is in the log, now that everything is written.
fn settled(place: &Source, written: &[Written]) -> Option<Extent> {
    let range = match place {
        Source::Known(extent) => return Some(*extent),
        Source::New(range) => range,
    };
    let found = written.partition_point(|written| written.at <= range.start).checked_sub(1)?;
    let Written { at, extent } = written.get(found)?;
    let from = range.start - at;
    let len = range.end - range.start;
    (from + len <= extent.len).then(|| extent.slice(from, len))
}
