//! What a request's body has in common with an earlier one, so that only the rest need be looked into.
//!
//! An agent's next request is its last one with a little put in. The bytes that both begin and end with are compared
//! directly; elements that lie whole within them are not parsed, hashed or compressed again, and the proof that they can
//! be rebuilt, given when the earlier body was taken apart, holds for them too.
//!
//! Guaranteed: the elements found are those that reading the whole body would find. Each run of resent elements is
//! cut out and a `0` put in its place; only if the shortened body reads as one in which every such `0` is an element of
//! the same array does the run stand there as elements. Anything else, and the body is read whole.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wire::head::RequestHead;
use wire::spans::{ArrayKey, ArraySpan, MAX_ELEMENTS, Request, Spans};

use super::manifest::{ElementRef, Manifest};

/// Below this many bytes in common, cutting them out is not worth it.
const MIN_COMMON: usize = 2048;

/// What the one who asks next is likely to ask with. A wrong guess costs time and nothing else.
pub(crate) type Line = u64;

/// The line that a request belongs to, guessed without reading it.
pub(crate) fn line(head: &RequestHead, body: &[u8]) -> Line {
    let mut hasher = DefaultHasher::new();
    let session = head.headers.get("x-claude-code-session-id");
    (session, head.headers.get("x-claude-code-agent-id")).hash(&mut hasher);
    // The model's name stands in front, and tells side calls from the main line. Who names no session is known by
    // how the history begins.
    let beginning = if session.is_some() { 32 } else { 4096 };
    body.get(..beginning).unwrap_or(body).hash(&mut hasher);
    hasher.finish()
}

/// A body that was taken apart. Others may be read with its help at once, and kept with its help once it is proved.
pub(crate) struct Earlier {
    body: Arc<Vec<u8>>,
    spans: Arc<Spans>,
    manifest: Arc<Manifest>,
    proved: AtomicBool,
}

impl Earlier {
    pub(crate) fn new(body: Arc<Vec<u8>>, spans: Arc<Spans>, manifest: Arc<Manifest>) -> Self {
        Self { body, spans, manifest, proved: AtomicBool::new(false) }
    }

    /// It is kept, and was rebuilt from what is kept.
    pub(crate) fn prove(&self) {
        self.proved.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_proved(&self) -> bool {
        self.proved.load(Ordering::Relaxed)
    }

    fn elements(&self, key: ArrayKey) -> &[ElementRef] {
        self.manifest.arrays.iter().find(|a| a.key == key as u8).map_or(&[], |a| &a.elements)
    }
}

/// Elements of one array that were in the earlier body as well, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) key: ArrayKey,
    /// Which elements of the array they are, in this body.
    pub(crate) elements: Range<usize>,
    /// Where they stand in this body.
    pub(crate) bytes: Range<usize>,
    /// The first of them in the earlier body.
    earlier: usize,
}

/// A body with the elements that were resent cut out.
pub(crate) struct Shortened {
    earlier: Arc<Earlier>,
    text: Vec<u8>,
    /// The runs, and where in the text each one's `0` stands.
    cuts: Vec<(usize, Run)>,
}

impl Shortened {
    /// `None` where too little is in common.
    pub(crate) fn of(body: &[u8], earlier: Arc<Earlier>) -> Option<Self> {
        let runs = common_runs(&earlier, body);
        if runs.iter().map(|run| run.bytes.len()).sum::<usize>() < MIN_COMMON {
            return None;
        }
        let mut text = Vec::new();
        let mut cuts = Vec::with_capacity(runs.len());
        let mut at = 0;
        for run in runs {
            text.extend_from_slice(body.get(at..run.bytes.start)?);
            at = run.bytes.end;
            cuts.push((text.len(), run));
            text.push(b'0');
        }
        text.extend_from_slice(body.get(at..)?);
        Some(Self { earlier, text, cuts })
    }

