//! Keeping an exchange's heads and bodies; [`crate::reading::bodies`] gives them back.

use std::sync::Arc;

use wire::spans::Spans;

use super::packs::OpenPacks;
use crate::content::envelope::Envelope;
use crate::content::manifest::{BlockHash, Manifest};
use crate::content::resent::{Earlier, Resent};
use crate::content::split::{Split, split};
use crate::model::BodySource;
use crate::reading::blocks::BlockReader;
use crate::reading::bodies::MAX_DEPTH;
use crate::reading::damaged;
use crate::recent::Recent;
use crate::store::{Error, Result};
use crate::tables::{Form, Location, Packing};

/// Larger bodies are not taken apart but kept in chunks, so that memory stays bounded.
pub(crate) const MAX_WHOLE: u64 = 8 * 1024 * 1024;

/// Size of a chunk, and the amount of new raw bytes after which a piece is written.
const CHUNK: usize = 1024 * 1024;

/// Where an exchange's content went; a part of its row.
pub(crate) struct Kept {
    pub(crate) envelope: Location,
    pub(crate) request_form: Form,
    pub(crate) request_data: Option<Vec<u8>>,
    pub(crate) request_base: Option<i64>,
    pub(crate) response_form: Form,
    pub(crate) response_data: Option<Vec<u8>>,
    pub(crate) digests: Vec<u8>,
    /// The request's manifest and how many others it stands on.
    pub(crate) manifest: Option<(Arc<Manifest>, u32)>,
    /// What all this takes in the database.
    pub(crate) stored_bytes: u64,
}

/// A request's body that is small enough to be looked into.
pub(crate) struct WholeBody {
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) split: Option<Split>,
    /// The body that this one resends a part of. If that one was not kept as blocks, this one cannot be either.
    pub(crate) rests_on: Option<Arc<Earlier>>,
}

impl WholeBody {
    pub(crate) fn new(bytes: Vec<u8>, spans: Option<&Spans>, resent: Option<Resent>, key: &[u8; 32]) -> Self {
        let split = spans.and_then(|spans| split(&bytes, spans, resent.as_ref(), |b| block_hash(key, b)));
        Self { bytes: Arc::new(bytes), split, rests_on: resent.map(|resent| resent.earlier) }
    }
}

/// An earlier request that a manifest may be written relative to.
#[derive(Clone)]
pub(crate) struct Base {
    pub(crate) exchange: i64,
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) depth: u32,
}

/// Adds content within a transaction.
pub(crate) struct BodyWriter<'a> {
    pub(crate) tables: &'a dyn Packing,
    pub(crate) epoch: i32,
    pub(crate) key: &'a [u8; 32],
    pub(crate) packs: &'a mut OpenPacks,
    pub(crate) raw: &'a mut Recent<BlockHash, Arc<[u8]>>,
    /// Whose pack the content goes to.
    pub(crate) session: i64,
    pub(crate) stored_bytes: u64,
}

