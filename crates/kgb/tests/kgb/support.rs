//! A gateway under test between a raw client and a scripted upstream, both plain sockets, and a view of what it recorded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kgb::entry::{
    Begin, End, MESSAGE_BYTES, MessageBegin, Note, REQUEST_BODY, REQUEST_TRAILERS, RESPONSE_BODY, RESPONSE_HEAD,
    RESPONSE_TRAILERS,
};
use kgb::gateway::{Gateway, GatewayConfig, GatewayHandle};
use kgb::{Recorder, RecorderConfig};
use spool::{Kind, Reader};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use winni::model::{Gap, Outcome};

pub(crate) const KEY: &str = "sk-ant-test-000";

/// Nothing here takes long; a test that waits for this long has failed.
pub(crate) async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("waited too long")
}

pub(crate) struct Rig {
    pub(crate) data: TempDir,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) gateway: SocketAddr,
    pub(crate) handle: GatewayHandle,
    pub(crate) upstream: TcpListener,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(|_, _| {}).await
    }

    /// The configuration's upstream is a listener of the rig's own; `change` may change anything.
    pub(crate) async fn with(change: impl FnOnce(&mut RecorderConfig, &mut GatewayConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", upstream.local_addr().unwrap());
        let mut recording = RecorderConfig::new(data.path());
        let mut forwarding = GatewayConfig::new(base.parse().unwrap());
        change(&mut recording, &mut forwarding);
        let recorder = Recorder::start(recording).unwrap();
        let gateway = Gateway::bind("127.0.0.1:0".parse().unwrap(), forwarding, recorder.clone()).await.unwrap();
        let shutdown = CancellationToken::new();
        Self {
            gateway: gateway.local_addr(),
            handle: gateway.handle(),
            running: tokio::spawn(gateway.run(shutdown.clone())),
            data,
            recorder,
            upstream,
            shutdown,
        }
    }

    pub(crate) async fn client(&self) -> Peer {
        Peer::new(TcpStream::connect(self.gateway).await.unwrap())
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(soon(self.upstream.accept()).await.unwrap().0)
    }

    pub(crate) fn upstream_host(&self) -> String {
        self.upstream.local_addr().unwrap().to_string()
    }

    pub(crate) fn exchanges(&self) -> Vec<Recorded> {
        recorded(self.recorder.spool().dir()).0
    }

    pub(crate) fn gaps(&self) -> Vec<Gap> {
        recorded(self.recorder.spool().dir()).1
    }

    /// Waits until the only exchange has ended.
    pub(crate) async fn ended(&self) -> Recorded {
        self.all_ended(1).await.remove(0)
    }

    /// Waits until there are so many exchanges and all have ended.
    pub(crate) async fn all_ended(&self, count: usize) -> Vec<Recorded> {
        soon(async {
            let mut seen = spool::Position::default();
            loop {
                let exchanges = self.exchanges();
                if exchanges.len() == count && exchanges.iter().all(|exchange| exchange.end.is_some()) {
                    return exchanges;
                }
                seen = self.recorder.spool().wait_beyond(seen).await;
            }
        })
        .await
    }
}

