//! A request's body as references to blocks.
//!
//! The elements of its arrays (`messages`, `system`, `tools`, …) are blocks, in normal form; what lies between the
//! elements of one array is a separator; all the rest, concatenated, is one more block, the skeleton. As an agent
//! resends its history, a manifest is written relative to an earlier one, its *base*: the elements that both begin with
//! are only counted.

use std::ops::Range;
use std::sync::Arc;

use wire::spans::Spans;

use super::element::{self, Insertion};
use super::resent::{Resent, Run};
use super::varint::{self, Input};
use crate::store::{Error, Result};

/// Name of a block: the first 16 bytes of its BLAKE3 hash under the tenant's key.
pub(crate) type BlockHash = [u8; 16];

const VERSION: u8 = 1;

/// An element: the block that holds its normal form, and what [`element::restore`] needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ElementRef {
    pub(crate) hash: BlockHash,
    pub(crate) taken: Vec<Insertion>,
}

/// One array of the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArrayRef {
    /// Which array it is, so that it is compared with the same one of the base.
    pub(crate) key: u8,
    pub(crate) separator: Vec<u8>,
    pub(crate) elements: Vec<ElementRef>,
}

/// A whole body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) skeleton: BlockHash,
    /// Lengths of the literals within the skeleton: one before each array, one after the last.
    pub(crate) literals: Vec<usize>,
    pub(crate) arrays: Vec<ArrayRef>,
}

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

impl Manifest {
    /// The exact body. `block` gives a block's bytes.
    pub(crate) fn rebuild(&self, mut block: impl FnMut(&BlockHash) -> Result<Arc<[u8]>>) -> Result<Vec<u8>> {
        let skeleton = block(&self.skeleton)?;
        let mut rest = &skeleton[..];
        let mut body = Vec::new();
        let mut lengths = self.literals.iter();
        for array in &self.arrays {
            body.extend_from_slice(literal(&mut rest, lengths.next())?);
            for (number, element) in array.elements.iter().enumerate() {
                if number > 0 {
                    body.extend_from_slice(&array.separator);
                }
                let normal = block(&element.hash)?;
                match element.taken.is_empty() {
                    true => body.extend_from_slice(&normal),
                    false => body.extend_from_slice(&element::restore(&normal, &element.taken).ok_or_else(misfit)?),
                }
            }
        }
        body.extend_from_slice(literal(&mut rest, lengths.next())?);
        if !rest.is_empty() || lengths.next().is_some() {
            return Err(misfit());
        }
        Ok(body)
    }

