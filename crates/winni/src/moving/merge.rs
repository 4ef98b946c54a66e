//! Comparing two records, row by row, both in one order.
//!
//! Each record is read by a thread of its own, a few pages ahead of the comparison. That a thread stopped early is never
//! taken for the end of what it reads: the end is said.

use std::cmp::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::sides::{Of, Reads};
use super::tables::Row;
use crate::store::{Error, Result};

/// Pages that are read ahead.
const AHEAD: usize = 2;

/// Where two records differ.
pub(crate) enum Difference {
    /// A row that only the source has.
    Missing(Row),
    /// The source's version of a row that is another at the destination.
    Changed(Row),
    /// A row that only the destination has.
    Extra(Row),
}

enum Page {
    Rows(Vec<Row>),
    End,
    Failed(Error),
}

/// Reads both records and tells where they differ; how many rows the source has.
pub(crate) fn differences(
    of: Of<'_>,
    source: &mut dyn Reads,
    destination: &mut dyn Reads,
    mut told: impl FnMut(Difference) -> Result<()>,
) -> Result<u64> {
    std::thread::scope(|scope| {
        let (to_source, source_pages) = sync_channel(AHEAD);
        let (to_destination, destination_pages) = sync_channel(AHEAD);
        scope.spawn(move || read(of, source, &to_source));
        scope.spawn(move || read(of, destination, &to_destination));
        // Dropped when this returns, which ends the threads.
        let (mut ours, mut theirs) = (Rows::of(source_pages), Rows::of(destination_pages));
        let (mut our, mut their) = (ours.next()?, theirs.next()?);
        let mut count = 0;
        loop {
            let order = match (&our, &their) {
                (None, None) => return Ok(count),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(our), Some(their)) => of.key_of(our).cmp(&of.key_of(their)),
            };
            let mine = if order.is_le() { our.take() } else { None };
            let other = if order.is_ge() { their.take() } else { None };
            count += u64::from(mine.is_some());
            match (mine, other) {
                (Some(mine), Some(other)) if mine == other => {}
                (Some(mine), Some(_)) => told(Difference::Changed(mine))?,
                (Some(mine), None) => told(Difference::Missing(mine))?,
                (None, Some(other)) => told(Difference::Extra(other))?,
                (None, None) => {}
            }
            if order.is_le() {
                our = ours.next()?;
            }
            if order.is_ge() {
                their = theirs.next()?;
            }
        }
    })
}

fn read(of: Of<'_>, record: &mut dyn Reads, to: &SyncSender<Page>) {
    // Nobody listens any more if the comparison has ended.
    let last = match record.read(of, &mut |rows| Ok(to.send(Page::Rows(rows)).is_ok())) {
        Ok(()) => Page::End,
        Err(error) => Page::Failed(error),
    };
    drop(to.send(last));
}

struct Rows {
    pages: Receiver<Page>,
    page: std::vec::IntoIter<Row>,
    ended: bool,
}

impl Rows {
    fn of(pages: Receiver<Page>) -> Self {
        Self { pages, page: Vec::new().into_iter(), ended: false }
    }

    fn next(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(row) = self.page.next() {
                return Ok(Some(row));
            }
            if self.ended {
                return Ok(None);
            }
            match self.pages.recv() {
                Ok(Page::Rows(rows)) => self.page = rows.into_iter(),
                Ok(Page::End) => self.ended = true,
                Ok(Page::Failed(error)) => return Err(error),
                Err(_) => return Err(Error::Unavailable("a reading thread has ended".into())),
            }
        }
    }
}
