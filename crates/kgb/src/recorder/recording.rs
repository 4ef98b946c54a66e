//! One exchange on record, from its begin to its one end.
//!
//! [`Recording`] is the only handle that can end the exchange. It does so once: [`Recording::finish`] consumes it, and
//! dropping it is an end too. [`Running`] is what the request's side keeps to append to the same exchange; after the end
//! it is told that there is nothing to append to any more.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use spool::{Channel, Entry, Position};
use uuid::Uuid;
use winni::model::{Durability, Outcome, Timestamp};
use wire::redact::ToolKeyFilter;

use super::{Recorder, WhenSpoolFull};
use crate::entry::{End, REQUEST_BODY, RESPONSE_BODY};

/// What became of bytes that were to be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// They are with the kernel and end here.
    At(Position),
    /// They are not on record, and policy lets them pass.
    Unrecorded,
    /// They are not on record, and policy forbids that they pass.
    MustNotPass,
    /// The exchange has ended; these bytes belong to nothing.
    Ended,
}

/// How far the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Request {
    Running = 0,
    Whole = 1,
    Broken = 2,
}

/// An exchange that is on its way. Shared by the request's and the response's side.
pub(crate) struct Running {
    recorder: Arc<Recorder>,
    id: Uuid,
    /// None: it could not even be begun.
    entry: Option<Arc<Entry>>,
    /// What the request's body is recorded through; none where it is no call of a tool.
    filter: Option<Mutex<ToolKeyFilter>>,
    /// Set when a part could not be recorded: a record with a hole is worth less than one with an end, so nothing more is
    /// appended afterwards.
    lost: AtomicBool,
    /// Bytes that passed without being recorded.
    missing: AtomicU64,
    ended: AtomicBool,
    request: AtomicU8,
}

impl Running {
    /// Records parts in one write, before they are passed on.
    pub(crate) fn keep(&self, parts: &[(Channel, &[u8])]) -> Kept {
        self.count(parts);
        if self.is_ended() {
            return Kept::Ended;
        }
        let Some(entry) = self.recordable() else {
            return self.miss(parts);
        };
        let appended = match &self.filter {
            None => entry.append_all(parts),
            Some(filter) => append_clean(entry, filter, parts),
        };
        match appended {
            Ok(end) => Kept::At(end),
            Err(spool::Error::Closed) => Kept::Ended,
            Err(error) => self.lose(&error, parts),
        }
    }

    /// Where everything of this exchange that was recorded by now ends.
    pub(crate) fn written(&self) -> Position {
        self.recorder.spool.written()
    }

