//! A client of Streamable HTTP that speaks either era and reads events as they come.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use e2e::http::{Head, read_body, read_head};
use serde_json::{Value, json};

use crate::socket::call_of;

const PATIENCE: Duration = Duration::from_secs(30);

/// Where a client posts, and how it introduces itself.
pub(crate) struct Client {
    address: String,
    path: String,
    headers: Vec<(&'static str, String)>,
    is_modern: bool,
}

/// A call whose answer is on its way. Its stream is closed when this is dropped.
pub(crate) struct Running {
    stream: TcpStream,
    events: Receiver<Value>,
}

impl Client {
    /// For an endpoint; a legacy client begins its session.
    pub(crate) fn connect(url: &str, is_modern: bool) -> Self {
        let (address, path) = url.trim_start_matches("http://").split_once('/').unwrap();
        let mut client = Self { address: address.to_owned(), path: format!("/{path}"), headers: Vec::new(), is_modern };
        if is_modern {
            let modern =
                [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "fiedler_send")];
            client.headers = modern.map(|(name, value)| (name, value.to_owned())).to_vec();
            return client;
        }
        let about = json!({"name": "test", "version": "1"});
        let initialize = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
            "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": about}});
        let (head, running) = client.post(&initialize);
        assert_eq!(running.next().unwrap()["result"]["serverInfo"]["name"], "fiedler");
        client.headers.push(("mcp-session-id", head.get("mcp-session-id").unwrap().to_owned()));
        client.headers.push(("mcp-protocol-version", "2025-11-25".to_owned()));
        client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        client
    }

    /// Calls `fiedler_send`; its answer must come as events.
    pub(crate) fn send(&self, id: u64, arguments: Value) -> Running {
        let (head, running) = self.post(&call_of(id, arguments, self.is_modern));
        assert!(head.get("content-type").unwrap().starts_with("text/event-stream"), "{head:?}");
        running
    }

    /// Cancels a call as the era has it: by a message, or by closing its stream.
    pub(crate) fn cancel(&self, id: u64, running: Running) {
        if !self.is_modern {
            let params = json!({"requestId": id});
            self.post(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}));
        }
        drop(running);
    }

    fn post(&self, message: &Value) -> (Head, Running) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = message.to_string();
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             content-length: {}\r\n",
            self.path,
            self.address,
            body.len()
        );
        self.headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = read_head(&mut reader).unwrap();
        assert!(head.status().is_some_and(|status| status < 300), "{head:?}");
        let (told, events) = channel();
        let (framing, of) = (head.response_framing("POST"), head.clone());
        std::thread::spawn(move || {
            let is_stream = of.get("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
            let mut parser = wire::sse::Parser::new();
            let mut whole = Vec::new();
            read_body(&mut reader, framing, &mut |bytes| match is_stream {
                true => parser.feed(bytes).filter(|event| !event.data.is_empty()).for_each(|event| {
                    // Nobody listens any more where the call was cancelled.
                    let _ = told.send(serde_json::from_str(&event.data).unwrap());
                }),
                false => whole.extend_from_slice(bytes),
            });
            if let Ok(message) = serde_json::from_slice(&whole) {
                let _ = told.send(message);
            }
        });
        (head, Running { stream, events })
    }
}

impl Running {
    /// The next message; none if the stream has ended.
    pub(crate) fn next(&self) -> Option<Value> {
        self.events.recv().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}
