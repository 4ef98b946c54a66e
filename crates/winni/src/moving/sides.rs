//! What a database does so that a record can be moved out of it, or into it.

use super::rebuilt::{rebuilt_exchanges, rebuilt_frames};
use super::tables::{Next, Row, Table};
use crate::store::{Error, Result};
use crate::tables::Frames;

/// What takes a page of rows and says whether it wants more.
pub(crate) type Take<'t> = &'t mut dyn FnMut(Vec<Row>) -> Result<bool>;

/// Makes rows of what these ids name.
pub(crate) type Rebuild = fn(&dyn Frames, &[i64]) -> Result<Vec<Row>>;

/// A record that is read. It sees one moment until it is refreshed.
pub(crate) trait Reads: Send {
    /// Sees what is there now.
    fn refresh(&mut self) -> Result<()>;

    fn about(&mut self) -> Result<About>;

    /// What is another whenever the record is another. It may be another while the record is the same.
    fn mark(&mut self) -> Result<String>;

    /// Hands over what was asked for, in the order of its keys.
    fn read(&mut self, of: Of<'_>, take: Take<'_>) -> Result<()> {
        match of {
            Of::Rows(table) => self.rows(table, take),
            Of::Exchanges => self.rebuilt("exchange", rebuilt_exchanges, take),
            Of::Frames => self.rebuilt("frame", rebuilt_frames, take),
        }
    }

    fn rows(&self, table: &Table, take: Take<'_>) -> Result<()>;

    /// Rebuilds what this table's ids name, [`REBUILT_TOGETHER`] at a time.
    fn rebuilt(&self, table: &str, rebuild: Rebuild, take: Take<'_>) -> Result<()>;
}

/// Exchanges or messages that are rebuilt at a time.
pub(crate) const REBUILT_TOGETHER: usize = 128;

/// The destination of a move.
pub(crate) trait Writes: Send {
    /// Removes whatever is there of a record, and makes it the destination of the one with this key.
    fn begin(&mut self, key: &[u8]) -> Result<()>;

    /// Makes room for these epochs; nobody reads meanwhile.
    fn prepare(&mut self, epochs: &[i32]) -> Result<()>;

    /// Removes and adds rows in one transaction.
    fn apply(&mut self, table: &Table, remove: &[Row], add: &[Row]) -> Result<()>;

    /// Declares the record whole: others may use it. Its messages wait for the full-text index. What `check` says last
    /// decides whether that happens.
    fn finish(&mut self, next: Next, check: &mut dyn FnMut() -> Result<()>) -> Result<()>;
}

/// What a record is.
#[derive(Clone, Debug)]
pub(crate) struct About {
    /// The secret that its blocks are named with, and by which the record is known.
    pub(crate) key: Vec<u8>,
    /// Whether it was moved here, and if so whether it is whole.
    pub(crate) moved: Option<bool>,
    /// Those that hold anything.
    pub(crate) epochs: Vec<i32>,
    pub(crate) next: Next,
}

/// What a database says that somebody is moving a record to.
pub(crate) fn unfinished() -> Error {
    Error::Unavailable(
        "a record is being moved here and is not whole yet; run iccm migrate-store again to finish it".into(),
    )
}

/// What is read of both records.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of<'t> {
    /// The rows of a table.
    Rows(&'t Table),
    /// What exchanges and messages come to when they are put together: number and digest.
    Exchanges,
    Frames,
}

impl Of<'_> {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Of::Rows(table) => table.name,
            Of::Exchanges => "exchange",
            Of::Frames => "frame",
        }
    }

    pub(super) fn key_of(&self, row: &Row) -> Row {
        match self {
            Of::Rows(table) => table.key_of(row),
            Of::Exchanges | Of::Frames => row.first().cloned().into_iter().collect(),
        }
    }
}
