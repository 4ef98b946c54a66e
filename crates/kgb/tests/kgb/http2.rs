//! Clients that speak HTTP/2 from the first byte, on the same port.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use winni::model::Outcome;

use crate::support::{Recorded, Rig, noise, soon};

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;
type Client = SendRequest<Body>;

async fn connect(rig: &Rig) -> Client {
    let stream = TcpStream::connect(rig.gateway).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn request(method: &str, path: &str, body: Body) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(format!("http://gateway.example{path}"))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .body(body)
        .unwrap()
}

fn whole(bytes: &[u8]) -> Body {
    Full::new(Bytes::copy_from_slice(bytes)).boxed()
}

/// Of a length that nobody says before, with trailers.
fn streamed(bytes: &[u8]) -> Body {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "1".parse().unwrap());
    let frames = [Frame::data(Bytes::copy_from_slice(bytes)), Frame::trailers(trailers)];
    BodyExt::boxed(Frames(frames.into_iter().collect()))
}

/// A body whose length is not known before.
struct Frames(VecDeque<Frame<Bytes>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

async fn send(client: &mut Client, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
    soon(client.ready()).await.unwrap();
    soon(client.send_request(request)).await
}

/// The exchanges, when so many have ended.
async fn ended(rig: &Rig, count: usize) -> Vec<Recorded> {
    soon(async {
        let mut seen = spool::Position::default();
        loop {
            let exchanges = rig.exchanges();
            if exchanges.iter().filter(|exchange| exchange.end.is_some()).count() == count {
                return exchanges;
            }
            seen = rig.recorder.spool().wait_beyond(seen).await;
        }
    })
    .await
}

#[tokio::test]
async fn a_stream_is_an_exchange_like_any_other() {
    for method in ["POST", "GET"] {
        let rig = Rig::start().await;
        let mut client = connect(&rig).await;
        let body = noise(1, 100_000);
        let answering = async {
            let mut upstream = rig.accept().await;
            let head = upstream.head().await;
            let seen = upstream.chunks_until(100_000).await;
            assert_eq!(upstream.line().await, "0");
            assert_eq!(upstream.head().await, "x-sum: 1\r\n\r\n");
            upstream
                .send("HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 2\r\n\r\n")
                .await;
            (head, seen, upstream)
        };
        let mut asked = request(method, "/v1/messages?beta=true", streamed(&body));
        asked.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
        let asking = send(&mut client, asked);
        let (response, (head, seen, _upstream)) = tokio::join!(asking, answering);
        let response = response.unwrap();
        assert_eq!(
            head,
            format!(
                "{method} /v1/messages?beta=true HTTP/1.1\r\ncookie: a=1; b=2\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\nhost: {}\r\n\r\n",
                rig.upstream_host()
            )
        );
        assert!(seen == body);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["x-a"], "b");
        let id = response.headers()["x-iccm-exchange-id"].to_str().unwrap().to_owned();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "2");
        assert_eq!(collected.to_bytes(), "abc");
        let exchange = rig.ended().await;
        assert_eq!(exchange.begin.id.to_string(), id);
        assert!(exchange.request_head().starts_with(&format!("{method} /v1/messages?beta=true HTTP/2\r\n")));
        assert!(exchange.request_body == body && exchange.response_body == b"abc");
        assert_eq!(exchange.outcome(), Outcome::Complete);
    }
}

#[tokio::test]
async fn a_request_without_a_body_stays_without_one() {
    let rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let answering = async {
        let mut upstream = rig.accept().await;
        let head = upstream.head().await;
        upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
        (head, upstream)
    };
    let (response, (head, _upstream)) =
        tokio::join!(send(&mut client, request("GET", "/v1/models", whole(b""))), answering);
    assert_eq!(response.unwrap().status(), StatusCode::NO_CONTENT);
    assert_eq!(head, format!("GET /v1/models HTTP/1.1\r\ncookie: a=1; b=2\r\nhost: {}\r\n\r\n", rig.upstream_host()));
}

/// One breaks, after bytes that arrive; the others, and the connection, go on.
#[tokio::test]
async fn a_stream_whose_upstream_breaks_is_reset_and_no_other() {
    let rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{body}");
    let (first, mut breaking) = tokio::join!(send(&mut client, request("POST", "/breaks", whole(b"{}"))), async {
        let mut upstream = rig.accept().await;
        upstream.message().await;
        upstream.send(answer("what came before")).await;
        upstream
    });
    let mut first = first.unwrap().into_body();
    let (second, mut going_on) = tokio::join!(send(&mut client, request("POST", "/goes-on", whole(b"{}"))), async {
        let mut upstream = rig.accept().await;
        upstream.message().await;
        upstream.send(answer("")).await;
        upstream
    });
    breaking.send(" the break").await;
    breaking.reset();
    let mut arrived = Vec::new();
    let error = loop {
        match soon(first.frame()).await.expect("it has no proper end") {
            Ok(frame) => arrived.extend_from_slice(frame.data_ref().unwrap()),
            Err(error) => break error,
        }
    };
    assert!(std::error::Error::source(&error).unwrap().to_string().contains("stream"), "{error:?}");
    assert!(arrived.starts_with(b"what came before"));
    going_on.send(noise(1, 100)).await;
    assert!(second.unwrap().into_body().collect().await.unwrap().to_bytes() == noise(1, 100));
    let outcomes: Vec<_> = ended(&rig, 2).await.iter().map(Recorded::outcome).collect();
    assert_eq!(outcomes, [Outcome::UpstreamAborted, Outcome::Complete]);

    // Without an answer, too.
    let (third, ()) = tokio::join!(send(&mut client, request("POST", "/says-nothing", whole(b"{}"))), async {
        // The pooled connection of the one that went on.
        going_on.message().await;
        drop(going_on);
    });
    assert!(third.is_err());
    assert_eq!(ended(&rig, 3).await[2].outcome(), Outcome::UpstreamAborted);
}

