//! What the spy adds to a call: 1 KB messages to an echoing server and back, directly and through the spy, in turns in the
//! same run, so that both meet the same machine. `cargo bench -p kgb --bench spy [-- CALLS]`
#![expect(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kgb::spy::{ServerUrls, Spy, SpyConfig};
use kgb::{Recorder, RecorderConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use winni::model::Durability;

const MESSAGE_BYTES: usize = 1024;
const ROUND: usize = 200;

fn main() {
    let calls = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(20_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for durability in [Durability::Process, Durability::Power] {
        runtime.block_on(measure(durability, calls));
    }
}

async fn measure(durability: Durability, calls: usize) {
    let data = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(RecorderConfig { durability, ..RecorderConfig::new(data.path()) }).unwrap();
    let server = echo().await;
    let urls = ServerUrls { websocket: Some(format!("ws://{server}/").parse().unwrap()), http: None };
    let config = SpyConfig::new([("echo".to_owned(), urls)].into());
    let spy = Spy::bind("127.0.0.1:0".parse().unwrap(), config, recorder).await.unwrap();
    let address = spy.local_addr();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(spy.run(shutdown.clone()));

    let (mut direct, mut spied) = (connect(server).await, connect(address).await);
    let (mut without, mut with) = (Vec::new(), Vec::new());
    // The first round warms up.
    for round in 0..=calls.div_ceil(ROUND) {
        let (a, b) = (calls_on(&mut direct).await, calls_on(&mut spied).await);
        if round > 0 {
            without.extend(a);
            with.extend(b);
        }
    }
    report(durability, &mut without, &mut with);
    drop((direct, spied));
    shutdown.cancel();
    serving.await.unwrap();
}

fn report(durability: Durability, without: &mut [Duration], with: &mut [Duration]) {
    without.sort();
    with.sort();
    let at = |all: &[Duration], share: usize| all[all.len() * share / 100].as_secs_f64() * 1e6;
    for share in [50, 90, 99] {
        let (direct, spied) = (at(without, share), at(with, share));
        println!("{durability:?} p{share}: direct {direct:.1} us, spy {spied:.1} us, added {:.1} us", spied - direct);
    }
}

/// A server that answers a handshake and then sends back whatever comes.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                head(&mut stream).await;
                let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                    if stream.write_all(&buffer[..count]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

async fn connect(to: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let request = "GET /?upstream=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    head(&mut stream).await;
    stream
}

/// Reads a head to its end.
async fn head(stream: &mut TcpStream) {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        last[3] = stream.read_u8().await.unwrap();
    }
}

/// A round of calls, one after the other.
async fn calls_on(stream: &mut TcpStream) -> Vec<Duration> {
    let frame = wire::websocket::server_frame(wire::websocket::Opcode::TEXT, &[b'x'; MESSAGE_BYTES]);
    let mut answer = vec![0; frame.len()];
    let mut took = Vec::with_capacity(ROUND);
    for _ in 0..ROUND {
        let began = Instant::now();
        stream.write_all(&frame).await.unwrap();
        stream.read_exact(&mut answer).await.unwrap();
        took.push(began.elapsed());
    }
    took
}
