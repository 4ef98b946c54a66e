//! Blocks and packs in SQLite: reading them back, and adding what is new.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};

use super::error::damaged;
use crate::content::manifest::BlockHash;
use crate::content::pack::{PackReader, PackWriter};
use crate::store::{Error, Result};

/// Everything is in one epoch until retention needs more.
pub(super) const EPOCH: i64 = 0;

/// Packs that one reading keeps unpacked, at most about half a megabyte each.
const MAX_UNPACKED: usize = 32;

/// Where bytes stand in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub(super) pack: i64,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// Reads blocks, keeping the packs that it has unpacked for the next ones.
pub(super) struct BlockReader<'c> {
    connection: &'c Connection,
    tenant: i64,
    unpacked: HashMap<i64, PackReader>,
}

impl<'c> BlockReader<'c> {
    pub(super) fn new(connection: &'c Connection, tenant: i64) -> Self {
        Self { connection, tenant, unpacked: HashMap::new() }
    }

    pub(super) fn locate(&self, hash: &BlockHash) -> Result<Option<Location>> {
        let mut query = self
            .connection
            .prepare_cached("SELECT pack, offset, length FROM block WHERE tenant = ?1 AND epoch = ?2 AND hash = ?3")?;
        let location = query.query_row(params![self.tenant, EPOCH, hash], |row| {
            Ok(Location { pack: row.get(0)?, offset: row.get(1)?, length: row.get(2)? })
        });
        Ok(location.optional()?)
    }

    pub(super) fn block(&mut self, hash: &BlockHash) -> Result<Arc<[u8]>> {
        let location = self.locate(hash)?.ok_or_else(|| damaged(format!("block {} is missing", hex(hash))))?;
        self.bytes(location)
    }

    pub(super) fn bytes(&mut self, location: Location) -> Result<Arc<[u8]>> {
        if !self.unpacked.contains_key(&location.pack) {
            if self.unpacked.len() >= MAX_UNPACKED {
                self.unpacked.clear();
            }
            let reader = self.unpack(location.pack)?;
            self.unpacked.insert(location.pack, reader);
        }
        let raw = self.unpacked.get(&location.pack).map(PackReader::raw).unwrap_or_default();
        raw.get(location.offset..location.offset + location.length)
            .map(Arc::from)
            .ok_or_else(|| damaged(format!("pack {} is shorter than its blocks", location.pack)))
    }

    fn unpack(&self, pack: i64) -> Result<PackReader> {
        let mut reader = PackReader::new();
        let mut query = self.connection.prepare_cached(
            "SELECT data FROM pack_piece WHERE tenant = ?1 AND epoch = ?2 AND pack = ?3 ORDER BY piece",
        )?;
        let mut rows = query.query(params![self.tenant, EPOCH, pack])?;
        while let Some(row) = rows.next()? {
            let data = row.get_ref(0)?.as_blob().map_err(|e| damaged(e.to_string()))?;
            reader.add(data).map_err(|e| damaged(format!("pack {pack}: {e}")))?;
        }
        Ok(reader)
    }
}

/// The packs that are open for more, one for each session that was busy lately.
pub(super) struct OpenPacks {
    by_session: HashMap<i64, OpenPack>,
    uses: u64,
    /// The memory of a pack that was closed, for the next one.
    spare: Option<PackWriter>,
}

struct OpenPack {
    id: i64,
    writer: PackWriter,
    last_use: u64,
}

/// What all open packs may take in memory. A session whose pack is closed for want of it begins a new one.
const OPEN_BYTES: usize = 36 * 1024 * 1024;
/// A pack that so many pieces of others have passed by is closed: its session has ended, or pauses.
const IDLE_USES: u64 = 128;

impl OpenPacks {
    pub(super) fn new() -> Self {
        Self { by_session: HashMap::new(), uses: 0, spare: None }
    }

    /// Forgets all open packs: what a transaction that did not commit has added to them does not exist.
    pub(super) fn forget(&mut self) {
        self.by_session.clear();
    }

    /// Adds one piece to the session's pack: where it stands, and how many bytes that took.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        tenant: i64,
        session: i64,
        raw: &[u8],
    ) -> Result<(Location, u64)> {
        self.uses += 1;
        let uses = self.uses;
        let open = self.open(connection, tenant, session)?;
        open.last_use = uses;
        let piece = open.writer.append(raw).map_err(|e| Error::Unavailable(format!("compressing: {e}")))?;
        let pack = open.id;
        connection
            .prepare_cached(
                "INSERT INTO pack_piece (tenant, epoch, pack, piece, offset, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![tenant, EPOCH, pack, piece.number, piece.offset, piece.data])?;
        if open.writer.is_full() {
            self.close(session);
        }
        Ok((Location { pack, offset: piece.offset, length: raw.len() }, piece.data.len() as u64))
    }

    fn open(&mut self, connection: &Connection, tenant: i64, session: i64) -> Result<&mut OpenPack> {
        if !self.by_session.contains_key(&session) {
            self.make_room();
            let id = next_pack(connection, tenant)?;
            let writer = self.spare.take().map_or_else(PackWriter::new, Ok);
            let writer = writer.map_err(|e| Error::Unavailable(format!("compressing: {e}")))?;
            self.by_session.insert(session, OpenPack { id, writer, last_use: 0 });
        }
        self.by_session.get_mut(&session).ok_or_else(|| damaged("an open pack vanished"))
    }

    fn make_room(&mut self) {
        let idle = |open: &OpenPack| self.uses - open.last_use > IDLE_USES;
        let ended: Vec<i64> = self.by_session.iter().filter(|(_, open)| idle(open)).map(|(s, _)| *s).collect();
        ended.into_iter().for_each(|session| {
            self.close(session);
        });
        let mut taken: usize = self.by_session.values().map(|open| open.writer.memory_bytes()).sum();
        while taken > OPEN_BYTES
            && let Some(&oldest) = self.by_session.iter().min_by_key(|(_, p)| p.last_use).map(|(s, _)| s)
        {
            taken -= self.close(oldest);
        }
    }

    /// Closes a pack: how much memory it took.
    fn close(&mut self, session: i64) -> usize {
        let Some(closed) = self.by_session.remove(&session) else { return 0 };
        let bytes = closed.writer.memory_bytes();
        self.spare = closed.writer.begin_anew().ok();
        bytes
    }
}

/// The write lock makes this number nobody else's, once a piece of it is in.
fn next_pack(connection: &Connection, tenant: i64) -> Result<i64> {
    Ok(connection
        .prepare_cached("SELECT coalesce(max(pack), 0) + 1 FROM pack_piece WHERE tenant = ?1 AND epoch = ?2")?
        .query_row(params![tenant, EPOCH], |row| row.get(0))?)
}

pub(super) fn insert_block(connection: &Connection, tenant: i64, hash: &BlockHash, at: Location) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO block (tenant, epoch, hash, pack, offset, length) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (tenant, epoch, hash) DO UPDATE SET pack = ?4, offset = ?5, length = ?6",
        )?
        .execute(params![tenant, EPOCH, hash, at.pack, at.offset, at.length])?;
    Ok(())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
