//! One request over HTTP and everything that comes back for it; and the stream for what the server says unasked.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::mpsc;
use wire::json_rpc::{IdKey, Message};
use wire::sse;

use super::connector::cause;
use super::http_peer::{Peer, Posted};
use super::{Event, Failure};

/// Before a stream that the server ended is asked for again.
const REOPEN_PAUSE: Duration = Duration::from_millis(500);
/// How often in a row a stream may end without having brought anything.
const EMPTY_STREAMS: usize = 20;

/// Sends a request and hands over what comes; if no answer comes, says why.
pub(super) async fn post(peer: &Peer, id: u64, posted: Posted, events: &mpsc::Sender<Event>) {
    let had_session = peer.has_session();
    let end = match peer.send(&posted).await {
        Ok(response) if response.status() == StatusCode::NOT_FOUND && had_session => {
            Event::Expired { id, bytes: posted.bytes, about: posted.about }
        }
        Ok(response) => {
            peer.remember_session(&response);
            match read(peer, id, response, events).await {
                Ok(()) => return,
                Err(failure) => Event::Failed { id, failure, is_lost: false },
            }
        }
        Err(failure) => Event::Failed { id, failure, is_lost: true },
    };
    // Nobody listens any more once the link is closed.
    let _ = events.send(end).await;
}

async fn read(peer: &Peer, id: u64, response: Response<Incoming>, events: &mpsc::Sender<Event>) -> Result<(), Failure> {
    if is_stream(&response) && response.status().is_success() {
        return follow(peer, id, response, events).await;
    }
    let status = response.status();
    let collected = response.into_body().collect().await;
    let bytes = collected.map_err(|error| Failure::passing(format!("the answer broke off: {}", cause(&error))))?;
    match answer(id, status, bytes.to_bytes()) {
        Some(bytes) => {
            let _ = events.send(Event::Message { bytes, within: Some(id) }).await;
            Ok(())
        }
        None if status.is_success() => Err(Failure::passing(format!("HTTP {status} without an answer"))),
        None => Err(Failure { lasting: status.is_client_error(), ..Failure::passing(format!("HTTP {status}")) }),
    }
}

/// The response in a body. An error may come without the id that it belongs to; here it is known.
fn answer(id: u64, status: StatusCode, bytes: Bytes) -> Option<Bytes> {
    if matches!(Message::parse(&bytes), Ok(Message::Response { id: given, .. }) if IdKey::of(given).number() == Some(id))
    {
        return Some(bytes);
    }
    if status.is_success() {
        return Message::parse(&bytes).is_ok().then_some(bytes);
    }
    let object: &serde_json::value::RawValue = serde_json::from_slice(&bytes).ok()?;
    let error = crate::protocol::Params::of(Some(object)).get("error")?;
    let is_error = crate::protocol::Params::of(Some(error)).get("code").is_some();
    is_error.then(|| format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, error.get()).into_bytes().into())
}

fn is_stream(response: &Response<Incoming>) -> bool {
    let kind = response.headers().get(http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"))
}

/// Hands over a request's stream until its answer has come; a stream that ends before is resumed where the server allows.
async fn follow(
    peer: &Peer,
    id: u64,
    response: Response<Incoming>,
    events: &mpsc::Sender<Event>,
) -> Result<(), Failure> {
    let mut stream = Stream { within: Some(id), answered: false, last_event: String::new(), brought: 0 };
    let mut response = response;
    let mut empty = 0;
    loop {
        let before = stream.brought;
        let broken = stream.run(response, events).await;
        if stream.answered {
            return Ok(());
        }
        empty = if stream.brought == before { empty + 1 } else { 0 };
        if stream.last_event.is_empty() || empty >= EMPTY_STREAMS {
            let how = broken.map_or("it ended".to_owned(), |error| format!("it broke off: {error}"));
            return Err(Failure::passing(format!("no answer on the request's stream: {how}")));
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
        response = peer.stream(&stream.last_event).await?;
        if !is_stream(&response) {
            return Err(Failure::passing(format!(
                "the request's stream cannot be resumed: HTTP {}",
                response.status()
            )));
        }
    }
}

/// Keeps the stream open on which a legacy server speaks unasked. Many servers have none, which is no error. That it cannot
/// be opened again is how a server's end is noticed.
pub(super) async fn listen(peer: &Peer, events: &mpsc::Sender<Event>) {
    let mut stream = Stream { within: None, answered: false, last_event: String::new(), brought: 0 };
    let mut was_open = false;
    loop {
        let lost = match peer.stream(&stream.last_event).await {
            Ok(response) if is_stream(&response) && response.status().is_success() => {
                was_open = true;
                stream.run(response, events).await;
                None
            }
            Ok(response) if was_open && response.status() == StatusCode::NOT_FOUND => {
                Some(Failure::passing("the server no longer knows the session"))
            }
            Ok(_) => return,
            Err(failure) => Some(failure),
        };
        if let Some(failure) = lost {
            let _ = events.send(Event::Lost(failure)).await;
            return;
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

struct Stream {
    within: Option<u64>,
    answered: bool,
    last_event: String,
    brought: usize,
}

impl Stream {
    /// Hands over the messages of a body; gives the error that ended it, if one did.
    async fn run(&mut self, response: Response<Incoming>, events: &mpsc::Sender<Event>) -> Option<String> {
        let mut body = response.into_body();
        let mut parser = sse::Parser::new();
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Some(cause(&error)),
            };
            let Ok(data) = frame.into_data() else { continue };
            for event in parser.feed(&data) {
                self.take(event, events).await;
            }
            if self.answered {
                return None;
            }
        }
        None
    }

    async fn take(&mut self, event: sse::Event, events: &mpsc::Sender<Event>) {
        if !event.id.is_empty() {
            self.last_event = event.id;
        }
        if event.data.is_empty() {
            return;
        }
        self.brought += 1;
        let bytes = Bytes::from(event.data);
        if let (Some(id), Ok(Message::Response { id: given, .. })) = (self.within, Message::parse(&bytes)) {
            self.answered = IdKey::of(given).number() == Some(id);
        }
        // Nobody listens any more once the link is closed; then this task is about to end.
        let _ = events.send(Event::Message { bytes, within: self.within }).await;
    }
}
