//! Filling the full-text index behind the drain.
//!
//! While the spool holds a backlog, storing it comes first, unless the store does both at once.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use winni::store::Store;

/// Messages that are indexed at a time …
const AT_ONCE: usize = 512;
/// … and how long they wait for more of them. To read a message's words its whole pack is unpacked, so that many at a time
/// cost little more than one.
const PAUSE: Duration = Duration::from_millis(500);

/// What the drain lets the index know.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Batches that the store has taken.
    pub(super) batches: u64,
    /// The spool holds a backlog.
    pub(super) is_behind: bool,
    /// Nothing more will be stored.
    pub(super) is_ending: bool,
}

/// Indexes what is stored, until the drain is ending and all of it is indexed, or the drain has ended.
pub(super) async fn keep(store: Arc<dyn Store>, mut progress: watch::Receiver<Progress>) {
    loop {
        let now = *progress.borrow_and_update();
        if !now.is_behind || store.indexes_beside_storing() {
            match store.index_pending(AT_ONCE).await {
                Ok(done) if done == AT_ONCE || (done > 0 && now.is_ending) => continue,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot fill the search index now; it goes on with the next batch")
                }
            }
            if now.is_ending {
                return;
            }
        }
        if progress.changed().await.is_err() {
            return;
        }
        let ending = progress.wait_for(|progress| progress.is_ending);
        if let Ok(Err(_)) = tokio::time::timeout(PAUSE, ending).await {
            return;
        }
    }
}
