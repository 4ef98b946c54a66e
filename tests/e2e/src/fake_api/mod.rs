//! A model API on loopback, for tests and for a first look without a key.
//!
//! It answers `POST /v1/messages` (streamed or not) with scripts ([`script`]) or with recorded answers ([`replay`]),
//! counts tokens, lists models, answers probes, and plays every fault of [`reply::FAULTS`] when a request asks for one
//! ([`request::Wishes`]). It logs every exchange exactly ([`log`]). Ids are made from the seed, the request and how
//! often it came: the same session gives the same bytes on every run.
//!
//! A thread for each connection and nothing between it and the socket: what a fault does to the connection is done
//! here and not by a library.

pub mod answer;
mod connection;
mod gate;
pub mod log;
pub mod replay;
pub mod reply;
pub mod request;
pub mod script;

use std::collections::HashMap;
use std::fs::File;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::json;

use answer::Answer;
use gate::Gates;
use log::{Entry, Log};
use replay::Replay;
use reply::Reply;
use request::MessageRequest;

use crate::wait::PATIENCE;

/// How a fake API is set up.
#[derive(Debug)]
pub struct Options {
    /// Where it listens; port 0 for a free one.
    pub listen: SocketAddr,
    /// What ids are made from.
    pub seed: u64,
    /// Answers that come before the scripts.
    pub replay: Option<Replay>,
    /// A file for the log, a line of JSON for each exchange.
    pub log_file: Option<File>,
}

impl Default for Options {
    fn default() -> Self {
        Self { listen: (Ipv4Addr::LOCALHOST, 0).into(), seed: 1, replay: None, log_file: None }
    }
}

/// A running fake API; dropping it closes every connection.
#[derive(Debug)]
pub struct FakeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

/// What the connections' threads share.
#[derive(Debug)]
struct Shared {
    log: Log,
    gates: Gates,
    replay: Option<Replay>,
    seed: u64,
    stopping: AtomicBool,
    /// Open connections by number, so that a stop can reach them. A connection takes itself out before it closes.
    open: Mutex<HashMap<usize, TcpStream>>,
    /// How often a request came, by the digest of its body.
    seen: Mutex<HashMap<String, usize>>,
}

impl FakeApi {
    /// Starts with the default options.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// Starts one that answers with recorded answers.
    pub fn replaying(replay: Replay) -> Self {
        Self::with(Options { replay: Some(replay), ..Options::default() })
    }

