//! What a batch has gathered, on its way to the database.

use std::collections::BTreeMap;

use super::super::connection::{Connection, Value};
use super::rows::{BLOCKS, EXCHANGES, MESSAGES, PIECES, RECORDS, UNINDEXED};
use crate::model::Timestamp;
use crate::store::Result;

/// Rows that are to be written.
#[derive(Default)]
pub(super) struct Pending {
    pub(super) exchanges: Vec<Vec<Value>>,
    pub(super) messages: Vec<Vec<Value>>,
    pub(super) unindexed: Vec<Vec<Value>>,
    pub(super) records: Vec<Vec<Value>>,
    pub(super) blocks: Vec<Vec<Value>>,
    pub(super) pieces: Vec<Vec<Value>>,
    /// Last turn and time of conversations that have got turns.
    pub(super) tips: BTreeMap<i64, (i64, Timestamp)>,
}

impl Pending {
    /// Writes all of it, in one journey.
    pub(super) fn write(self, connection: &Connection, tenant: i64) -> Result<()> {
        let Self { exchanges, messages, unindexed, records, blocks, pieces, tips } = self;
        connection.copy_all(&[
            (&PIECES, &pieces),
            (&BLOCKS, &blocks),
            (&EXCHANGES, &exchanges),
            (&MESSAGES, &messages),
            (&UNINDEXED, &unindexed),
            (&RECORDS, &records),
        ])?;
        if tips.is_empty() {
            return Ok(());
        }
        let conversations: Vec<i64> = tips.keys().copied().collect();
        let (tips, times): (Vec<i64>, Vec<Timestamp>) = tips.into_values().unzip();
        connection.execute(
            "UPDATE conversation c SET tip = n.tip, updated_at = greatest(c.updated_at, n.at)
             FROM unnest($2::bigint[], $3::bigint[], $4::timestamptz[]) AS n (id, tip, at)
             WHERE c.tenant = $1 AND c.id = n.id",
            &[&tenant, &conversations, &tips, &times],
        )?;
        Ok(())
    }
}
