//! Moving a record out of a file, or into one.

use std::path::Path;

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, ToSql, TransactionBehavior, params, params_from_iter};

use super::error::damaged;
use super::schema::{self, DEFAULT_TENANT};
use super::tables::{EPOCH, Tables};
use super::{at_path, create_folder};
use crate::model::Timestamp;
use crate::moving::sides::{About, REBUILT_TOGETHER, Reads, Rebuild, Take, Writes};
use crate::moving::tables::{Cell, Column, Key, Kind, Next, Row, TABLES, Table, moment, text_key};
use crate::store::{Error, Result};

/// The month of a moment, as PostgreSQL counts them.
type MonthOf = fn(Timestamp) -> i32;

/// A record that is read: one connection, in one transaction.
pub(crate) struct Reader {
    connection: Connection,
    /// Given where the destination has an epoch for each month.
    month_of: Option<MonthOf>,
    /// The epoch in which that destination keeps what stands in [`EPOCH`] here.
    epoch: i32,
    is_only_epoch: bool,
}

/// The file that a record is moved to.
pub(crate) struct Writer {
    connection: Connection,
}

/// Opens a file that exists, and brings it to this program's schema where needed.
///
/// For a destination with an epoch for each month, what was recorded here is told to stand in the month of its newest
/// exchange: its months share blocks and manifests, so that it goes together or not at all, and it must not go before its
/// newest month does. If that month is there already (the record was moved here, and went on), it is the next one that is not.
pub(crate) fn open_source(path: &Path, month_of: Option<MonthOf>) -> Result<Reader> {
    if !schema::is_current(path).map_err(|e| at_path(e, path))? {
        drop(schema::open_writer(path).map_err(|e| at_path(e, path))?);
    }
    let mut reader = Reader::open(path)?;
    reader.month_of = month_of;
    reader.find_month()?;
    Ok(reader)
}

/// Opens a file, and creates it where needed.
pub(crate) fn open_destination(path: &Path) -> Result<(Reader, Writer)> {
    create_folder(path)?;
    let connection = schema::open_writer(path).map_err(|e| at_path(e, path))?;
    Ok((Reader::open(path)?, Writer { connection }))
}

impl Reader {
    fn open(path: &Path) -> Result<Self> {
        let connection = schema::open_reader(path).map_err(|e| at_path(e, path))?;
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        connection.create_scalar_function("text_key", 1, flags, |call| Ok(text_key(call.get_raw(0).as_str()?)))?;
        connection.execute_batch("BEGIN")?;
        Ok(Self { connection, month_of: None, epoch: EPOCH, is_only_epoch: true })
    }

    fn find_month(&mut self) -> Result<()> {
        let Some(month_of) = self.month_of else { return Ok(()) };
        let newest = self.connection.query_row(
            "SELECT max(coalesce((SELECT max(started_at) FROM exchange WHERE tenant = ?1 AND epoch = ?2), 0),
                        coalesce((SELECT max(at) FROM frame WHERE tenant = ?1 AND epoch = ?2), 0))",
            [DEFAULT_TENANT, i64::from(EPOCH)],
            |row| row.get(0),
        )?;
        // A clock that was wrong must not keep all of it for ever.
        let month = month_of(Timestamp(newest).min(Timestamp::now()));
        let mut others = self.epochs()?;
        others.retain(|epoch| *epoch != EPOCH);
        self.epoch = (month..).find(|epoch| !others.contains(epoch)).unwrap_or(EPOCH);
        self.is_only_epoch = others.is_empty();
        Ok(())
    }

    /// Those that hold anything.
    fn epochs(&self) -> Result<Vec<i32>> {
        let mut epochs = self.connection.prepare(
            "SELECT epoch FROM exchange WHERE tenant = ?1 UNION SELECT epoch FROM frame WHERE tenant = ?1
             UNION SELECT epoch FROM pack_piece WHERE tenant = ?1",
        )?;
        let epochs = epochs.query_map([DEFAULT_TENANT], |row| row.get(0))?;
        Ok(epochs.collect::<std::result::Result<_, _>>()?)
    }

    /// A column as the destination is to have it.
    fn told(&self, column: &Column) -> String {
        match column.sqlite {
            "epoch" if self.epoch != EPOCH => format!("CASE epoch WHEN {EPOCH} THEN {} ELSE epoch END", self.epoch),
            name => name.to_owned(),
        }
    }

    /// What rows come in the order of. A single epoch needs no sorting: an index has that order.
    fn order_of(&self, column: &Column) -> String {
        if self.is_only_epoch { column.sqlite.to_owned() } else { self.told(column) }
    }
}

