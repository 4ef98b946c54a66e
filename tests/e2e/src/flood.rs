//! An upstream for bodies of any size: nothing of them is held, on either side.
//!
//! A request names the answer that it wants in its query: `bytes` (its size), `piece` (bytes per write, 64 KiB unless
//! named), `pace_ms` (between two writes), `cut` (breaks off after so many bytes). The answer's field
//! `x-request-sha256` tells what came.

use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::hex;
use crate::http::{self, Ending, Head};
use crate::random::Random;

/// Bytes that neither repeat nor compress, made as they are asked for.
#[derive(Clone, Copy, Debug)]
pub struct Noise(u64);

impl Noise {
    /// The bytes that `seed` stands for.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The first `bytes` of it, in pieces of at most `piece`.
    pub fn pieces(self, mut bytes: u64, piece: usize) -> impl Iterator<Item = Vec<u8>> {
        let mut random = Random::new(self.0);
        let (mut block, mut at) = (Vec::new(), 0);
        std::iter::from_fn(move || {
            if at == block.len() {
                block = (0..32 << 10).flat_map(|_| random.next_u64().to_le_bytes()).collect();
                at = 0;
            }
            let size = (block.len() - at).min(piece).min(usize::try_from(bytes).unwrap_or(usize::MAX));
            at += size;
            bytes -= size as u64;
            (size > 0).then(|| block[at - size..at].to_vec())
        })
    }

    /// SHA-256 of the first `bytes` of it.
    pub fn sha256(self, bytes: u64) -> String {
        let mut hash = Sha256::new();
        self.pieces(bytes, 1 << 20).for_each(|piece| hash.update(piece));
        hex(&hash.finalize())
    }
}

/// A running upstream; it stops accepting when it is dropped.
#[derive(Debug)]
pub struct Flood {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    accepting: Option<JoinHandle<()>>,
}

impl Flood {
    /// Starts one whose answers are `noise`.
    pub fn start(noise: Noise) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let stopping = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stopping);
        let requests = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&requests);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let counted = Arc::clone(&counted);
                std::thread::spawn(move || serve(stream, noise, &counted));
            }
        });
        Self { address, stopping, requests, accepting: Some(accepting) }
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have come, those included that broke off after their heads.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn serve(mut stream: TcpStream, noise: Noise, requests: &AtomicUsize) {
    stream.set_nodelay(true).expect("a connected socket");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    while let Ok(head) = http::read_head(&mut reader) {
        requests.fetch_add(1, Ordering::SeqCst);
        let mut hash = Sha256::new();
        let ending = http::read_body(&mut reader, head.request_framing(), &mut |piece| hash.update(piece));
        if ending != Ending::Complete || !answer(&mut stream, &head, &hex(&hash.finalize()), noise) {
            return;
        }
    }
}

/// Whether the answer was written whole.
fn answer(stream: &mut TcpStream, asked: &Head, request_sha256: &str, noise: Noise) -> bool {
    let wish = |name: &str| {
        let query = asked.word(1).split_once('?').map_or("", |(_, query)| query);
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    let bytes = wish("bytes").unwrap_or(0);
    let piece = wish("piece").map_or(64 << 10, |piece| piece as usize);
    let pace = Duration::from_millis(wish("pace_ms").unwrap_or(0));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\nx-request-sha256: {request_sha256}\r\n\r\n");
    let mut written = stream.write_all(head.as_bytes());
    for bytes in noise.pieces(wish("cut").unwrap_or(bytes), piece) {
        if written.is_err() {
            return false;
        }
        // The pace is what is being played here, not a wait for something to happen.
        std::thread::sleep(pace);
        written = stream.write_all(&bytes);
    }
    written.is_ok() && wish("cut").is_none()
}
