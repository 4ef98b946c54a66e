//! Changing values inside a text without touching anything else of it.

use std::ops::Range;

use serde_json::value::RawValue;

use super::members;
use super::members::text;

/// Changes to one text, to be made all at once. Places are given as the values that were parsed out of that very text.
#[derive(Debug)]
pub struct Edits<'a> {
    source: &'a str,
    /// What is cut out, and what comes in its place.
    changes: Vec<(Range<usize>, String)>,
}

impl<'a> Edits<'a> {
    /// No changes yet. A text that is not UTF-8 is no JSON either and gives `None`.
    pub fn of(source: &'a [u8]) -> Option<Self> {
        std::str::from_utf8(source).ok().map(Self::of_text)
    }

    /// [`Edits::of`] for what is known to be text.
    pub fn of_text(source: &'a str) -> Self {
        Self { source, changes: Vec::new() }
    }

    /// Writes `with` (JSON) in a value's place. A value that is not part of this text changes nothing.
    pub fn replace(&mut self, value: &RawValue, with: impl Into<String>) -> &mut Self {
        if let Some(range) = self.range(value) {
            self.changes.push((range, with.into()));
        }
        self
    }

    /// Adds a member at the end of an object, or replaces the value of the member of that name.
    pub fn set(&mut self, object: &RawValue, name: &str, value: &str) -> &mut Self {
        let Some(existing) = members(object) else { return self };
        if let Some(member) = existing.iter().find(|member| member.name == name) {
            return self.replace(member.value, value);
        }
        let is_first = existing.is_empty() && !self.is_appended_to(object);
        let comma = if is_first { "" } else { "," };
        self.append(object, &format!("{comma}{}:{value}", text(name)))
    }

    /// Writes `addition` before the bracket that ends an object or array.
    pub fn append(&mut self, container: &RawValue, addition: &str) -> &mut Self {
        if let Some(range) = self.range(container) {
            let end = range.end - 1;
            // Several additions to one container stand in the order in which they were made.
            match self.changes.iter_mut().find(|(place, _)| place.start == end && place.end == end) {
                Some((_, text)) => text.push_str(addition),
                None => self.changes.push((end..end, addition.to_owned())),
            }
        }
        self
    }

    fn is_appended_to(&self, container: &RawValue) -> bool {
        let end = self.range(container).map(|range| range.end - 1);
        self.changes.iter().any(|(place, _)| place.is_empty() && Some(place.start) == end)
    }

    /// Takes out what stands between two places of the text.
    pub fn cut(&mut self, range: Range<usize>) -> &mut Self {
        self.changes.push((range, String::new()));
        self
    }

    /// Where a value stands in the text.
    pub fn range(&self, value: &RawValue) -> Option<Range<usize>> {
        let start = (value.get().as_ptr() as usize).checked_sub(self.source.as_ptr() as usize)?;
        let range = start..start.checked_add(value.get().len())?;
        (self.source.get(range.clone())? == value.get()).then_some(range)
    }

    /// The text with all changes.
    pub fn finish(mut self) -> Vec<u8> {
        self.changes.sort_by_key(|(range, _)| (range.start, range.end));
        let grown: usize = self.changes.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.source.len() + grown);
        let mut done = 0;
        for (range, text) in &self.changes {
            // Changes inside of what another change replaced are moot.
            let Some(kept) = self.source.as_bytes().get(done..range.start) else { continue };
            out.extend_from_slice(kept);
            out.extend_from_slice(text.as_bytes());
            done = range.end;
        }
        out.extend_from_slice(&self.source.as_bytes()[done..]);
        out
    }
}
