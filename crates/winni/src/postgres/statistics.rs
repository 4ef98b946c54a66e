//! What the server's planner knows of the tables.
//!
//! To a planner that has seen a table empty, any index is as good as another, and of a table with partitions the server
//! looks at the partitions alone. So the tables are looked at whenever they have doubled: some twenty times in a record's
//! life, after which plans that were made before are made anew.

use super::connection::Connection;
use crate::moving::tables::TABLES;
use crate::store::Result;

/// Fewer rows more are not worth a look.
const LEAST: i64 = 500;

/// How many exchanges, messages and frames there were when the planner last looked.
pub(super) struct Statistics {
    rows: [i64; 3],
}

impl Statistics {
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let mut rows = [0; 3];
        for (rows, table) in rows.iter_mut().zip(["exchange", "message", "frame"]) {
            // Negative before the first look.
            let sql = "SELECT reltuples::bigint FROM pg_class WHERE oid = to_regclass($1)";
            *rows = connection.query_one(sql, &[&table])?.try_get::<_, i64>(0)?.max(0);
        }
        Ok(Self { rows })
    }

    /// Lets the planner look if it is time to. That it cannot is no harm to what is stored.
    pub(super) fn keep_up(&mut self, connection: &Connection, rows: [i64; 3]) {
        if rows.iter().zip(self.rows).all(|(now, then)| *now < 2 * then + LEAST) {
            return;
        }
        self.rows = rows;
        if let Err(error) = analyze(connection) {
            tracing::warn!(%error, "the database's statistics could not be renewed; queries may be slow");
        }
    }
}

/// Looks at every table, and at the queue and the index of words.
pub(super) fn analyze(connection: &Connection) -> Result<()> {
    let tables = TABLES.iter().map(|table| table.name).chain(["message_words", "message_unindexed"]);
    tables.into_iter().try_for_each(|table| connection.batch(&format!("ANALYZE {table}")))
}
