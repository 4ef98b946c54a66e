//! A request's body as references to blocks.
//!
//! The elements of its arrays (`messages`, `system`, `tools`, …) are blocks, in normal form; what lies between the
//! elements of one array is a separator; all the rest, concatenated, is one more block, the skeleton. As an agent
//! resends its history, a manifest is written relative to an earlier one, its *base*: the elements that both begin with
//! are only counted.

use std::sync::Arc;

use super::element::{self, Insertion};
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

fn common(a: &[ElementRef], b: &[ElementRef]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

pub(super) fn literal<'a>(rest: &mut &'a [u8], length: Option<&usize>) -> Result<&'a [u8]> {
    let (literal, tail) = length.and_then(|&l| rest.split_at_checked(l)).ok_or_else(misfit)?;
    *rest = tail;
    Ok(literal)
}

pub(super) fn misfit() -> Error {
    Error::Damaged("a manifest does not fit its blocks".into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
