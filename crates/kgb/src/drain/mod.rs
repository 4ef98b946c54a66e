//! The drain: everything that the spools of this data folder hold goes into the store, exactly once.
//!
//! Guaranteed:
//! - Items are handed over in the order of their ends; the store passes over what it already has, so a crash between any
//!   two steps neither loses nor doubles one.
//! - A segment is released only when the *store's* word covers every item in it. A store that comes back with less than
//!   it had (somebody deleted the database) gets everything again that the spools still hold.
//! - A store that is locked, full, gone or too new is waited for, from 50 ms to 5 s between attempts; the traffic never
//!   notices, and memory holds one batch of locations.
//! - One item that the store refuses blocks no other. It is put aside under `quarantine/`, whole, only when the store
//!   has refused it twice by itself *and has taken something else in between*: a database that is broken altogether
//!   empties no spool into the quarantine. What cannot be put aside stays in the spool.
//! - The folders of recorders that are gone are adopted at the start, and once more before an orderly end, and removed when
//!   all of them is stored.
//!
//! Refused: touching the traffic. The drain reads what is written; only the spool's bound ties the two together.
//!
//! The store is a boundary of transport: a batch goes to whatever implements [`Store`], in this process or elsewhere, and
//! nothing here knows which.

mod backoff;
mod indexing;
mod lane;
mod quarantine;
mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spool::Position;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use winni::store::Store;

use crate::recorder::Recorder;
use worker::Worker;

/// How far the drain has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrainStatus {
    /// Items that have been read from the spools and are not stored.
    pub pending_records: u64,
    /// Bytes of them, and of what is written and not read yet.
    pub pending_bytes: u64,
    /// Items stored since the start.
    pub stored_records: u64,
    /// Items put aside since the start.
    pub quarantined_records: u64,
    /// Dead recorders' folders that are still being drained.
    pub adopted_folders: usize,
    /// What went wrong last, if it has not gone well since.
    pub last_error: Option<String>,
    /// Everything before this of the own spool is stored or waits for its end.
    position: Position,
    /// Whether the folders of dead recorders have been looked for.
    has_adopted: bool,
}

/// The drain of one process.
pub struct Drain;

impl Drain {
    /// Starts it: first for what dead recorders left below `spool_root`, beside it for `recorder`'s own spool.
    pub fn spawn(store: Arc<dyn Store>, spool_root: PathBuf, recorder: Arc<Recorder>) -> DrainHandle {
        let (publish, progress) = watch::channel(DrainStatus::default());
        let closing = CancellationToken::new();
        let stop = CancellationToken::new();
        let worker = Worker::new(store, spool_root, recorder.clone(), publish, (closing.clone(), stop.clone()));
        let task = tokio::spawn(worker.run());
        DrainHandle { recorder, progress, closing, stop, task }
    }
}

/// The drain, seen from outside. Dropping it lets the drain go on until the runtime ends.
pub struct DrainHandle {
    recorder: Arc<Recorder>,
    progress: watch::Receiver<DrainStatus>,
    closing: CancellationToken,
    stop: CancellationToken,
    task: JoinHandle<bool>,
}

impl DrainHandle {
    /// Waits until everything that has ended by now is stored: of the own spool and of all that was adopted. Waits as long
    /// as the store does not answer.
    pub async fn caught_up(&self) {
        let target = self.recorder.spool().written();
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(|status| {
            let all_stored = status.pending_records == 0 && status.adopted_folders == 0 && status.has_adopted;
            all_stored && status.position >= target
        });
        // An error means that the drain has stopped, and nothing more is to be waited for.
        let _ = reached.await;
    }

    /// How far it has come.
    pub fn status(&self) -> DrainStatus {
        let mut status = self.progress.borrow().clone();
        status.pending_bytes += bytes_between(status.position, self.recorder.spool());
        status
    }

    /// Drains what is there, for so long at most, and stops. Whether everything is stored; if the recorder's life has
    /// ended, its folder is gone then. What is not stored stays in the spool, for the next start.
    pub async fn shutdown(mut self, patience: Duration) -> bool {
        self.closing.cancel();
        let drained = match tokio::time::timeout(patience, &mut self.task).await {
            Ok(drained) => drained,
            Err(_) => {
                self.stop.cancel();
                self.task.await
            }
        };
        if matches!(drained, Ok(true)) {
            return true;
        }
        let status = self.progress.borrow();
        tracing::warn!(
            pending = status.pending_records,
            last_error = status.last_error.as_deref().unwrap_or("none"),
            "not everything is stored yet; the rest waits in the spool for the next start"
        );
        false
    }
}

/// Bytes that are written and not read, near enough: what lies in between is whole segments.
fn bytes_between(from: Position, spool: &spool::Spool) -> u64 {
    let to = spool.written();
    if from.segment == to.segment {
        to.offset.saturating_sub(from.offset)
    } else {
        spool.pending_bytes().saturating_sub(from.offset)
    }
}
