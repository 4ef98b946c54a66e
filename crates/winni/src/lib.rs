//! Winni, the data lake: what was recorded, stored once, rebuilt exactly, found again.
//!
//! Guaranteed: every item of a recorder's life is stored exactly once, however often it is handed in; the exact bytes
//! of every body come back, and that is proved before a body counts as stored. Only this crate knows SQL.

mod content;
mod conversation;
mod erasing;
mod handed_in;
mod indexing;
mod ingest;
mod mcp_over_http;
pub mod model;
mod moving;
mod postgres;
mod pricing;
mod reading;
mod recent;
pub mod search;
mod sqlite;
pub mod store;
mod tables;
mod writing;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moving::sides::{Reads, Writes};
pub use moving::{Moved, Step};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
use store::{Error, Result, Store};

/// The file of a record that no database URL was given for, inside the data folder.
pub const DEFAULT_FILE: &str = "iccm.db";

/// How URLs of PostgreSQL databases begin.
const POSTGRES: [&str; 2] = ["postgres://", "postgresql://"];

/// Opens the database that a URL names: `sqlite:PATH`, `sqlite:` for [`DEFAULT_FILE`] inside `data_dir`, or
/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
///
/// # Errors
/// [`Error::Invalid`] for a URL of another kind, otherwise as [`SqliteStore::open`] and [`PostgresStore::open`].
pub async fn open(url: &str, data_dir: &Path) -> Result<Arc<dyn Store>> {
    if is_postgres(url) {
        return Ok(Arc::new(PostgresStore::open(url).await?));
    }
    Ok(Arc::new(SqliteStore::open(&sqlite_path(url, data_dir)?).await?))
}

/// Opens a database as [`open`] does, to read: in PostgreSQL a role that may only read can do this.
///
/// # Errors
/// As [`open`].
pub async fn open_for_reading(url: &str, data_dir: &Path) -> Result<Arc<dyn Store>> {
    match is_postgres(url) {
        true => Ok(Arc::new(PostgresStore::open_for_reading(url).await?)),
        false => open(url, data_dir).await,
    }
}

/// Moves the record that one URL names to the database that another one does, which holds nothing else, and compares both
/// row by row and body by body. An interrupted move is taken up where it stood. `told` hears where the move is.
///
/// # Errors
/// [`Error::Invalid`] if there is no source, if the destination holds anything else, or if either has changed meanwhile;
/// otherwise as [`open`].
pub async fn move_record(
    from: &str,
    to: &str,
    data_dir: &Path,
    mut told: impl FnMut(Step) + Send + 'static,
) -> Result<Moved> {
    let (from, to, data_dir) = (from.to_owned(), to.to_owned(), data_dir.to_owned());
    let moving = tokio::task::spawn_blocking(move || {
        if is_same(&from, &to, &data_dir)? {
            return Err(Error::Invalid("the source and the destination are the same database".into()));
        }
        let mut source = open_source(&from, &to, &data_dir)?;
        moving::run(&mut *source, || open_destination(&to, &data_dir), &mut told)
    });
    moving.await.map_err(|e| Error::Unavailable(format!("the work was stopped: {e}")))?
}

/// Whether a URL names a PostgreSQL database.
pub fn is_postgres(url: &str) -> bool {
    POSTGRES.iter().any(|scheme| url.starts_with(scheme))
}

/// Checks that a URL names a database, without asking it.
///
/// # Errors
/// [`Error::Invalid`] says what is wrong, without repeating a password.
pub fn check_url(url: &str) -> Result<()> {
    match is_postgres(url) {
        true => postgres::check_url(url),
        false => sqlite_path(url, Path::new("")).map(|_| ()),
    }
}

/// The file that a database URL names.
///
/// # Errors
/// [`Error::Invalid`] for a URL of another kind.
pub fn sqlite_path(url: &str, data_dir: &Path) -> Result<PathBuf> {
    match url.strip_prefix("sqlite:") {
        Some("") => Ok(data_dir.join(DEFAULT_FILE)),
        Some(path) => Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
        None => Err(Error::Invalid(
            "a database URL begins with `sqlite:` or `postgres://`, e.g. sqlite:/var/lib/iccm/iccm.db".into(),
        )),
    }
}

/// Opens the record that is to be moved to a database of this URL.
fn open_source(url: &str, to: &str, data_dir: &Path) -> Result<Box<dyn Reads>> {
    if is_postgres(url) {
        return Ok(Box::new(postgres::moving::open_source(url)?));
    }
    let path = sqlite_path(url, data_dir)?;
    if !path.exists() {
        return Err(Error::Invalid(format!("there is no record in {}", path.display())));
    }
    let month_of = is_postgres(to).then_some(postgres::moving::month_of as fn(_) -> _);
    Ok(Box::new(sqlite::moving::open_source(&path, month_of)?))
}

fn open_destination(url: &str, data_dir: &Path) -> Result<(Box<dyn Reads>, Box<dyn Writes>)> {
    if is_postgres(url) {
        let (reads, writes) = postgres::moving::open_destination(url)?;
        return Ok((Box::new(reads), Box::new(writes)));
    }
    let (reads, writes) = sqlite::moving::open_destination(&sqlite_path(url, data_dir)?)?;
    Ok((Box::new(reads), Box::new(writes)))
}

fn is_same(from: &str, to: &str, data_dir: &Path) -> Result<bool> {
    match (is_postgres(from), is_postgres(to)) {
        (true, true) => Ok(from == to),
        (false, false) => {
            let file = |url| sqlite_path(url, data_dir);
            let resolved = |path: PathBuf| path.canonicalize().unwrap_or(path);
            Ok(resolved(file(from)?) == resolved(file(to)?))
        }
        _ => Ok(false),
    }
}
