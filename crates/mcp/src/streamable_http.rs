//! Streamable HTTP: a message is a POST; its answer is JSON, or a stream of events once there is something to tell before
//! the answer, or when the answer takes long.
//!
//! Guaranteed: up to 2025-11-25 a session has an id, which is not needed: requests without one are served, and one from
//! before a restart is taken up again, because no state of ours depends on it. A session that was ended with DELETE is
//! 404. Since 2026-07-28 there is none, and a stream that the client closes cancels its call.
//!
//! Refused: a body that is no JSON (400, 415) or too large (413); a client that takes neither JSON nor events (406).

pub(crate) mod claims;
mod events;
pub(crate) mod sessions;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming as HttpBody;
use tokio::sync::mpsc;

use crate::batch;
use crate::call::{OUTBOX_MESSAGES, Outbox, Outgoing, WhenClientLeaves};
use crate::dispatch::Origin;
use crate::front::Front;
use crate::http_answer::{Body, empty, json_text, not_allowed, refused};
use crate::message::{
    Answer, INVALID_REQUEST, Incoming, Malformed, PARSE_ERROR, Payload, Request as RpcRequest, parse,
};
use crate::version::Version;
use claims::Claims;
use events::event_stream;
use sessions::Session;

const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// An answer that takes longer becomes a stream of events, so that signs of life can be sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// A POST: a message, or several.
pub(crate) async fn post(front: Arc<Front>, request: Request<HttpBody>) -> Response<Body> {
    let (head, body) = request.into_parts();
    let accepts = Accepts::of(&head.headers);
    if !is_json(&head.headers) {
        let why = "Content-Type must be application/json";
        return refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID_REQUEST, why);
    }
    if !accepts.json && !accepts.events {
        let why = "Accept must have application/json or text/event-stream";
        return refused(StatusCode::NOT_ACCEPTABLE, INVALID_REQUEST, why);
    }
    let max_bytes = front.limits.message_bytes;
    let bytes = match Limited::new(body, max_bytes).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => return unread(error.as_ref(), max_bytes),
    };
    let claims = Claims::of(&head.headers);
    let session = match session(&front, &head.headers, &claims) {
        Ok(session) => session,
        Err(NoSession) => return no_session(),
    };
    let payload = parse(&bytes);
    drop(bytes);
    let caller = Caller { front, claims, session, accepts };
    match payload {
        Payload::One(Ok(Incoming::Request(request))) => caller.answer(request).await,
        Payload::One(Ok(other)) => {
            caller.note(&other);
            empty(StatusCode::ACCEPTED)
        }
        Payload::One(Err(malformed)) => json_text(StatusCode::BAD_REQUEST, malformed.0),
        Payload::Batch(messages) => caller.batch(messages).await,
    }
}

/// A GET: a stream for what the server has to say by itself. Nothing, so far; clients open it all the same.
pub(crate) fn listen(front: &Arc<Front>, request: &Request<HttpBody>) -> Response<Body> {
    let claims = Claims::of(request.headers());
    if claims.is_stateless() || !Accepts::of(request.headers()).events {
        return not_allowed("POST, DELETE");
    }
    let ended = match session(front, request.headers(), &claims) {
        Ok(Some(session)) => session.ended.child_token(),
        Ok(None) => front.shutdown.child_token(),
        Err(NoSession) => return no_session(),
    };
    let (outbox, inbox) = mpsc::channel(1);
    let shutdown = front.shutdown.clone();
    // Holds the stream open; noticed by `outbox` when the client leaves.
    front.spawn(async move {
        tokio::select! {
            () = outbox.closed() => {}
            () = ended.cancelled() => {}
            () = shutdown.cancelled() => {}
        }
    });
    event_stream(None, inbox, None)
}

/// A DELETE: the session is over.
pub(crate) fn end_session(front: &Front, request: &Request<HttpBody>) -> Response<Body> {
    match request.headers().get(SESSION_ID).and_then(|id| id.to_str().ok()) {
        Some(id) if front.sessions.end(id) => empty(StatusCode::NO_CONTENT),
        Some(_) => no_session(),
        None => refused(StatusCode::BAD_REQUEST, INVALID_REQUEST, "the Mcp-Session-Id header is missing"),
    }
}

/// Who sent a POST.
struct Caller {
    front: Arc<Front>,
    claims: Claims,
    session: Option<Arc<Session>>,
    accepts: Accepts,
}

impl Caller {
    fn spoken(&self) -> Version {
        let claimed = self.claims.version().and_then(Result::ok);
        claimed.or(self.session.as_ref().map(|session| session.version)).unwrap_or(Version::UNSAID)
    }

    /// A message that wants no answer.
    fn note(&self, message: &Incoming) {
        if let (Incoming::Cancelled(id), Some(session)) = (message, &self.session) {
            session.in_flight.cancel(id);
        }
    }

