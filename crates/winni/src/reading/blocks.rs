//! Blocks and packs, read back.

use std::collections::HashMap;
use std::sync::Arc;

use super::{damaged, hex};
use crate::content::manifest::BlockHash;
use crate::content::pack::PackReader;
use crate::store::Result;
use crate::tables::{Content, Location};

/// Packs that one reading keeps unpacked, at most about half a megabyte each.
const MAX_UNPACKED: usize = 32;

/// Reads blocks, keeping the packs that it has unpacked for the next ones.
pub(crate) struct BlockReader<'t> {
    tables: &'t dyn Content,
    /// By epoch and number: those of a record that was moved may count alike in several epochs.
    unpacked: HashMap<(i32, i64), PackReader>,
}

impl<'t> BlockReader<'t> {
    pub(crate) fn new(tables: &'t dyn Content) -> Self {
        Self { tables, unpacked: HashMap::new() }
    }

    pub(crate) fn locate(&self, epoch: i32, hash: &BlockHash) -> Result<Option<Location>> {
        self.tables.locate(epoch, hash)
    }

    pub(crate) fn block(&mut self, epoch: i32, hash: &BlockHash) -> Result<Arc<[u8]>> {
        let location = self.locate(epoch, hash)?.ok_or_else(|| damaged(format!("block {} is missing", hex(hash))))?;
        self.bytes(epoch, location)
    }

    pub(crate) fn bytes(&mut self, epoch: i32, location: Location) -> Result<Arc<[u8]>> {
        let pack = (epoch, location.pack);
        if !self.unpacked.contains_key(&pack) {
            if self.unpacked.len() >= MAX_UNPACKED {
                self.unpacked.clear();
            }
            let reader = self.unpack(epoch, location.pack)?;
            self.unpacked.insert(pack, reader);
        }
        let raw = self.unpacked.get(&pack).map(PackReader::raw).unwrap_or_default();
        raw.get(location.offset..location.offset + location.length)
            .map(Arc::from)
            .ok_or_else(|| damaged(format!("pack {} is shorter than its blocks", location.pack)))
    }

    fn unpack(&self, epoch: i32, pack: i64) -> Result<PackReader> {
        let mut reader = PackReader::new();
        self.tables
            .pieces(epoch, pack, &mut |data| reader.add(data).map_err(|e| damaged(format!("pack {pack}: {e}"))))?;
        Ok(reader)
    }
}
