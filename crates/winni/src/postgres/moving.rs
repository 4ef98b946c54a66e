//! Moving a record out of a database, or into one.

use std::time::Duration;

use tokio_postgres::Row as Found;
use tokio_postgres::types::Type;
use uuid::Uuid;

use super::address::Address;
use super::at_address;
use super::connection::{Connection, Copy, Limits, Value};
use super::error::damaged;
use super::schema::{self, DEFAULT_TENANT};
use super::snapshot::Snapshot;
use super::statistics;
use super::value::{given, stored, text_key};
use crate::model::Timestamp;
use crate::moving::sides::{About, REBUILT_TOGETHER, Reads, Rebuild, Take, Writes};
use crate::moving::tables::{Cell, Column, Key, Kind, Next, Row, TABLES, Table, moment};
use crate::store::Result;

/// A statement that touches a whole table may take as long as the table is large.
const LIMITS: Limits =
    Limits { statement: Duration::from_secs(3_600), lock: Duration::from_secs(30), plans_anew: true };

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A record that is read: one connection, in one transaction.
pub(crate) struct Reader {
    connection: Connection,
}

/// The database that a record is moved to.
pub(crate) struct Writer {
    connection: Connection,
}

/// Connects, and brings the schema to this program's where needed.
pub(crate) fn open_source(url: &str) -> Result<Reader> {
    let address = Address::parse(url)?;
    let opened = Connection::open(&address, LIMITS).and_then(|connection| {
        schema::migrate_unless_current(&connection)?;
        Reader::open(connection)
    });
    opened.map_err(|e| at_address(e, &address))
}

/// Connects, and creates the schema where needed.
pub(crate) fn open_destination(url: &str) -> Result<(Reader, Writer)> {
    let address = Address::parse(url)?;
    let opened = Connection::open(&address, LIMITS).and_then(|connection| {
        schema::migrate(&connection)?;
        Ok((Reader::open(Connection::open(&address, LIMITS)?)?, Writer { connection }))
    });
    opened.map_err(|e| at_address(e, &address))
}

/// The epoch of what happened then.
pub(crate) fn month_of(at: Timestamp) -> i32 {
    schema::epoch_of(at)
}

impl Reader {
    fn open(connection: Connection) -> Result<Self> {
        connection.batch(BEGIN)?;
        Ok(Self { connection })
    }
}

impl Reads for Reader {
    fn refresh(&mut self) -> Result<()> {
        self.connection.batch("COMMIT")?;
        self.connection.batch(BEGIN)
    }

    fn about(&mut self) -> Result<About> {
        let row = self.connection.query_one(
            "SELECT block_key, next_exchange, next_message, next_frame, next_pack
             FROM tenant JOIN total ON total.tenant = tenant.id WHERE tenant.id = $1",
            &[&DEFAULT_TENANT],
        )?;
        let next =
            Next { exchange: row.try_get(1)?, message: row.try_get(2)?, frame: row.try_get(3)?, pack: row.try_get(4)? };
        let epochs = self.connection.query(
            "SELECT epoch FROM exchange WHERE tenant = $1 UNION SELECT epoch FROM frame WHERE tenant = $1
             UNION SELECT epoch FROM pack_piece WHERE tenant = $1",
            &[&DEFAULT_TENANT],
        )?;
        let epochs = epochs.iter().map(|row| row.get(0)).collect();
        Ok(About { key: row.try_get(0)?, moved: schema::moved(&self.connection)?, epochs, next })
    }

    fn mark(&mut self) -> Result<String> {
        // Each writer changes this row when it has written: then it is another version of it.
        let sql = "SELECT concat_ws(' ', xmin, ctid) FROM total WHERE tenant = $1";
        Ok(self.connection.query_one(sql, &[&DEFAULT_TENANT])?.try_get(0)?)
    }

