//! The drain's one task: it owns the lanes, and is the only one that writes to the store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use spool::recovery;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use winni::store::{Error, Store};

use super::DrainStatus;
use super::backoff::Backoff;
use super::indexing;
use super::lane::{Attempt, Lane, Refused};
use crate::assemble::Unreadable;
use crate::recorder::Recorder;

/// After a record was written, so long for more to come: one transaction then takes them all. What a transaction costs
/// depends on the pages that it touches, and many small ones touch the same pages again and again.
const GATHER: Duration = Duration::from_millis(100);
/// How often a suspect is tried again while the store takes nothing else.
const SUSPECT_RETRY: Duration = Duration::from_secs(2);

/// What a lane's turn has led to.
enum Turn {
    /// Something was stored or put aside; there may be more.
    Moved,
    /// There is nothing to do for now.
    Idle,
    /// The store or the spool does not answer; wait so long.
    Stalled(Duration),
}

pub(super) struct Worker {
    store: Arc<dyn Store>,
    recorder: Arc<Recorder>,
    spool_root: PathBuf,
    quarantine: PathBuf,
    /// The own lane first, then the adopted ones. `None` while a blocking thread has it.
    lanes: Vec<Option<Lane>>,
    backoff: Backoff,
    /// Batches that the store has taken: the measure of whether it takes anything.
    batches_taken: u64,
    /// For those who fill the full-text index.
    index: watch::Sender<indexing::Progress>,
    status: DrainStatus,
    publish: watch::Sender<DrainStatus>,
    /// Set when the drain is to end as soon as everything is stored.
    closing: CancellationToken,
    /// Set when it is to end now. What runs on a blocking thread is not interrupted: when the worker has ended, nothing of it
    /// holds a spool any more.
    stop: CancellationToken,
}

impl Worker {
    pub(super) fn new(
        store: Arc<dyn Store>,
        spool_root: PathBuf,
        recorder: Arc<Recorder>,
        publish: watch::Sender<DrainStatus>,
        (closing, stop): (CancellationToken, CancellationToken),
    ) -> Self {
        Self {
            quarantine: recorder.data_dir().join("quarantine"),
            lanes: vec![Some(Lane::own(recorder.spool()))],
            recorder,
            store,
            spool_root,
            backoff: Backoff::default(),
            batches_taken: 0,
            index: watch::Sender::default(),
            status: DrainStatus::default(),
            publish,
            closing,
            stop,
        }
    }

    /// Drains until `closing` and everything is stored, or until `stop`. Whether everything is stored.
    pub(super) async fn run(mut self) -> bool {
        let mut indexing = tokio::spawn(indexing::keep(self.store.clone(), self.index.subscribe()));
        let is_stored = self.drain().await;
        self.index.send_modify(|progress| progress.is_ending = true);
        // What is not indexed now is with the next start.
        let _ended = self.unless_stopped(&mut indexing).await;
        indexing.abort();
        is_stored
    }

    async fn drain(&mut self) -> bool {
        self.adopt().await;
        let mut looked_again = false;
        while !self.stop.is_cancelled() {
            let (mut moved, mut stalled) = (false, None);
            for at in 0..self.lanes.len() {
                match self.turn(at).await {
                    Turn::Moved => moved = true,
                    Turn::Idle => {}
                    Turn::Stalled(wait) => stalled = stalled.max(Some(wait)),
                }
            }
            self.retire_finished().await;
            self.publish();
            let caught_up = self.lanes.iter().flatten().all(Lane::is_caught_up);
            let is_behind = moved && !caught_up && stalled.is_none();
            self.index.send_if_modified(|progress| std::mem::replace(&mut progress.is_behind, is_behind) != is_behind);
            if is_behind {
                continue;
            }
            if stalled.is_none() && self.closing.is_cancelled() && self.is_done() {
                if looked_again {
                    return true;
                }
                // What was recorded beside us and has ended since the start (the relay of a command that we ran) is stored
                // before we go: its recorder may have had no time for it.
                looked_again = true;
                self.adopt().await;
                continue;
            }
            let stop = self.stop.clone();
            stop.run_until_cancelled(self.wait(stalled)).await;
        }
        false
    }

