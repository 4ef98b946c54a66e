//! What the writing side remembers between exchanges.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, params};
use wire::spans::Spans;

use super::blocks::OpenPacks;
use super::bodies::{Base, Kept};
use super::body_reader::BodyReader;
use super::fresh::Fresh;
use super::lines::Lines;
use crate::content::manifest::{BlockHash, Manifest};
use crate::content::resent::{Earlier, Line};
use crate::conversation::identity::{MessageDigest, Role};
use crate::recent::Recent;
use crate::store::Result;

/// What the writer remembers, so that it need not read it again. All of it can be forgotten at any time.
pub(super) struct Memory {
    pub(super) key: [u8; 32],
    pub(super) packs: OpenPacks,
    pub(super) raw: Recent<BlockHash, Arc<[u8]>>,
    pub(super) messages: Recent<BlockHash, (Role, MessageDigest)>,
    /// The newest body of each line of requests.
    pub(super) earlier: Recent<Line, Arc<Earlier>>,
    /// Shared with those who fill the full-text index.
    pub(super) fresh: Arc<Fresh>,
    manifests: HashMap<i64, Base>,
    names: HashMap<String, i64>,
    erasures: i64,
}

/// Bytes of raw blocks in each generation.
const RAW_BYTES: usize = 2 * 1024 * 1024;
/// Bytes of bodies in each generation; a larger one than a quarter of it is not remembered.
const EARLIER_BYTES: usize = 4 * 1024 * 1024;
const MAX_MESSAGES: usize = 50_000;
const MAX_MANIFESTS: usize = 64;
const MAX_NAMES: usize = 1_000;

impl Memory {
    pub(super) fn new(key: [u8; 32]) -> Self {
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
        }
    }

    pub(super) fn forget_uncommitted(&mut self) {
        self.packs.forget();
        self.raw.clear();
        self.earlier.clear();
        self.fresh.clear();
        self.manifests.clear();
        self.names.clear();
    }

    /// Another process may have erased what is remembered here as stored.
    pub(super) fn heed_erasures(&mut self, connection: &Connection, tenant: i64) -> Result<()> {
        let erasures = connection
            .prepare_cached("SELECT erasures FROM total WHERE tenant = ?1")?
            .query_row([tenant], |row| row.get(0))?;
        if erasures != self.erasures {
            self.forget_uncommitted();
            self.erasures = erasures;
        }
        Ok(())
    }

    /// The number of a text that many rows share.
    pub(super) fn name(&mut self, lines: Lines<'_>, text: &str) -> Result<i64> {
        if let Some(&id) = self.names.get(text) {
            return Ok(id);
        }
        let id = lines.name(text)?;
        if self.names.len() >= MAX_NAMES {
            self.names.clear();
        }
        self.names.insert(text.to_owned(), id);
        Ok(id)
    }

    /// The newest request of the conversation, to write the next one's manifest relative to it.
    pub(super) fn base(&self, connection: &Connection, tenant: i64, conversation: i64) -> Result<Option<Base>> {
        if let Some(base) = self.manifests.get(&conversation) {
            return Ok(Some(base.clone()));
        }
        let newest: Option<i64> = connection
            .prepare_cached(
                "SELECT max(id) FROM exchange WHERE tenant = ?1 AND request_form = 2 AND conversation IN
             (?2, (SELECT fork_of FROM conversation WHERE tenant = ?1 AND id = ?2))",
            )?
            .query_row(params![tenant, conversation], |row| row.get(0))?;
        let Some(exchange) = newest else { return Ok(None) };
        let found = BodyReader::new(connection, tenant).manifest(exchange)?;
        Ok(found.map(|(manifest, depth)| Base { exchange, manifest, depth }))
    }

    pub(super) fn remember(&mut self, conversation: i64, exchange: i64, kept: &Kept) {
        if let Some((manifest, depth)) = &kept.manifest {
            if self.manifests.len() >= MAX_MANIFESTS {
                self.manifests.clear();
            }
            let manifest: Arc<Manifest> = manifest.clone();
            self.manifests.insert(conversation, Base { exchange, manifest, depth: *depth });
        }
    }

    /// Keeps a body that was proved to be rebuildable, for the next one of its line.
    pub(super) fn remember_body(&mut self, line: Line, spans: Option<Spans>, kept: &mut Kept) {
        if let (Some(body), Some(spans), Some((manifest, _))) = (kept.body.take(), spans, &kept.manifest)
            && body.len() <= EARLIER_BYTES / 4
        {
            let weight = body.len();
            self.earlier.put(line, Arc::new(Earlier { body, spans, manifest: manifest.clone() }), weight);
        }
    }
}
