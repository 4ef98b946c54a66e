//! Winni, the data lake: what was recorded, stored once, rebuilt exactly, found again.
//!
//! Guaranteed: every item of a recorder's life is stored exactly once, however often it is handed in; the exact bytes
//! of every body come back, and that is proved before a body counts as stored. Only this crate knows SQL.

mod content;
mod conversation;
mod frame;
mod handed_in;
mod mcp_over_http;
pub mod model;
mod pricing;
mod recent;
pub mod search;
mod sqlite;
pub mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use sqlite::SqliteStore;
use store::{Error, Result, Store};

/// The file of a record that no database URL was given for, inside the data folder.
pub const DEFAULT_FILE: &str = "iccm.db";

/// Opens the database that a URL names: `sqlite:PATH`, or `sqlite:` for [`DEFAULT_FILE`] inside `data_dir`.
///
/// # Errors
/// [`Error::Invalid`] for a URL of another kind, otherwise as [`SqliteStore::open`].
pub async fn open(url: &str, data_dir: &Path) -> Result<Arc<dyn Store>> {
    Ok(Arc::new(SqliteStore::open(&sqlite_path(url, data_dir)?).await?))
}

/// The file that a database URL names.
///
/// # Errors
/// [`Error::Invalid`] for a URL of another kind.
pub fn sqlite_path(url: &str, data_dir: &Path) -> Result<PathBuf> {
    match url.strip_prefix("sqlite:") {
        Some("") => Ok(data_dir.join(DEFAULT_FILE)),
        Some(path) => Ok(PathBuf::from(path.strip_prefix("//").unwrap_or(path))),
        None => Err(Error::Invalid("a database URL begins with `sqlite:`, e.g. sqlite:/var/lib/iccm/iccm.db".into())),
    }
}
