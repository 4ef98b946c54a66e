//! A connection to one backend, whatever carries it: messages in both directions, and one end.
//!
//! Guaranteed: messages of any size; both queues are bounded. What the backend sends waits when the client is slow, so the
//! backend is slowed down and nothing else; what the client sends is refused with an error when a backend does not take
//! it. A link ends with exactly one [`Event::Lost`], unless this side closes it. [`Link::close`] leaves nothing behind: no
//! task, no socket, no process.

pub(crate) mod connector;
pub(crate) mod http;
pub(crate) mod http_peer;
mod http_post;
pub(crate) mod stdio;
pub(crate) mod websocket;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use ::http::{HeaderName, HeaderValue};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use url::Url;

use crate::tap::{Direction, Observed, Tap};

/// Messages that a backend has not taken yet; one more is refused.
const OUTGOING_MESSAGES: usize = 1024;
/// Messages of a backend that are not handled yet; with more the backend waits.
const INCOMING_MESSAGES: usize = 32;
/// How long the tasks of a closed link may take to end (a child is killed well before).
const CLOSE_PATIENCE: Duration = Duration::from_secs(8);

/// Why a backend cannot be reached, or is no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Trying again soon is of no use: somebody has to change something first.
    pub(crate) lasting: bool,
    /// There was no connection, so that nothing was sent.
    pub(crate) unsent: bool,
}

impl Failure {
    /// It may be over in a moment.
    pub(crate) fn passing(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasting: false, unsent: false }
    }

    /// It will stay so until somebody changes something.
    pub(crate) fn lasting(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), lasting: true, unsent: false }
    }
}

/// What a link tells.
#[derive(Debug)]
pub(crate) enum Event {
    /// A message. `within` is the request on whose stream it came, where the transport has such streams.
    Message { bytes: Bytes, within: Option<u64> },
    /// This request will get no answer. `is_lost`: and nor will any other.
    Failed { id: u64, failure: Failure, is_lost: bool },
    /// The server has forgotten our session and has not taken this request.
    Expired { id: u64, bytes: Bytes, about: Option<Box<About>> },
    /// The end.
    Lost(Failure),
}

/// A message to a backend, and what a transport must know of it.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A request.
    Request { id: u64, bytes: Bytes, about: Option<Box<About>> },
    /// A notification or a response.
    Other { bytes: Bytes },
    /// A notification that is said by the end of a stream where each request has one (modern HTTP).
    Streamless { bytes: Bytes },
    /// A notification that what follows must not overtake.
    InOrder { bytes: Bytes },
    /// Nobody waits for the answer any more. Only transports with a stream for each request do something.
    Abandon { id: u64 },
    /// The server may speak unasked from now on. Only HTTP needs a stream for that.
    OpenStream,
}

/// What HTTP says of a request in headers.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) method: String,
    /// Name or URI of what is asked for.
    pub(crate) name: Option<String>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Takes messages for a backend.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(mpsc::Sender<Outgoing>);

impl Outbox {
    /// Puts a message into the queue, or says why not.
    pub(crate) fn send(&self, outgoing: Outgoing) -> Result<(), &'static str> {
        self.0.try_send(outgoing).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => "it does not take what it is sent; its queue is full",
            mpsc::error::TrySendError::Closed(_) => "the connection has just ended",
        })
    }
}

/// Shows the messages of one connection to the recorder, if there is one and it wants them.
#[derive(Clone, Debug)]
pub(crate) struct Seen(Option<Arc<Shown>>);

#[derive(Debug)]
struct Shown {
    tap: Arc<dyn Tap>,
    backend: String,
    url: Option<Url>,
    /// Asked with the first message: by then the other side listens, and has told whatever it tells of itself.
    is_wanted: OnceLock<bool>,
}

impl Seen {
    pub(crate) fn new(tap: Option<Arc<dyn Tap>>, backend: &str, url: Option<&Url>) -> Self {
        let shown = |tap| Shown { tap, backend: backend.to_owned(), url: url.cloned(), is_wanted: OnceLock::new() };
        Self(tap.map(shown).map(Arc::new))
    }

    pub(crate) fn sent(&self, bytes: &[u8]) {
        self.show(Direction::ToBackend, bytes);
    }

    pub(crate) fn received(&self, bytes: &[u8]) {
        self.show(Direction::FromBackend, bytes);
    }

