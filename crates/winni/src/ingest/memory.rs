//! What the writing side remembers between exchanges.

use std::collections::HashMap;
use std::sync::Arc;

use wire::spans::Spans;

use super::bodies::{Base, BodyWriter, Kept, WholeBody};
use super::fresh::Fresh;
use super::packs::OpenPacks;
use crate::content::manifest::{BlockHash, Manifest};
use crate::content::resent::{Earlier, Line};
use crate::conversation::identity::{MessageDigest, Role};
use crate::reading::BodyReader;
use crate::recent::Recent;
use crate::store::Result;
use crate::tables::Ingest;

/// What the writer remembers, so that it need not read it again. All of it can be forgotten at any time.
pub(crate) struct Memory {
    pub(crate) key: [u8; 32],
    packs: OpenPacks,
    raw: Recent<BlockHash, Arc<[u8]>>,
    pub(crate) messages: Recent<BlockHash, (Role, MessageDigest)>,
    /// The newest body of each line of requests.
    pub(crate) earlier: Recent<Line, Arc<Earlier>>,
    /// Shared with those who fill the full-text index.
    pub(crate) fresh: Arc<Fresh>,
    manifests: HashMap<i64, Base>,
    names: HashMap<String, i64>,
    erasures: i64,
    /// The one that packs, blocks, bodies and manifests are of.
    epoch: i32,
}

/// Bytes of raw blocks in each generation.
const RAW_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of bodies in each generation; a larger one than a quarter of it is not remembered.
const EARLIER_BYTES: usize = 4 * 1024 * 1024;
const MAX_MESSAGES: usize = 50_000;
const MAX_MANIFESTS: usize = 64;
const MAX_NAMES: usize = 1_000;

impl Memory {
    pub(crate) fn new(key: [u8; 32]) -> Self {
        Self {
            key,
            packs: OpenPacks::new(),
            raw: Recent::new(RAW_BYTES),
            messages: Recent::new(MAX_MESSAGES),
            earlier: Recent::new(EARLIER_BYTES),
            fresh: Arc::new(Fresh::new()),
            manifests: HashMap::new(),
            names: HashMap::new(),
            erasures: 0,
            epoch: 0,
        }
    }

    pub(crate) fn forget_uncommitted(&mut self) {
        self.packs.forget();
        self.raw.clear();
        self.earlier.clear();
        self.fresh.clear();
        self.manifests.clear();
        self.names.clear();
    }

    /// Another process may have erased what is remembered here as stored.
    pub(crate) fn heed_erasures(&mut self, tables: &dyn Ingest) -> Result<()> {
        let erasures = tables.erasures()?;
        if erasures != self.erasures {
            self.forget_uncommitted();
            self.erasures = erasures;
        }
        Ok(())
    }

    /// What is remembered of another epoch's content is of no use in this one.
    pub(crate) fn enter(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.forget_uncommitted();
            self.epoch = epoch;
        }
    }

    /// Keeps content of this session in the epoch that was entered.
    pub(crate) fn body_writer<'m>(&'m mut self, tables: &'m dyn Ingest, session: Option<i64>) -> BodyWriter<'m> {
        BodyWriter {
            tables,
            epoch: self.epoch,
            key: &self.key,
            packs: &mut self.packs,
            raw: &mut self.raw,
            session: session.unwrap_or(0),
            stored_bytes: 0,
        }
    }

    /// The blocks of a body that are not remembered as kept.
    pub(crate) fn unknown_blocks(&mut self, body: &WholeBody) -> Vec<BlockHash> {
        let blocks = body.split.iter().flat_map(|split| &split.blocks);
        blocks.map(|(hash, _)| *hash).filter(|hash| self.raw.get(hash).is_none()).collect()
    }

    /// The number of a text that many rows share.
    pub(crate) fn name(&mut self, tables: &dyn Ingest, text: &str) -> Result<i64> {
        if let Some(&id) = self.names.get(text) {
            return Ok(id);
        }
        let id = tables.name(text)?;
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert(text.to_owned(), id);
        Ok(id)
    }

    /// The newest request of the conversation, to write the next one's manifest relative to it.
    pub(crate) fn base(&self, tables: &dyn Ingest, conversation: i64) -> Result<Option<Base>> {
        if let Some(base) = self.manifests.get(&conversation) {
            return Ok(Some(base.clone()));
        }
        let Some(exchange) = tables.newest_manifest(conversation)? else { return Ok(None) };
        if tables.content_row(exchange)?.is_none_or(|row| row.epoch != self.epoch) {
            return Ok(None);
        }
        let found = BodyReader::new(tables).manifest(exchange)?;
        Ok(found.map(|(manifest, depth)| Base { exchange, manifest, depth }))
    }

    pub(crate) fn remember(&mut self, conversation: i64, exchange: i64, kept: &Kept) {
        if let Some((manifest, depth)) = &kept.manifest {
            if self.manifests.len() >= MAX_MANIFESTS {
                self.manifests.clear();
            }
            let manifest: Arc<Manifest> = manifest.clone();
            self.manifests.insert(conversation, Base { exchange, manifest, depth: *depth });
        }
    }

    /// Keeps a body that was taken apart, for the next one of its line.
    pub(crate) fn remember_body(&mut self, line: Line, body: &WholeBody, spans: &Arc<Spans>) -> Option<Arc<Earlier>> {
        let split = body.split.as_ref().filter(|_| body.bytes.len() <= EARLIER_BYTES / 4)?;
        let earlier = Arc::new(Earlier::new(body.bytes.clone(), spans.clone(), split.manifest.clone()));
        self.earlier.put(line, earlier.clone(), body.bytes.len());
        Some(earlier)
    }
}
