//! A backend's writing thread: one job at a time, in the order in which they were asked for.

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::handed_in::Accepted;
use crate::model::StoredMessage;
use crate::store::{Error, Result};

/// A conversation, and its new messages.
pub(crate) type Stored = (Uuid, Vec<StoredMessage>);

/// What writes to one database.
pub(crate) trait Writes: Send + 'static {
    /// Stores the messages of calls that wait at the same time. They share a transaction, and nothing else: each is refused by
    /// itself. An error is that of all of them, and nothing is stored then.
    fn store(&mut self, calls: Vec<Accepted>) -> Result<Vec<Result<Stored>>>;
}

/// The thread. It ends when this is dropped and its last job is done.
pub(crate) struct WritingThread<W> {
    jobs: mpsc::Sender<Job<W>>,
}

enum Job<W> {
    Work(Box<dyn FnOnce(&mut W) + Send>),
    Store(Waiting),
}

/// A call that waits for its messages to be stored.
struct Waiting {
    accepted: Accepted,
    answer: oneshot::Sender<Result<Stored>>,
}

/// Calls that may wait for the thread; further callers wait for a place.
const QUEUE: usize = 16;
/// Calls that share a commit, at most.
const MAX_TOGETHER: usize = 64;

impl<W: Writes> WritingThread<W> {
    /// # Errors
    /// [`Error::Unavailable`] if no thread can be started.
    pub(crate) fn start(writer: W) -> Result<Self> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("winni-writer".into())
            .spawn(move || run(writer, queue))
            .map_err(|e| Error::Unavailable(format!("cannot start a thread: {e}")))?;
        Ok(Self { jobs })
    }

    /// Runs `work` on the thread, after what was asked before. It is done even if the caller is cancelled.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut W) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, done) = oneshot::channel();
        let work = move |writer: &mut W| {
            let _unheard = answer.send(work(writer));
        };
        self.ask(Job::Work(Box::new(work)), done).await
    }

    /// Stores the messages of one call, together with those that wait beside it.
    pub(crate) async fn store(&self, accepted: Accepted) -> Result<Stored> {
        let (answer, done) = oneshot::channel();
        self.ask(Job::Store(Waiting { accepted, answer }), done).await
    }

    async fn ask<T>(&self, job: Job<W>, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let ended = || Error::Unavailable("the writing thread has ended".into());
        self.jobs.send(job).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

fn run<W: Writes>(mut writer: W, mut queue: mpsc::Receiver<Job<W>>) {
    let mut next = None;
    while let Some(job) = next.take().or_else(|| queue.blocking_recv()) {
        match job {
            Job::Work(work) => work(&mut writer),
            Job::Store(waiting) => {
                let mut together = vec![waiting];
                while together.len() < MAX_TOGETHER {
                    match queue.try_recv() {
                        Ok(Job::Store(waiting)) => together.push(waiting),
                        Ok(other) => {
                            next = Some(other);
                            break;
                        }
                        Err(_) => break,
                    }
                }
                store_together(&mut writer, together);
            }
        }
    }
}

fn store_together(writer: &mut impl Writes, waiting: Vec<Waiting>) {
    let (calls, answers): (Vec<_>, Vec<_>) = waiting.into_iter().map(|w| (w.accepted, w.answer)).unzip();
    let stored = writer.store(calls);
    let stored = stored.unwrap_or_else(|error| answers.iter().map(|_| Err(again(&error))).collect());
    for (answer, stored) in answers.into_iter().zip(stored) {
        // Nobody waits any more if the caller was cancelled; the messages are stored all the same.
        let _unheard = answer.send(stored);
    }
}

/// The error for each of those that failed together.
fn again(error: &Error) -> Error {
    match error {
        Error::Unavailable(why) => Error::Unavailable(why.clone()),
        other => Error::Damaged(other.to_string()),
    }
}