impl Reads for Reader {
    fn refresh(&mut self) -> Result<()> {
        self.connection.execute_batch("COMMIT; BEGIN")?;
        self.find_month()
    }

    fn about(&mut self) -> Result<About> {
        let key = self.connection.query_row("SELECT block_key FROM tenant WHERE id = ?1", [DEFAULT_TENANT], |row| {
            row.get::<_, Vec<u8>>(0)
        })?;
        let next = |table: &str| {
            let sql = "SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence WHERE name = ?1";
            self.connection.query_row(sql, [table], |row| row.get::<_, i64>(0))
        };
        let pack = "SELECT coalesce(max(pack), 0) + 1 FROM pack_piece WHERE tenant = ?1";
        let next = Next {
            exchange: next("exchange")?,
            message: next("message")?,
            frame: next("frame")?,
            pack: self.connection.query_row(pack, [DEFAULT_TENANT], |row| row.get(0))?,
        };
        let told = |epoch| if epoch == EPOCH { self.epoch } else { epoch };
        let epochs = self.epochs()?.into_iter().map(told).collect();
        Ok(About { key, moved: schema::moved(&self.connection)?, epochs, next })
    }

    fn mark(&mut self) -> Result<String> {
        // Counts the commits of others that this connection has come to see.
        let version: i64 = self.connection.query_row("PRAGMA data_version", [], |row| row.get(0))?;
        Ok(version.to_string())
    }

    fn rows(&self, table: &Table, take: Take<'_>) -> Result<()> {
        let columns: Vec<String> = table.columns.iter().map(|column| self.told(column)).collect();
        let order: Vec<String> = match table.key {
            Key::First(_) => table.key_columns().iter().map(|column| self.order_of(column)).collect(),
            Key::DigestOfFirst => table.key_columns().iter().map(|c| format!("text_key({})", c.sqlite)).collect(),
        };
        let by = if order.is_empty() { "1".to_owned() } else { order.join(", ") };
        let sql = format!("SELECT {} FROM {} WHERE tenant = ?1 ORDER BY {by}", columns.join(", "), table.name);
        let mut query = self.connection.prepare(&sql)?;
        let mut found = query.query([DEFAULT_TENANT])?;
        let mut page = Vec::with_capacity(table.page);
        while let Some(row) = found.next()? {
            let cell = |(index, column): (usize, &Column)| cell_of(row.get_ref(index)?, column.kind);
            page.push(table.columns.iter().enumerate().map(cell).collect::<Result<Row>>()?);
            if page.len() == table.page && !take(std::mem::take(&mut page))? {
                return Ok(());
            }
        }
        take(page).map(|_| ())
    }

    fn rebuilt(&self, table: &str, rebuild: Rebuild, take: Take<'_>) -> Result<()> {
        let tables = Tables { connection: &self.connection, tenant: DEFAULT_TENANT };
        let sql = format!("SELECT id FROM {table} WHERE tenant = ?1 AND id > ?2 ORDER BY id LIMIT ?3");
        let mut query = self.connection.prepare(&sql)?;
        let mut after = i64::MIN;
        loop {
            let ids = query.query_map(params![DEFAULT_TENANT, after, REBUILT_TOGETHER], |row| row.get(0))?;
            let ids: Vec<i64> = ids.collect::<std::result::Result<_, _>>()?;
            let Some(&last) = ids.last() else { return Ok(()) };
            after = last;
            if !take(rebuild(&tables, &ids)?)? {
                return Ok(());
            }
        }
    }
}

