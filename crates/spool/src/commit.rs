//! Group commit: who waits for the disk, and how far it is.
//!
//! One thread does all the syncing of a spool. A pass takes the log's end, syncs everything up to it, and then tells those whom
//! it has served; who asks while a pass is running is served by the next one. So any number of waiters cost one `fdatasync`
//! per pass, and a wait lasts at most two passes. There are at most as many waiters as entries under way; none is woken in vain.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Error, Result};
use crate::format::Position;
use crate::lock;

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

    /// Held during a pass.
    pub(crate) fn pass(&self) -> MutexGuard<'_, ()> {
        lock(&self.pass)
    }

    /// Has the thread end, after the pass that is running.
    pub(crate) fn stop(&self) {
        lock(&self.state).stop = true;
        self.ordered.notify_one();
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
    pub(crate) fn settle(&self, synced: Position) {
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

    /// Waits until a pass is wanted; `false`: there will be none.
    pub(crate) fn next_order(&self) -> bool {
        let mut state = lock(&self.state);
        while !state.wanted && !state.stop {
            state = self.ordered.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.wanted = false;
        !state.stop
    }
}