/// One side of a connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Peer {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon(self.stream.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Everything up to and including the blank line.
    pub(crate) async fn head(&mut self) -> String {
        String::from_utf8(self.until_blank_line().await).unwrap()
    }

    pub(crate) async fn until_blank_line(&mut self) -> Vec<u8> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.more().await.unwrap() > 0,
                "closed within a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        };
        self.buffer.drain(..end).collect()
    }

    pub(crate) async fn exactly(&mut self, bytes: usize) -> Vec<u8> {
        while self.buffer.len() < bytes {
            assert!(self.more().await.unwrap() > 0, "closed after {} of {bytes} bytes", self.buffer.len());
        }
        self.buffer.drain(..bytes).collect()
    }

    /// One chunk of a chunked body, without its framing; empty at the end of the body.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.line().await;
        let size = usize::from_str_radix(&size, 16).unwrap();
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        chunk
    }

    /// A whole chunked body.
    pub(crate) async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk().await;
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk);
        }
    }

    /// Chunks until so many bytes have come.
    pub(crate) async fn chunks_until(&mut self, bytes: usize) -> Vec<u8> {
        let mut body = Vec::new();
        while body.len() < bytes {
            body.extend(self.chunk().await);
        }
        body
    }

    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).unwrap();
            }
            assert!(self.more().await.unwrap() > 0, "closed within a line");
        }
    }

    /// Head and body, however the body is framed.
    pub(crate) async fn message(&mut self) -> (String, Vec<u8>) {
        let head = self.head().await;
        let lower = head.to_lowercase();
        let body = if lower.contains("transfer-encoding: chunked") {
            self.chunks().await
        } else if let Some(at) = lower.find("content-length: ") {
            let length = lower[at + 16..].lines().next().unwrap().parse().unwrap();
            self.exactly(length).await
        } else {
            Vec::new()
        };
        (head, body)
    }

    /// What is left until the other side closes; `Err` if it reset the connection.
    pub(crate) async fn rest(&mut self) -> std::io::Result<Vec<u8>> {
        while self.more().await? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    async fn more(&mut self) -> std::io::Result<usize> {
        soon(self.stream.read_buf(&mut self.buffer)).await
    }

    /// What came of a chunked body, whole chunks and the last one's beginning, given all that was received.
    pub(crate) fn body_of(received: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        let Some(start) = find(received, b"\r\n\r\n") else { return body };
        let mut rest = &received[start + 4..];
        while let Some(at) = find(rest, b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap(), 16).unwrap();
            let chunk = &rest[at + 2..];
            body.extend_from_slice(&chunk[..size.min(chunk.len())]);
            rest = chunk.get(size + 2..).unwrap_or_default();
        }
        body
    }

    /// Ends the connection with a reset.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// An exchange as the spool holds it.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) begin: Begin,
    pub(crate) request_body: Vec<u8>,
    pub(crate) response_head: Option<String>,
    pub(crate) response_body: Vec<u8>,
    pub(crate) chunks: Vec<usize>,
    pub(crate) end: Option<End>,
}

impl Recorded {
    pub(crate) fn request_head(&self) -> String {
        String::from_utf8(self.begin.head.clone()).unwrap()
    }

    pub(crate) fn outcome(&self) -> Outcome {
        self.end.expect("the exchange has ended").outcome
    }
}

/// Everything in a recorder's folder: exchanges in the order of their begins, and gaps.
pub(crate) fn recorded(dir: &Path) -> (Vec<Recorded>, Vec<Gap>) {
    let mut reader = Reader::open(dir).unwrap();
    let mut exchanges: BTreeMap<u64, Recorded> = BTreeMap::new();
    let mut gaps = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let bytes = reader.read(&record.payload).unwrap();
        let exchange = exchanges.get_mut(&record.seq);
        match (record.kind, exchange) {
            // Messages are looked at by the spy's tests.
            (Kind::Begin, None) if MessageBegin::is_one(&bytes) => {}
            (Kind::Part(MESSAGE_BYTES), None) => {}
            (Kind::Begin, None) => {
                let exchange = Recorded {
                    begin: Begin::decode(&bytes).unwrap(),
                    request_body: Vec::new(),
                    response_head: None,
                    response_body: Vec::new(),
                    chunks: Vec::new(),
                    end: None,
                };
                exchanges.insert(record.seq, exchange);
            }
            (Kind::Part(REQUEST_BODY), Some(exchange)) => exchange.request_body.extend(bytes),
            (Kind::Part(REQUEST_TRAILERS | RESPONSE_TRAILERS), Some(_)) => {}
            (Kind::Part(RESPONSE_HEAD), Some(exchange)) => {
                exchange.response_head = Some(String::from_utf8(bytes).unwrap());
            }
            (Kind::Part(RESPONSE_BODY), Some(exchange)) => {
                exchange.chunks.push(bytes.len());
                exchange.response_body.extend(bytes);
            }
            (Kind::End { .. }, Some(exchange)) => exchange.end = Some(End::decode(&bytes).unwrap()),
            (Kind::Note, None) => {
                if let Note::Gap(gap) = Note::decode(&bytes).unwrap() {
                    gaps.push(gap);
                }
            }
            (Kind::LifeBegin | Kind::LifeEnd { .. }, None) => {}
            // Its begin has been released already.
            (Kind::Part(_) | Kind::End { .. }, None) => {}
            (kind, exchange) => panic!("unexpected {kind:?} with {exchange:?}"),
        }
    }
    (exchanges.into_values().collect(), gaps)
}

/// Bytes that look like nothing.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Every file below a folder, read.
pub(crate) fn files(dir: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found
}