    /// The request, with the elements of the whole body. What else it borrows is from the shortened text.
    pub(crate) fn parse(&self) -> Option<(Request<'_>, Resent)> {
        let mut request = wire::spans::parse(&self.text)?;
        let mut runs = Vec::with_capacity(self.cuts.len());
        let mut cuts = self.cuts.iter();
        let mut next = cuts.next();
        let (mut moved, mut total) = (0, 0);
        for array in &mut request.spans.arrays {
            let mut elements = Vec::with_capacity(array.elements.len());
            for range in &array.elements {
                match next {
                    Some((at, run)) if run.key == array.key && *range == (*at..at + 1) => {
                        let first = elements.len();
                        self.restore(run, &mut elements)?;
                        runs.push(Run { elements: first..elements.len(), ..run.clone() });
                        moved = run.bytes.end - range.end;
                        next = cuts.next();
                    }
                    _ => elements.push(range.start + moved..range.end + moved),
                }
            }
            total += elements.len();
            array.elements = elements;
        }
        (next.is_none() && total <= MAX_ELEMENTS).then_some((request, Resent { earlier: self.earlier.clone(), runs }))
    }

    fn restore(&self, run: &Run, elements: &mut Vec<Range<usize>>) -> Option<()> {
        let earlier = self.earlier.spans.elements(run.key).get(run.earlier..run.earlier + run.elements.len())?;
        let base = earlier.first()?.start;
        elements.extend(earlier.iter().map(|r| r.start - base + run.bytes.start..r.end - base + run.bytes.start));
        Some(())
    }
}

/// Which elements of a body were in an earlier one.
pub(crate) struct Resent {
    pub(crate) earlier: Arc<Earlier>,
    pub(crate) runs: Vec<Run>,
}

impl Resent {
    /// How the element was kept when it came first.
    pub(crate) fn element(&self, key: ArrayKey, number: usize) -> Option<&ElementRef> {
        let run = self.runs.iter().find(|run| run.key == key && run.elements.contains(&number))?;
        self.earlier.elements(key).get(run.earlier + number - run.elements.start)
    }
}

/// Runs of elements within what both bodies begin or end with, in the order in which they stand.
fn common_runs(earlier: &Earlier, body: &[u8]) -> Vec<Run> {
    let before = &earlier.body[..];
    let shared_start = common_prefix(before, body);
    let most = before.len().min(body.len()) - shared_start;
    let shared_end = common_suffix(&before[before.len() - most..], &body[body.len() - most..]);
    let end_begins = before.len() - shared_end;
    let arrays = || earlier.spans.arrays.iter();
    let run = |array: &ArraySpan, elements: Range<usize>| {
        let (first, last) = (array.elements.get(elements.start)?, array.elements.get(elements.end.checked_sub(1)?)?);
        // What is at the end moves with the body's length.
        let place = |at: usize| if last.end < shared_start { at } else { at - end_begins + body.len() - shared_end };
        let bytes = place(first.start)..place(last.end);
        (first.start < last.end).then_some(Run { key: array.key, earlier: elements.start, elements, bytes })
    };
    // The byte after an element must be the same as well: only then does a number end where it ended.
    let at_start = |array: &ArraySpan| array.elements.partition_point(|r| r.end < shared_start);
    let starts = arrays().filter_map(|array| run(array, 0..at_start(array)));
    let ends = arrays().filter_map(|array| {
        let first = array.elements.partition_point(|r| r.start <= end_begins).max(at_start(array));
        run(array, first..array.elements.len())
    });
    starts.chain(ends).collect()
}

const STEP: usize = 512;

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let steps = a.chunks_exact(STEP).zip(b.chunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    steps + a[steps..].iter().zip(&b[steps..]).take_while(|(a, b)| a == b).count()
}

fn common_suffix(a: &[u8], b: &[u8]) -> usize {
    let steps = a.rchunks_exact(STEP).zip(b.rchunks_exact(STEP)).take_while(|(a, b)| a == b).count() * STEP;
    let rest = |s: &[u8]| s.len() - steps;
    steps + a[..rest(a)].iter().rev().zip(b[..rest(b)].iter().rev()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests;
