//! Opening a database file and bringing it to this program's schema.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};

use crate::store::{Error, Result};

/// Numbered from 1, in order; PostgreSQL's have the same numbers. A released migration is never edited.
const MIGRATIONS: [&str; 7] = [
    include_str!("migrations/0001_record.sql"),
    include_str!("migrations/0002_stored.sql"),
    include_str!("migrations/0003_search.sql"),
    include_str!("migrations/0004_frames.sql"),
    include_str!("migrations/0005_moving.sql"),
    include_str!("migrations/0006_parts.sql"),
    include_str!("migrations/0007_moments.sql"),
];

/// How long a connection waits for another process that holds the lock.
const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The tenant of a record that has only one.
pub(super) const DEFAULT_TENANT: i64 = 1;

/// The connection that writes. Creates the file and its schema where needed.
pub(super) fn open_writer(path: &Path) -> Result<Connection> {
    let mut connection = Connection::open(path)?;
    // SQLite quietly opens for reading what it cannot open for writing, and the connection (and what others of this process
    // share with it) stays so for ever. Failing lets the caller open again when the file can be written.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(Error::Unavailable(format!("{} can only be read", path.display())));
    }
    // The page size can only be chosen before the file has any page.
    connection.pragma_update(None, "page_size", 16_384)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    configure(&connection)?;
    // A segment of the spool is released once its items are stored, so a commit must survive the loss of power.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "secure_delete", "on")?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// A connection that only reads a database that exists.
pub(super) fn open_reader(path: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(path, flags)?;
    configure(&connection)?;
    // There are several of them, and what they read mostly lies in the kernel's memory.
    connection.pragma_update(None, "cache_size", -4_096)?;
    connection.pragma_update(None, "query_only", "on")?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "temp_store", "memory")?;
    connection.set_prepared_statement_cache_capacity(128);
    // Plans do not depend on the values that are bound: without this SQLite prepares a statement again when they change.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Several processes may open a new file at once: the version is read again under the write lock.
fn migrate(connection: &mut Connection) -> Result<()> {
    migrate_with(connection, &MIGRATIONS)
}

fn migrate_with(connection: &mut Connection, migrations: &[&str]) -> Result<()> {
    let known = migrations.len() as i64;
    if version(connection)? == known {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = version(&transaction)?;
    if found > known {
        return Err(Error::TooNew { found, known });
    }
    for migration in &migrations[found as usize..] {
        transaction.execute_batch(migration)?;
    }
    if found == 0 {
        let mut key = uuid::Uuid::new_v4().into_bytes().to_vec();
        key.extend_from_slice(uuid::Uuid::new_v4().as_bytes());
        transaction.execute(
            "INSERT INTO tenant (id, name, block_key) VALUES (?1, 'default', ?2)",
            params![DEFAULT_TENANT, blake3::hash(&key).as_bytes()],
        )?;
        transaction.execute("INSERT INTO total (tenant) VALUES (?1)", [DEFAULT_TENANT])?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}

/// Whether a file has this program's schema.
pub(super) fn is_current(path: &Path) -> Result<bool> {
    Ok(version(&open_reader(path)?)? == MIGRATIONS.len() as i64)
}

/// Whether a record was moved here, and if so whether it is whole.
pub(super) fn moved(connection: &Connection) -> Result<Option<bool>> {
    let mut query = connection.prepare_cached("SELECT finished FROM moving WHERE tenant = ?1")?;
    Ok(query.query_row([DEFAULT_TENANT], |row| row.get(0)).optional()?)
}

fn version(connection: &Connection) -> Result<i64> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// What the newer program could not do leaves the older one, which runs meanwhile or starts again, as it was.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_old_version_works_beside_and_after_a_failed_migration() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("iccm.db");
        let running = crate::SqliteStore::open(&path).await.unwrap();
        running.set_startup_context("a".into(), "one".into(), true).await.unwrap();
        let broken =
            "ALTER TABLE startup_context RENAME TO renamed; ALTER TABLE message DROP COLUMN role; SELECT nothing";
        let mut connection = Connection::open(&path).unwrap();
        assert!(migrate_with(&mut connection, &[&MIGRATIONS[..], &[broken]].concat()).is_err());
        drop(connection);
        let again = crate::SqliteStore::open(&path).await.unwrap();
        for (store, version) in [(&running, 2), (&again, 3)] {
            let set = store.set_startup_context("a".into(), "more".into(), true).await.unwrap();
            assert_eq!(set.version, version);
            assert_eq!(store.startup_context(None).await.unwrap(), Some(set));
        }
    }
}
