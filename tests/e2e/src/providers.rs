//! The APIs of model providers on loopback: Gemini, OpenAI (chat and responses), Anthropic, and Ollama, each in its own wire
//! format, with every kind of trouble.
//!
//! One listener speaks all of them, told apart by path; Together and xAI speak OpenAI's. A test says what a model does by its
//! name at the provider ([`Play`]); whatever nothing is said of answers well. Every exchange is kept byte for byte.

use std::collections::HashMap;
use std::io::{BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Ending, Head, read_body, read_head};

/// What a model does when it is asked.
#[derive(Clone, Debug, Default)]
pub enum Play {
    /// Answers in three pieces.
    #[default]
    Good,
    /// An error with this status, and further headers.
    Refused(u16, &'static [(&'static str, &'static str)]),
    /// Two pieces, then the connection is gone.
    Cut,
    /// Two pieces, then nothing until the client goes.
    Hangs,
    /// Nothing at all until the client goes.
    Silent,
    /// Says that it will not.
    Refuses,
    /// Says nothing, properly.
    Empty,
    /// Answers when so many requests are waiting like this one: only those that run at the same time ever get there.
    Together(usize),
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// The model's name at the provider.
    pub model: String,
    /// Path and query.
    pub target: String,
    /// The request's head.
    pub head: Head,
    /// The request's body.
    pub request: Vec<u8>,
    /// The response's body, as far as it was sent.
    pub response: Vec<u8>,
}

/// The running providers.
#[derive(Debug)]
pub struct Providers {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    plays: Mutex<HashMap<String, Vec<Play>>>,
    exchanges: Mutex<Vec<Exchange>>,
    waiting: Mutex<usize>,
    arrived: Condvar,
    hanging: AtomicUsize,
}

/// How long those wait who answer together.
const PATIENCE: Duration = Duration::from_secs(30);

impl Default for Providers {
    fn default() -> Self {
        Self::start((Ipv4Addr::LOCALHOST, 0).into())
    }
}

impl Providers {
    /// Starts them all on one address.
    pub fn start(listen: SocketAddr) -> Self {
        let listener = TcpListener::bind(listen).unwrap_or_else(|e| panic!("{listen}: {e}"));
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = theirs.clone();
                std::thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, shared }
    }

    /// The base URL of all of them.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a model does from now on, request by request; the last play stays.
    pub fn play(&self, model: &str, plays: &[Play]) {
        let mut all = self.shared.plays.lock().expect("a lock");
        all.insert(model.to_owned(), plays.iter().rev().cloned().collect());
    }

    /// All exchanges so far, in the order in which their requests came.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.lock().expect("a lock").clone()
    }

    /// Requests that hang now.
    pub fn hanging(&self) -> usize {
        self.shared.hanging.load(Ordering::SeqCst)
    }

    /// The variables that lead a recorder's providers here.
    pub fn variables(&self) -> Vec<(String, String)> {
        let names = ["OPENAI", "XAI", "TOGETHER", "ANTHROPIC", "GEMINI", "OLLAMA"];
        let path = |name: &str| if ["OPENAI", "XAI", "TOGETHER"].contains(&name) { "/v1" } else { "" };
        names.iter().map(|name| (format!("ICCM_{name}_BASE_URL"), format!("{}{}", self.url(), path(name)))).collect()
    }
}

impl Shared {
    fn next_play(&self, model: &str) -> Play {
        let mut all = self.plays.lock().expect("a lock");
        match all.get_mut(model) {
            Some(plays) if plays.len() > 1 => plays.pop().unwrap_or_default(),
            Some(plays) => plays.last().cloned().unwrap_or_default(),
            None => Play::Good,
        }
    }

    fn wait_for(&self, count: usize) {
        let mut waiting = self.waiting.lock().expect("a lock");
        *waiting += 1;
        self.arrived.notify_all();
        let (waiting, late) =
            self.arrived.wait_timeout_while(waiting, PATIENCE, |waiting| *waiting < count).expect("a lock");
        assert!(!late.timed_out(), "only {} of {count} requests came at the same time", *waiting);
    }
}

/// A protocol, by the path that it is asked at.
#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Chat,
    Responses,
    Gemini,
    Anthropic,
    Ollama,
}

impl Protocol {
    fn of(path: &str) -> Option<Self> {
        match path.split('?').next().unwrap_or_default() {
            "/v1/chat/completions" => Some(Protocol::Chat),
            "/v1/responses" => Some(Protocol::Responses),
            "/v1/messages" => Some(Protocol::Anthropic),
            "/api/chat" => Some(Protocol::Ollama),
            path if path.starts_with("/v1beta/models/") && path.ends_with(":streamGenerateContent") => {
                Some(Protocol::Gemini)
            }
            _ => None,
        }
    }

