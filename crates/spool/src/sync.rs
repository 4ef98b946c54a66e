//! Group commit: how records reach the disk's platters, many at a time.
//!
//! One thread does all the syncing of a spool. A pass takes the log's end, syncs everything up to it, and then tells those whom
//! it has served; who asks while a pass is running is served by the next one. So any number of waiters cost one `fdatasync`
//! per pass, and a wait lasts at most two passes. Who waits is as many as there are entries under way; nobody is woken in vain.
//!
//! A pass syncs the segments in their order and the folder behind them before anything counts as synced, so `synced` never
//! covers a record whose predecessors, or whose file name, could still be lost.
//!
//! A failed sync poisons the spool. It is not tried again: the kernel may have dropped the dirty pages and would report
//! success the second time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::filesystem::Access;
use crate::format::Position;
use crate::lock;
use crate::spool::Shared;

/// Who waits for the log to be on the disk up to a position.
#[derive(Debug)]
struct Waiter {
    position: Position,
    /// Dropped when nothing will be synced any more.
    reached: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Everything before this is on the disk.
    synced: Position,
    poisoned: bool,
    waiting: Vec<Waiter>,
    /// Whether the thread is to begin a pass, and whether it is to end.
    wanted: bool,
    stop: bool,
}

#[derive(Debug)]
pub(crate) struct GroupCommit {
    state: Mutex<State>,
    ordered: Condvar,
    /// Held during a pass: the thread's, and that of `end_life`, which does not wait for the thread.
    pass: Mutex<()>,
}

impl GroupCommit {
    pub(crate) fn new(synced: Position) -> Self {
        let state = Mutex::new(State { synced, ..State::default() });
        Self { state, ordered: Condvar::new(), pass: Mutex::default() }
    }

    pub(crate) fn synced(&self) -> Position {
        lock(&self.state).synced
    }

    /// Waits until everything before `position` is on the disk.
    pub(crate) async fn reached(&self, position: Position) -> Result<()> {
        let reached = {
            let mut state = lock(&self.state);
            if state.synced >= position {
                return Ok(());
            }
            if state.poisoned {
                return Err(Error::Poisoned);
            }
            let (reached, is_reached) = oneshot::channel();
            state.waiting.push(Waiter { position, reached });
            state.wanted = true;
            is_reached
        };
        self.ordered.notify_one();
        reached.await.map_err(|_| Error::Poisoned)
    }

    /// Wakes all waiters with the news that nothing will be synced any more.
    pub(crate) fn poison(&self) {
        let waiting = {
            let mut state = lock(&self.state);
            state.poisoned = true;
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }

    /// Tells those whom a pass has served.
    fn settle(&self, synced: Position) {
        let served: Vec<Waiter> = {
            let mut state = lock(&self.state);
            state.synced = state.synced.max(synced);
            let synced = state.synced;
            state.waiting.extract_if(.., |waiter| waiter.position <= synced).collect()
        };
        for waiter in served {
            // Who hung up meanwhile waits no more.
            let _unheard = waiter.reached.send(());
        }
    }

    fn next_order(&self) -> bool {
        let mut state = lock(&self.state);
        while !state.wanted && !state.stop {
            state = self.ordered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted = false;
        !state.stop
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
            commit.settle(synced);
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
        lock(&self.shared.commit.state).stop = true;
        self.shared.commit.ordered.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: it calls nothing that does.
            let _ = thread.join();
        }
    }
}