    fn rows(&self, table: &Table, take: Take<'_>) -> Result<()> {
        let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        let order: Vec<&str> = match table.key {
            Key::First(_) => table.key_columns().iter().map(|column| column.name).collect(),
            Key::DigestOfFirst => table.digests.iter().map(|(digest, _)| *digest).collect(),
        };
        let order = if order.is_empty() { "1".to_owned() } else { order.join(", ") };
        let (name, columns) = (table.name, columns.join(", "));
        self.connection.batch(&format!(
            "DECLARE moving_{name} NO SCROLL CURSOR FOR
                 SELECT {columns} FROM {name} WHERE tenant = {DEFAULT_TENANT} ORDER BY {order}"
        ))?;
        let fetch = format!("FETCH {} FROM moving_{name}", table.page);
        loop {
            let found = self.connection.query(&fetch, &[])?;
            if found.is_empty() {
                break;
            }
            if !take(found.iter().map(|row| row_of(row, table)).collect::<Result<_>>()?)? {
                break;
            }
        }
        self.connection.batch(&format!("CLOSE moving_{name}"))
    }

    fn rebuilt(&self, table: &str, rebuild: Rebuild, take: Take<'_>) -> Result<()> {
        let sql = format!("SELECT id FROM {table} WHERE tenant = $1 AND id > $2 ORDER BY id LIMIT $3");
        let mut after = i64::MIN;
        loop {
            let rows = self.connection.query(&sql, &[&DEFAULT_TENANT, &after, &(REBUILT_TOGETHER as i64)])?;
            let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
            let Some(&last) = ids.last() else { return Ok(()) };
            after = last;
            let tables = Snapshot::new(&self.connection, DEFAULT_TENANT);
            if !take(rebuild(&tables, &ids)?)? {
                return Ok(());
            }
        }
    }
}

impl Writes for Writer {
    fn begin(&mut self, key: &[u8]) -> Result<()> {
        let connection = &self.connection;
        connection.transaction("BEGIN", || {
            for table in TABLES.iter().filter(|table| table.name != "total") {
                connection.execute(&format!("DELETE FROM {} WHERE tenant = $1", table.name), &[&DEFAULT_TENANT])?;
            }
            connection.execute("UPDATE tenant SET block_key = $2 WHERE id = $1", &[&DEFAULT_TENANT, &key])?;
            connection.execute(
                "INSERT INTO moving (tenant, finished) VALUES ($1, false)
                 ON CONFLICT (tenant) DO UPDATE SET finished = false",
                &[&DEFAULT_TENANT],
            )?;
            Ok(())
        })
    }

    fn prepare(&mut self, epochs: &[i32]) -> Result<()> {
        epochs.iter().try_for_each(|&epoch| schema::make_partition(&self.connection, epoch))
    }

    fn apply(&mut self, table: &Table, remove: &[Row], add: &[Row]) -> Result<()> {
        let connection = &self.connection;
        connection.transaction("BEGIN", || {
            if table.name == "total" {
                return set_total(connection, add);
            }
            remove.iter().try_for_each(|row| delete(connection, table, row))?;
            let rows: Vec<Vec<Value>> = add.iter().map(|row| values_of(table, row)).collect::<Result<_>>()?;
            let columns = table.columns.iter().map(|column| column.name);
            let columns: Vec<&str> = columns.chain(table.digests.iter().map(|(digest, _)| *digest)).collect();
            let copy = format!("COPY {} (tenant, {}) FROM STDIN (FORMAT binary)", table.name, columns.join(", "));
            connection.copy(&Copy { sql: &copy, types: &types_of(table) }, &rows)
        })
    }

    fn finish(&mut self, next: Next, check: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        let connection = &self.connection;
        connection.transaction("BEGIN", || {
            for name in
                ["name", "recorder", "session", "conversation", "stored_content", "startup_context", "connection"]
            {
                connection.query(
                    &format!(
                        "SELECT setval(pg_get_serial_sequence('iccm.{name}', 'id'), coalesce(max(id), 0) + 1, false)
                         FROM {name}"
                    ),
                    &[],
                )?;
            }
            connection.execute(
                "UPDATE total SET next_exchange = $2, next_message = $3, next_frame = $4, next_pack = $5
                 WHERE tenant = $1",
                &[&DEFAULT_TENANT, &next.exchange, &next.message, &next.frame, &next.pack],
            )?;
            connection.execute(
                "INSERT INTO message_unindexed (tenant, message) SELECT tenant, id FROM message WHERE tenant = $1",
                &[&DEFAULT_TENANT],
            )?;
            connection.execute("UPDATE moving SET finished = true WHERE tenant = $1", &[&DEFAULT_TENANT])?;
            check()
        })?;
        // Plans that were made for empty tables are no good.
        statistics::analyze(connection)
    }
}

