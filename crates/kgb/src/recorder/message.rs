//! Messages of connections on record, one by one.
//!
//! Guaranteed: a message that is there whole is recorded in one write; one that comes in parts is recorded as it comes and
//! ends once, whatever happens to who carries it. What cannot be recorded is the policy's to decide, as with exchanges. Of
//! a message to a server that hands over a key, the key is not recorded, in however many parts it comes.

use std::borrow::Cow;
use std::sync::Arc;

use spool::Entry;
use uuid::Uuid;
use winni::model::{ConnectionEnd, Direction, FrameForm, FrameSource, Outcome, Timestamp};
use wire::redact::ToolKeyFilter;

use super::{Kept, Recorder, WhenSpoolFull};
use crate::entry::{End, MESSAGE_BYTES, MessageBegin, Note};

/// Puts the messages of one connection on record. Shared by its two directions.
pub struct MessageLog {
    recorder: Arc<Recorder>,
    connection: Uuid,
    source: FrameSource,
    server: String,
    session: Option<String>,
}

impl MessageLog {
    /// For a connection to a server. `session`: as the client named it when it connected.
    pub fn new(
        recorder: Arc<Recorder>,
        connection: Uuid,
        source: FrameSource,
        server: String,
        session: Option<String>,
    ) -> Arc<Self> {
        Arc::new(Self { recorder, connection, source, server, session })
    }

    /// Records a message that is whole; whether it may pass.
    pub fn record(&self, direction: Direction, form: FrameForm, at: Timestamp, bytes: &[u8]) -> bool {
        self.whole(direction, form, at, bytes) != Kept::MustNotPass
    }

    /// Records a message that is whole.
    pub(crate) fn whole(&self, direction: Direction, form: FrameForm, at: Timestamp, bytes: &[u8]) -> Kept {
        self.recorder.meters.message(bytes.len());
        let begin = self.begin_payload(direction, form, at);
        let end = End { outcome: Outcome::Complete, at, missing_bytes: 0 };
        let clean = clean(&mut filter(direction), bytes);
        match self.recorder.spool.whole(&begin, &[(MESSAGE_BYTES, &clean)], &end.encode()) {
            Ok((_, end)) => {
                self.recorder.recording_works();
                Kept::At(end)
            }
            Err(error) => self.recorder.pass_unrecorded(&error, 1, bytes),
        }
    }

    /// Begins a message of which more is to come.
    pub(crate) fn begin(self: &Arc<Self>, direction: Direction, form: FrameForm, bytes: &[u8]) -> (OpenMessage, Kept) {
        self.recorder.meters.message(bytes.len());
        let begin = self.begin_payload(direction, form, Timestamp::now());
        let mut filter = filter(direction);
        let clean = clean(&mut filter, bytes);
        let mut open = OpenMessage { log: self.clone(), direction, entry: None, filter, missing: 0 };
        let kept = match self.recorder.spool.begin(&begin, &[(MESSAGE_BYTES, &clean)]) {
            Ok(entry) => {
                self.recorder.recording_works();
                let kept = Kept::At(entry.begun());
                open.entry = Some(Arc::new(entry));
                kept
            }
            Err(error) => open.lose(&error, 1, bytes),
        };
        (open, kept)
    }

    /// Records the connection's end.
    pub(crate) fn closed(&self, outcome: Outcome, by_client: Option<(u16, String)>, by_server: Option<(u16, String)>) {
        let at = Timestamp::now();
        let closed = ConnectionEnd { connection_id: self.connection, at, outcome, by_client, by_server };
        if let Err(error) = self.recorder.spool.note(&Note::Closed(closed).encode()) {
            self.recorder.alarm(&error);
        }
    }

    pub(crate) fn recorder(&self) -> &Arc<Recorder> {
        &self.recorder
    }

    fn begin_payload(&self, direction: Direction, form: FrameForm, at: Timestamp) -> Vec<u8> {
        let begin = MessageBegin {
            id: Uuid::now_v7(),
            connection: self.connection,
            at,
            durability: self.recorder.durability,
            direction,
            source: self.source,
            form,
            server: self.server.clone(),
            session: self.session.clone(),
        };
        begin.encode()
    }
}

/// For the one direction in which a key may be handed over.
fn filter(direction: Direction) -> Option<ToolKeyFilter> {
    (direction == Direction::ToServer).then(ToolKeyFilter::default)
}

