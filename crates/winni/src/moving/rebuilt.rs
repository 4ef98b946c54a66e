//! What exchanges and messages come to when they are put together from what is kept of them.

use super::tables::{Cell, Row};
use crate::model::Part;
use crate::reading::BodyReader;
use crate::store::Result;
use crate::tables::Frames;

/// The parts of an exchange.
const PARTS: [Part; 4] = [Part::RequestHead, Part::RequestBody, Part::ResponseHead, Part::ResponseBody];

/// Rebuilds exchanges: number and digest of each. What was erased has a digest, too.
pub(crate) fn rebuilt_exchanges(tables: &dyn Frames, exchanges: &[i64]) -> Result<Vec<Row>> {
    tables.expect_content(exchanges)?;
    let mut bodies = BodyReader::new(tables);
    let mut rows = Vec::with_capacity(exchanges.len());
    for &exchange in exchanges {
        let mut all = blake3::Hasher::new();
        for part in PARTS {
            let mut digest = Digest::default();
            let is_there = bodies.part(exchange, part, &mut digest)?;
            all.update(&[u8::from(is_there)]).update(digest.0.finalize().as_bytes());
        }
        rows.push(vec![Cell::Integer(exchange), Cell::Bytes(all.finalize().as_bytes().to_vec())]);
    }
    Ok(rows)
}

/// Rebuilds messages of connections in the same way.
pub(crate) fn rebuilt_frames(tables: &dyn Frames, frames: &[i64]) -> Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(frames.len());
    for &frame in frames {
        let mut digest = Digest::default();
        let is_there = crate::reading::frames::body(tables, frame, &mut digest)?;
        let mut all = blake3::Hasher::new();
        all.update(&[u8::from(is_there)]).update(digest.0.finalize().as_bytes());
        rows.push(vec![Cell::Integer(frame), Cell::Bytes(all.finalize().as_bytes().to_vec())]);
    }
    Ok(rows)
}

/// Takes bytes and keeps their digest.
#[derive(Default)]
struct Digest(blake3::Hasher);

impl std::io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
