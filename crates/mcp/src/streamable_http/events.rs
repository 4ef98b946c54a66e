//! A response that is a stream of events (Server-Sent Events), each a message.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval};
use tokio_util::sync::DropGuard;

use crate::call::Outgoing;
use crate::http_answer::{Body, with_body};

/// A comment goes out as often, so that nobody in between takes a quiet stream for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams what comes until the senders are gone. `guard` is dropped with the stream: what it guards ends when the client
/// closes it.
pub(super) fn event_stream(
    first: Option<Outgoing>,
    rest: mpsc::Receiver<Outgoing>,
    guard: Option<DropGuard>,
) -> Response<Body> {
    let keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
    let events = Events { first, rest, keep_alive, _guard: guard };
    let mut response = with_body(StatusCode::OK, events.boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Asks proxies not to wait until there is more.
    headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

struct Events {
    first: Option<Outgoing>,
    rest: mpsc::Receiver<Outgoing>,
    keep_alive: Interval,
    _guard: Option<DropGuard>,
}

impl http_body::Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => self.rest.poll_recv(context),
        };
        let text = match next {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(Outgoing::Answer(answer))) => event(&answer.text),
            Poll::Ready(Some(Outgoing::Notification(text))) => event(&text),
            Poll::Ready(Some(Outgoing::Ping)) => ":\n\n".to_owned(),
            Poll::Pending if self.keep_alive.poll_tick(context).is_ready() => ":\n\n".to_owned(),
            Poll::Pending => return Poll::Pending,
        };
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }
}

/// JSON has no line ends outside its strings' escapes, so that one `data` line holds a message.
fn event(message: &str) -> String {
    format!("event: message\ndata: {message}\n\n")
}