    fn key_header(self) -> Option<&'static str> {
        match self {
            Protocol::Chat | Protocol::Responses => Some("authorization"),
            Protocol::Gemini => Some("x-goog-api-key"),
            Protocol::Anthropic => Some("x-api-key"),
            Protocol::Ollama => None,
        }
    }

    /// The stream's pieces up to its end, which is the last one; without it the stream is cut.
    fn stream(self, model: &str, texts: &[&str], stop: Stop) -> Vec<String> {
        let event = |data: Value| format!("data: {data}\n\n");
        let named = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default());
        match self {
            Protocol::Chat => {
                let chunk = |delta: Value, finish: Value| {
                    event(json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model,
                        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": null}))
                };
                let mut pieces = vec![chunk(json!({"role": "assistant", "content": ""}), json!(null))];
                pieces.extend(texts.iter().map(|text| chunk(json!({"content": text}), json!(null))));
                if stop == Stop::Refusal {
                    pieces.push(chunk(json!({"refusal": "I will not."}), json!(null)));
                }
                let usage = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": model, "choices": [],
                    "usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}});
                pieces.push(format!("{}{}data: [DONE]\n\n", chunk(json!({}), json!("stop")), event(usage)));
                pieces
            }
            Protocol::Responses => {
                let text: String = texts.concat();
                let item = json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "in_progress", "content": []});
                let mut pieces = vec![
                    named(
                        json!({"type": "response.created", "response": {"id": "resp_1", "model": model, "status": "in_progress", "output": []}}),
                    ),
                    named(json!({"type": "response.output_item.added", "output_index": 0, "item": item})),
                ];
                pieces.extend(texts.iter().map(|text| {
                    named(json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text}))
                }));
                let part = match stop {
                    Stop::Refusal => json!({"type": "refusal", "refusal": "I will not."}),
                    Stop::End => json!({"type": "output_text", "text": text, "annotations": []}),
                };
                pieces.push(named(json!({"type": "response.completed", "response": {"id": "resp_1", "model": model,
                    "status": "completed",
                    "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [part]}],
                    "usage": {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}}})));
                pieces
            }
            Protocol::Anthropic => {
                let mut pieces = vec![
                    named(
                        json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant",
                        "model": model, "content": [], "usage": {"input_tokens": 11, "output_tokens": 1}}}),
                    ),
                    named(
                        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
                    ),
                ];
                pieces.extend(texts.iter().map(|text| {
                    named(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}))
                }));
                let reason = if stop == Stop::Refusal { "refusal" } else { "end_turn" };
                pieces.push(
                    [
                        named(json!({"type": "content_block_stop", "index": 0})),
                        named(json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 7}})),
                        named(json!({"type": "message_stop"})),
                    ]
                    .concat(),
                );
                pieces
            }
            Protocol::Gemini => {
                let part = |text: &str| {
                    event(
                        json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}]}),
                    )
                };
                let mut pieces: Vec<String> = texts.iter().map(|text| part(text)).collect();
                let usage = json!({"promptTokenCount": 11, "candidatesTokenCount": 7, "totalTokenCount": 18});
                pieces.push(event(match stop {
                    Stop::Refusal => json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": usage}),
                    Stop::End => json!({"candidates": [{"finishReason": "STOP", "index": 0}], "usageMetadata": usage}),
                }));
                pieces
            }
            Protocol::Ollama => {
                let line = |text: &str, done: bool| {
                    let mut line =
                        json!({"model": model, "message": {"role": "assistant", "content": text}, "done": done});
                    if done {
                        line["done_reason"] = json!("stop");
                        line["prompt_eval_count"] = json!(11);
                        line["eval_count"] = json!(7);
                    }
                    format!("{line}\n")
                };
                let mut pieces: Vec<String> = texts.iter().map(|text| line(text, false)).collect();
                pieces.push(line("", true));
                pieces
            }
        }
    }

    fn content_type(self) -> &'static str {
        if self == Protocol::Ollama { "application/x-ndjson" } else { "text/event-stream" }
    }

    fn error(self, status: u16, message: &str) -> String {
        match self {
            Protocol::Gemini => json!({"error": {"code": status, "message": message, "status": "FAILED"}}),
            Protocol::Anthropic => json!({"type": "error", "error": {"type": "api_error", "message": message}}),
            Protocol::Ollama => json!({"error": message}),
            _ => json!({"error": {"message": message, "type": "error", "code": null}}),
        }
        .to_string()
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Stop {
    End,
    Refusal,
}

fn serve(stream: &TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    while let Ok(head) = read_head(&mut reader) {
        let mut body = Vec::new();
        let ending = read_body(&mut reader, head.request_framing(), &mut |bytes| body.extend_from_slice(bytes));
        if ending != Ending::Complete || !answer(stream, shared, head, body) {
            break;
        }
    }
    // The client may be gone already.
    let _gone = stream.shutdown(Shutdown::Both);
}

/// Whether the connection stays.
fn answer(stream: &TcpStream, shared: &Shared, head: Head, body: Vec<u8>) -> bool {
    let target = head.word(1).to_owned();
    let Some(protocol) = Protocol::of(&target) else {
        return send(
            stream,
            &whole(404, &[], &json!({"error": {"message": format!("no such path: {target}")}}).to_string()),
        );
    };
    let request: Value = serde_json::from_slice(&body).unwrap_or_default();
    let in_path = target.split('/').nth(3).and_then(|end| end.split(':').next());
    let model = request["model"].as_str().or(in_path).unwrap_or_default().to_owned();
    let key = protocol.key_header().map(|name| head.get(name).unwrap_or_default().to_owned());
    let place = {
        let mut exchanges = shared.exchanges.lock().expect("a lock");
        exchanges.push(Exchange { model: model.clone(), target, head, request: body, response: Vec::new() });
        exchanges.len() - 1
    };
    let play = match key {
        // As a careless API does it: the key is in the error.
        Some(key) if key.is_empty() || key.contains("wrong") => {
            let text = protocol.error(401, &format!("Incorrect API key provided: {key}"));
            return finish(stream, shared, place, &whole(401, &[], &text), &text);
        }
        _ => shared.next_play(&model),
    };
    let texts = ["Hello ", "from ", &model];
    let whole_stream = |texts: &[&str], stop| protocol.stream(&model, texts, stop);
    match play {
        Play::Refused(status, headers) => {
            let text = protocol.error(status, &format!("trouble {status} with {model}"));
            return finish(stream, shared, place, &whole(status, headers, &text), &text);
        }
        Play::Good => return streamed(stream, shared, place, protocol, &whole_stream(&texts, Stop::End), true),
        Play::Together(count) => {
            shared.wait_for(count);
            return streamed(stream, shared, place, protocol, &whole_stream(&texts, Stop::End), true);
        }
        Play::Refuses => return streamed(stream, shared, place, protocol, &whole_stream(&[], Stop::Refusal), true),
        Play::Empty => return streamed(stream, shared, place, protocol, &whole_stream(&[], Stop::End), true),
        Play::Silent => hang(stream, shared),
        Play::Cut | Play::Hangs => {
            let pieces = whole_stream(&texts[..2], Stop::End);
            streamed(stream, shared, place, protocol, &pieces[..pieces.len() - 1], false);
            if matches!(play, Play::Hangs) {
                hang(stream, shared);
            }
        }
    }
    false
}

/// Until the client goes.
fn hang(stream: &TcpStream, shared: &Shared) {
    shared.hanging.fetch_add(1, Ordering::SeqCst);
    let mut byte = [0];
    while let Ok(1..) = std::io::Read::read(&mut &*stream, &mut byte) {}
    shared.hanging.fetch_sub(1, Ordering::SeqCst);
}

fn streamed(
    stream: &TcpStream,
    shared: &Shared,
    place: usize,
    protocol: Protocol,
    pieces: &[String],
    ends: bool,
) -> bool {
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: {}\r\ntransfer-encoding: chunked\r\n\r\n", protocol.content_type());
    let mut stays = send(stream, &head);
    for piece in pieces {
        shared.exchanges.lock().expect("a lock")[place].response.extend_from_slice(piece.as_bytes());
        stays &= send(stream, &format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    stays && (!ends || send(stream, "0\r\n\r\n"))
}

fn finish(stream: &TcpStream, shared: &Shared, place: usize, text: &str, body: &str) -> bool {
    shared.exchanges.lock().expect("a lock")[place].response.extend_from_slice(body.as_bytes());
    send(stream, text)
}

fn whole(status: u16, headers: &[(&str, &str)], body: &str) -> String {
    let further: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{further}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn send(mut stream: &TcpStream, text: &str) -> bool {
    stream.write_all(text.as_bytes()).is_ok()
}