impl BodyWriter<'_> {
    /// Keeps everything of one exchange. `request` is absent where the body is too large to be looked into.
    pub(crate) fn keep(
        mut self,
        mut envelope: Envelope,
        request: Option<WholeBody>,
        request_source: &dyn BodySource,
        response_source: &dyn BodySource,
        base: Option<Base>,
    ) -> Result<Kept> {
        let mut digests = Vec::with_capacity(32);
        let mut buffer = Vec::new();
        let (mut new_blocks, mut found) = (Vec::new(), None);
        let (request_form, mut request_data, request_base);
        match request {
            Some(WholeBody { bytes, split, rests_on }) => {
                digests.extend_from_slice(&short_digest(&bytes));
                let is_sound = rests_on.is_none_or(|earlier| earlier.is_proved());
                if let Some(split) = split.filter(|_| is_sound) {
                    found = self.take_apart(&bytes, split, &mut buffer, &mut new_blocks)?;
                }
                request_form = match (&found, bytes.is_empty()) {
                    (Some(_), _) => Form::Manifest,
                    (None, true) => Form::Empty,
                    (None, false) => Form::Enveloped,
                };
                if request_form == Form::Enveloped {
                    envelope.request_body = Arc::unwrap_or_clone(bytes);
                }
                let base = base.filter(|b| b.depth < MAX_DEPTH);
                request_data = found.as_ref().map(|m| m.encode(base.as_ref().map(|b| &*b.manifest)));
                request_base = base.filter(|_| found.is_some());
            }
            None => {
                let (data, digest) = self.keep_chunks(request_source)?;
                digests.extend_from_slice(&digest);
                (request_form, request_data, request_base) = (Form::Chunks, Some(data), None);
            }
        }
        let response_form;
        let mut response_data = None;
        if response_source.size() > MAX_WHOLE {
            let (data, digest) = self.keep_chunks(response_source)?;
            digests.extend_from_slice(&digest);
            (response_form, response_data) = (Form::Chunks, Some(data));
        } else {
            digests.extend_from_slice(&short_digest(&envelope.response_body));
            response_form = if envelope.response_body.is_empty() { Form::Empty } else { Form::Enveloped };
        }
        let at = self.keep_piece(&envelope, buffer, &new_blocks)?;
        for data in [&mut request_data, &mut response_data].into_iter().flatten() {
            self.stored_bytes += data.len() as u64;
        }
        let depth = request_base.as_ref().map_or(0, |b| b.depth + 1);
        Ok(Kept {
            envelope: at,
            request_form,
            request_data,
            request_base: request_base.map(|b| b.exchange),
            response_form,
            response_data,
            digests,
            manifest: found.map(|manifest| (manifest, depth)),
            stored_bytes: self.stored_bytes,
        })
    }

    /// Puts the blocks that are new into `buffer` and proves that the body can be rebuilt. Without that proof the body
    /// is kept whole: a missed deduplication costs bytes, never correctness.
    fn take_apart(
        &mut self,
        body: &[u8],
        mut split: Split,
        buffer: &mut Vec<u8>,
        new_blocks: &mut Vec<(BlockHash, usize, usize)>,
    ) -> Result<Option<Arc<Manifest>>> {
        let mut reader = BlockReader::new(self.tables);
        let (keep_buffer, keep_blocks) = (buffer.len(), new_blocks.len());
        for (hash, bytes) in std::mem::take(&mut split.blocks) {
            let known = self.raw.get(&hash).is_some()
                || new_blocks.iter().any(|(h, _, _)| *h == hash)
                || reader.locate(self.epoch, &hash)?.is_some();
            if !known {
                new_blocks.push((hash, buffer.len(), bytes.len()));
                buffer.extend_from_slice(&bytes);
                let weight = bytes.len();
                self.raw.put(hash, Arc::from(bytes), weight);
            }
        }
        let proved = split.gives(body, |hash| match self.raw.get(hash) {
            Some(bytes) => Ok::<_, Error>(bytes),
            None => {
                let bytes = reader.block(self.epoch, hash)?;
                self.raw.put(*hash, bytes.clone(), bytes.len());
                Ok(bytes)
            }
        });
        match proved {
            Ok(true) => Ok(Some(split.manifest)),
            Ok(false) | Err(Error::Damaged(_) | Error::Source(_)) => {
                tracing::warn!("a request body could not be rebuilt from its blocks and is kept whole");
                buffer.truncate(keep_buffer);
                for (hash, _, _) in new_blocks.drain(keep_blocks..) {
                    self.raw.remove(&hash);
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes new blocks and the envelope as one piece, so that they share one flush of the compressor.
    fn keep_piece(
        &mut self,
        envelope: &Envelope,
        mut buffer: Vec<u8>,
        new_blocks: &[(BlockHash, usize, usize)],
    ) -> Result<Location> {
        let start = buffer.len();
        let encoded = envelope.encode();
        if Envelope::decode(&encoded).as_ref() != Some(envelope) {
            return Err(damaged("an envelope does not come back from its encoding"));
        }
        buffer.extend_from_slice(&encoded);
        let at = self.piece(&buffer)?;
        for &(hash, offset, length) in new_blocks {
            let location = Location { pack: at.pack, offset: at.offset + offset, length };
            self.tables.put_block(self.epoch, &hash, location)?;
            self.stored_bytes += self.tables.row_sizes().block;
        }
        Ok(Location { pack: at.pack, offset: at.offset + start, length: encoded.len() })
    }

    /// A list of chunks' hashes, and the digest of the whole.
    pub(crate) fn keep_chunks(&mut self, source: &dyn BodySource) -> Result<(Vec<u8>, [u8; 16])> {
        let mut list = Vec::new();
        let mut hasher = blake3::Hasher::new();
        let mut offset = 0;
        while offset < source.size() {
            let bytes = source.read_at(offset, CHUNK).map_err(Error::Source)?;
            if bytes.is_empty() {
                return Err(Error::Source(std::io::ErrorKind::UnexpectedEof.into()));
            }
            offset += bytes.len() as u64;
            hasher.update(&bytes);
            let hash = block_hash(self.key, &bytes);
            if BlockReader::new(self.tables).locate(self.epoch, &hash)?.is_none() {
                let at = self.piece(&bytes)?;
                self.tables.put_block(self.epoch, &hash, at)?;
                self.stored_bytes += self.tables.row_sizes().block;
            }
            list.extend_from_slice(&hash);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok((list, digest))
    }

    pub(crate) fn piece(&mut self, raw: &[u8]) -> Result<Location> {
        let (at, data) = self.packs.append(self.tables, self.epoch, self.session, raw)?;
        self.stored_bytes += data + self.tables.row_sizes().piece;
        Ok(at)
    }
}

/// The name of a block.
pub(crate) fn block_hash(key: &[u8; 32], bytes: &[u8]) -> BlockHash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::keyed_hash(key, bytes).as_bytes()[..16]);
    hash
}

pub(crate) fn short_digest(bytes: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    digest
}