    /// Whether [`Manifest::rebuild`] gives this body. Of `resent` it is known: their bytes were compared with those of an
    /// earlier body, for which this was asked when it was kept.
    pub(crate) fn gives(
        &self,
        body: &[u8],
        resent: &[Run],
        mut block: impl FnMut(&BlockHash) -> Result<Arc<[u8]>>,
    ) -> Result<bool> {
        let skeleton = block(&self.skeleton)?;
        let mut rest = &skeleton[..];
        let mut body = Compared { body, at: 0 };
        let mut lengths = self.literals.iter();
        for array in &self.arrays {
            let mut same = body.goes_on_with(literal(&mut rest, lengths.next())?);
            let mut number = 0;
            while same && number < array.elements.len() {
                same = number == 0 || body.goes_on_with(&array.separator);
                let run = resent.iter().find(|run| run.key as u8 == array.key && run.elements.start == number);
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

    /// Every block that the body needs.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockHash> {
        std::iter::once(self.skeleton).chain(self.arrays.iter().flat_map(|a| a.elements.iter().map(|e| e.hash)))
    }

    pub(crate) fn encode(&self, base: Option<&Manifest>) -> Vec<u8> {
        let mut out = vec![VERSION];
        match base {
            Some(base) if base.skeleton == self.skeleton && base.literals == self.literals => out.push(1),
            _ => {
                out.push(0);
                out.extend_from_slice(&self.skeleton);
                varint::put(&mut out, self.literals.len() as u64);
                self.literals.iter().for_each(|&l| varint::put(&mut out, l as u64));
            }
        }
        varint::put(&mut out, self.arrays.len() as u64);
        for array in &self.arrays {
            let shared = base.and_then(|b| b.array(array.key)).map_or(0, |b| common(&b.elements, &array.elements));
            out.push(array.key);
            varint::put_bytes(&mut out, &array.separator);
            varint::put(&mut out, shared as u64);
            varint::put(&mut out, (array.elements.len() - shared) as u64);
            for element in &array.elements[shared..] {
                out.extend_from_slice(&element.hash);
                element::encode(&element.taken, &mut out);
            }
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8], base: Option<&Manifest>) -> Option<Manifest> {
        let mut input = Input::new(bytes);
        if input.byte()? != VERSION {
            return None;
        }
        let (skeleton, literals) = match input.byte()? {
            1 => base.map(|b| (b.skeleton, b.literals.clone()))?,
            _ => {
                let skeleton = input.take(16)?.try_into().ok()?;
                let count = input.count()?;
                (skeleton, (0..count).map(|_| input.size()).collect::<Option<_>>()?)
            }
        };
        let count = input.count()?;
        let arrays = (0..count).map(|_| decode_array(&mut input, base)).collect::<Option<_>>()?;
        input.is_empty().then_some(Manifest { skeleton, literals, arrays })
    }

    fn array(&self, key: u8) -> Option<&ArrayRef> {
        self.arrays.iter().find(|a| a.key == key)
    }
}

fn decode_array(input: &mut Input<'_>, base: Option<&Manifest>) -> Option<ArrayRef> {
    let key = input.byte()?;
    let separator = input.bytes()?.to_vec();
    let shared = input.size()?;
    let added = input.count()?;
    let mut elements = match shared {
        0 => Vec::new(),
        _ => base?.array(key)?.elements.get(..shared)?.to_vec(),
    };
    for _ in 0..added {
        let hash = input.take(16)?.try_into().ok()?;
        elements.push(ElementRef { hash, taken: element::decode(input)? });
    }
    Some(ArrayRef { key, separator, elements })
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

fn common(a: &[ElementRef], b: &[ElementRef]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

fn literal<'a>(rest: &mut &'a [u8], length: Option<&usize>) -> Result<&'a [u8]> {
    let (literal, tail) = length.and_then(|&l| rest.split_at_checked(l)).ok_or_else(misfit)?;
    *rest = tail;
    Ok(literal)
}

fn misfit() -> Error {
    Error::Damaged("a manifest does not fit its blocks".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use std::collections::HashMap;

    use super::*;

    fn hash(bytes: &[u8]) -> BlockHash {
        let mut short = [0; 16];
        short.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
        short
    }

    fn split_body(body: &[u8]) -> Split {
        split(body, &wire::spans::find(body).unwrap(), None, hash).unwrap()
    }

    fn rebuild(split: &Split, manifest: &Manifest) -> Vec<u8> {
        let blocks: HashMap<_, _> = split.blocks.iter().cloned().collect();
        let look_up =
            |h: &BlockHash| blocks.get(h).map(|b| Arc::from(&b[..])).ok_or_else(|| Error::Invalid("no block".into()));
        let rebuilt = manifest.rebuild(look_up).unwrap();
        assert!(manifest.gives(&rebuilt, &[], look_up).unwrap());
        assert!(!manifest.gives(&rebuilt[1..], &[], look_up).unwrap());
        rebuilt
    }

    #[test]
    fn a_later_turn_only_names_what_is_new() {
        let first = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"one","cache_control":{"type":"ephemeral"}}]}],"system":[],"tools":[{"name":"T"}],"stream":true}"#;
        let second = br#"{"model":"m","messages":[{"role":"user","content":"one"},{"role":"assistant","content":"two"},{"role":"user","content":[{"type":"text","text":"three","cache_control":{"type":"ephemeral"}}]}],"system":[],"tools":[{"name":"T"}],"stream":true}"#;
        let (a, b) = (split_body(first), split_body(second));
        assert_eq!(rebuild(&a, &a.manifest), first);
        assert_eq!(rebuild(&b, &b.manifest), second);
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
        assert_eq!(rebuild(&split_spaced, &split_spaced.manifest), spaced);
        let mixed = br#"{"messages":[{"a":1}, {"b":2},{"c":3}]}"#;
        assert!(split(mixed, &wire::spans::find(mixed).unwrap(), None, hash).is_none());
    }

    proptest! {
        #[test]
        fn damaged_manifests_are_refused_without_panic(bytes: Vec<u8>) {
            let _decoded_or_refused = Manifest::decode(&bytes, None);
            let mut with_version = vec![VERSION, 0];
            with_version.extend(bytes);
            let _decoded_or_refused = Manifest::decode(&with_version, None);
        }
    }
}