    async fn answer(self, request: RpcRequest) -> Response<Body> {
        if self.front.dispatcher.is_handshake(&request, Some(&self.claims)) {
            return self.begin_session(&request);
        }
        let policy = if self.claims.is_stateless() { WhenClientLeaves::Cancel } else { WhenClientLeaves::Finish };
        let cancelled = self.front.cut.child_token();
        let guard = (policy == WhenClientLeaves::Cancel).then(|| cancelled.clone().drop_guard());
        let entry = self.session.as_ref().map(|session| session.in_flight.begin(&request.id, &cancelled));
        let cancelled = entry.as_ref().map_or(cancelled, |entry| entry.cancelled.clone());
        let origin = Origin { spoken: self.spoken(), claims: Some(self.claims) };
        let (outbox, mut inbox) = mpsc::channel(OUTBOX_MESSAGES);
        let front = self.front.clone();
        self.front.spawn(async move {
            front.dispatcher.answer(request, origin, cancelled, outbox).await;
            drop(entry);
        });
        loop {
            let first = match tokio::time::timeout(PATIENCE, inbox.recv()).await {
                Ok(Some(Outgoing::Answer(answer))) => return self.accepts.plain(answer),
                // Cancelled: there is no answer, but HTTP wants one.
                Ok(None) => return empty(StatusCode::ACCEPTED),
                Ok(Some(first)) => Some(first),
                Err(_) => None,
            };
            if self.accepts.events {
                return event_stream(first, inbox, guard);
            }
        }
    }

    fn begin_session(&self, request: &RpcRequest) -> Response<Body> {
        let (version, answer) = self.front.dispatcher.initialize(request);
        let id = self.front.sessions.begin(version);
        let mut response = self.accepts.plain(answer);
        if let Ok(id) = HeaderValue::try_from(id) {
            response.headers_mut().insert(SESSION_ID, id);
        }
        response
    }

    async fn batch(self, messages: Vec<Result<Incoming, Malformed>>) -> Response<Body> {
        let spoken = self.spoken();
        let status = if spoken.has_batches() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let answer = |message: Incoming, outbox: Outbox| {
            let origin = Origin { spoken, claims: None };
            let (front, cancelled) = (self.front.clone(), self.front.cut.child_token());
            self.note(&message);
            async move {
                if let Incoming::Request(request) = message {
                    front.dispatcher.answer(request, origin, cancelled, outbox).await;
                }
            }
        };
        match batch::answers(messages, spoken, answer).await {
            Some(text) => self.accepts.plain(Answer { text, status }),
            None => empty(StatusCode::ACCEPTED),
        }
    }
}

/// The session that a request names was ended, or never was.
struct NoSession;

/// The session that a request names. It need not name one.
fn session(front: &Front, headers: &HeaderMap, claims: &Claims) -> Result<Option<Arc<Session>>, NoSession> {
    match headers.get(SESSION_ID) {
        None => Ok(None),
        Some(_) if claims.is_stateless() => Ok(None),
        Some(id) => {
            let spoken = claims.version().and_then(Result::ok).unwrap_or(Version::UNSAID);
            let found = id.to_str().ok().and_then(|id| front.sessions.find(id, spoken));
            found.map(Some).ok_or(NoSession)
        }
    }
}

fn no_session() -> Response<Body> {
    refused(StatusCode::NOT_FOUND, INVALID_REQUEST, "there is no such session; begin one with initialize")
}

/// Why a body could not be read.
fn unread(error: &(dyn std::error::Error + 'static), max_bytes: usize) -> Response<Body> {
    if error.is::<LengthLimitError>() {
        let why = format!("the message has more than {max_bytes} bytes");
        refused(StatusCode::PAYLOAD_TOO_LARGE, INVALID_REQUEST, &why)
    } else {
        refused(StatusCode::BAD_REQUEST, PARSE_ERROR, &format!("the body broke off: {error}"))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
}

/// What a client takes.
#[derive(Clone, Copy)]
struct Accepts {
    json: bool,
    events: bool,
}

impl Accepts {
    /// Without the header, or with wildcards, JSON: whoever can read a stream of events says so.
    fn of(headers: &HeaderMap) -> Self {
        let values: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let has = |wanted: &str| {
            let kinds = values.iter().flat_map(|value| value.split(','));
            kinds
                .map(|kind| kind.split(';').next().unwrap_or_default().trim())
                .any(|kind| kind.eq_ignore_ascii_case(wanted))
        };
        let json = values.is_empty() || has("application/json") || has("*/*") || has("application/*");
        Self { json, events: has("text/event-stream") }
    }

    /// An answer with nothing before it.
    fn plain(self, answer: Answer) -> Response<Body> {
        if self.json || answer.status != StatusCode::OK {
            return json_text(answer.status, answer.text);
        }
        let (_, inbox) = mpsc::channel(1);
        event_stream(Some(Outgoing::Answer(answer)), inbox, None)
    }
}
