//! MCP clients that do nothing by themselves: one POST a message, sent as it is written, over a connection of its own; and
//! the same calls over one WebSocket.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use crate::http::{Ending, read_body, read_head};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server's address, and what is asked of it.
#[derive(Clone, Copy, Debug)]
pub struct Mcp(pub SocketAddr);

/// What a tool gave.
#[derive(Debug)]
pub struct ToolAnswer {
    /// Whether it is an error of the tool.
    pub is_error: bool,
    /// The text content.
    pub text: String,
}

impl ToolAnswer {
    /// The result; panics if it is an error.
    pub fn json(&self) -> Value {
        assert!(!self.is_error, "{}", self.text);
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

impl Mcp {
    /// The server that a ready line's URL names.
    pub fn of_url(url: &Value) -> Self {
        let url = url.as_str().unwrap_or_else(|| panic!("no URL: {url}"));
        let address = url.trim_start_matches("http://").trim_end_matches("/mcp");
        Self(address.parse().unwrap_or_else(|e| panic!("{url}: {e}")))
    }

    /// Posts a text with further headers; status and body.
    pub fn post(&self, body: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut stream = TcpStream::connect(self.0).unwrap_or_else(|e| panic!("{}: {e}", self.0));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut head = format!("POST /mcp HTTP/1.1\r\ncontent-length: {}\r\nconnection: close\r\n", body.len());
        if !headers.iter().any(|(name, _)| *name == "host") {
            head.push_str(&format!("host: {}\r\n", self.0));
        }
        head.push_str("content-type: application/json\r\naccept: application/json\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).expect("a head is taken");
        stream.write_all(body.as_bytes()).expect("a body is taken");
        let mut reader = BufReader::new(stream);
        let head = read_head(&mut reader).unwrap_or_else(|(_, ending)| panic!("no answer: {ending:?}"));
        let mut answer = Vec::new();
        let ending =
            read_body(&mut reader, head.response_framing("POST"), &mut |bytes| answer.extend_from_slice(bytes));
        assert_eq!(ending, Ending::Complete);
        (head.status().expect("a status"), String::from_utf8(answer).expect("UTF-8"))
    }

    /// Calls a tool with arguments that need not be JSON.
    pub fn call_text(&self, tool: &str, arguments: &str) -> ToolAnswer {
        let (status, body) = self.post(&call(tool, arguments), &[]);
        assert_eq!(status, 200, "{tool}: {body}");
        answer(&body)
    }

    /// Calls a tool.
    pub fn call(&self, tool: &str, arguments: &Value) -> ToolAnswer {
        self.call_text(tool, &arguments.to_string())
    }

    /// The tools that the server lists.
    pub fn tools(&self) -> Vec<Value> {
        let (_, body) = self.post(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#, &[]);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{e}: {body}"));
        answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("no tools: {answer}")).clone()
    }

    /// Connects to the same server over a WebSocket.
    pub fn socket(&self) -> McpSocket {
        let stream = TcpStream::connect(self.0).unwrap_or_else(|e| panic!("{}: {e}", self.0));
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let (socket, _) = client(format!("ws://{}/mcp", self.0), stream).expect("a WebSocket");
        McpSocket(socket)
    }
}

/// A WebSocket on which one call is made after the other.
#[derive(Debug)]
pub struct McpSocket(WebSocket<TcpStream>);

impl McpSocket {
    /// Calls a tool with arguments that need not be JSON.
    pub fn call_text(&mut self, tool: &str, arguments: &str) -> ToolAnswer {
        self.0.send(Message::text(call(tool, arguments))).expect("a message is taken");
        loop {
            if let Message::Text(text) = self.0.read().expect("an answer") {
                return answer(&text);
            }
        }
    }

    /// Calls a tool.
    pub fn call(&mut self, tool: &str, arguments: &Value) -> ToolAnswer {
        self.call_text(tool, &arguments.to_string())
    }
}

fn call(tool: &str, arguments: &str) -> String {
    let params = format!(r#"{{"name":"{tool}","arguments":{arguments}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

fn answer(body: &str) -> ToolAnswer {
    let answer: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no result: {answer}"));
    ToolAnswer { is_error: result["isError"] == json!(true), text: text.to_owned() }
}
