//! Keeping an exchange's heads and bodies, and giving them back.

use std::io::Write;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use wire::spans::Spans;

use super::blocks::{BlockReader, Location, OpenPacks, hex, insert_block};
use super::error::damaged;
use crate::content::envelope::Envelope;
use crate::content::manifest::{self, BlockHash, Manifest, Split};
use crate::model::{BodySource, Part};
use crate::recent::Recent;
use crate::store::{Error, Result};

/// Larger bodies are not taken apart but kept in chunks, so that memory stays bounded.
pub(super) const MAX_WHOLE: u64 = 8 * 1024 * 1024;

/// Size of a chunk, and the amount of new raw bytes after which a piece is written.
const CHUNK: usize = 1024 * 1024;

/// How many manifests one may have to read to know one body.
const MAX_DEPTH: u32 = 32;

/// How a body is kept. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Empty = 0,
    Enveloped = 1,
    Manifest = 2,
    Chunks = 3,
}

/// Where an exchange's content went; a part of its row.
pub(super) struct Kept {
    pub(super) envelope: Location,
    pub(super) request_form: Form,
    pub(super) request_data: Option<Vec<u8>>,
    pub(super) request_base: Option<i64>,
    pub(super) response_form: Form,
    pub(super) response_data: Option<Vec<u8>>,
    pub(super) digests: Vec<u8>,
    /// The request's manifest and how many others it stands on.
    pub(super) manifest: Option<(Arc<Manifest>, u32)>,
    /// What all this takes in the database.
    pub(super) stored_bytes: u64,
}

/// A request's body that is small enough to be looked into.
pub(super) struct WholeBody {
    pub(super) bytes: Vec<u8>,
    pub(super) split: Option<Split>,
}

impl WholeBody {
    pub(super) fn new(bytes: Vec<u8>, spans: Option<&Spans>, key: &[u8; 32]) -> Self {
        let split = spans.and_then(|spans| manifest::split(&bytes, spans, |b| block_hash(key, b)));
        Self { bytes, split }
    }
}

/// An earlier request that a manifest may be written relative to.
#[derive(Clone)]
pub(super) struct Base {
    pub(super) exchange: i64,
    pub(super) manifest: Arc<Manifest>,
    pub(super) depth: u32,
}

/// Adds content within a transaction.
pub(super) struct BodyWriter<'a> {
    pub(super) connection: &'a Connection,
    pub(super) tenant: i64,
    pub(super) key: &'a [u8; 32],
    pub(super) packs: &'a mut OpenPacks,
    pub(super) raw: &'a mut Recent<BlockHash, Arc<[u8]>>,
    /// Whose pack the content goes to.
    pub(super) session: i64,
    pub(super) stored_bytes: u64,
}

/// Rows of `block`, measured with their share of the b-tree.
const BLOCK_ROW: u64 = 32;
/// A row of `pack_piece` without its data.
const PIECE_ROW: u64 = 14;

