//! Which segments of a folder at rest refer to which, as recovery has found it, and what they refer to in vain.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::recipe::Extent;

/// The references of a folder at rest.
#[derive(Debug, Default)]
pub(crate) struct References {
    first_file: u64,
    last_file: u64,
    /// Lower segments are released: everything in them, and nothing that they refer to, is stored elsewhere.
    wanted_from: u64,
    /// The lowest segment that each segment refers to, where that is an earlier one.
    lowest: BTreeMap<u64, u64>,
    /// What cannot be read: segment, and bytes of its file.
    lost: Vec<(u64, Range<u64>)>,
    /// Segments of which it has been said that their references lead nowhere.
    reported: BTreeSet<u64>,
}

impl References {
    /// Of a folder with the files of these segments.
    pub(crate) fn between(first_file: u64, last_file: u64) -> Self {
        Self { first_file, last_file, wanted_from: first_file, ..Self::default() }
    }

    /// These bytes of a segment cannot be read.
    pub(crate) fn lost(&mut self, segment: u64, bytes: Range<u64>) {
        self.lost.push((segment, bytes));
    }

    /// A sound record of `segment` that ends at `end` is made of these extents. Says what is wrong with that; once for each
    /// segment, because what takes one reference its target takes many.
    pub(crate) fn check(&mut self, segment: u64, end: u64, extents: Vec<Extent>) -> Option<&'static str> {
        if extents.is_empty() {
            return Some("a table of references is damaged");
        }
        let mut fault = None;
        for extent in extents {
            let until = extent.offset + extent.len;
            if extent.segment < self.first_file {
                // A segment goes only when nothing that is wanted refers to it: this one is not wanted any more.
                self.wanted_from = self.wanted_from.max(self.last_file.min(segment + 1));
            } else if (extent.segment, until) > (segment, end) || self.is_lost(&extent) {
                fault = Some("what it refers to cannot be read");
            } else if extent.segment < segment {
                let lowest = self.lowest.entry(segment).or_insert(extent.segment);
                *lowest = extent.segment.min(*lowest);
            }
        }
        fault.filter(|_| self.reported.insert(segment))
    }

    fn is_lost(&self, extent: &Extent) -> bool {
        let until = extent.offset + extent.len;
        self.lost
            .iter()
            .any(|(segment, lost)| *segment == extent.segment && lost.start < until && extent.offset < lost.end)
    }

    /// Where reading begins.
    pub(crate) const fn wanted_from(&self) -> u64 {
        self.wanted_from
    }

    /// Everything before `segment` is stored elsewhere. Returns the lowest segment whose file has to stay.
    pub(crate) fn release_before(&mut self, segment: u64) -> u64 {
        self.wanted_from = self.wanted_from.max(segment);
        self.lowest.range(self.wanted_from..).map(|(_, lowest)| *lowest).fold(self.wanted_from, u64::min)
    }
}
