//! MCP over WebSocket: each text message is a JSON-RPC message, or a batch.
//!
//! Guaranteed: the subprotocol `mcp` is answered when it is offered; a message that does not parse is answered and does not
//! end the connection; calls run side by side, [`CALLS_AT_ONCE`] of them, and beyond that the connection is not read; a
//! client that is gone without a word is noticed by pings, and what it waited for is cancelled.
//!
//! WebSocket is no transport of the standard. What the standard says of stdio holds here: one channel for all, and
//! `notifications/cancelled` cancels also since 2026-07-28.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::{
    CONNECTION, HeaderMap, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming as Body;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use crate::batch;
use crate::call::{OUTBOX_MESSAGES, Outbox, Outgoing};
use crate::dispatch::Origin;
use crate::front::Front;
use crate::http_answer::{self, empty, refused};
use crate::in_flight::InFlight;
use crate::message::{
    INVALID_REQUEST, Incoming, Malformed, Payload, Request as RpcRequest, RpcError, error_answer, parse,
};
use crate::version::Version;

/// Calls of one connection that run side by side.
const CALLS_AT_ONCE: usize = 64;
/// `subscriptions/listen`s of one connection; they take none of the places above, as they never end by themselves.
const LISTENERS_AT_ONCE: usize = 16;
/// How often a client is asked whether it is still there; silence between two questions ends the connection.
const PING_EVERY: Duration = Duration::from_secs(45);
/// How long a client is listened to after the goodbye.
const GOODBYE: Duration = Duration::from_secs(2);
const SUBPROTOCOL: &str = "mcp";

type Socket = WebSocketStream<TokioIo<Upgraded>>;

pub(crate) fn is_asked_for(request: &Request<Body>) -> bool {
    has_token(request.headers(), &UPGRADE, "websocket") && has_token(request.headers(), &CONNECTION, "upgrade")
}

/// Answers the handshake (RFC 6455, section 4.2) and serves the connection in a task of its own.
pub(crate) fn upgrade(front: Arc<Front>, request: Request<Body>) -> Response<http_answer::Body> {
    let headers = request.headers();
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = empty(StatusCode::UPGRADE_REQUIRED);
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        return response;
    }
    let accepted = headers.get(SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let Some(accepted) = accepted.and_then(|text| HeaderValue::try_from(text).ok()) else {
        return refused(StatusCode::BAD_REQUEST, INVALID_REQUEST, "Sec-WebSocket-Key is missing");
    };
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    if has_token(headers, &SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        answer.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    let tasks = front.clone();
    tasks.spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => serve(front, upgraded).await,
            Err(error) => tracing::debug!(%error, "a client left during the WebSocket handshake"),
        }
    });
    response
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// One client.
struct Connection {
    front: Arc<Front>,
    /// What `initialize` agreed on.
    spoken: Mutex<Version>,
    in_flight: Arc<InFlight>,
    room: Arc<Semaphore>,
    room_to_listen: Arc<Semaphore>,
    /// Cancelled when the client is gone: see [`crate::call::WhenClientLeaves`].
    gone: CancellationToken,
    outbox: Outbox,
}

async fn serve(front: Arc<Front>, upgraded: Upgraded) {
    let max = front.limits.message_bytes;
    let config = WebSocketConfig::default().max_message_size(Some(max)).max_frame_size(Some(max));
    let socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
    let (sink, stream) = socket.split();
    let (outbox, inbox) = mpsc::channel(OUTBOX_MESSAGES);
    let connection = Arc::new(Connection {
        front,
        spoken: Mutex::new(Version::UNSAID),
        in_flight: Arc::default(),
        room: Arc::new(Semaphore::new(CALLS_AT_ONCE)),
        room_to_listen: Arc::new(Semaphore::new(LISTENERS_AT_ONCE)),
        gone: CancellationToken::new(),
        outbox,
    });
    let gone = connection.gone.clone();
    let guard = gone.clone().drop_guard();
    let (close, closing) = oneshot::channel();
    let reading = async move {
        let (code, stream) = read(&connection, stream).await;
        if code != CloseCode::Away {
            // Nobody is there any more; at a shutdown, calls under way may end and be answered.
            drop(guard);
        }
        let _all = connection.room.acquire_many(u32::try_from(CALLS_AT_ONCE).unwrap_or(u32::MAX)).await;
        let _gone = close.send(code);
        (code, stream)
    };
    let writing = async {
        let sink = write(sink, inbox, closing).await;
        // A client that cannot be written to is gone.
        gone.cancel();
        sink
    };
    let ((code, stream), sink) = tokio::join!(reading, writing);
    if let Ok(socket) = sink.reunite(stream) {
        let _late = tokio::time::timeout(GOODBYE, part(socket, code)).await;
    }
}

