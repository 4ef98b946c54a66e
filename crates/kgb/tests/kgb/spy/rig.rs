//! A spy under test, and a view of what it recorded.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kgb::entry::{End, MESSAGE_BYTES, MessageBegin, Note};
use kgb::spy::{ServerUrls, Spy, SpyConfig};
use kgb::{Recorder, RecorderConfig};
use spool::{Kind, Reader};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use winni::model::{ConnectionEnd, Direction, FrameForm, Outcome};

use crate::support::{Peer, soon};

pub(crate) struct SpyRig {
    pub(crate) data: TempDir,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) spy: SocketAddr,
    pub(crate) server: TcpListener,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: tokio::task::JoinHandle<()>,
}

impl SpyRig {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// The server `dewey` is a listener of the rig's own.
    pub(crate) async fn with(change: impl FnOnce(&mut RecorderConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let mut recording = RecorderConfig::new(data.path());
        change(&mut recording);
        let recorder = Recorder::start(recording).unwrap();
        let urls = ServerUrls {
            websocket: Some(format!("ws://{address}/").parse().unwrap()),
            http: Some(format!("http://{address}/mcp").parse().unwrap()),
        };
        let unreachable = ServerUrls { websocket: Some("ws://127.0.0.1:9/".parse().unwrap()), http: None };
        let servers = [("dewey".to_owned(), urls), ("gone".to_owned(), unreachable)];
        let config = SpyConfig::new(servers.into());
        let spy = Spy::bind("127.0.0.1:0".parse().unwrap(), config, recorder.clone()).await.unwrap();
        let shutdown = CancellationToken::new();
        let (address, running) = (spy.local_addr(), tokio::spawn(spy.run(shutdown.clone())));
        Self { data, recorder, spy: address, server, shutdown, running }
    }

    /// A client and a server whose handshake is done: through the spy, or directly.
    pub(crate) async fn connected(&self, directly: bool) -> (Peer, Peer) {
        let to = if directly { self.server.local_addr().unwrap() } else { self.spy };
        let mut client = Peer::new(TcpStream::connect(to).await.unwrap());
        client.send(request("/?upstream=dewey", "")).await;
        let mut server = self.accept().await;
        server.head().await;
        server.send(SWITCHED).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101"));
        (client, server)
    }

    pub(crate) async fn accept(&self) -> Peer {
        Peer::new(soon(self.server.accept()).await.unwrap().0)
    }

    pub(crate) fn seen(&self) -> Seen {
        seen(self.recorder.spool().dir())
    }

    /// Waits until a connection's end is on record.
    pub(crate) async fn closed(&self) -> ConnectionEnd {
        soon(async {
            let mut position = spool::Position::default();
            loop {
                if let Some(end) = self.seen().closed.first() {
                    return end.clone();
                }
                position = self.recorder.spool().wait_beyond(position).await;
            }
        })
        .await
    }
}

pub(crate) const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A client's request for a WebSocket.
pub(crate) fn request(target: &str, headers: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: spy.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// A message as the spool holds it.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) begin: MessageBegin,
    pub(crate) bytes: Vec<u8>,
    pub(crate) parts: usize,
    pub(crate) outcome: Option<Outcome>,
}

impl Message {
    pub(crate) fn told(&self) -> (Direction, FrameForm, &[u8]) {
        (self.begin.direction, self.begin.form, &self.bytes)
    }
}

#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) messages: Vec<Message>,
    pub(crate) closed: Vec<ConnectionEnd>,
}

impl Seen {
    /// All bytes of one direction's messages.
    pub(crate) fn bytes(&self, direction: Direction) -> Vec<u8> {
        let of_it = self.messages.iter().filter(|message| message.begin.direction == direction);
        of_it.flat_map(|message| message.bytes.clone()).collect()
    }
}

/// The messages and ends of connections in a recorder's folder, in order.
pub(crate) fn seen(dir: &Path) -> Seen {
    let mut reader = Reader::open(dir).unwrap();
    let mut messages: BTreeMap<u64, Message> = BTreeMap::new();
    let mut closed = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        let bytes = reader.read(&record.payload).unwrap();
        match (record.kind, messages.get_mut(&record.seq)) {
            (Kind::Begin, None) if MessageBegin::is_one(&bytes) => {
                let begin = MessageBegin::decode(&bytes).unwrap();
                messages.insert(record.seq, Message { begin, bytes: Vec::new(), parts: 0, outcome: None });
            }
            (Kind::Part(MESSAGE_BYTES), Some(message)) => {
                message.bytes.extend(bytes);
                message.parts += 1;
            }
            (Kind::End { .. }, Some(message)) => {
                message.outcome = End::decode(&bytes).ok().map(|end| end.outcome);
            }
            (Kind::Note, _) => {
                if let Note::Closed(end) = Note::decode(&bytes).unwrap() {
                    closed.push(end);
                }
            }
            _ => {}
        }
    }
    Seen { messages: messages.into_values().collect(), closed }
}

/// A client's frame: with a mask.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];
    let mut frame = unmasked(first, payload);
    let head = frame.len() - payload.len();
    frame[1] |= 0x80;
    frame.truncate(head);
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A server's frame, with any first byte.
pub(crate) fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = wire::websocket::server_frame(wire::websocket::Opcode(0), payload);
    frame[0] = first;
    frame
}
