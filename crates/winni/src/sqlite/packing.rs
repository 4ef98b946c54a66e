//! Adding packs and blocks.

use rusqlite::params;

use super::tables::Tables;
use crate::content::manifest::BlockHash;
use crate::content::pack::Piece;
use crate::store::Result;
use crate::tables::{Location, Packing, RowSizes};

impl Packing for Tables<'_> {
    fn row_sizes(&self) -> RowSizes {
        RowSizes { record: 10, exchange: 150, message: 84, block: 32, piece: 14, frame: 130, tool_use: 48 }
    }

    /// The write lock makes this number nobody else's, once a piece of it is in.
    fn next_pack(&self, epoch: i32) -> Result<i64> {
        Ok(self
            .connection
            .prepare_cached("SELECT coalesce(max(pack), 0) + 1 FROM pack_piece WHERE tenant = ?1 AND epoch = ?2")?
            .query_row(params![self.tenant, epoch], |row| row.get(0))?)
    }

    fn insert_piece(&self, epoch: i32, pack: i64, piece: Piece) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO pack_piece (tenant, epoch, pack, piece, offset, data) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![self.tenant, epoch, pack, piece.number, piece.offset, piece.data])?;
        Ok(())
    }

    fn put_block(&self, epoch: i32, hash: &BlockHash, at: Location) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO block (tenant, epoch, hash, pack, offset, length) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (tenant, epoch, hash) DO UPDATE SET pack = ?4, offset = ?5, length = ?6",
            )?
            .execute(params![self.tenant, epoch, hash, at.pack, at.offset, at.length])?;
        Ok(())
    }
}