impl BodyWriter<'_> {
    /// Keeps everything of one exchange. `request` is absent where the body is too large to be looked into.
    pub(super) fn keep(
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
            Some(WholeBody { bytes, split }) => {
                digests.extend_from_slice(&short_digest(&bytes));
                if let Some(split) = split {
                    found = self.take_apart(&bytes, split, &mut buffer, &mut new_blocks)?;
                }
                request_form = match (&found, bytes.is_empty()) {
                    (Some(_), _) => Form::Manifest,
                    (None, true) => Form::Empty,
                    (None, false) => Form::Enveloped,
                };
                if request_form == Form::Enveloped {
                    envelope.request_body = bytes;
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
            manifest: found.map(|m| (Arc::new(m), depth)),
            stored_bytes: self.stored_bytes,
        })
    }

    /// Puts the blocks that are new into `buffer` and proves that the body can be rebuilt. Without that proof the body
    /// is kept whole: a missed deduplication costs bytes, never correctness.
    fn take_apart(
        &mut self,
        body: &[u8],
        split: Split,
        buffer: &mut Vec<u8>,
        new_blocks: &mut Vec<(BlockHash, usize, usize)>,
    ) -> Result<Option<Manifest>> {
        let mut reader = BlockReader::new(self.connection, self.tenant);
        let (keep_buffer, keep_blocks) = (buffer.len(), new_blocks.len());
        for (hash, bytes) in split.blocks {
            let known = self.raw.get(&hash, |b| b.len()).is_some()
                || new_blocks.iter().any(|(h, _, _)| *h == hash)
                || reader.locate(&hash)?.is_some();
            if !known {
                new_blocks.push((hash, buffer.len(), bytes.len()));
                buffer.extend_from_slice(&bytes);
                let weight = bytes.len();
                self.raw.put(hash, Arc::from(bytes), weight);
            }
        }
        let rebuilt = split.manifest.rebuild(|hash| match self.raw.get(hash, |b| b.len()) {
            Some(bytes) => Ok::<_, Error>(bytes),
            None => {
                let bytes = reader.block(hash)?;
                self.raw.put(*hash, bytes.clone(), bytes.len());
                Ok(bytes)
            }
        });
        match rebuilt {
            Ok(rebuilt) if rebuilt == body => Ok(Some(split.manifest)),
            Ok(_) | Err(Error::Damaged(_) | Error::Source(_)) => {
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
            insert_block(self.connection, self.tenant, &hash, location)?;
            self.stored_bytes += BLOCK_ROW;
        }
        Ok(Location { pack: at.pack, offset: at.offset + start, length: encoded.len() })
    }

    /// A list of chunks' hashes, and the digest of the whole.
    fn keep_chunks(&mut self, source: &dyn BodySource) -> Result<(Vec<u8>, [u8; 16])> {
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
            if BlockReader::new(self.connection, self.tenant).locate(&hash)?.is_none() {
                let at = self.piece(&bytes)?;
                insert_block(self.connection, self.tenant, &hash, at)?;
                self.stored_bytes += BLOCK_ROW;
            }
            list.extend_from_slice(&hash);
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok((list, digest))
    }

    fn piece(&mut self, raw: &[u8]) -> Result<Location> {
        let (at, data) = self.packs.append(self.connection, self.tenant, self.session, raw)?;
        self.stored_bytes += data + PIECE_ROW;
        Ok(at)
    }
}

/// The name of a block.
pub(super) fn block_hash(key: &[u8; 32], bytes: &[u8]) -> BlockHash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&blake3::keyed_hash(key, bytes).as_bytes()[..16]);
    hash
}

fn short_digest(bytes: &[u8]) -> [u8; 16] {
    let mut digest = [0; 16];
    digest.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    digest
}

/// An exchange's content columns.
pub(super) struct ContentRow {
    envelope: Option<Location>,
    request: (i64, Option<Vec<u8>>, Option<i64>),
    response: (i64, Option<Vec<u8>>),
    digests: Option<Vec<u8>>,
}

impl ContentRow {
    pub(super) fn envelope_location(&self) -> Option<Location> {
        self.envelope
    }

    /// The bodies that are kept in chunks, as lists of the chunks' hashes.
    pub(super) fn chunk_lists(&self) -> impl Iterator<Item = &[u8]> {
        let request = (self.request.0 == Form::Chunks as i64).then_some(self.request.1.as_deref()).flatten();
        let response = (self.response.0 == Form::Chunks as i64).then_some(self.response.1.as_deref()).flatten();
        request.into_iter().chain(response)
    }
}

/// Gives content back.
pub(super) struct BodyReader<'c> {
    connection: &'c Connection,
    tenant: i64,
    pub(super) blocks: BlockReader<'c>,
}

impl<'c> BodyReader<'c> {
    pub(super) fn new(connection: &'c Connection, tenant: i64) -> Self {
        Self { connection, tenant, blocks: BlockReader::new(connection, tenant) }
    }

    /// The content columns of an exchange; `None` if there is no such exchange.
    pub(super) fn row(&self, exchange: i64) -> Result<Option<ContentRow>> {
        let mut query = self.connection.prepare_cached(
            "SELECT pack, pack_offset, pack_length, request_form, request_data, request_base, response_form,
                    response_data, digests
             FROM exchange WHERE tenant = ?1 AND id = ?2",
        )?;
        let row = query.query_row(params![self.tenant, exchange], |row| {
            let pack: Option<i64> = row.get(0)?;
            let envelope = match pack {
                Some(pack) => Some(Location { pack, offset: row.get(1)?, length: row.get(2)? }),
                None => None,
            };
            Ok(ContentRow {
                envelope,
                request: (row.get(3)?, row.get(4)?, row.get(5)?),
                response: (row.get(6)?, row.get(7)?),
                digests: row.get(8)?,
            })
        });
        Ok(row.optional()?)
    }