fn clean<'b>(filter: &mut Option<ToolKeyFilter>, bytes: &'b [u8]) -> Cow<'b, [u8]> {
    filter.as_mut().map_or(Cow::Borrowed(bytes), |filter| filter.pass(bytes))
}

impl Recorder {
    /// Counts what could not be recorded, raises the alarm, and says what the policy makes of it.
    fn pass_unrecorded(&self, error: &spool::Error, messages: u64, bytes: &[u8]) -> Kept {
        self.alarm(error);
        if self.when_full == WhenSpoolFull::Refuse {
            self.meters.refused_unrecordable.increment(messages);
            return Kept::MustNotPass;
        }
        self.gaps.add(&self.meters, messages, bytes.len() as u64);
        Kept::Unrecorded
    }
}

/// A message of which more is to come. It ends once; dropped, it was broken off by its sender, or by us.
pub(crate) struct OpenMessage {
    log: Arc<MessageLog>,
    direction: Direction,
    /// None: it could not be begun, or its end is on record.
    entry: Option<Arc<Entry>>,
    filter: Option<ToolKeyFilter>,
    /// Bytes that passed unrecorded. Nothing is appended after the first of them: a record with a hole is worth less than
    /// one with an end.
    missing: u64,
}

impl OpenMessage {
    /// Records more of it.
    pub(crate) fn part(&mut self, bytes: &[u8]) -> Kept {
        self.log.recorder.meters.message_bytes.increment(bytes.len() as u64);
        let clean = clean(&mut self.filter, bytes);
        match self.entry.as_ref().filter(|_| self.missing == 0) {
            None => self.miss(bytes),
            Some(entry) => match entry.append(MESSAGE_BYTES, &clean) {
                Ok(end) => Kept::At(end),
                Err(error) => self.lose(&error, 1, bytes),
            },
        }
    }

    /// Records its last bytes and its end.
    pub(crate) fn end(mut self, bytes: &[u8], outcome: Outcome) -> Kept {
        self.log.recorder.meters.message_bytes.increment(bytes.len() as u64);
        let Some(entry) = self.entry.take() else {
            return self.miss(bytes);
        };
        let clean = clean(&mut self.filter, bytes);
        let parts = [(MESSAGE_BYTES, &*clean)];
        let parts = if clean.is_empty() { &[] } else { &parts[..] };
        if self.missing > 0 {
            let kept = self.miss(bytes);
            self.close(entry, outcome);
            return kept;
        }
        match entry.close(parts, &self.end_payload(outcome)) {
            Ok(end) => Kept::At(end),
            Err(error) => {
                let kept = self.lose(&error, 1, bytes);
                self.close(entry, outcome);
                kept
            }
        }
    }

    /// The end alone: the spool keeps room for it.
    fn close(&self, entry: Arc<Entry>, outcome: Outcome) {
        let end = End { outcome, at: Timestamp::now(), missing_bytes: self.missing };
        if entry.close(&[], &end.encode()).is_err() {
            self.log.recorder.gaps.end_later(entry, end);
        }
    }

    fn end_payload(&self, outcome: Outcome) -> Vec<u8> {
        End { outcome, at: Timestamp::now(), missing_bytes: self.missing }.encode()
    }

    fn lose(&mut self, error: &spool::Error, messages: u64, bytes: &[u8]) -> Kept {
        self.missing += bytes.len() as u64;
        self.log.recorder.pass_unrecorded(error, messages, bytes)
    }

    /// What follows bytes that are missing already.
    fn miss(&mut self, bytes: &[u8]) -> Kept {
        let recorder = &self.log.recorder;
        if recorder.when_full == WhenSpoolFull::Refuse {
            return Kept::MustNotPass;
        }
        self.missing += bytes.len() as u64;
        recorder.gaps.add(&recorder.meters, 0, bytes.len() as u64);
        Kept::Unrecorded
    }
}

impl Drop for OpenMessage {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take() else { return };
        let outcome = match self.direction {
            _ if self.log.recorder.is_stopping() => Outcome::RecorderStopped,
            Direction::ToServer => Outcome::ClientAborted,
            Direction::ToClient => Outcome::UpstreamAborted,
        };
        self.close(entry, outcome);
    }
}
