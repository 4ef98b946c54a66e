//! Taking a body apart, and the proof that it goes together again.

use std::ops::Range;
use std::sync::Arc;

use wire::spans::Spans;

use super::element;
use super::manifest::{ArrayRef, BlockHash, ElementRef, Manifest, literal, misfit};
use super::resent::{Resent, Run};
use crate::store::Result;

/// A body taken apart: its manifest, and the blocks in the order in which they are best kept.
pub(crate) struct Split {
    pub(crate) manifest: Arc<Manifest>,
    /// Those of elements that an earlier body had are left out: they are kept already.
    pub(crate) blocks: Vec<(BlockHash, Vec<u8>)>,
    /// The elements that an earlier body had.
    pub(crate) resent: Vec<Run>,
}

/// Takes a body apart, or `None` if it is laid out in a way that a manifest cannot express (separators that differ
/// within an array, as pretty-printed JSON may have).
pub(crate) fn split(
    body: &[u8],
    spans: &Spans,
    resent: Option<&Resent>,
    hash: impl Fn(&[u8]) -> BlockHash,
) -> Option<Split> {
    let mut skeleton = Vec::new();
    let mut literals = Vec::new();
    let mut arrays = Vec::new();
    let mut blocks = Vec::new();
    let mut at = 0;
    for span in spans.arrays.iter().filter(|a| !a.elements.is_empty()) {
        let (first, last) = (span.elements.first()?, span.elements.last()?);
        let literal = body.get(at..first.start)?;
        literals.push(literal.len());
        skeleton.extend_from_slice(literal);
        let mut separators = span.elements.windows(2).map(|pair| body.get(pair[0].end..pair[1].start));
        let separator = separators.next().unwrap_or(Some(b","))?;
        if !separators.all(|s| s == Some(separator)) {
            return None;
        }
        let mut elements = Vec::with_capacity(span.elements.len());
        for (number, range) in span.elements.iter().enumerate() {
            if let Some(element) = resent.and_then(|r| r.element(span.key, number)) {
                elements.push(element.clone());
                continue;
            }
            let (normal, taken) = element::normalise(body.get(range.clone())?);
            let hash = hash(&normal);
            elements.push(ElementRef { hash, taken });
            blocks.push((hash, normal));
        }
        arrays.push(ArrayRef { key: span.key as u8, separator: separator.to_vec(), elements });
        at = last.end;
    }
    if arrays.is_empty() {
        return None;
    }
    literals.push(body.len() - at);
    skeleton.extend_from_slice(&body[at..]);
    let skeleton_hash = hash(&skeleton);
    blocks.push((skeleton_hash, skeleton));
    let manifest = Arc::new(Manifest { skeleton: skeleton_hash, literals, arrays });
    Some(Split { manifest, blocks, resent: resent.map(|r| r.runs.clone()).unwrap_or_default() })
}

impl Split {
    /// Whether [`Manifest::rebuild`] gives this body. Of what was resent it is known: its bytes were compared with those of an
    /// earlier body, for which this was asked when it was kept.
    pub(crate) fn gives(&self, body: &[u8], mut block: impl FnMut(&BlockHash) -> Result<Arc<[u8]>>) -> Result<bool> {
        let manifest = &self.manifest;
        let skeleton = block(&manifest.skeleton)?;
        let mut rest = &skeleton[..];
        let mut body = Compared { body, at: 0 };
        let mut lengths = manifest.literals.iter();
        for array in &manifest.arrays {
            let mut same = body.goes_on_with(literal(&mut rest, lengths.next())?);
            let mut number = 0;
            while same && number < array.elements.len() {
                same = number == 0 || body.goes_on_with(&array.separator);
                let run = self.resent.iter().find(|run| run.key as u8 == array.key && run.elements.start == number);
                if let Some(run) = run.filter(|run| run.elements.end <= array.elements.len()) {
                    same = same && body.passes(&run.bytes);
                    number = run.elements.end;
                    continue;
                }
                let element = &array.elements[number];
                let normal = block(&element.hash)?;
                same = same
                    && match element.taken.is_empty() {
                        true => body.goes_on_with(&normal),
                        false => body.goes_on_with(&element::restore(&normal, &element.taken).ok_or_else(misfit)?),
                    };
                number += 1;
            }
            if !same {
                return Ok(false);
            }
        }
        let same = body.goes_on_with(literal(&mut rest, lengths.next())?);
        Ok(same && body.at == body.body.len() && rest.is_empty() && lengths.next().is_none())
    }
}

/// A body that is compared piece by piece.
struct Compared<'a> {
    body: &'a [u8],
    at: usize,
}

impl Compared<'_> {
    fn goes_on_with(&mut self, piece: &[u8]) -> bool {
        let same = self.body.get(self.at..self.at + piece.len()) == Some(piece);
        self.at += piece.len();
        same
    }

    fn passes(&mut self, range: &Range<usize>) -> bool {
        let same = self.at == range.start && range.start < range.end;
        self.at = range.end;
        same
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::store::Error;

    fn hash(bytes: &[u8]) -> BlockHash {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        short
    }

    fn split_body(body: &[u8]) -> Split {
        split(body, &wire::spans::find(body).unwrap(), None, hash).unwrap()
    }

    fn rebuild(split: &Split) -> Vec<u8> {
        let blocks: HashMap<_, _> = split.blocks.iter().cloned().collect();
        let look_up =
            |h: &BlockHash| blocks.get(h).map(|b| Arc::from(&b[..])).ok_or_else(|| Error::Invalid("no block".into()));
        let rebuilt = split.manifest.rebuild(look_up).unwrap();
        assert!(split.gives(&rebuilt, look_up).unwrap());
        assert!(!split.gives(&rebuilt[1..], look_up).unwrap());
        rebuilt
    }

    #[test]
    fn a_later_turn_only_names_what_is_new() {
        let first = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"one","cache_control":{"type":"ephemeral"}}]}],"system":[],"tools":[{"name":"T"}],"stream":true}"#;
        let second = br#"{"model":"m","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":[{"type":"text","text":"three","cache_control":{"type":"ephemeral"}}]}],"system":[],"tools":[{"name":"T"}],"stream":true}"#;
        let (a, b) = (split_body(first), split_body(second));
        assert_eq!(rebuild(&a), first);
        assert_eq!(rebuild(&b), second);
        let alone = b.manifest.encode(None);
        let relative = b.manifest.encode(Some(&a.manifest));
        assert_eq!(Manifest::decode(&alone, None).as_ref(), Some(&*b.manifest));
        assert_eq!(Manifest::decode(&relative, Some(&a.manifest)).as_ref(), Some(&*b.manifest));
        assert_eq!(Manifest::decode(&relative, None), None, "a relative manifest is useless without its base");
        assert!(relative.len() < alone.len());
    }

    #[test]
    fn separators_with_spaces_are_kept_and_mixed_ones_refused() {
        let spaced = br#"{"messages": [{"a":1}, {"b":2}, {"c":3}], "x": 1}"#;
        let split_spaced = split_body(spaced);
        assert_eq!(rebuild(&split_spaced), spaced);
        let mixed = br#"{"messages":[{"a":1}, {"b":2},{"c":3}]}"#;
        assert!(split(mixed, &wire::spans::find(mixed).unwrap(), None, hash).is_none());
    }
}