    /// `None` if the content was erased.
    pub(super) fn envelope(&mut self, row: &ContentRow) -> Result<Option<Envelope>> {
        let Some(at) = row.envelope else { return Ok(None) };
        let bytes = self.blocks.bytes(at)?;
        Envelope::decode(&bytes).map(Some).ok_or_else(|| damaged("an envelope cannot be read"))
    }

    /// The manifest of an exchange's request and how many others it stands on; `None` if it has none.
    pub(super) fn manifest(&self, exchange: i64) -> Result<Option<(Manifest, u32)>> {
        let mut chain = Vec::new();
        let mut next = Some(exchange);
        while let Some(exchange) = next {
            let Some(ContentRow { request: (form, Some(data), base), .. }) = self.row(exchange)? else {
                return if chain.is_empty() { Ok(None) } else { Err(damaged("a manifest's base is missing")) };
            };
            if form != Form::Manifest as i64 {
                return Ok(None);
            }
            chain.push(data);
            if chain.len() > MAX_DEPTH as usize + 1 {
                return Err(damaged("a manifest stands on too many others"));
            }
            next = base;
        }
        let depth = chain.len() as u32 - 1;
        let mut manifest = None;
        for data in chain.iter().rev() {
            let decoded = Manifest::decode(data, manifest.as_ref());
            manifest =
                Some(decoded.ok_or_else(|| damaged(format!("the manifest of exchange {exchange} cannot be read")))?);
        }
        Ok(manifest.map(|m| (m, depth)))
    }

    /// The request's body, if it is small enough to be kept whole or as a manifest.
    pub(super) fn request_body(&mut self, exchange: i64, row: &ContentRow) -> Result<Vec<u8>> {
        if row.request.0 == Form::Manifest as i64 {
            let (manifest, _) = self.manifest(exchange)?.ok_or_else(|| damaged("a manifest is missing"))?;
            return manifest.rebuild(|hash| self.blocks.block(hash));
        }
        Ok(self.envelope(row)?.map(|e| e.request_body).unwrap_or_default())
    }

    /// Writes a part's exact bytes, checked against the digest taken at capture. False if there is nothing to write.
    pub(super) fn part(&mut self, exchange: i64, part: Part, sink: &mut dyn Write) -> Result<bool> {
        let Some(row) = self.row(exchange)? else {
            return Ok(false);
        };
        if row.envelope.is_none() {
            return Ok(false);
        }
        let (form, list, digest_at) = match part {
            Part::RequestBody => (row.request.0, row.request.1.as_deref(), 0),
            Part::ResponseBody => (row.response.0, row.response.1.as_deref(), 16),
            Part::RequestHead | Part::ResponseHead => return self.head(&row, part, sink),
        };
        let mut hasher = blake3::Hasher::new();
        let mut write = |bytes: &[u8]| {
            hasher.update(bytes);
            sink.write_all(bytes).map_err(Error::Output)
        };
        if form == Form::Chunks as i64 {
            for hash in list.unwrap_or_default().chunks_exact(16) {
                let hash = hash.try_into().map_err(|_| damaged("a list of chunks cannot be read"))?;
                write(&self.blocks.block(&hash)?)?;
            }
        } else if part == Part::RequestBody {
            write(&self.request_body(exchange, &row)?)?;
        } else if let Some(envelope) = self.envelope(&row)? {
            write(&envelope.response_body)?;
        }
        let expected = row.digests.as_deref().and_then(|d| d.get(digest_at..digest_at + 16)).unwrap_or_default();
        let found = hasher.finalize();
        let found = &found.as_bytes()[..16];
        if expected != found {
            let message =
                format!("body of exchange {exchange} has digest {}, recorded was {}", hex(found), hex(expected));
            return Err(damaged(message));
        }
        Ok(true)
    }

    fn head(&mut self, row: &ContentRow, part: Part, sink: &mut dyn Write) -> Result<bool> {
        let Some(envelope) = self.envelope(row)? else {
            return Ok(false);
        };
        let lines = if part == Part::RequestHead {
            wire::head::RequestHead::decode(&envelope.request_head).map(|h| h.header_lines())
        } else if envelope.response_head.is_empty() {
            return Ok(false);
        } else {
            wire::head::ResponseHead::decode(&envelope.response_head).map(|h| h.header_lines())
        };
        let lines = lines.map_err(|e| damaged(format!("a recorded head cannot be read: {e}")))?;
        sink.write_all(&lines).map_err(Error::Output)?;
        Ok(true)
    }
}