    /// Starts.
    pub fn with(options: Options) -> Self {
        let listener = TcpListener::bind(options.listen).unwrap_or_else(|e| panic!("{}: {e}", options.listen));
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            log: Log::with_file(options.log_file),
            gates: Gates::default(),
            replay: options.replay,
            seed: options.seed,
            stopping: AtomicBool::new(false),
            open: Mutex::default(),
            seen: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All exchanges so far.
    pub fn log(&self) -> Vec<Entry> {
        self.shared.log.entries()
    }

    /// Waits until the log satisfies `condition`.
    pub fn wait<T>(&self, what: &str, condition: impl FnMut(&[Entry]) -> Option<T>) -> T {
        self.shared.log.wait(PATIENCE, what, condition)
    }

    /// Lets a reply that waits at this gate go on.
    pub fn open_gate(&self, name: &str) {
        self.shared.gates.open(name);
    }

    /// Waits until a reply waits at this gate.
    pub fn wait_at_gate(&self, name: &str) {
        assert!(self.shared.gates.wait_for_someone(name, PATIENCE), "nobody came to the gate {name}");
    }

    /// Serves until the process ends.
    pub fn serve_forever(mut self) {
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

impl Drop for FakeApi {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().expect("no panic under this lock").values() {
            drop(stream.shutdown(Shutdown::Both));
        }
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            drop(accepting.join());
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for (number, stream) in listener.incoming().enumerate() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        std::thread::spawn(move || connection::serve(stream, number, &shared));
    }
}

impl Shared {
    /// The answer to a complete request, and the script that gave it.
    fn reply(&self, entry: &Entry) -> (Reply, Option<(String, usize)>, Option<String>) {
        let occurrence = self.count(&entry.request_body);
        if let Some(recorded) = self.recorded(entry) {
            return (recorded, None, None);
        }
        let path = entry.target.split('?').next().unwrap_or_default();
        let request = MessageRequest::read(&entry.request_fields, &entry.request_body);
        let wishes = match &request {
            Some(request) => request.wishes.clone(),
            None => request::wishes_of_fields(&entry.request_fields),
        };
        let mut reply = match (entry.method.as_str(), path) {
            ("HEAD", _) => Reply { pieces: Vec::new(), ..Reply::whole(200, "text/plain", Vec::new()) },
            ("GET", "/v1/models") => models(),
            ("POST", path) if path.ends_with("/v1/messages/count_tokens") => {
                Reply::json(200, &json!({"input_tokens": entry.request_body.len() / 4}))
            }
            ("POST", path) if path.ends_with("/v1/messages") => match &request {
                Some(request) => self.message(request, entry, occurrence),
                None => Reply::error(400, "invalid_request_error", "The request body is not valid JSON"),
            },
            (_, "/echo") => Reply::whole(200, "application/octet-stream", entry.request_body.clone()),
            _ => Reply::error(404, "not_found_error", "Not found"),
        };
        reply.gate = wishes.gate.clone();
        reply.pace = std::time::Duration::from_millis(wishes.pace_ms);
        if wishes.encoding.as_deref() == Some("gzip") {
            reply = reply.gzip();
        }
        let fault = wishes.fault.and_then(|fault| match fault.strip_suffix(":once") {
            Some(name) => (occurrence == 0).then(|| name.to_owned()),
            None => Some(fault),
        });
        if let Some(fault) = &fault {
            reply = reply::play(fault, reply);
        }
        let side = request.is_some_and(|request| request.side_call().is_some());
        (reply, wishes.script.filter(|_| !side), fault)
    }

    fn message(&self, request: &MessageRequest, entry: &Entry, occurrence: usize) -> Reply {
        let body = &entry.request_body;
        let material = format!("{}/{}/{occurrence}", self.seed, crate::sha256(body));
        let id = crate::sha256(material.as_bytes())[..24].to_owned();
        let answer = Answer {
            id: id.clone(),
            model: request.model().to_owned(),
            blocks: script::answer(request),
            request_bytes: body.len(),
        };
        let reply = if request.streamed() {
            Reply::stream(answer.events())
        } else {
            Reply::whole(200, "application/json", answer.json())
        };
        reply
            .field("request-id", &format!("req_{id}"))
            .field("anthropic-ratelimit-requests-limit", "1000")
            .field("anthropic-ratelimit-requests-remaining", "999")
            .field("anthropic-organization-id", "00000000-0000-0000-0000-000000000000")
    }

    fn recorded(&self, entry: &Entry) -> Option<Reply> {
        let recorded = self.replay.as_ref()?.answer(&entry.method, &entry.target, &entry.request_body)?;
        let chunked = recorded.response_headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("transfer-encoding"));
        let framing = ["transfer-encoding", "content-length", "connection"];
        let fields = recorded.response_headers.into_iter();
        let fields = fields.filter(|(name, _)| !framing.contains(&name.to_ascii_lowercase().as_str())).collect();
        let mut reply = Reply { fields, ..Reply::whole(recorded.status, "", Vec::new()) };
        if chunked {
            reply.delimiter = reply::Delimiter::Chunked;
            reply.pieces = split_events(&recorded.response_body);
        } else {
            reply.pieces = vec![recorded.response_body];
        }
        Some(reply)
    }

    fn count(&self, body: &[u8]) -> usize {
        let mut seen = self.seen.lock().expect("no panic under this lock");
        let count = seen.entry(crate::sha256(body)).or_default();
        *count += 1;
        *count - 1
    }
}

/// A stream's events, an event a piece.
fn split_events(body: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 2..=body.len() {
        if &body[end - 2..end] == b"\n\n" {
            pieces.push(body[start..end].to_vec());
            start = end;
        }
    }
    if start < body.len() {
        pieces.push(body[start..].to_vec());
    }
    pieces
}

fn models() -> Reply {
    let model = |id: &str, name: &str| json!({"type": "model", "id": id, "display_name": name, "created_at": "2026-01-01T00:00:00Z"});
    let data = [model("claude-opus-5-5", "Claude Opus 5.5"), model("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5")];
    Reply::json(200, &json!({"data": data, "has_more": false, "first_id": data[0]["id"], "last_id": data[1]["id"]}))
}
