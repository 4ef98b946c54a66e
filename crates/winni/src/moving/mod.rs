//! Moving a record from one database to another, of whichever kind.
//!
//! Guaranteed: the destination is usable only once it holds all of the record: every row, compared one by one, and every
//! body, rebuilt on both sides and compared. Ids, sequence numbers and erased places stay what they are. A move that was
//! interrupted at any moment is taken up where it stood by the next one. The source is only read, and what it has got since
//! it was compared is noticed in the transaction that ends the move, so that nobody's words are left behind unsaid.
//!
//! Refused: a destination that holds anything else, and one that has gone on since a record was moved to it.
//!
//! Both sides are read in one order and merged, and what differs is written. So the first run, one that follows an
//! interruption, and one that follows a change of the source are the same code.

mod merge;
mod rebuilt;
pub(crate) mod sides;
pub(crate) mod tables;

use crate::store::{Error, Result};
use merge::{Difference, differences};
use sides::{Of, Reads, Writes};
use tables::{Cell, Row, TABLES, Table};

/// Where a move is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Rows of this table are written.
    Copying(&'static str),
    /// Both sides are compared, row by row.
    Comparing(&'static str),
    /// The bodies of exchanges or messages are rebuilt on both sides and compared.
    Rebuilding(&'static str),
    /// All of it is equal, and the destination becomes usable.
    Finishing,
}

/// What was moved, and found equal on both sides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Rows of each table.
    pub rows: Vec<(&'static str, u64)>,
    /// Exchanges whose heads and bodies were rebuilt on both sides.
    pub exchanges: u64,
    /// Messages of connections that were.
    pub frames: u64,
    /// Rows that this run wrote; none if everything was there.
    pub written: u64,
}

/// Moves a record from one database to another one, which is opened once the record is known to be whole. Blocks.
pub(crate) fn run(
    source: &mut dyn Reads,
    open_destination: impl FnOnce() -> Result<(Box<dyn Reads>, Box<dyn Writes>)>,
    told: &mut dyn FnMut(Step),
) -> Result<Moved> {
    let record = source.about()?;
    if record.moved == Some(false) {
        return Err(Error::Invalid("the source is not whole: a record is still being moved to it".into()));
    }
    let (mut reads, mut writes) = open_destination()?;
    let there = reads.about()?;
    let mut moving = Moving { source, reads: &mut *reads, writes: &mut *writes, told, written: 0 };
    match there.moved {
        _ if there.moved.is_some() && there.key != record.key => {
            Err(Error::Invalid("the destination holds another record; name an empty database".into()))
        }
        Some(true) => moving.compare("the destination has gone on since the record was moved there"),
        Some(false) => {
            // Rows may have come to stand in each other's way since: then from the beginning.
            match moving.copy() {
                Err(Error::Damaged(_)) => moving.begin(&record.key)?,
                copied => copied?,
            }
            moving.finish()
        }
        None => {
            moving.must_be_empty()?;
            moving.begin(&record.key)?;
            moving.finish()
        }
    }
}

/// What is to be done about a source that is written to.
const CHANGED: &str = "the source has changed meanwhile; stop what records into it and run it again";

/// How often all of it is compared, while something in the source's database changes and its record does not.
const MAX_COMPARISONS: usize = 5;

struct Moving<'m> {
    source: &'m mut dyn Reads,
    reads: &'m mut dyn Reads,
    writes: &'m mut dyn Writes,
    told: &'m mut dyn FnMut(Step),
    written: u64,
}

/// What is written in one transaction, at most.
const ROWS_TOGETHER: usize = 4_096;
const BYTES_TOGETHER: usize = 4 * 1024 * 1024;

impl Moving<'_> {
    fn must_be_empty(&mut self) -> Result<()> {
        for table in TABLES.iter().filter(|table| table.name != "total") {
            let mut found = false;
            self.reads.read(Of::Rows(table), &mut |rows| {
                found |= !rows.is_empty();
                Ok(false)
            })?;
            if found {
                let why = format!("the destination already holds a record ({} is not empty)", table.name);
                return Err(Error::Invalid(format!("{why}; name an empty database")));
            }
        }
        Ok(())
    }

    fn begin(&mut self, key: &[u8]) -> Result<()> {
        self.reads.refresh()?;
        self.writes.begin(key)?;
        self.copy()
    }

    /// Makes the destination's rows those of the source.
    fn copy(&mut self) -> Result<()> {
        self.reads.refresh()?;
        self.writes.prepare(&self.source.about()?.epochs)?;
        for table in &TABLES {
            (self.told)(Step::Copying(table.name));
            let mut changes = Changes { writes: self.writes, table, remove: Vec::new(), add: Vec::new(), bytes: 0 };
            let written = &mut self.written;
            differences(Of::Rows(table), self.source, self.reads, |difference| {
                *written += 1;
                match difference {
                    Difference::Missing(row) => changes.push(None, Some(row)),
                    Difference::Changed(row) => changes.push(Some(row.clone()), Some(row)),
                    Difference::Extra(row) => changes.push(Some(row), None),
                }
            })?;
            changes.write()?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Moved> {
        for _ in 0..MAX_COMPARISONS {
            let moved = self.compare(CHANGED)?;
            let (mark, next) = (self.source.mark()?, self.source.about()?.next);
            (self.told)(Step::Finishing);
            let (source, mut is_same) = (&mut *self.source, true);
            let finished = self.writes.finish(next, &mut || {
                source.refresh()?;
                is_same = source.mark()? == mark;
                if is_same { Ok(()) } else { Err(Error::Invalid(CHANGED.into())) }
            });
            if is_same {
                return finished.map(|()| moved);
            }
        }
        Err(Error::Invalid(CHANGED.into()))
    }

    /// Compares everything there is, as it is now.
    fn compare(&mut self, otherwise: &str) -> Result<Moved> {
        self.source.refresh()?;
        self.reads.refresh()?;
        let mut moved = Moved { written: self.written, ..Moved::default() };
        for table in &TABLES {
            (self.told)(Step::Comparing(table.name));
            moved.rows.push((table.name, self.equal(Of::Rows(table), otherwise)?));
        }
        (self.told)(Step::Rebuilding("exchange"));
        moved.exchanges = self.equal(Of::Exchanges, otherwise)?;
        (self.told)(Step::Rebuilding("frame"));
        moved.frames = self.equal(Of::Frames, otherwise)?;
        Ok(moved)
    }

    fn equal(&mut self, of: Of<'_>, otherwise: &str) -> Result<u64> {
        differences(of, self.source, self.reads, |difference| {
            let (what, row) = match &difference {
                Difference::Missing(row) => ("missing", row),
                Difference::Changed(row) => ("another", row),
                Difference::Extra(row) => ("not in the source", row),
            };
            let number = match row.first() {
                Some(Cell::Integer(number)) => format!(" {number}"),
                _ => String::new(),
            };
            Err(Error::Invalid(format!("{otherwise} ({}{number} of the destination is {what})", of.name())))
        })
    }
}

/// Rows that are to be written together.
struct Changes<'m> {
    writes: &'m mut dyn Writes,
    table: &'m Table,
    remove: Vec<Row>,
    add: Vec<Row>,
    bytes: usize,
}

impl Changes<'_> {
    fn push(&mut self, remove: Option<Row>, add: Option<Row>) -> Result<()> {
        self.bytes += add.iter().flatten().map(Cell::size).sum::<usize>();
        self.remove.extend(remove);
        self.add.extend(add);
        match self.bytes >= BYTES_TOGETHER || self.add.len() + self.remove.len() >= ROWS_TOGETHER {
            true => self.write(),
            false => Ok(()),
        }
    }

    fn write(&mut self) -> Result<()> {
        if !self.add.is_empty() || !self.remove.is_empty() {
            self.writes.apply(self.table, &self.remove, &self.add)?;
        }
        self.remove.clear();
        self.add.clear();
        self.bytes = 0;
        Ok(())
    }
}