/// Reads on after the close frame was sent: to close while something is still unread resets the connection, and the client
/// would never see the frame.
async fn part(mut socket: Socket, code: CloseCode) {
    if code == CloseCode::Size {
        // The rest of the message is no frame.
        let mut rest = vec![0; 64 * 1024];
        while let Ok(1..) = socket.get_mut().read(&mut rest).await {}
    } else {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// Reads until the client or the server wants to end; with which code.
async fn read(connection: &Arc<Connection>, mut stream: SplitStream<Socket>) -> (CloseCode, SplitStream<Socket>) {
    let mut ping = tokio::time::interval_at(Instant::now() + PING_EVERY, PING_EVERY);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_heard = true;
    loop {
        let message = tokio::select! {
            message = stream.next() => message,
            _ = ping.tick() => {
                if !std::mem::replace(&mut is_heard, false) {
                    return (CloseCode::Error, stream);
                }
                let _full = connection.outbox.try_send(Outgoing::Ping);
                continue;
            }
            () = connection.gone.cancelled() => return (CloseCode::Error, stream),
            () = connection.front.shutdown.cancelled() => return (CloseCode::Away, stream),
        };
        is_heard = true;
        match message {
            Some(Ok(Message::Text(text))) => receive(connection, parse(text.as_bytes())).await,
            Some(Ok(Message::Binary(bytes))) => receive(connection, parse(&bytes)).await,
            Some(Ok(Message::Close(_))) | None => return (CloseCode::Normal, stream),
            Some(Ok(_)) => {}
            Some(Err(Error::Capacity(_))) => return (CloseCode::Size, stream),
            Some(Err(Error::Utf8(_))) => return (CloseCode::Invalid, stream),
            Some(Err(error)) => {
                tracing::debug!(%error, "a WebSocket client's connection broke");
                return (CloseCode::Error, stream);
            }
        }
    }
}

/// Writes what is answered, one message after the other, and at the end why the connection ends.
async fn write(
    mut sink: SplitSink<Socket, Message>,
    mut inbox: mpsc::Receiver<Outgoing>,
    mut closing: oneshot::Receiver<CloseCode>,
) -> SplitSink<Socket, Message> {
    let code = loop {
        let outgoing = tokio::select! {
            biased;
            Some(outgoing) = inbox.recv() => outgoing,
            code = &mut closing => break code.unwrap_or(CloseCode::Error),
        };
        let message = match outgoing {
            Outgoing::Answer(answer) => Message::text(answer.text),
            Outgoing::Notification(text) => Message::text(text),
            Outgoing::Ping => Message::Ping(bytes::Bytes::new()),
        };
        if sink.send(message).await.is_err() {
            return sink;
        }
    };
    let frame = CloseFrame { code, reason: reason(code).into() };
    let _gone = sink.send(Message::Close(Some(frame))).await;
    sink
}

fn reason(code: CloseCode) -> &'static str {
    match code {
        CloseCode::Away => "the server is stopping",
        CloseCode::Size => "the message is larger than this server takes",
        CloseCode::Invalid => "a text message must be UTF-8",
        CloseCode::Normal => "",
        _ => "the client does not answer",
    }
}

/// Begins to answer what came. Waits while too much is being answered.
async fn receive(connection: &Arc<Connection>, payload: Payload) {
    match payload {
        Payload::One(message) => {
            if let Some(request) = connection.take(message).await {
                let Some(place) = connection.place(&request).await else {
                    return;
                };
                let (this, outbox) = (connection.clone(), connection.outbox.clone());
                connection.front.spawn(async move {
                    this.answer(request, outbox).await;
                    drop(place);
                });
            }
        }
        Payload::Batch(messages) => {
            let Ok(place) = connection.room.clone().acquire_owned().await else { return };
            let this = connection.clone();
            connection.front.spawn(async move {
                this.batch(messages).await;
                drop(place);
            });
        }
    }
}

impl Connection {
    fn spoken(&self) -> Version {
        *self.spoken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room for a request; waits for it, but not among listeners.
    async fn place(&self, request: &RpcRequest) -> Option<OwnedSemaphorePermit> {
        if request.method != "subscriptions/listen" {
            return self.room.clone().acquire_owned().await.ok();
        }
        let place = self.room_to_listen.clone().try_acquire_owned().ok();
        if place.is_none() {
            let why = format!("this connection has {LISTENERS_AT_ONCE} subscriptions already; cancel one of them");
            let refusal = error_answer(Some(&request.id), &RpcError::new(INVALID_REQUEST, why));
            let _gone = self.outbox.send(Outgoing::Notification(refusal)).await;
        }
        place
    }

    /// What is still to be answered of a message.
    async fn take(&self, message: Result<Incoming, Malformed>) -> Option<RpcRequest> {
        let answer = match message {
            Ok(Incoming::Request(request)) if self.front.dispatcher.is_handshake(&request, None) => {
                let (version, answer) = self.front.dispatcher.initialize(&request);
                *self.spoken.lock().unwrap_or_else(PoisonError::into_inner) = version;
                Outgoing::Answer(answer)
            }
            Ok(Incoming::Request(request)) => return Some(request),
            Ok(Incoming::Cancelled(id)) => {
                self.in_flight.cancel(&id);
                return None;
            }
            Ok(Incoming::Ignored) => return None,
            Err(malformed) => Outgoing::Notification(malformed.0),
        };
        let _gone = self.outbox.send(answer).await;
        None
    }

    async fn answer(&self, request: RpcRequest, outbox: Outbox) {
        let entry = self.in_flight.begin(&request.id, &self.gone);
        let origin = Origin { spoken: self.spoken(), claims: None };
        self.front.dispatcher.answer(request, origin, entry.cancelled.clone(), outbox).await;
    }

    async fn batch(&self, messages: Vec<Result<Incoming, Malformed>>) {
        let answers = batch::answers(messages, self.spoken(), |message, outbox| async move {
            match message {
                Incoming::Request(request) => self.answer(request, outbox).await,
                Incoming::Cancelled(id) => self.in_flight.cancel(&id),
                Incoming::Ignored => {}
            }
        });
        if let Some(text) = answers.await {
            let _gone = self.outbox.send(Outgoing::Notification(text)).await;
        }
    }
}
