//! Which segments of a log exist, which of them are still wanted, and which refer to which.
//!
//! A segment may refer to bytes of earlier ones. So there are two beginnings: where reading begins (everything before it is stored
//! elsewhere), and where the files begin, which may be lower: a file stays as long as a segment that is still wanted refers
//! to it. Of a segment that is only kept for others, its own references may lead nowhere; nobody reads it.

use std::collections::VecDeque;

/// A segment that is complete and not yet deleted.
#[derive(Debug, Clone, Copy)]
struct Retained {
    number: u64,
    bytes: u64,
    /// The lowest segment that it refers to; its own number if it refers to no other.
    refers_to: u64,
}

/// The segments of a log that is being written.
#[derive(Debug)]
pub(crate) struct Segments {
    current: u64,
    current_refers_to: u64,
    retained: VecDeque<Retained>,
    retained_bytes: u64,
    /// Everything in lower segments is stored elsewhere.
    wanted_from: u64,
    /// Lower segments are about to be deleted, or gone, and must not be referred to.
    kept_from: u64,
}

impl Segments {
    /// A log that begins with the segment `current`.
    pub(crate) const fn beginning_with(current: u64) -> Self {
        Self {
            current,
            current_refers_to: current,
            retained: VecDeque::new(),
            retained_bytes: 0,
            wanted_from: current,
            kept_from: 0,
        }
    }

    pub(crate) const fn current(&self) -> u64 {
        self.current
    }

    /// The lowest segment that is still to be read.
    pub(crate) const fn wanted_from(&self) -> u64 {
        self.wanted_from
    }

    /// The lowest segment that may be referred to.
    pub(crate) const fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// The lowest segment whose file exists.
    pub(crate) fn first_file(&self) -> u64 {
        self.retained.front().map_or(self.current, |segment| segment.number)
    }

    /// Bytes of all segments but the current one.
    pub(crate) const fn retained_bytes(&self) -> u64 {
        self.retained_bytes
    }

    /// The current segment is complete, with so many bytes, and `next` has been begun.
    pub(crate) fn leave_for(&mut self, next: u64, bytes: u64) {
        self.retained.push_back(Retained { number: self.current, bytes, refers_to: self.current_refers_to });
        self.retained_bytes += bytes;
        self.current = next;
        self.current_refers_to = next;
    }

    /// The current segment now refers to `segment`.
    pub(crate) fn refer_to(&mut self, segment: u64) {
        self.current_refers_to = self.current_refers_to.min(segment);
    }

    /// Everything before `segment` is stored elsewhere. Returns the file to delete next, if one can go; from then on it must
    /// not be referred to.
    pub(crate) fn release_before(&mut self, segment: u64) -> Option<u64> {
        self.wanted_from = self.wanted_from.max(segment.min(self.current));
        let wanted = self.retained.iter().filter(|retained| retained.number >= self.wanted_from);
        let needed = wanted.map(|retained| retained.refers_to).fold(self.current_refers_to, u64::min);
        let first = self.first_file();
        if first >= self.wanted_from.min(needed) {
            return None;
        }
        self.kept_from = self.kept_from.max(first + 1);
        Some(first)
    }

    /// The lowest file has been deleted; its bytes are free again.
    pub(crate) fn deleted(&mut self, number: u64) {
        if self.retained.front().is_some_and(|segment| segment.number == number) {
            self.retained_bytes -= self.retained.pop_front().map_or(0, |segment| segment.bytes);
        }
    }
}
