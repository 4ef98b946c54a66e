//! The three ways to a scripted server.

use std::net::Ipv4Addr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::{Era, Server};

const QUEUE: usize = 16;

/// Lines on standard input and output, until the input ends.
pub async fn stdio(server: Server) {
    let (out, mut messages) = mpsc::channel::<String>(QUEUE);
    tokio::spawn(async move {
        let mut stdout = tokio::io::stdout();
        while let Some(message) = messages.recv().await {
            stdout.write_all(message.as_bytes()).await.expect("someone reads");
            stdout.write_all(b"\n").await.expect("someone reads");
            stdout.flush().await.expect("someone reads");
        }
    });
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (server, out) = (server.clone(), out.clone());
        tokio::spawn(async move { server.take(line, out).await });
    }
}

/// Listens on loopback and prints the port.
pub async fn listen(port: u16) -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.expect("a free port");
    println!("{}", listener.local_addr().expect("an address").port());
    listener
}

/// A WebSocket a client, with the subprotocol `mcp`.
pub async fn ws(listener: TcpListener, server: Server) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        tokio::spawn(talk(stream, server.clone()));
    }
}

#[expect(clippy::result_large_err, reason = "the callback's type is the library's")]
fn with_subprotocol(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    if let Some(offered) = request.headers().get("sec-websocket-protocol") {
        response.headers_mut().insert("sec-websocket-protocol", offered.clone());
    }
    Ok(response)
}

async fn talk(stream: TcpStream, server: Server) {
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let accepted = tokio_tungstenite::accept_hdr_async_with_config(stream, with_subprotocol, Some(config)).await;
    let Ok(socket) = accepted else { return };
    let (mut sink, mut stream) = socket.split();
    let (out, mut messages) = mpsc::channel::<String>(QUEUE);
    let speaker = server.clone();
    tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            speaker.says(&message);
            if sink.send(Message::text(message)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        if let Message::Text(text) = message {
            let (server, out) = (server.clone(), out.clone());
            tokio::spawn(async move { server.take(text.to_string(), out).await });
        }
    }
}

/// Streamable HTTP: an event stream for every request. A legacy server gives a session that ends with the process; it has no
/// stream of its own, so what it says unasked comes with the next answer or never.
pub async fn http(listener: TcpListener, server: Server) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let server = server.clone();
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            while exchange(&mut stream, &server).await.is_some() {}
        });
    }
}

struct Head {
    line: String,
    fields: Vec<(String, String)>,
}

impl Head {
    fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

async fn head(stream: &mut BufReader<TcpStream>) -> Option<Head> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let fields = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Head { line: lines.first()?.clone(), fields })
}

async fn exchange(stream: &mut BufReader<TcpStream>, server: &Server) -> Option<()> {
    let head = head(stream).await?;
    let size = head.get("content-length").and_then(|size| size.parse().ok()).unwrap_or(0);
    let mut body = vec![0; size];
    stream.read_exact(&mut body).await.ok()?;
    if !head.line.starts_with("POST") {
        return answer(stream, "405 Method Not Allowed", "").await;
    }
    let text = String::from_utf8(body).expect("UTF-8");
    let message: Value = serde_json::from_str(&text).expect("JSON");
    if let Some((status, body)) = refusal(&head, &message, server) {
        return answer(stream, status, &body).await;
    }
    let (out, mut messages) = mpsc::channel::<String>(QUEUE);
    let is_request = message.get("id").is_some() && message.get("method").is_some();
    let task = server.clone();
    let taking = tokio::spawn(async move { task.take(text, out).await });
    if !is_request {
        return answer(stream, "202 Accepted", "").await;
    }
    let session = format!("mcp-session-id: {}\r\n", std::process::id());
    let session = if server.era() == Era::Modern { "" } else { &session };
    let start =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{session}transfer-encoding: chunked\r\n\r\n");
    stream.write_all(start.as_bytes()).await.ok()?;
    loop {
        let mut probe = [0; 1];
        let next = tokio::select! {
            next = messages.recv() => next,
            // The client hangs up: that cancels.
            _ = stream.get_mut().peek(&mut probe) => {
                taking.abort();
                return None;
            }
        };
        let Some(message) = next else { break };
        server.says(&message);
        let event = format!("data: {message}\n\n");
        let chunk = format!("{:x}\r\n{event}\r\n", event.len());
        stream.write_all(chunk.as_bytes()).await.ok()?;
    }
    stream.write_all(b"0\r\n\r\n").await.ok()
}

/// What a server of either era has against a request.
fn refusal(head: &Head, message: &Value, server: &Server) -> Option<(&'static str, String)> {
    let method = message["method"].as_str().unwrap_or("");
    if server.era() == Era::Modern {
        let name = &message["params"]["name"];
        let fits = head.get("mcp-protocol-version") == Some("2026-07-28")
            && head.get("mcp-method") == Some(method)
            && (method != "tools/call" || head.get("mcp-name") == name.as_str());
        let error = r#"{"jsonrpc":"2.0","error":{"code":-32020,"message":"Header mismatch"}}"#;
        return (!fits).then(|| ("400 Bad Request", error.to_owned()));
    }
    let own = std::process::id().to_string();
    match head.get("mcp-session-id") {
        Some(session) if session != own => Some(("404 Not Found", String::new())),
        None if method != "initialize" => Some(("400 Bad Request", "no session".to_owned())),
        _ => None,
    }
}

async fn answer(stream: &mut BufReader<TcpStream>, status: &str, body: &str) -> Option<()> {
    let text =
        format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok()
}
