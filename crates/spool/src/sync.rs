//! The thread that syncs, for all who wait for the disk (see [`GroupCommit`](crate::commit::GroupCommit)).
//!
//! A pass syncs the segments in their order and the folder behind them before anything counts as synced, so `synced` never
//! covers a record whose predecessors, or whose file name, could still be lost.
//!
//! A failed sync poisons the spool. It is not tried again: the kernel may have dropped the dirty pages and would report
//! success the second time.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crate::error::{Error, Result};
use crate::filesystem::Access;
use crate::format::Position;
use crate::lock;
use crate::shared::Shared;

/// One pass. Also called, without the thread, at the end of a life.
pub(crate) fn sync_now(shared: &Shared) -> Result<()> {
    let commit = &shared.commit;
    let _pass = commit.pass();
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

/// Starts the thread that serves who waits. It lives until [`SyncThread`] is dropped.
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
        self.shared.commit.stop();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: it calls nothing that does.
            let _ = thread.join();
        }
    }
}
