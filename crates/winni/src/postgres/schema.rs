//! Bringing a database to this program's schema, and making partitions ahead of their time.
//!
//! Guaranteed: a migration happens whole or not at all, and one at a time however many programs start at once; a database
//! that a newer version wrote is refused; one that could not be migrated stays as it was.

use super::connection::Connection;
use super::error::damaged;
use crate::model::Timestamp;
use crate::store::{Error, Result};

/// Numbered from 1, in order; SQLite's have the same numbers. A released migration is never edited.
const MIGRATIONS: [&str; 7] = [
    include_str!("migrations/0001_record.sql"),
    include_str!("migrations/0002_stored.sql"),
    include_str!("migrations/0003_search.sql"),
    include_str!("migrations/0004_frames.sql"),
    include_str!("migrations/0005_moving.sql"),
    include_str!("migrations/0006_parts.sql"),
    include_str!("migrations/0007_moments.sql"),
];

/// What programs that migrate agree to hold.
const MIGRATION_LOCK: i64 = 0x0069_6363_6d5f_6d69;

/// The tenant of a record that has only one.
pub(super) const DEFAULT_TENANT: i64 = 1;

/// Tables that have a partition for each epoch.
const PARTITIONED: [&str; 4] = ["exchange", "block", "pack_piece", "frame"];

/// Creates or updates the schema where needed.
pub(super) fn migrate(connection: &Connection) -> Result<()> {
    migrate_with(connection, &MIGRATIONS)
}

/// Creates or updates the schema where needed, and asks no more of a role that reads than reading where it is not.
pub(super) fn migrate_unless_current(connection: &Connection) -> Result<()> {
    match version(connection)? == MIGRATIONS.len() as i64 {
        true => Ok(()),
        false => migrate(connection),
    }
}

fn migrate_with(connection: &Connection, migrations: &[&str]) -> Result<()> {
    let known = migrations.len() as i64;
    let found = version(connection)?;
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    if found == known {
        return make_partitions(connection);
    }
    connection.transaction("BEGIN", || {
        connection.batch(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))?;
        // Somebody else may have done it while this one waited.
        let found = version(connection)?;
        if found > known {
            return Err(Error::TooNew { found, known });
        }
        if found == 0 {
            create(connection)?;
        }
        for migration in &migrations[found as usize..] {
            connection.batch(migration)?;
        }
        connection.batch(&format!("UPDATE iccm.schema_version SET version = {known}, changed_at = now()"))?;
        if found == 0 {
            add_tenant(connection)?;
        }
        Ok(())
    })?;
    make_partitions(connection)
}

/// The schema itself, unless an administrator has made it for a role that may not.
fn create(connection: &Connection) -> Result<()> {
    let exists: bool = connection.query_one("SELECT to_regnamespace('iccm') IS NOT NULL", &[])?.get(0);
    if !exists {
        connection.batch("CREATE SCHEMA iccm")?;
    }
    connection.batch(
        "CREATE TABLE iccm.schema_version (version bigint NOT NULL, changed_at timestamptz NOT NULL);
         INSERT INTO iccm.schema_version VALUES (0, now())",
    )
}

fn add_tenant(connection: &Connection) -> Result<()> {
    let mut key = uuid::Uuid::new_v4().into_bytes().to_vec();
    key.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
    let key = blake3::hash(&key).as_bytes().to_vec();
    connection
        .execute("INSERT INTO tenant (id, name, block_key) VALUES ($1, 'default', $2)", &[&DEFAULT_TENANT, &key])?;
    connection.execute("INSERT INTO total (tenant) VALUES ($1)", &[&DEFAULT_TENANT])?;
    Ok(())
}

/// Asks the catalogue itself: what a session remembers of names may be older than the lock it has just got.
fn version(connection: &Connection) -> Result<i64> {
    let tables = connection.query(
        "SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'iccm' AND c.relname = 'schema_version'",
        &[],
    )?;
    if tables.is_empty() {
        return Ok(0);
    }
    let row = connection.query_opt("SELECT version FROM iccm.schema_version", &[])?;
    row.map(|row| row.get(0)).ok_or_else(|| damaged("iccm.schema_version is empty"))
}

/// Whether a reader can begin: the schema is this program's, and the record whole.
pub(super) fn is_usable(connection: &Connection) -> Result<bool> {
    let (found, known) = (version(connection)?, MIGRATIONS.len() as i64);
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    if found == known && moved(connection)? == Some(false) {
        return Err(crate::moving::sides::unfinished());
    }
    Ok(found == known)
}