    /// Whether bytes have to be on stable storage before what they lead to is passed on.
    pub(crate) fn needs_sync(&self) -> bool {
        self.recorder.durability == Durability::Power
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    /// Whether the exchange's end has come.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// The request has passed whole.
    pub(crate) fn request_whole(&self) {
        self.request.store(Request::Whole as u8, Ordering::Release);
    }

    /// The client stopped in the middle of its request.
    pub(crate) fn request_broken(&self) {
        self.request.store(Request::Broken as u8, Ordering::Release);
    }

    fn recordable(&self) -> Option<&Arc<Entry>> {
        self.entry.as_ref().filter(|_| !self.lost.load(Ordering::Acquire))
    }

    fn lose(&self, error: &spool::Error, parts: &[(Channel, &[u8])]) -> Kept {
        self.recorder.alarm(error);
        if !self.lost.swap(true, Ordering::AcqRel) && self.recorder.when_full == WhenSpoolFull::PassUnrecorded {
            self.recorder.missed(1, 0);
        }
        self.miss(parts)
    }

    fn miss(&self, parts: &[(Channel, &[u8])]) -> Kept {
        if self.recorder.when_full == WhenSpoolFull::Refuse {
            return Kept::MustNotPass;
        }
        let bytes = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        self.missing.fetch_add(bytes, Ordering::Relaxed);
        self.recorder.missed(0, bytes);
        Kept::Unrecorded
    }

    fn end(&self, parts: &[(Channel, &[u8])], outcome: Outcome) -> Kept {
        if self.ended.swap(true, Ordering::AcqRel) {
            return Kept::Ended;
        }
        self.count(parts);
        let kept = match self.recordable() {
            None => self.miss(parts),
            Some(entry) => match entry.close(parts, &self.end_payload(outcome).encode()) {
                Ok(end) => Kept::At(end),
                Err(error) => self.lose(&error, parts),
            },
        };
        let outcome = if kept == Kept::MustNotPass { Outcome::Refused } else { outcome };
        self.recorder.meters.ended(outcome);
        if !matches!(kept, Kept::At(_)) {
            self.end_without_parts(outcome);
        }
        kept
    }

    /// The record has lost its last part, but it still gets its end: the spool keeps room for it.
    fn end_without_parts(&self, outcome: Outcome) {
        let Some(entry) = &self.entry else { return };
        let end = self.end_payload(outcome);
        if entry.close(&[], &end.encode()).is_err() {
            self.recorder.gaps.end_later(entry.clone(), end);
        }
    }

    fn end_payload(&self, outcome: Outcome) -> End {
        End { outcome, at: Timestamp::now(), missing_bytes: self.missing.load(Ordering::Relaxed) }
    }

    fn count(&self, parts: &[(Channel, &[u8])]) {
        for (channel, bytes) in parts {
            match *channel {
                REQUEST_BODY => self.recorder.meters.request_bytes.increment(bytes.len() as u64),
                RESPONSE_BODY => self.recorder.meters.response_bytes.increment(bytes.len() as u64),
                _ => {}
            }
        }
    }
}

/// Appends the parts without what is a key in a request's body.
fn append_clean(entry: &Entry, filter: &Mutex<ToolKeyFilter>, parts: &[(Channel, &[u8])]) -> spool::Result<Position> {
    let mut filter = filter.lock().unwrap_or_else(PoisonError::into_inner);
    let mut clean = |(channel, bytes): &(Channel, &'_ [u8])| match *channel {
        REQUEST_BODY => filter.pass(bytes).into_owned(),
        _ => bytes.to_vec(),
    };
    let clean: Vec<Vec<u8>> = parts.iter().map(&mut clean).collect();
    let parts: Vec<_> = parts.iter().zip(&clean).map(|((channel, _), bytes)| (*channel, &bytes[..])).collect();
    entry.append_all(&parts)
}

/// The handle that ends an exchange.
pub(crate) struct Recording {
    running: Arc<Running>,
}

impl Recording {
    /// `begun`: what was begun, and what has read the first of it. `first`: bytes of the request's body that came with the
    /// begin.
    pub(super) fn new(
        recorder: Arc<Recorder>,
        id: Uuid,
        begun: Option<(Entry, Option<ToolKeyFilter>)>,
        first: Option<&[u8]>,
    ) -> Self {
        recorder.meters.active.increment(1);
        let (entry, filter) = begun.unzip();
        let running = Running {
            recorder,
            id,
            entry: entry.map(Arc::new),
            filter: filter.flatten().map(Mutex::new),
            lost: AtomicBool::new(false),
            missing: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            request: AtomicU8::new(Request::Running as u8),
        };
        let parts = first.map(|bytes| (REQUEST_BODY, bytes));
        running.count(parts.as_slice());
        if running.entry.is_none() {
            running.recorder.missed(1, 0);
            running.miss(parts.as_slice());
        }
        Self { running: Arc::new(running) }
    }

    /// The exchange's id.
    pub(crate) fn id(&self) -> Uuid {
        self.running.id
    }

    /// What the request's side needs.
    pub(crate) fn running(&self) -> &Arc<Running> {
        &self.running
    }

    /// Whether the client stopped in the middle of its request.
    pub(crate) fn is_request_broken(&self) -> bool {
        self.running.request.load(Ordering::Acquire) == Request::Broken as u8
    }

    /// Whether it was cut because it could not be recorded.
    pub(crate) fn is_cut(&self) -> bool {
        let running = &self.running;
        running.lost.load(Ordering::Acquire) && running.recorder.when_full == WhenSpoolFull::Refuse
    }

    /// Ends the exchange, with last parts, in one write.
    pub(crate) fn finish(self, parts: &[(Channel, &[u8])], outcome: Outcome) -> Kept {
        self.running.end(parts, outcome)
    }
}

impl Drop for Recording {
    /// Dropped without an end: hyper drops an exchange in the middle when its client hangs up, and we do when we stop.
    fn drop(&mut self) {
        let outcome =
            if self.running.recorder.is_stopping() { Outcome::RecorderStopped } else { Outcome::ClientAborted };
        self.running.end(&[], outcome);
        self.running.recorder.meters.active.decrement(1);
    }
}
