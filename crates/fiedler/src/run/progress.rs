//! How far a run is, for whoever watches.
//!
//! Each model has [`SHARE`] parts of the whole: one when it starts, some while its answer streams, all when it ends. So the
//! number grows with every report, as MCP demands, and reaches the total when the last model ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ModelResult;
use super::folder::Folder;
use crate::ask::Listener;

const SHARE: u64 = 100;
/// Reports of a stream come no more often than this.
const PACE: Duration = Duration::from_millis(250);

/// What happens to a model.
#[derive(Clone, Debug, PartialEq)]
pub enum Stage {
    /// It is asked.
    Started,
    /// So many bytes of its answer have come.
    Streaming {
        /// Of the stream, not of the text.
        bytes: u64,
    },
    /// It will be asked again.
    Retrying,
    /// It has ended.
    Ended {
        /// Whether with an answer.
        is_success: bool,
        /// Models that have ended.
        ended: usize,
    },
}

/// Something that happened in a run.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// The model.
    pub model: &'a str,
    /// What happened to it.
    pub stage: Stage,
    /// The same in words.
    pub message: String,
    /// Parts done; grows from event to event.
    pub done: u64,
    /// Parts of the whole run.
    pub total: u64,
}

/// Whoever wants to know how far a run is.
pub trait Watcher: Send + Sync {
    /// Something happened. Called in order, never twice at once.
    fn event(&self, event: &Event<'_>);
}

pub(super) struct Progress {
    watcher: Arc<dyn Watcher>,
    models: usize,
    now: Mutex<Now>,
}

#[derive(Default)]
struct Now {
    done: u64,
    ended: usize,
}

/// One model's part.
pub(super) struct OfModel<'a> {
    progress: &'a Progress,
    model: &'a str,
    folder: &'a Folder,
    part: Mutex<Part>,
}

struct Part {
    done: u64,
    last: Instant,
}

impl Progress {
    pub(super) fn new(watcher: Arc<dyn Watcher>, models: usize) -> Self {
        Self { watcher, models, now: Mutex::default() }
    }

    pub(super) fn of_model<'a>(&'a self, model: &'a str, folder: &'a Folder) -> OfModel<'a> {
        OfModel { progress: self, model, folder, part: Mutex::new(Part { done: 0, last: Instant::now() }) }
    }

    fn tell(&self, model: &str, more: u64, message: String, stage: impl FnOnce(&mut Now) -> Stage) {
        // Held while the watcher is told, so that events come in order.
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        now.done += more;
        let stage = stage(&mut now);
        let total = self.models as u64 * SHARE;
        let message = match &stage {
            Stage::Ended { ended, .. } => format!("{message} ({ended} of {})", self.models),
            _ => message,
        };
        self.watcher.event(&Event { model, stage, message, done: now.done, total });
    }
}

impl OfModel<'_> {
    pub(super) fn starts(&self) {
        let more = self.grow(1);
        self.progress.tell(self.model, more, format!("{}: asked", self.model), |_| Stage::Started);
    }

    pub(super) fn ends(&self, result: &ModelResult) {
        let more = self.grow(SHARE);
        let is_success = result.is_success();
        self.progress.tell(self.model, more, result.line(), |now| {
            now.ended += 1;
            Stage::Ended { is_success, ended: now.ended }
        });
    }

    /// Moves this model's part on; by how much.
    fn grow(&self, to: u64) -> u64 {
        let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
        let more = to.saturating_sub(part.done);
        part.done += more;
        more
    }
}

impl Listener for OfModel<'_> {
    fn has_come(&self, bytes: u64) {
        let more = {
            let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
            let is_due = part.done == 1 || part.last.elapsed() >= PACE;
            if !is_due || part.done + 1 >= SHARE {
                return;
            }
            part.last = Instant::now();
            part.done += 1;
            1
        };
        let message = format!("{}: {bytes} bytes of its answer so far", self.model);
        self.progress.tell(self.model, more, message, |_| Stage::Streaming { bytes });
    }

    fn tries_again(&self, why: &str, pause: Duration) {
        self.folder.log(&format!("{why}; trying again in {:.1} s", pause.as_secs_f64()));
        let more = {
            let mut part = self.part.lock().unwrap_or_else(PoisonError::into_inner);
            if part.done + 1 >= SHARE {
                return;
            }
            part.done += 1;
            1
        };
        let message = format!("{}: trying again in {:.1} s", self.model, pause.as_secs_f64());
        self.progress.tell(self.model, more, message, |_| Stage::Retrying);
    }
}
