//! The envelope: what of an exchange repeats nowhere else, kept together as one piece of its session's pack.
//!
//! Both heads, the response's body and its cadence, and the request's body where it is not kept as a manifest.

use super::varint::{self, Input};
use crate::model::ChunkTiming;

const VERSION: u8 = 1;

/// The parts of an envelope; a body that is kept elsewhere is empty here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) request_head: Vec<u8>,
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_head: Vec<u8>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) chunks: Vec<ChunkTiming>,
}

impl Envelope {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for part in [&self.request_head, &self.request_body, &self.response_head, &self.response_body] {
            varint::put_bytes(&mut out, part);
        }
        let mut before = 0;
        for chunk in &self.chunks {
            varint::put(&mut out, chunk.after_us.saturating_sub(before));
            varint::put(&mut out, chunk.bytes);
            before = before.max(chunk.after_us);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        if input.byte()? != VERSION {
            return None;
        }
        let mut part = || input.bytes().map(<[u8]>::to_vec);
        let mut envelope = Self {
            request_head: part()?,
            request_body: part()?,
            response_head: part()?,
            response_body: part()?,
            chunks: Vec::new(),
        };
        let mut after_us = 0u64;
        while !input.is_empty() {
            after_us = after_us.checked_add(input.varint()?)?;
            envelope.chunks.push(ChunkTiming { after_us, bytes: input.varint()? });
        }
        Some(envelope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_comes_back() {
        let envelope = Envelope {
            request_head: b"POST / HTTP/1.1\r\n".to_vec(),
            request_body: vec![],
            response_head: b"HTTP/1.1 200\r\n".to_vec(),
            response_body: b"data: x\n\n".to_vec(),
            chunks: vec![ChunkTiming { after_us: 900, bytes: 5 }, ChunkTiming { after_us: 1_900_000, bytes: 4 }],
        };
        assert_eq!(Envelope::decode(&envelope.encode()), Some(envelope.clone()));
        let bytes = envelope.encode();
        assert!((0..bytes.len() - 4).all(|end| Envelope::decode(&bytes[..end]).as_ref() != Some(&envelope)));
    }
}