    fn show(&self, direction: Direction, bytes: &[u8]) {
        let Some(shown) = &self.0 else { return };
        if *shown.is_wanted.get_or_init(|| shown.tap.connects(&shown.backend, shown.url.as_ref())) {
            let backend = Some(&*shown.backend);
            shown.tap.message(&Observed { direction, backend, at: SystemTime::now(), instant: Instant::now(), bytes });
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) outbox: Outbox,
    events: mpsc::Receiver<Event>,
    seen: Seen,
    stop: DropGuard,
    tasks: Vec<JoinHandle<()>>,
}

/// The transport's side of a link.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) outgoing: mpsc::Receiver<Outgoing>,
    pub(crate) events: mpsc::Sender<Event>,
    /// Cancelled when the link is closed or dropped.
    pub(crate) stop: CancellationToken,
    /// Whatever is sent is shown first.
    pub(crate) seen: Seen,
}

/// The messages for a backend, for a transport on which they go one after the other.
#[derive(Debug)]
struct Messages {
    outgoing: mpsc::Receiver<Outgoing>,
    stop: CancellationToken,
    seen: Seen,
}

impl Messages {
    /// The next one, which has been shown; `None` once the link is closed.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let next = tokio::select! {
                next = self.outgoing.recv() => next,
                () = self.stop.cancelled() => None,
            };
            match next? {
                Outgoing::Abandon { .. } | Outgoing::OpenStream => {}
                Outgoing::Request { bytes, .. }
                | Outgoing::Other { bytes }
                | Outgoing::Streamless { bytes }
                | Outgoing::InOrder { bytes } => {
                    self.seen.sent(&bytes);
                    return Some(bytes);
                }
            }
        }
    }
}

impl Link {
    /// A link, and what its transport needs to serve it. The transport's tasks are added with [`Link::own`].
    pub(crate) fn new(seen: Seen) -> (Self, Ends) {
        let (outgoing_sender, outgoing) = mpsc::channel(OUTGOING_MESSAGES);
        let (events_sender, events) = mpsc::channel(INCOMING_MESSAGES);
        let stop = CancellationToken::new();
        let link = Self {
            outbox: Outbox(outgoing_sender),
            events,
            seen: seen.clone(),
            stop: stop.clone().drop_guard(),
            tasks: Vec::new(),
        };
        (link, Ends { outgoing, events: events_sender, stop, seen })
    }

    /// Makes the link the owner of a task.
    pub(crate) fn own(&mut self, task: JoinHandle<()>) {
        self.tasks.push(task);
    }

    /// What happens next.
    pub(crate) async fn event(&mut self) -> Event {
        let next = self.events.recv().await;
        if let Some(Event::Message { bytes, .. }) = &next {
            self.seen.received(bytes);
        }
        next.unwrap_or_else(|| Event::Lost(Failure::passing("the connection has ended")))
    }

    /// Ends the connection and everything that belongs to it.
    pub(crate) async fn close(self) {
        drop(self.stop);
        // Whoever waits to hand over an event must not wait for this side.
        drop(self.events);
        drop(self.outbox);
        for mut task in self.tasks {
            if tokio::time::timeout(CLOSE_PATIENCE, &mut task).await.is_err() {
                tracing::warn!("a connection's task did not end in time and is dropped");
                task.abort();
            }
        }
    }
}

/// A text as the value of a header: as it is, or in MCP's form of Base64 where a header could not hold it.
pub(crate) fn header_value(text: &str) -> HeaderValue {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~')) && text.trim() == text;
    let is_sentinel = text.starts_with("=?base64?") && text.ends_with("?=");
    let plain = if is_plain && !is_sentinel { HeaderValue::from_str(text).ok() } else { None };
    plain.unwrap_or_else(|| {
        let encoded = format!("=?base64?{}?=", base64(text.as_bytes()));
        HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""))
    })
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let three = [group[0], group.get(1).copied().unwrap_or(0), group.get(2).copied().unwrap_or(0)];
        let bits = u32::from(three[0]) << 16 | u32::from(three[1]) << 8 | u32::from(three[2]);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    out
}

/// The environment that children get; shared, because it is the same for all.
pub(crate) type Variables = Arc<Vec<(String, String)>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_header_cannot_hold_is_encoded() {
        for (text, value) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("", ""),
        ] {
            assert_eq!(header_value(text), value, "{text:?}");
        }
    }
}