/// The row of totals is always there.
fn set_total(connection: &Connection, rows: &[Row]) -> Result<()> {
    for row in rows {
        let values = row.iter().map(number).collect::<Result<Vec<i64>>>()?;
        let [captured, stored, unrecorded, erasures] = values[..] else {
            return Err(damaged("a row of totals has other columns"));
        };
        connection.execute(
            "UPDATE total SET captured_bytes = $2, stored_bytes = $3, unrecorded = $4, erasures = $5 WHERE tenant = $1",
            &[&DEFAULT_TENANT, &captured, &stored, &unrecorded, &erasures],
        )?;
    }
    Ok(())
}

fn delete(connection: &Connection, table: &Table, row: &Row) -> Result<()> {
    let (names, values): (Vec<&str>, Vec<Value>) = match table.key {
        Key::First(_) => {
            let keys = table.key_columns().iter().zip(row);
            keys.map(|(column, cell)| Ok((column.name, value_of(column.kind, cell)?))).collect::<Result<_>>()?
        }
        Key::DigestOfFirst => {
            let digest = table.key_of(row).into_iter().next().unwrap_or(Cell::Null);
            let name = table.digests.first().map_or("key", |(digest, _)| *digest);
            (vec![name], vec![value_of(Kind::Bytes, &digest)?])
        }
    };
    let conditions: Vec<String> =
        names.iter().enumerate().map(|(n, name)| format!("AND {name} = ${}", n + 2)).collect();
    let tenant: Value = Box::new(DEFAULT_TENANT);
    let params: Vec<_> = std::iter::once(&tenant).chain(&values).map(|value| &**value).collect();
    let sql = format!("DELETE FROM {} WHERE tenant = $1 {}", table.name, conditions.join(" "));
    connection.execute(&sql, &params).map(|_| ())
}

fn number(cell: &Cell) -> Result<i64> {
    match cell {
        Cell::Integer(number) => Ok(*number),
        _ => Err(damaged("a number is none")),
    }
}

fn types_of(table: &Table) -> Vec<Type> {
    let columns = table.columns.iter().map(|column| match column.kind {
        Kind::Int2 => Type::INT2,
        Kind::Int4 => Type::INT4,
        Kind::Int8 => Type::INT8,
        Kind::Flag => Type::BOOL,
        Kind::Moment => Type::TIMESTAMPTZ,
        Kind::Text => Type::TEXT,
        Kind::Bytes => Type::BYTEA,
        Kind::Id => Type::UUID,
    });
    std::iter::once(Type::INT8).chain(columns).chain(table.digests.iter().map(|_| Type::BYTEA)).collect()
}

/// In the order of the columns, with the tenant before them and the digests after them.
fn values_of(table: &Table, row: &Row) -> Result<Vec<Value>> {
    let mut values: Vec<Value> = vec![Box::new(DEFAULT_TENANT)];
    for (column, cell) in table.columns.iter().zip(row) {
        values.push(value_of(column.kind, cell)?);
    }
    for (_, of) in table.digests {
        let cell = table.columns.iter().zip(row).find(|(column, _)| column.name == *of).map(|(_, cell)| cell);
        let digest = match cell {
            Some(Cell::Text(text)) => Some(text_key(text)),
            _ => None,
        };
        values.push(Box::new(digest));
    }
    Ok(values)
}

