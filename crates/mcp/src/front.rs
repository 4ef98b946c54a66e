//! What all connections of a listener share, and what clients may take.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Hosts;
use crate::dispatch::Dispatcher;
use crate::streamable_http::sessions::Sessions;

/// What all connections share.
pub(crate) struct Front {
    pub(crate) dispatcher: Dispatcher,
    pub(crate) sessions: Sessions,
    pub(crate) limits: Limits,
    pub(crate) hosts: Hosts,
    /// Nothing new is to begin, and streams end.
    pub(crate) shutdown: CancellationToken,
    /// What is left is to stop where it is.
    pub(crate) cut: CancellationToken,
    /// Owns connections and calls.
    pub(crate) tasks: TaskTracker,
}

impl Front {
    /// Runs a task until it ends, or until the grace period is over.
    pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(&self, task: F) {
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(task));
    }
}

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// A message from a client may have so many bytes. Over HTTP a longer one is answered 413, over WebSocket the
    /// connection is closed with 1009.
    pub message_bytes: usize,
    /// Clients at once; whoever comes beyond waits until one of them leaves.
    pub connections: usize,
}

impl Default for Limits {
    /// 256 MiB, 1024 clients.
    fn default() -> Self {
        Self { message_bytes: 256 << 20, connections: 1024 }
    }
}
