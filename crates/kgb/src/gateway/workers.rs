//! The threads that carry connections, one for each core.
//!
//! A connection stays on the thread that it was given to, and so do its exchanges, the connections to upstreams that they use and
//! those connections' pool. Nothing on the way of a byte then wakes another thread: with one runtime over all threads such wake-ups
//! were a quarter of an exchange's cost and the larger part of its added latency (docs/benchmarks.md).
//!
//! The price: a thread cannot help another one whose connections happen to be busy. New connections go to the thread that has the
//! fewest.

use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A thread by its number, below [`count`]: what belongs to one is kept under it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Worker(usize);

impl Worker {
    pub(super) const fn number(self) -> usize {
        self.0
    }
}

/// How many threads there are: as many as there were cores when it was asked first, so that what is made later for each thread
/// (a reload makes new clients) fits the threads that run, whatever has become of the process' share of the machine.
pub(super) fn count() -> usize {
    static COUNT: LazyLock<usize> = LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));
    *COUNT
}

/// Owns the threads; without it they stop.
pub(super) struct Workers {
    threads: Vec<Thread>,
    stop: DropGuard,
}

struct Thread {
    runtime: Handle,
    connections: Arc<AtomicUsize>,
    handle: JoinHandle<()>,
}

impl Workers {
    pub(super) fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let threads = (0..count()).map(|number| Thread::start(number, stop.clone())).collect::<io::Result<_>>();
        // Made before the error is passed on, so that those which did start stop again.
        let stop = stop.drop_guard();
        Ok(Self { threads: threads?, stop })
    }

    /// A place on the thread that has the fewest connections; it is taken until it is dropped.
    pub(super) fn place(&self) -> Place {
        let (number, thread) = self.quietest();
        thread.connections.fetch_add(1, Ordering::Relaxed);
        Place { worker: Worker(number), runtime: thread.runtime.clone(), connections: thread.connections.clone() }
    }

    #[expect(clippy::expect_used, reason = "there is a thread for each core, and at least one core")]
    fn quietest(&self) -> (usize, &Thread) {
        let threads = self.threads.iter().enumerate();
        threads.min_by_key(|(_, thread)| thread.connections.load(Ordering::Relaxed)).expect("there is a thread")
    }

    /// Ends the threads, whatever is left on them.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let join = move || self.threads.into_iter().for_each(|thread| drop(thread.handle.join()));
        // It cannot fail, and has nothing to say.
        let _ = tokio::task::spawn_blocking(join).await;
    }
}

impl Thread {
    fn start(number: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let mine = runtime.handle().clone();
        let handle = thread::Builder::new().name(format!("gateway-{number}")).spawn(move || serve(runtime, &stop))?;
        Ok(Self { runtime: mine, connections: Arc::default(), handle })
    }
}

fn serve(runtime: Runtime, stop: &CancellationToken) {
    runtime.block_on(stop.cancelled());
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
}

/// A connection's place on a thread.
pub(super) struct Place {
    pub(super) worker: Worker,
    pub(super) runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_spread_evenly_and_stay_on_their_thread() {
        let workers = Workers::start().unwrap();
        let mut places: Vec<_> = (0..3 * count()).map(|_| workers.place()).collect();
        let on = |places: &[Place], number| places.iter().filter(|place| place.worker.0 == number).count();
        (0..count()).for_each(|number| assert_eq!(on(&places, number), 3));
        places.retain(|place| place.worker.0 != 0);
        assert_eq!(workers.place().worker.0, 0, "the one that has none");
        for place in &places {
            let name = place.runtime.spawn(async { thread::current().name().map(str::to_owned) }).await.unwrap();
            assert_eq!(name, Some(format!("gateway-{}", place.worker.0)));
        }
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_what_is_left() {
        let workers = Workers::start().unwrap();
        let left = workers.place().runtime.spawn(std::future::pending::<()>());
        workers.stop().await;
        assert!(left.await.unwrap_err().is_cancelled());
    }
}