fn value_of(kind: Kind, cell: &Cell) -> Result<Value> {
    let unfit = || damaged(format!("a {kind:?} holds another kind of value"));
    Ok(match (kind, cell) {
        (Kind::Int2, Cell::Null) => Box::new(None::<i16>),
        (Kind::Int2, Cell::Integer(number)) => Box::new(i16::try_from(*number).map_err(|_| unfit())?),
        (Kind::Int4, Cell::Null) => Box::new(None::<i32>),
        (Kind::Int4, Cell::Integer(number)) => Box::new(i32::try_from(*number).map_err(|_| unfit())?),
        (Kind::Int8, Cell::Null) => Box::new(None::<i64>),
        (Kind::Int8, Cell::Integer(number)) => Box::new(*number),
        (Kind::Flag, Cell::Null) => Box::new(None::<bool>),
        (Kind::Flag, Cell::Integer(number)) => Box::new(*number != 0),
        (Kind::Moment, Cell::Null) => Box::new(None::<Timestamp>),
        (Kind::Moment, Cell::Integer(number)) => Box::new(Timestamp(*number)),
        (Kind::Text, Cell::Null) => Box::new(None::<String>),
        (Kind::Text, Cell::Text(text)) => Box::new(stored(text).into_owned()),
        (Kind::Bytes, Cell::Null) => Box::new(None::<Vec<u8>>),
        (Kind::Bytes, Cell::Bytes(bytes)) => Box::new(bytes.clone()),
        (Kind::Id, Cell::Bytes(bytes)) => Box::new(Uuid::from_slice(bytes).map_err(|_| unfit())?),
        _ => return Err(unfit()),
    })
}

fn row_of(row: &Found, table: &Table) -> Result<Row> {
    table.columns.iter().enumerate().map(|(index, column)| cell_of(row, index, column)).collect()
}

fn cell_of(row: &Found, index: usize, column: &Column) -> Result<Cell> {
    let integer = |number: Option<i64>| number.map_or(Cell::Null, Cell::Integer);
    Ok(match column.kind {
        Kind::Int2 => integer(row.try_get::<_, Option<i16>>(index)?.map(i64::from)),
        Kind::Int4 => integer(row.try_get::<_, Option<i32>>(index)?.map(i64::from)),
        Kind::Int8 => integer(row.try_get(index)?),
        Kind::Flag => integer(row.try_get::<_, Option<bool>>(index)?.map(i64::from)),
        Kind::Moment => integer(row.try_get::<_, Option<Timestamp>>(index)?.map(|at| moment(at.0))),
        Kind::Text => row.try_get::<_, Option<String>>(index)?.map_or(Cell::Null, |text| Cell::Text(given(text))),
        Kind::Bytes => row.try_get::<_, Option<Vec<u8>>>(index)?.map_or(Cell::Null, Cell::Bytes),
        Kind::Id => row.try_get::<_, Option<Uuid>>(index)?.map_or(Cell::Null, |id| Cell::Bytes(id.into_bytes().into())),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tables that are made anew from the others, or belong to the database and not to the record.
    const OTHERS: [&str; 5] = ["tenant", "moving", "message_unindexed", "message_words", "schema_version"];

    #[test]
    fn every_column_of_the_record_is_moved() {
        let database = e2e::postgres::shared().database();
        let (_, writer) = open_destination(database.url()).unwrap();
        let rows = writer.connection.query(
            "SELECT c.relname::text, a.attname::text FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
             WHERE c.relnamespace = 'iccm'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND a.attnum > 0 AND NOT a.attisdropped",
            &[],
        );
        let mut found: Vec<(String, String)> = rows.unwrap().iter().map(|row| (row.get(0), row.get(1))).collect();
        found.retain(|(table, column)| {
            let is_next = table == "total" && column.starts_with("next_");
            !OTHERS.contains(&table.as_str()) && column != "tenant" && !is_next
        });
        found.sort();
        let of = |table: &Table| {
            let columns = table.columns.iter().map(|column| column.name);
            let all = columns.chain(table.digests.iter().map(|(digest, _)| *digest));
            all.map(|column| (table.name.to_owned(), column.to_owned())).collect::<Vec<_>>()
        };
        let mut moved: Vec<(String, String)> = TABLES.iter().flat_map(of).collect();
        moved.sort();
        assert_eq!(found, moved);
    }
}
