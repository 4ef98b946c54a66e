//! Giving an exchange's heads and bodies back, exactly.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use wire::spans::ArrayKey;

use super::blocks::BlockReader;
use super::{damaged, hex};
use crate::content::element;
use crate::content::envelope::Envelope;
use crate::content::manifest::{BlockHash, ElementRef, Manifest};
use crate::conversation::request::HISTORIES;
use crate::model::Part;
use crate::store::{Error, Result};
use crate::tables::{Content, ContentRow, Form};

/// Manifests kept, so that the next one, which stands on them, need not read them again.
const MAX_MANIFESTS: usize = 128;

/// How many manifests one may have to read to know one body.
pub(crate) const MAX_DEPTH: u32 = 32;

impl ContentRow {
    /// The bodies that are kept in chunks, as lists of the chunks' hashes.
    pub(crate) fn chunk_lists(&self) -> impl Iterator<Item = &[u8]> {
        let list = |form: i64, data: &Option<Vec<u8>>| form == Form::Chunks as i64 && data.is_some();
        let request = self.request_data.as_deref().filter(|_| list(self.request_form, &self.request_data));
        let response = self.response_data.as_deref().filter(|_| list(self.response_form, &self.response_data));
        request.into_iter().chain(response)
    }
}

/// Gives content back.
pub(crate) struct BodyReader<'t> {
    tables: &'t dyn Content,
    pub(crate) blocks: BlockReader<'t>,
    manifests: HashMap<i64, (Arc<Manifest>, u32)>,
}

impl<'t> BodyReader<'t> {
    pub(crate) fn new(tables: &'t dyn Content) -> Self {
        Self { tables, blocks: BlockReader::new(tables), manifests: HashMap::new() }
    }

    /// The content columns of an exchange; `None` if there is no such exchange.
    pub(crate) fn row(&self, exchange: i64) -> Result<Option<ContentRow>> {
        self.tables.content_row(exchange)
    }

    /// `None` if the content was erased.
    pub(crate) fn envelope(&mut self, row: &ContentRow) -> Result<Option<Envelope>> {
        let Some(at) = row.envelope else { return Ok(None) };
        let bytes = self.blocks.bytes(row.epoch, at)?;
        Envelope::decode(&bytes).map(Some).ok_or_else(|| damaged("an envelope cannot be read"))
    }

    /// The manifest of an exchange's request and how many others it stands on; `None` if it has none.
    pub(crate) fn manifest(&mut self, exchange: i64) -> Result<Option<(Arc<Manifest>, u32)>> {
        let mut chain = Vec::new();
        let mut next = Some(exchange);
        let mut base = None;
        while let Some(exchange) = next {
            base = self.manifests.get(&exchange).cloned();
            if base.is_some() {
                break;
            }
            let Some(ContentRow { request_form, request_data: Some(data), request_base, .. }) = self.row(exchange)?
            else {
                return if chain.is_empty() { Ok(None) } else { Err(damaged("a manifest's base is missing")) };
            };
            if request_form != Form::Manifest as i64 {
                return Ok(None);
            }
            chain.push((exchange, data));
            if chain.len() > MAX_DEPTH as usize + 1 {
                return Err(damaged("a manifest stands on too many others"));
            }
            next = request_base;
        }
        if self.manifests.len() + chain.len() > MAX_MANIFESTS {
            self.manifests.clear();
        }
        for (exchange, data) in chain.iter().rev() {
            let (before, depth) = base.map_or((None, 0), |(manifest, depth)| (Some(manifest), depth + 1));
            let manifest = Manifest::decode(data, before.as_deref())
                .ok_or_else(|| damaged(format!("the manifest of exchange {exchange} cannot be read")))?;
            let found = (Arc::new(manifest), depth);
            self.manifests.insert(*exchange, found.clone());
            base = Some(found);
        }
        Ok(base)
    }

    /// How one element of a request's history is kept; `None` if the body is not kept as a manifest or has no such element.
    pub(crate) fn history_ref(&mut self, exchange: i64, number: usize) -> Result<Option<ElementRef>> {
        let Some((manifest, _)) = self.manifest(exchange)? else { return Ok(None) };
        let array = |key: ArrayKey| manifest.arrays.iter().find(|a| a.key == key as u8 && !a.elements.is_empty());
        let array = HISTORIES.into_iter().find_map(array);
        Ok(array.and_then(|a| a.elements.get(number)).cloned())
    }

    /// One element of a request's history; `None` as for [`Self::history_ref`].
    pub(crate) fn history_element(&mut self, exchange: i64, number: usize) -> Result<Option<Vec<u8>>> {
        let Some(element) = self.history_ref(exchange, number)? else { return Ok(None) };
        let epoch = self.row(exchange)?.map_or(0, |row| row.epoch);
        let normal = self.blocks.block(epoch, &element.hash)?;
        let restored = element::restore(&normal, &element.taken);
        restored.map(Some).ok_or_else(|| damaged(format!("an element of exchange {exchange} does not fit its block")))
    }

    /// The request's body, if it is small enough to be kept whole or as a manifest.
    pub(crate) fn request_body(&mut self, exchange: i64, row: &ContentRow) -> Result<Vec<u8>> {
        if row.request_form == Form::Manifest as i64 {
            let (manifest, _) = self.manifest(exchange)?.ok_or_else(|| damaged("a manifest is missing"))?;
            let hashes: Vec<BlockHash> = manifest.blocks().collect();
            self.tables.expect_blocks(row.epoch, &hashes)?;
            return manifest.rebuild(|hash| self.blocks.block(row.epoch, hash));
        }
        Ok(self.envelope(row)?.map(|e| e.request_body).unwrap_or_default())
    }

    /// Writes a part's exact bytes, checked against the digest taken at capture. False if there is nothing to write.
    pub(crate) fn part(&mut self, exchange: i64, part: Part, sink: &mut dyn Write) -> Result<bool> {
        self.tables.expect_content(&[exchange])?;
        let Some(row) = self.row(exchange)? else {
            return Ok(false);
        };
        if row.envelope.is_none() {
            return Ok(false);
        }
        let (form, list, digest_at) = match part {
            Part::RequestBody => (row.request_form, row.request_data.as_deref(), 0),
            Part::ResponseBody => (row.response_form, row.response_data.as_deref(), 16),
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
                write(&self.blocks.block(row.epoch, &hash)?)?;
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
