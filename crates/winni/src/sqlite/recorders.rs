//! Recorders, and how far the sequence of each is stored.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use super::tables::Tables;
use crate::store::{Result, Watermark};

impl Tables<'_> {
    pub(super) fn find_recorder(&self, uuid: Uuid) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached("SELECT id FROM recorder WHERE tenant = ?1 AND uuid = ?2")?
            .query_row(params![self.tenant, uuid.as_bytes()], |row| row.get(0))
            .optional()?)
    }

    pub(super) fn read_watermark(&self, recorder: i64) -> Result<Watermark> {
        let stored: i64 = self
            .connection
            .prepare_cached("SELECT contiguous FROM recorder WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, recorder], |row| row.get(0))?;
        let mut watermark = Watermark { contiguous: stored as u64, beyond: Vec::new() };
        let mut query = self
            .connection
            .prepare_cached("SELECT seq FROM record WHERE tenant = ?1 AND recorder = ?2 AND seq >= ?3 ORDER BY seq")?;
        let mut rows = query.query(params![self.tenant, recorder, stored])?;
        while let Some(row) = rows.next()? {
            let seq = row.get::<_, i64>(0)? as u64;
            if seq == watermark.contiguous {
                watermark.contiguous += 1;
            } else {
                watermark.beyond.push(seq);
            }
        }
        Ok(watermark)
    }
}
