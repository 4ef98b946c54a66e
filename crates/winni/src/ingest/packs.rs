//! The packs that are open for more, one for each session that was busy lately.

use std::collections::HashMap;

use crate::content::pack::PackWriter;
use crate::reading::damaged;
use crate::store::{Error, Result};
use crate::tables::{Location, Packing};

/// Open packs, all of one epoch.
pub(crate) struct OpenPacks {
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
    pub(crate) fn new() -> Self {
        Self { by_session: HashMap::new(), uses: 0, spare: None }
    }

    /// Forgets all open packs: what a transaction that did not commit has added to them does not exist.
    pub(crate) fn forget(&mut self) {
        self.by_session.clear();
    }

    /// Adds one piece to the session's pack: where it stands, and how many bytes that took.
    pub(crate) fn append(
        &mut self,
        tables: &dyn Packing,
        epoch: i32,
        session: i64,
        raw: &[u8],
    ) -> Result<(Location, u64)> {
        self.uses += 1;
        let uses = self.uses;
        let open = self.open(tables, epoch, session)?;
        open.last_use = uses;
        let piece = open.writer.append(raw).map_err(|e| Error::Unavailable(format!("compressing: {e}")))?;
        let at = Location { pack: open.id, offset: piece.offset, length: raw.len() };
        let size = piece.data.len() as u64;
        tables.insert_piece(epoch, open.id, piece)?;
        if open.writer.is_full() {
            self.close(session);
        }
        Ok((at, size))
    }

    fn open(&mut self, tables: &dyn Packing, epoch: i32, session: i64) -> Result<&mut OpenPack> {
        if !self.by_session.contains_key(&session) {
            self.make_room();
            let id = tables.next_pack(epoch)?;
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