    async fn adopt(&mut self) {
        let root = self.spool_root.clone();
        let stop = self.stop.clone();
        let adopting = tokio::task::spawn_blocking(move || recovery::adopt(&root));
        // Reading what others left may take long, and is done again by whoever comes next.
        let Some(adopted) = stop.run_until_cancelled(adopting).await else { return };
        match adopted {
            Ok(Ok(folders)) => {
                for folder in folders {
                    let recorder = folder.recorder();
                    match Lane::adopted(folder) {
                        Ok(lane) => self.lanes.push(Some(lane)),
                        Err(error) => {
                            tracing::error!(%recorder, %error, "cannot read a spool folder; it is left alone")
                        }
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot look for what earlier recorders left; restart to try again")
            }
            Err(error) => tracing::error!(%error, "the recovery of earlier recorders' spools broke off"),
        }
        self.status.has_adopted = true;
    }

    /// Stores the next batch of a lane.
    async fn turn(&mut self, at: usize) -> Turn {
        let Some(lane) = self.lanes.get_mut(at).and_then(Option::take) else {
            return Turn::Idle;
        };
        let (lane, turn) = self.advance(lane).await;
        self.lanes[at] = lane;
        turn
    }

    async fn advance(&mut self, mut lane: Lane) -> (Option<Lane>, Turn) {
        if !lane.knows_store {
            match self.unless_stopped(self.store.watermark(lane.recorder())).await {
                Some(Ok(watermark)) => lane.believe(watermark),
                Some(Err(error)) => return (Some(lane), self.stall(&error)),
                None => return (Some(lane), Turn::Idle),
            };
        }
        let batches_taken = self.batches_taken;
        let read = tokio::task::spawn_blocking(move || {
            let read = lane.release().and_then(|()| lane.read_on());
            let next = read.map(|()| lane.next_attempt(batches_taken));
            (lane, next)
        });
        let (lane, next) = match read.await {
            Ok(read) => read,
            Err(error) => return lost_lane(&error),
        };
        match next {
            Err(error) => (Some(lane), self.stall(&error)),
            Ok(None) => (Some(lane), Turn::Idle),
            Ok(Some(Ok(attempt))) => self.hand_over(lane, attempt).await,
            Ok(Some(Err(unreadable))) if is_passing(&unreadable) => (Some(lane), self.stall(&unreadable)),
            Ok(Some(Err(unreadable))) => self.refused(lane, &[], unreadable.to_string()).await,
        }
    }

    async fn hand_over(&mut self, mut lane: Lane, attempt: Attempt) -> (Option<Lane>, Turn) {
        let Attempt { batch, seqs } = attempt;
        match self.unless_stopped(self.store.append(batch)).await {
            None => (Some(lane), Turn::Idle),
            Some(Ok(watermark)) => {
                self.backoff.reset();
                self.batches_taken += 1;
                self.index.send_modify(|progress| progress.batches += 1);
                self.status.last_error = None;
                self.status.stored_records += seqs.len() as u64;
                self.recorder.meters().drained_items.increment(seqs.len() as u64);
                lane.taken(&seqs, watermark);
                match lane.is_caught_up() {
                    true => self.release(lane).await,
                    false => (Some(lane), Turn::Moved),
                }
            }
            Some(Err(error)) if is_about_items(&error) => self.refused(lane, &seqs, error.to_string()).await,
            Some(Err(error)) => {
                self.lanes.iter_mut().flatten().for_each(|lane| lane.knows_store = false);
                lane.knows_store = false;
                (Some(lane), self.stall(&error))
            }
        }
    }

    /// Lets go of what is stored, when a next turn that would do it may be long in coming.
    async fn release(&mut self, lane: Lane) -> (Option<Lane>, Turn) {
        let released = tokio::task::spawn_blocking(move || {
            let released = lane.release();
            (lane, released)
        });
        match released.await {
            Ok((lane, Ok(()))) => (Some(lane), Turn::Moved),
            Ok((lane, Err(error))) => (Some(lane), self.stall(&error)),
            Err(error) => lost_lane(&error),
        }
    }

    /// The items cannot be stored, by the store's judgement or because they cannot be read (then `seqs` is empty, and it is
    /// the first).
    async fn refused(&mut self, mut lane: Lane, seqs: &[u64], why: String) -> (Option<Lane>, Turn) {
        self.recorder.meters().drain_errors.increment(1);
        if self.status.last_error.as_ref() != Some(&why) {
            tracing::warn!(recorder = %lane.recorder(), items = seqs.len(), %why, "the database refuses items");
        }
        self.status.last_error = Some(why.clone());
        match lane.refused(seqs, self.batches_taken) {
            Refused::OthersFirst => (Some(lane), Turn::Moved),
            Refused::Undecided => (Some(lane), Turn::Idle),
            Refused::Condemned => self.condemn(lane, why).await,
        }
    }

    async fn condemn(&mut self, mut lane: Lane, why: String) -> (Option<Lane>, Turn) {
        let quarantine = self.quarantine.clone();
        let condemned = tokio::task::spawn_blocking(move || {
            let condemned = lane.condemn(&quarantine, &why);
            (lane, condemned)
        });
        match condemned.await {
            Ok((lane, Ok(()))) => {
                self.status.quarantined_records += 1;
                self.recorder.meters().quarantined_items.increment(1);
                (Some(lane), Turn::Moved)
            }
            Ok((lane, Err(error))) => (Some(lane), self.stall(&error)),
            Err(error) => lost_lane(&error),
        }
    }

    /// A call to the store, given up when the drain is to end now: what it does it may do again.
    async fn unless_stopped<T>(&self, call: impl Future<Output = T>) -> Option<T> {
        self.stop.run_until_cancelled(call).await
    }

    fn stall(&mut self, error: &dyn std::error::Error) -> Turn {
        let why = error.to_string();
        if self.status.last_error.as_ref() != Some(&why) {
            tracing::warn!(%why, "cannot drain the spool now, traffic goes on; it is tried again until it works");
        }
        self.recorder.meters().drain_errors.increment(1);
        self.status.last_error = Some(why);
        Turn::Stalled(self.backoff.next())
    }

    /// Removes the folders of lanes that are through.
    async fn retire_finished(&mut self) {
        for slot in &mut self.lanes {
            let Some(lane) = slot.take_if(|lane| lane.is_finished()) else { continue };
            let (recorder, quarantine) = (lane.recorder(), self.quarantine.clone());
            let removed = tokio::task::spawn_blocking(move || lane.remove(&quarantine)).await;
            match removed {
                Ok(Ok(())) => tracing::debug!(%recorder, "all of a recorder's life is stored; its folder is removed"),
                Ok(Err(error)) => tracing::warn!(%recorder, %error, "cannot remove a drained spool folder; delete it"),
                Err(error) => tracing::error!(%recorder, %error, "removing a drained spool folder broke off"),
            }
        }
    }

    fn publish(&mut self) {
        let lanes = || self.lanes.iter().flatten();
        let own = self.lanes.first().and_then(Option::as_ref);
        let status = &mut self.status;
        status.pending_records = lanes().map(Lane::pending_items).sum();
        status.pending_bytes = lanes().map(Lane::pending_bytes).sum();
        status.adopted_folders = self.lanes.iter().skip(1).flatten().count();
        // A lane that is gone has been drained to its end.
        status.position = own.map_or_else(|| self.recorder.spool().written(), Lane::position);
        self.recorder.meters().drain_pending_items.set(status.pending_records as f64);
        self.publish.send_replace(status.clone());
    }

    /// Nothing is left to do, for a drain that is to stop.
    fn is_done(&self) -> bool {
        let own_is_read = |lane: &Lane| lane.position() >= self.recorder.spool().written();
        let own = self.lanes.first().and_then(Option::as_ref);
        self.lanes.iter().flatten().all(|lane| lane.pending_items() == 0)
            && self.lanes.iter().skip(1).flatten().count() == 0
            && own.is_none_or(own_is_read)
    }

    async fn wait(&self, stalled: Option<Duration>) {
        if let Some(stalled) = stalled {
            tokio::time::sleep(stalled).await;
            return;
        }
        let own = self.lanes.first().and_then(Option::as_ref);
        let has_pending = self.lanes.iter().flatten().any(|lane| lane.pending_items() > 0);
        let retry = async {
            if has_pending || self.closing.is_cancelled() {
                tokio::time::sleep(SUSPECT_RETRY).await;
            } else {
                std::future::pending().await
            }
        };
        let spool = self.recorder.spool();
        let more = async {
            match own {
                Some(lane) if spool.wait_beyond(lane.position()).await > lane.position() => {
                    tokio::time::sleep(GATHER).await;
                }
                // The life has ended: nothing more will come.
                _ => std::future::pending().await,
            }
        };
        let closing = async {
            if self.closing.is_cancelled() {
                std::future::pending::<()>().await;
            }
            self.closing.cancelled().await;
        };
        tokio::select! {
            () = retry => {}
            () = more => {}
            () = closing => {}
        }
    }
}

/// A blocking thread has not given the lane back.
fn lost_lane(error: &tokio::task::JoinError) -> (Option<Lane>, Turn) {
    tracing::error!(%error, "a part of the drain broke off; the next start drains what it leaves");
    (None, Turn::Idle)
}

/// Whether it is the items that the store objects to, and not the store that cannot.
fn is_about_items(error: &Error) -> bool {
    match error {
        Error::Unavailable(_) | Error::TooNew { .. } => false,
        Error::Source(error) => !is_shortage(error),
        Error::Damaged(_) | Error::Invalid(_) | Error::NotFound(_) | Error::Output(_) => true,
    }
}

/// Whether reading may work in a moment.
fn is_passing(unreadable: &Unreadable) -> bool {
    matches!(unreadable, Unreadable::Spool(spool::Error::Io { source, .. }) if is_shortage(source))
}

/// Out of memory, descriptors or time: no fault of what is being read.
fn is_shortage(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    let is_shortage_of_descriptors = matches!(error.raw_os_error(), Some(EMFILE | ENFILE));
    let is_passing = matches!(
        error.kind(),
        io::ErrorKind::OutOfMemory | io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    );
    is_shortage_of_descriptors || is_passing
}
