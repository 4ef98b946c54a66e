//! How one part is written: plain, or as a table of where its bytes stand with the new ones behind it.

use std::ops::Range;

use crate::memory::Memory;
use crate::recipe::{self, Extent};
use crate::repeats::{MIN_SAVED, Source, Stream, Written};

/// What is to be written of one part.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The part's place in its stream.
    range: Range<u64>,
    /// Empty: it is written plain.
    sources: Vec<Source>,
    /// How many bytes of the part are not written.
    known: u64,
}

impl Plan {
    /// Looks for the part's bytes. The stream is to be settled afterwards.
    pub(crate) fn new(stream: &mut Stream, part: &[u8], memory: &mut Memory) -> Self {
        let (sources, range) = stream.take(part, memory);
        let known = sources.iter().map(|source| if let Source::Known(place) = source { place.len } else { 0 }).sum();
        let is_worth_it = known >= MIN_SAVED + recipe::table_bytes(sources.len() as u32);
        if is_worth_it { Self { range, sources, known } } else { Self { range, sources: Vec::new(), known: 0 } }
    }

    /// By how many bytes it makes the record smaller.
    pub(crate) fn saves(&self) -> u64 {
        if self.sources.is_empty() { 0 } else { self.known - recipe::table_bytes(self.sources.len() as u32) }
    }

    /// The lowest segment that it refers to.
    pub(crate) fn refers_to(&self) -> Option<u64> {
        let place = |source: &Source| if let Source::Known(place) = source { Some(place.segment) } else { None };
        self.sources.iter().filter_map(place).min()
    }

    /// The table, if the part is not written plain; for a payload at `offset`.
    pub(crate) fn table(&self, part: &[u8], segment: u64, offset: u64) -> Option<Vec<u8>> {
        let behind = offset + recipe::table_bytes(self.sources.len() as u32);
        let mut new = self.written(segment, behind);
        let extents = self.sources.iter().filter_map(|source| match source {
            Source::Known(place) => Some(*place),
            Source::New(_) => new.next().map(|written| written.extent),
        });
        let extents: Vec<_> = extents.collect();
        (!extents.is_empty()).then(|| recipe::encode(part.len() as u32, crc32c::crc32c(part), &extents))
    }

    /// Where the new bytes stand, when they are written from `offset` on.
    pub(crate) fn written(&self, segment: u64, offset: u64) -> impl Iterator<Item = Written> + '_ {
        let mut offset = offset;
        self.new_ranges().map(move |range| {
            let len = range.end - range.start;
            let extent = Extent { segment, offset, len };
            offset += len;
            Written { at: range.start, extent }
        })
    }

    /// The new bytes.
    pub(crate) fn new_bytes<'a>(&'a self, part: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let within = |at: u64| (at - self.range.start) as usize;
        self.new_ranges().map(move |range| &part[within(range.start)..within(range.end)])
    }

    fn new_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        let plain = self.sources.is_empty().then(|| self.range.clone());
        let new = self.sources.iter().filter_map(|source| match source {
            Source::New(range) => Some(range.clone()),
            Source::Known(_) => None,
        });
        plain.into_iter().chain(new)
    }
}
