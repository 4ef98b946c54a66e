//! What is recorded of one direction of a WebSocket.

use std::sync::Arc;

use winni::model::{Direction, FrameForm, Outcome, Timestamp};
use wire::websocket::{Ending, Event, Messages, Opcode, close_reason};

use crate::recorder::{Kept, MessageLog, OpenMessage};

/// Reads along, and puts on record what it reads.
pub(super) struct Tap {
    log: Arc<MessageLog>,
    direction: Direction,
    messages: Messages,
    running: Running,
}

/// What the events change.
#[derive(Default)]
struct Running {
    open: Option<OpenMessage>,
    closed: Option<(u16, String)>,
    /// Something could not be recorded, and policy forbids that it passes.
    cut: bool,
    /// A message has ended since the last look.
    ended: bool,
}

/// What is to be done with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may pass.
    Pass,
    /// It may pass when what is written is on stable storage: a message ends in it.
    Sync,
    /// It must not pass.
    Cut,
}

impl Tap {
    pub(super) fn new(log: Arc<MessageLog>, direction: Direction) -> Self {
        Self { log, direction, messages: Messages::default(), running: Running::default() }
    }

    /// Records what a chunk brings, before it is passed on.
    pub(super) fn record(&mut self, chunk: &[u8]) -> Verdict {
        let Self { log, direction, messages, running } = self;
        running.ended = false;
        messages.read(chunk, |event| running.take(log, *direction, event));
        match (running.cut, running.ended && log.recorder().needs_sync()) {
            (true, _) => Verdict::Cut,
            (false, true) => Verdict::Sync,
            (false, false) => Verdict::Pass,
        }
    }

    /// Whether nothing would be broken off if the direction ended here.
    pub(super) fn is_quiet(&self) -> bool {
        self.messages.is_between_messages()
    }

    /// Code and reason of the close frame that passed, if one did; code 1005 stands for none given, as the protocol has it.
    pub(super) fn closed(&self) -> Option<(u16, String)> {
        self.running.closed.clone()
    }

    pub(super) fn log(&self) -> &Arc<MessageLog> {
        &self.log
    }
}

impl Running {
    fn take(&mut self, log: &Arc<MessageLog>, direction: Direction, event: Event<'_>) {
        let kept = match event {
            Event::Control { opcode: Opcode::CLOSE, payload } => {
                let (code, reason) = close_reason(payload);
                self.closed.get_or_insert((code.unwrap_or(1005), reason));
                return;
            }
            // Pings and pongs pass and say nothing.
            Event::Control { .. } => return,
            Event::Unframed(bytes) => log.whole(direction, FrameForm::Unframed, Timestamp::now(), bytes),
            Event::Part { opcode, first: true, bytes, last: None } => {
                let (open, kept) = log.begin(direction, form(opcode), bytes);
                self.open = Some(open);
                kept
            }
            Event::Part { opcode, first: true, bytes, last: Some(_) } => {
                self.ended = true;
                log.whole(direction, form(opcode), Timestamp::now(), bytes)
            }
            Event::Part { bytes, last: None, .. } => match &mut self.open {
                Some(open) if !bytes.is_empty() => open.part(bytes),
                _ => return,
            },
            Event::Part { bytes, last: Some(ending), .. } => {
                self.ended = true;
                match self.open.take() {
                    Some(open) => open.end(bytes, outcome(ending, direction)),
                    None => return,
                }
            }
        };
        self.cut |= kept == Kept::MustNotPass;
    }
}

fn outcome(ending: Ending, direction: Direction) -> Outcome {
    match (ending, direction) {
        (Ending::Whole, _) => Outcome::Complete,
        (Ending::Interrupted, Direction::ToServer) => Outcome::ClientAborted,
        (Ending::Interrupted, Direction::ToClient) => Outcome::UpstreamAborted,
    }
}

fn form(opcode: Opcode) -> FrameForm {
    match opcode {
        Opcode::TEXT => FrameForm::Text,
        Opcode::BINARY => FrameForm::Binary,
        Opcode(other) => FrameForm::Reserved(other),
    }
}
