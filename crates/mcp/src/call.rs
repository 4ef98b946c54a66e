//! A call under way: who wants to hear of its progress, and whether anybody still wants its result.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::message::Answer;

/// What becomes of a call whose client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WhenClientLeaves {
    /// It is cancelled: a closed stream says so on WebSocket, and over HTTP since 2026-07-28.
    Cancel,
    /// It goes on to its end, and nobody gets the result: over HTTP up to 2025-11-25 a lost connection must not be taken
    /// for a cancellation.
    Finish,
}

/// A message on its way to the client, on the stream that belongs to a request or a connection.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Comes before the answer.
    Notification(String),
    /// The last one of its request.
    Answer(Answer),
    /// Asks whether the client is still there; WebSocket only.
    Ping,
}

/// Where messages go that belong to a request. Bounded: an answer waits for room, a report of progress is dropped instead.
pub(crate) type Outbox = mpsc::Sender<Outgoing>;

/// Messages that may wait for a slow client.
pub(crate) const OUTBOX_MESSAGES: usize = 32;

/// What a tool is told of its call. A clone is of the same call, for work in a thread of its own.
#[derive(Clone)]
pub struct Call {
    cancelled: CancellationToken,
    progress: Option<(Box<RawValue>, Outbox)>,
    tool_use_id: Option<Arc<str>>,
}

impl Call {
    pub(crate) fn new(cancelled: CancellationToken, progress: Option<(Box<RawValue>, Outbox)>) -> Self {
        Self { cancelled, progress, tool_use_id: None }
    }

    /// The same call, which a model's `tool_use` of this id asked for.
    pub(crate) fn of_tool_use(self, id: Option<String>) -> Self {
        Self { tool_use_id: id.map(Arc::from), ..self }
    }

    /// The id of the model's `tool_use` that this call serves, where the client says so (Claude Code does).
    pub fn tool_use_id(&self) -> Option<&str> {
        self.tool_use_id.as_deref()
    }

    /// A call that nobody watches, for tests and for callers in the same process.
    pub fn unwatched() -> Self {
        Self::new(CancellationToken::new(), None)
    }

    /// Whether nobody wants the result any more. A tool that works for long without waiting asks now and then.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Whether somebody asked to be told of progress.
    pub fn is_watched(&self) -> bool {
        self.progress.is_some()
    }

    /// Tells how far it is, if somebody asked. `done` must grow from report to report. A report that finds no room is
    /// dropped: the next one says more.
    pub fn report(&self, done: u64, total: u64, message: &str) {
        let Some((token, outbox)) = &self.progress else {
            return;
        };
        let token: Value = serde_json::from_str(token.get()).unwrap_or_default();
        let params = json!({"progressToken": token, "progress": done, "total": total, "message": message});
        let text = json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).to_string();
        // Full: see [`Outbox`].
        let _dropped = outbox.try_send(Outgoing::Notification(text));
    }
}