/// Whether a record was moved here, and if so whether it is whole.
pub(super) fn moved(connection: &Connection) -> Result<Option<bool>> {
    let row = connection.query_opt("SELECT finished FROM moving WHERE tenant = $1", &[&DEFAULT_TENANT])?;
    Ok(row.map(|row| row.get(0)))
}

/// The month in which something happened, counted from January 1970; what the record keeps of a month stands in partitions
/// of its own and refers to no other's. Moments that no clock should show count for the first or the last one there is.
pub(super) fn epoch_of(at: Timestamp) -> i32 {
    const LAST: i32 = 12 * 8_029;
    let Ok(moment) = jiff::Timestamp::from_microsecond(at.0) else {
        return if at.0 < 0 { 0 } else { LAST };
    };
    let date = moment.to_zoned(jiff::tz::TimeZone::UTC).date();
    (i32::from(date.year() - 1970) * 12 + i32::from(date.month()) - 1).clamp(0, LAST)
}

/// This month's partitions and the next one's.
fn make_partitions(connection: &Connection) -> Result<()> {
    let now = epoch_of(Timestamp::now());
    make_partition(connection, now)?;
    make_partition(connection, now + 1)
}

/// The partitions of one epoch, unless they are there.
pub(super) fn make_partition(connection: &Connection, epoch: i32) -> Result<()> {
    let (year, month) = (1970 + epoch / 12, epoch % 12 + 1);
    let last = format!("frame_{year}_{month:02}");
    let exists: bool = connection.query_one("SELECT to_regclass('iccm.' || $1::text) IS NOT NULL", &[&last])?.get(0);
    if exists {
        return Ok(());
    }
    let mut sql = format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK});");
    for table in PARTITIONED {
        sql += &format!(
            "CREATE TABLE IF NOT EXISTS {table}_{year}_{month:02} PARTITION OF {table}
                 FOR VALUES FROM ({epoch}) TO ({}) WITH (toast_tuple_target = 8160);",
            epoch + 1
        );
    }
    // Several statements in one message are one transaction, if there is not one already.
    connection.batch(&sql)
}

/// Messages that a part of the full-text index is for. Parts that exist stay as they are: see migration 6.
pub(super) const WORDS_PART: i64 = 131_072;

