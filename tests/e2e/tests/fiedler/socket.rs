//! A WebSocket that sends messages as they are written.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

/// A connection of messages, whoever is at its other end.
pub(crate) struct Socket {
    runtime: tokio::runtime::Runtime,
    stream: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
}

impl Socket {
    pub(crate) fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = url.trim_start_matches("ws://").split(['/', '?']).next().unwrap().to_owned();
        let (stream, _) = runtime
            .block_on(async {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                tokio_tungstenite::client_async(url, stream).await
            })
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        Self { runtime, stream }
    }

    pub(crate) fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.runtime.block_on(self.stream.send(Message::text(text))).unwrap();
    }

    /// Sends a text as frames, one for each piece.
    pub(crate) fn send_in_frames(&mut self, pieces: &[&str]) {
        let last = pieces.len() - 1;
        for (number, piece) in pieces.iter().enumerate() {
            let opcode = OpCode::Data(if number == 0 { Data::Text } else { Data::Continue });
            let frame = Frame::message(piece.as_bytes().to_vec(), opcode, number == last);
            self.runtime.block_on(self.stream.send(Message::Frame(frame))).unwrap();
        }
    }

    pub(crate) fn next(&mut self) -> Value {
        loop {
            let next = async { tokio::time::timeout(Duration::from_secs(30), self.stream.next()).await };
            let message = self.runtime.block_on(next).expect("a message in time").expect("an open connection").unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

pub(crate) fn call_of(id: u64, arguments: Value, is_modern: bool) -> Value {
    let mut meta = json!({"progressToken": format!("token-{id}")});
    if is_modern {
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    }
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "fiedler_send", "arguments": arguments, "_meta": meta}})
}