#[tokio::test]
async fn a_client_that_gives_a_stream_up_cancels_its_upstream() {
    let rig = Rig::start().await;
    let mut client = connect(&rig).await;
    let mut upstream = tokio::select! {
        _ = send(&mut client, request("POST", "/", whole(b"{}"))) => unreachable!("there is no answer"),
        upstream = async {
            let mut upstream = rig.accept().await;
            upstream.message().await;
            upstream
        } => upstream,
    };
    let _ = upstream.rest().await;
    assert_eq!(rig.ended().await.outcome(), Outcome::ClientAborted);
    assert!(soon(client.ready()).await.is_ok(), "the connection goes on");
}

#[tokio::test]
async fn many_streams_share_a_connection_and_a_shutdown_cuts_them() {
    let rig = Rig::with(|_, gateway| gateway.grace = std::time::Duration::from_millis(300)).await;
    let client = connect(&rig).await;
    let mut asking = Vec::new();
    for n in 0..20 {
        let mut client = client.clone();
        let path = format!("/{n}");
        asking.push(tokio::spawn(async move {
            let response = send(&mut client, request("POST", &path, whole(b"{}"))).await?;
            response.into_body().collect().await.map(|body| body.to_bytes())
        }));
    }
    let mut upstreams = Vec::new();
    for _ in 0..20 {
        let mut upstream = rig.accept().await;
        upstream.message().await;
        upstreams.push(upstream);
    }
    rig.shutdown.cancel();
    for upstream in &mut upstreams[..10] {
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    }
    let mut answered = 0;
    for asked in asking {
        answered += usize::from(soon(asked).await.unwrap().is_ok());
    }
    assert_eq!(answered, 10);
    soon(rig.running).await.unwrap();
    let exchanges = crate::support::recorded(rig.recorder.spool().dir()).0;
    let count = |outcome| exchanges.iter().filter(|exchange| exchange.outcome() == outcome).count();
    assert_eq!((count(Outcome::Complete), count(Outcome::RecorderStopped)), (10, 10));
    drop(rig.handle);
    assert_eq!(Arc::strong_count(&rig.recorder), 1, "no task is left");
}

#[tokio::test]
async fn a_client_is_told_how_many_streams_it_may_have() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    // RFC 9113: 9 bytes of frame header (length, type 4 SETTINGS), then 6 bytes for each setting; 3 is the one.
    let header = client.exactly(9).await;
    let length = usize::from(header[1]) << 8 | usize::from(header[2]);
    assert_eq!((header[0], header[3]), (0, 4));
    let settings = client.exactly(length).await;
    let streams: Vec<_> =
        settings.chunks(6).filter(|setting| setting[..2] == [0, 3]).map(|s| s[2..].to_vec()).collect();
    assert_eq!(streams, [100_u32.to_be_bytes().to_vec()]);
}

/// A client's first bytes with so many requests in them: RFC 9113, and of RFC 7541 the static table and one literal.
fn preface_with(requests: u8) -> Vec<u8> {
    const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // GET, http, /, and the authority "gw".
    const FIELDS: [u8; 7] = [0x82, 0x86, 0x84, 0x41, 2, b'g', b'w'];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(SETTINGS);
    for request in 0..requests {
        // HEADERS that end the head and the stream.
        bytes.extend([0, 0, FIELDS.len() as u8, 1, 5, 0, 0, 0, 2 * request + 1]);
        bytes.extend(FIELDS);
    }
    bytes
}

#[tokio::test]
async fn clients_that_hang_up_at_once_are_on_record() {
    let rig = Rig::start().await;
    let mut sent = 0;
    for round in 0..40 {
        for requests in [1, 7, 100] {
            let mut client = rig.client().await;
            client.send(preface_with(requests)).await;
            if round % 2 == 0 {
                client.reset()
            } else {
                drop(client)
            }
            sent += usize::from(requests);
        }
    }
    let exchanges = rig.all_ended(sent).await;
    assert!(exchanges.iter().all(|exchange| exchange.outcome() == Outcome::ClientAborted));
}