/// Makes the full-text index reach beyond a message. The number of the message that it ends before.
pub(super) fn make_words_parts(connection: &Connection, message: i64) -> Result<i64> {
    connection.transaction("BEGIN", || {
        connection.batch(&format!("SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))?;
        let sql = "SELECT max(substring(relname FROM '^message_words_(\\d+)$')::bigint) FROM pg_class
             WHERE relnamespace = 'iccm'::regnamespace AND relkind = 'r'";
        let mut parts: i64 = connection.query_one(sql, &[])?.try_get::<_, Option<i64>>(0)?.unwrap_or(0);
        while parts * WORDS_PART <= message {
            let from = parts * WORDS_PART;
            parts += 1;
            // Attached, because creating it in its place would keep searches waiting.
            connection.batch(&format!(
                "CREATE TABLE message_words_{parts} (LIKE message_words INCLUDING INDEXES);
                 ALTER TABLE message_words ATTACH PARTITION message_words_{parts} FOR VALUES FROM ({from}) TO ({})",
                parts * WORDS_PART
            ))?;
        }
        Ok(parts * WORDS_PART)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::address::Address;
    use crate::postgres::connection::Limits;
    use crate::store::Store;

    fn connect() -> (e2e::postgres::Database, Connection) {
        let database = e2e::postgres::shared().database();
        let address = Address::parse(database.url()).unwrap();
        let connection = Connection::open(&address, Limits::WRITING).unwrap();
        (database, connection)
    }

    #[test]
    fn epochs_are_months() {
        let at = |text: &str| epoch_of(Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_microsecond()));
        assert_eq!(at("1970-01-31T23:59:59Z"), 0);
        assert_eq!(at("1971-03-01T00:00:00Z"), 14);
        assert_eq!(at("2026-11-22T15:00:00Z"), 682);
        assert_eq!(epoch_of(Timestamp(i64::MIN)), 0);
        assert_eq!(epoch_of(Timestamp(i64::MAX)), 12 * 8_029);
    }

    #[test]
    fn a_database_of_a_newer_version_is_refused() {
        let (_database, connection) = connect();
        migrate(&connection).unwrap();
        migrate(&connection).unwrap();
        connection.batch("UPDATE schema_version SET version = 99").unwrap();
        let known = MIGRATIONS.len() as i64;
        assert!(matches!(migrate(&connection), Err(Error::TooNew { found: 99, known: k }) if k == known));
    }

    #[test]
    fn the_index_of_an_older_version_becomes_the_first_part() {
        let (_database, connection) = connect();
        migrate_with(&connection, &MIGRATIONS[..5]).unwrap();
        connection
            .batch(
                "UPDATE total SET next_message = 300000;
             INSERT INTO message_words SELECT 1, n * 1000, 0, 'old'::tsvector FROM generate_series(1, 299) n",
            )
            .unwrap();
        migrate(&connection).unwrap();
        assert_eq!(make_words_parts(&connection, 299_999).unwrap(), 3 * WORDS_PART);
        assert_eq!(make_words_parts(&connection, 3 * WORDS_PART).unwrap(), 4 * WORDS_PART);
        assert_eq!(make_words_parts(&connection, 7).unwrap(), 4 * WORDS_PART);
        connection.batch("INSERT INTO message_words VALUES (1, 393216, 0, 'new'), (1, 393215, 0, 'new')").unwrap();
        let rows = connection
            .query(
                "SELECT tableoid::regclass::text, count(*) FROM message_words
                 WHERE words @@ 'old | new' GROUP BY 1 ORDER BY 1",
                &[],
            )
            .unwrap();
        let found: Vec<(String, i64)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        let expected = [("message_words_3".to_owned(), 300), ("message_words_4".to_owned(), 1)];
        assert_eq!(found, expected);
        let lists = crate::postgres::indexing::merge_lists(&connection).unwrap();
        assert_eq!(lists, 2, "each part has one");
    }

    #[test]
    fn a_failed_migration_leaves_the_database_as_it_was() {
        let (_database, connection) = connect();
        migrate(&connection).unwrap();
        let broken = "CREATE TABLE half_done (x int); SELECT 1/0";
        let mut migrations = MIGRATIONS.to_vec();
        migrations.push(broken);
        assert!(migrate_with(&connection, &migrations).is_err());
        assert_eq!(version(&connection).unwrap(), MIGRATIONS.len() as i64);
        let exists: bool =
            connection.query_one("SELECT to_regclass('iccm.half_done') IS NOT NULL", &[]).unwrap().get(0);
        assert!(!exists);
        migrate(&connection).unwrap();
    }

    /// What the newer program could not do leaves the older one, which runs meanwhile or starts again, as it was.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_old_version_works_beside_and_after_a_failed_migration() {
        let database = e2e::postgres::shared().database();
        let running = crate::PostgresStore::open(database.url()).await.unwrap();
        running.set_startup_context("a".into(), "one".into(), true).await.unwrap();
        let address = Address::parse(database.url()).unwrap();
        let failing = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&address, Limits::WRITING)?;
            let broken =
                "ALTER TABLE startup_context RENAME TO renamed; ALTER TABLE message DROP COLUMN turn; SELECT 1/0";
            migrate_with(&connection, &[&MIGRATIONS[..], &[broken]].concat())
        });
        assert!(failing.await.unwrap().is_err());
        let again = crate::PostgresStore::open(database.url()).await.unwrap();
        for (store, version) in [(&running, 2), (&again, 3)] {
            let set = store.set_startup_context("a".into(), "more".into(), true).await.unwrap();
            assert_eq!(set.version, version);
            assert_eq!(store.startup_context(None).await.unwrap(), Some(set));
        }
    }

    #[test]
    fn programs_that_start_at_once_migrate_once() {
        let database = e2e::postgres::shared().database();
        let address = Address::parse(database.url()).unwrap();
        std::thread::scope(|scope| {
            let start = |_| scope.spawn(|| migrate(&Connection::open(&address, Limits::WRITING)?));
            let started: Vec<_> = (0..6).map(start).collect();
            started.into_iter().for_each(|thread| thread.join().unwrap().unwrap());
        });
        let connection = Connection::open(&address, Limits::WRITING).unwrap();
        let tenants: i64 = connection.query_one("SELECT count(*) FROM tenant", &[]).unwrap().get(0);
        assert_eq!(tenants, 1);
    }
}
