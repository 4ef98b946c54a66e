//! One client's connection: HTTP/1.1, or HTTP/2 for a client that begins with it (prior knowledge, RFC 9113, section 3.3),
//! on the same port.
//!
//! Guaranteed: what a client may take is bounded ([`Limits`]; a head's size and its headers; with HTTP/2 also streams and
//! what is buffered for each). A shutdown lets exchanges end; dropping the future cuts them.

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::answer::{Hangup, ResponseBody};
use super::body::Broken;
use super::client_io::{ClientIo, ClientState, MAX_STREAMS};
use super::forward::exchange;
use super::life::Life;
use super::pace::{Busy, Limits};
use super::shared::Shared;
use super::upstream::MAX_HEADERS;

/// A head may have this size; with more the client is answered 431.
const MAX_HEAD_BYTES: u32 = 256 * 1024;
/// Read and write buffer of an HTTP/1.1 connection, at most.
const BUFFER_BYTES: usize = 256 * 1024;
/// A client that is idle for so long is asked by TCP, or by HTTP/2, whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// What a stream and a connection may send before it has been passed on, and what is held for a slow reader.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const STREAM_BUFFER_BYTES: usize = 256 * 1024;

/// What a client that speaks HTTP/2 sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection until it ends, is late, or is idle when the shutdown comes.
pub(super) async fn serve(shared: Arc<Shared>, stream: std::net::TcpStream, limits: Limits, life: Life) {
    let stream = match TcpStream::from_std(stream) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(%error, "cannot wait for a client's bytes; its connection is closed");
            return;
        }
    };
    set_options(&stream);
    let client = Arc::new(ClientState::of(&stream));
    tokio::select! {
        () = speak(shared, stream, client.clone(), life) => {}
        late = client.pace.late(&limits) => {
            tracing::debug!(?late, "a client keeps us waiting; its connection is closed");
        }
    }
}

/// None of them is needed for correctness, so that one that cannot be set is no reason to turn a client away.
fn set_options(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set a connection's options");
    }
}

async fn speak(shared: Arc<Shared>, mut stream: TcpStream, client: Arc<ClientState>, life: Life) {
    let first = match life.shutdown.run_until_cancelled(first_bytes(&mut stream, &client)).await {
        Some(Ok(first)) if !first.is_empty() => first,
        // Gone, or idle when the shutdown came.
        _ => return,
    };
    let is_http2 = first == PREFACE;
    let recorder = shared.recorder.clone();
    let io = ClientIo::new(stream, first, client.clone());
    let ended = if is_http2 {
        client.pace.set_multiplexed();
        speak_http2(shared, io, client, life).await
    } else {
        speak_http1(shared, io, client, life).await
    };
    if let Err(error) = ended {
        if error.is_parse() {
            recorder.meters().malformed_requests.increment(1);
        }
        tracing::debug!(%error, "a client's connection ended early");
    }
}

/// What tells the two protocols apart: the preface, or bytes that do not begin like it.
async fn first_bytes(stream: &mut TcpStream, client: &ClientState) -> io::Result<Vec<u8>> {
    let mut first = Vec::with_capacity(PREFACE.len());
    while first.len() < PREFACE.len() && PREFACE.starts_with(&first) {
        let missing = (PREFACE.len() - first.len()) as u64;
        if (&mut *stream).take(missing).read_buf(&mut first).await? == 0 {
            break;
        }
        client.pace.arrived();
    }
    Ok(first)
}

async fn speak_http1(shared: Arc<Shared>, io: ClientIo, client: Arc<ClientState>, life: Life) -> hyper::Result<()> {
    let shutdown = life.shutdown.clone();
    let service = service_fn(move |request| attend(shared.clone(), client.clone(), life.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .preserve_header_case(true)
        .auto_date_header(false)
        .half_close(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES as usize)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

async fn speak_http2(shared: Arc<Shared>, io: ClientIo, client: Arc<ClientState>, life: Life) -> hyper::Result<()> {
    let streams = life.clone();
    let service = service_fn(move |request| attend(shared.clone(), client.clone(), streams.clone(), request));
    let connection = http2::Builder::new(life.clone())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(STREAM_BUFFER_BYTES)
        .keep_alive_interval(KEEPALIVE)
        .serve_connection(TokioIo::new(io), service);
    let mut connection = pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = life.shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// An exchange, during which the connection is busy: until its answer has gone out whole.
async fn attend(
    shared: Arc<Shared>,
    client: Arc<ClientState>,
    life: Life,
    request: Request<Incoming>,
) -> Result<Response<Attended>, Hangup> {
    let busy = Busy::new(client.pace.clone());
    let answer = exchange(shared, client, life, request).await?;
    Ok(answer.map(|body| Attended::new(body, busy)))
}

/// A response's body that keeps its connection busy while it is there.
struct Attended {
    body: ResponseBody,
    _busy: Busy,
}

impl Attended {
    fn new(body: ResponseBody, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl Body for Attended {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
