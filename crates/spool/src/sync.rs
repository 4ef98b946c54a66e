//! Group commit: how records reach the disk's platters, many at a time.
//!
//! One thread does all the syncing of a spool. A pass takes the log's end, syncs everything up to it, and then says so to
//! all who wait; who asks while a pass is running is served by the next one. So any number of waiters cost one `fdatasync`
//! per pass, and a wait lasts at most two passes. There is no queue: a waiter leaves a flag and watches the outcome.
//!
//! A pass syncs the segments in their order and the folder behind them before anything counts as synced, so `synced` never
//! covers a record whose predecessors, or whose file name, could still be lost.
//!
//! A failed sync poisons the spool. It is not tried again: the kernel may have dropped the dirty pages and would report
//! success the second time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::filesystem::Access;
use crate::format::Position;
use crate::lock;
use crate::spool::Shared;

/// What the waiters of a spool watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything before this is on the disk.
    pub(crate) synced: Position,
    pub(crate) poisoned: bool,
}

/// What the sync thread is asked for.
#[derive(Debug, Default)]
struct Orders {
    wanted: bool,
    stop: bool,
}

#[derive(Debug)]
pub(crate) struct GroupCommit {
    orders: Mutex<Orders>,
    ordered: Condvar,
    /// Held during a pass: the thread's, and that of `end_life`, which does not wait for the thread.
    pass: Mutex<()>,
    progress: watch::Sender<Progress>,
}

impl GroupCommit {
    pub(crate) fn new(synced: Position) -> Self {
        Self {
            orders: Mutex::default(),
            ordered: Condvar::new(),
            pass: Mutex::default(),
            progress: watch::Sender::new(Progress { synced, poisoned: false }),
        }
    }

    pub(crate) fn synced(&self) -> Position {
        self.progress.borrow().synced
    }

    /// Asks for a pass, without waiting for it.
    pub(crate) fn order(&self) {
        lock(&self.orders).wanted = true;
        self.ordered.notify_one();
    }

    /// Waits until everything before `position` is on the disk.
    pub(crate) async fn reached(&self, position: Position) -> Result<()> {
        if self.synced() >= position {
            return Ok(());
        }
        // Subscribed before the order is given, so that the pass which serves it cannot be missed.
        let mut progress = self.progress.subscribe();
        self.order();
        let done = |progress: &Progress| progress.poisoned || progress.synced >= position;
        match progress.wait_for(done).await {
            Ok(progress) if progress.synced >= position => Ok(()),
            _ => Err(Error::Poisoned),
        }
    }

    /// Wakes all waiters with the news that nothing will be synced any more.
    pub(crate) fn poison(&self) {
        self.progress.send_modify(|progress| progress.poisoned = true);
    }

    fn next_order(&self) -> bool {
        let mut orders = lock(&self.orders);
        while !orders.wanted && !orders.stop {
            orders = self.ordered.wait(orders).unwrap_or_else(PoisonError::into_inner);
        }
        let stop = orders.stop;
        orders.wanted = false;
        !stop
    }
}

/// One pass. Also called, without the thread, at the end of a life.
pub(crate) fn sync_now(shared: &Shared) -> Result<()> {
    let commit = &shared.commit;
    let _pass = lock(&commit.pass);
    if shared.poisoned.load(Ordering::Acquire) {
        return Err(Error::Poisoned);
    }
    match sync_pass(shared) {
        Ok(synced) => {
            commit.progress.send_modify(|progress| progress.synced = progress.synced.max(synced));
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, dir = %shared.dir().display(), "syncing the spool failed; recording stops until a restart");
            shared.poison();
            Err(Error::Poisoned)
        }
    }
}

fn sync_pass(shared: &Shared) -> std::io::Result<Position> {
    let (file, target, first) = {
        let writer = lock(&shared.writer);
        (writer.file(), writer.position(), writer.segments().first_file())
    };
    let synced = shared.commit.synced();
    if synced >= target {
        return Ok(synced);
    }
    let folder = shared.files.folder();
    for number in synced.segment.max(first)..target.segment {
        match folder.open_segment(number, Access::Write) {
            Ok(file) => file.sync_data()?,
            // Released in the meantime: what was in it is in the store.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    file.sync_data()?;
    if synced == Position::default() || synced.segment != target.segment {
        folder.sync_names()?;
    }
    Ok(target)
}

/// Starts the thread that serves [`GroupCommit::reached`]. It lives until [`SyncThread`] is dropped.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<SyncThread> {
    let mine = shared.clone();
    let serve = move || {
        while mine.commit.next_order() {
            // The failure is logged and has poisoned the spool; the thread stays to be joined.
            let _ = sync_now(&mine);
        }
    };
    let thread = thread::Builder::new().name("spool-sync".to_owned()).spawn(serve);
    let thread = thread.map_err(Error::io("starting the sync thread"))?;
    Ok(SyncThread { shared: shared.clone(), thread: Some(thread) })
}

/// Owns the sync thread: stops and joins it when dropped, after the pass that is running.
#[derive(Debug)]
pub(crate) struct SyncThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for SyncThread {
    fn drop(&mut self) {
        lock(&self.shared.commit.orders).stop = true;
        self.shared.commit.ordered.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: it calls nothing that does.
            let _ = thread.join();
        }
    }
}
