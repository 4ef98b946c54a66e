//! The tasks of a listener: whose they are, on which thread they run, what ends them.

use hyper::rt::Executor;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::workers::{Place, Worker};

/// How connections, and the exchanges that share one, come to their end. Owns their tasks.
#[derive(Clone)]
pub(crate) struct Life {
    /// Nothing new is to begin.
    pub(crate) shutdown: CancellationToken,
    /// What is left is to stop where it is.
    pub(super) cut: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// On whose thread all this happens.
    pub(crate) worker: Worker,
}

impl Life {
    /// Has a connection served in its place, which it keeps until it ends.
    pub(super) fn carry<F>(&self, place: Place, room: OwnedSemaphorePermit, serve: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serving = serve(Self { worker: place.worker, ..self.clone() });
        let runtime = place.runtime.clone();
        let task = async move {
            serving.await;
            drop((place, room));
        };
        self.tasks.spawn_on(self.cut.clone().run_until_cancelled_owned(task), &runtime);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Life {
    fn execute(&self, task: F) {
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(task));
    }
}