impl Writes for Writer {
    fn begin(&mut self, key: &[u8]) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for table in TABLES.iter().filter(|table| table.name != "total") {
            transaction.execute(&format!("DELETE FROM {} WHERE tenant = ?1", table.name), [DEFAULT_TENANT])?;
        }
        transaction.execute("UPDATE tenant SET block_key = ?2 WHERE id = ?1", params![DEFAULT_TENANT, key])?;
        transaction.execute(
            "INSERT INTO moving (tenant, finished) VALUES (?1, 0) ON CONFLICT (tenant) DO UPDATE SET finished = 0",
            [DEFAULT_TENANT],
        )?;
        Ok(transaction.commit()?)
    }

    fn prepare(&mut self, _epochs: &[i32]) -> Result<()> {
        Ok(())
    }

    fn apply(&mut self, table: &Table, remove: &[Row], add: &[Row]) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let keys = table.key_columns();
        let conditions: Vec<String> =
            keys.iter().enumerate().map(|(n, column)| format!("AND {} = ?{}", column.sqlite, n + 2)).collect();
        let sql = format!("DELETE FROM {} WHERE tenant = ?1 {}", table.name, conditions.join(" "));
        for row in remove {
            let tenant = Cell::Integer(DEFAULT_TENANT);
            let values = std::iter::once(&tenant).chain(row.iter().take(keys.len()));
            transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        }
        let columns: Vec<&str> = table.columns.iter().map(|column| column.sqlite).collect();
        let places: Vec<String> = (2..columns.len() + 2).map(|n| format!("?{n}")).collect();
        let sql =
            format!("INSERT INTO {} (tenant, {}) VALUES (?1, {})", table.name, columns.join(", "), places.join(", "));
        for row in add {
            let tenant = Cell::Integer(DEFAULT_TENANT);
            let values = std::iter::once(&tenant).chain(row);
            transaction.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        }
        Ok(transaction.commit()?)
    }

    fn finish(&mut self, next: Next, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (table, next) in [("exchange", next.exchange), ("message", next.message), ("frame", next.frame)] {
            transaction.execute("DELETE FROM sqlite_sequence WHERE name = ?1", [table])?;
            transaction.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?1, ?2)", params![table, next - 1])?;
        }
        transaction.execute(
            "INSERT INTO message_unindexed (tenant, message) SELECT tenant, id FROM message WHERE tenant = ?1",
            [DEFAULT_TENANT],
        )?;
        transaction.execute("UPDATE moving SET finished = 1 WHERE tenant = ?1", [DEFAULT_TENANT])?;
        check()?;
        transaction.commit()?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        Ok(())
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Cell::Null => ToSqlOutput::Owned(Value::Null),
            Cell::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Cell::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Cell::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
        })
    }
}

fn cell_of(value: ValueRef<'_>, kind: Kind) -> Result<Cell> {
    Ok(match value {
        ValueRef::Null => Cell::Null,
        // Moments that another database cannot hold are its first or last one.
        ValueRef::Integer(number) if kind == Kind::Moment => Cell::Integer(moment(number)),
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Text(text) => {
            let text = std::str::from_utf8(text).map_err(|_| damaged("a text is not UTF-8"))?;
            Cell::Text(text.to_owned())
        }
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(Error::Damaged("a number is not whole".into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that are made anew from the others, or belong to the database and not to the record.
    const OTHERS: [&str; 4] = ["tenant", "moving", "message_unindexed", "message_words"];

    #[test]
    fn every_column_of_the_record_is_moved() {
        let folder = tempfile::tempdir().unwrap();
        let connection = schema::open_writer(&folder.path().join("iccm.db")).unwrap();
        let sql = "SELECT t.name, c.name FROM pragma_table_list t JOIN pragma_table_info(t.name) c
             WHERE t.schema = 'main' AND t.type IN ('table', 'virtual') AND t.name NOT LIKE 'sqlite_%'";
        let mut query = connection.prepare(sql).unwrap();
        let found = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let mut found: Vec<(String, String)> = found.collect::<std::result::Result<_, _>>().unwrap();
        found.retain(|(table, column)| !OTHERS.contains(&table.as_str()) && column != "tenant");
        found.sort();
        let of = |table: &Table| {
            let name = table.name;
            table.columns.iter().map(move |column| (name.to_owned(), column.sqlite.to_owned())).collect::<Vec<_>>()
        };
        let mut moved: Vec<(String, String)> = TABLES.iter().flat_map(of).collect();
        moved.sort();
        assert_eq!(found, moved);
    }
}
