//! A server with a few tools, and clients that do nothing by themselves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use mcp::{
    About, Annotations, Arguments, Call, Limits, Listener, ListenerConfig, ResourceError, ResourceTemplate,
    ResourceText, Service, Tool, ToolError, ToolOutput,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What the tools of the fixture did, and what they wait for.
pub(crate) struct Fixture {
    tools: Vec<Tool>,
    /// `wait` goes on when there is a permit.
    pub(crate) gate: Semaphore,
    /// A permit for every `wait` that began.
    pub(crate) waiting: Semaphore,
    pub(crate) finished: AtomicU64,
    pub(crate) dropped: Arc<AtomicU64>,
}

struct Dropped(Arc<AtomicU64>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn tool(name: &'static str, properties: Value, required: Value) -> Tool {
    Tool {
        name,
        title: name,
        description: name,
        input_schema: json!({"type": "object", "properties": properties, "required": required}),
        output_schema: json!({"type": "object"}),
        annotations: Annotations::READS,
    }
}

#[async_trait]
impl Service for Fixture {
    fn about(&self) -> &About {
        &About { name: "fixture", title: "Fixture", version: "1", instructions: "For tests." }
    }

    fn tools(&self) -> &[Tool] {
        &self.tools
    }

    async fn call(&self, tool: &str, arguments: Arguments, call: &Call) -> Result<ToolOutput, ToolError> {
        match tool {
            "echo" => ToolOutput::of(&json!({"text": arguments.required_text("text", usize::MAX)?})),
            "count" => {
                for done in 1..=3 {
                    call.report(done, 3, "counting");
                }
                ToolOutput::of(&json!({"counted": 3}))
            }
            "wait" => {
                let dropped = Dropped(self.dropped.clone());
                self.waiting.add_permits(1);
                self.gate.acquire().await.unwrap().forget();
                self.finished.fetch_add(1, Ordering::SeqCst);
                std::mem::forget(dropped);
                ToolOutput::of(&json!({}))
            }
            _ => panic!("a tool that panics"),
        }
    }

    fn resource_templates(&self) -> &[ResourceTemplate] {
        &[ResourceTemplate {
            uri_template: "fixture://{id}",
            name: "fixture",
            title: "Fixture",
            description: "",
            mime_type: "text/plain",
        }]
    }

    async fn read_resource(&self, uri: &str) -> Result<ResourceText, ResourceError> {
        match uri {
            "fixture://1" => Ok(ResourceText { mime_type: "text/plain", text: "one".into() }),
            _ => Err(ResourceError::NotFound(uri.to_owned())),
        }
    }
}

/// A running server.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) fixture: Arc<Fixture>,
    shutdown: CancellationToken,
    running: AbortOnDropHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let fixture = Arc::new(Fixture {
            tools: vec![
                tool("echo", json!({"text": {"type": "string"}}), json!(["text"])),
                tool("count", json!({}), json!([])),
                tool("wait", json!({}), json!([])),
                tool("panic", json!({}), json!([])),
            ],
            gate: Semaphore::new(0),
            waiting: Semaphore::new(0),
            finished: AtomicU64::new(0),
            dropped: Arc::default(),
        });
        let config = ListenerConfig { limits, ..ListenerConfig::default() };
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), config, fixture.clone()).await.unwrap();
        let (address, shutdown) = (listener.local_addr(), CancellationToken::new());
        let running = AbortOnDropHandle::new(tokio::spawn(listener.run(shutdown.clone())));
        Self { address, fixture, shutdown, running }
    }

    /// Stops, and waits for the end.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        within(self.running).await.unwrap();
    }

    /// Waits until a `wait` has begun.
    pub(crate) async fn is_waiting(&self) {
        within(self.fixture.waiting.acquire()).await.unwrap().forget();
    }

    /// Waits until so many `wait`s were dropped before their end.
    pub(crate) async fn has_dropped(&self, calls: u64) {
        within(async {
            while self.fixture.dropped.load(Ordering::SeqCst) < calls {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn websocket(&self) -> WebSocket {
        self.websocket_with(|_| {}).await.unwrap().0
    }

    pub(crate) async fn websocket_with(
        &self,
        change: impl FnOnce(&mut http::HeaderMap),
    ) -> Result<(WebSocket, http::Response<Option<Vec<u8>>>), Error> {
        let mut request = format!("ws://{}/mcp", self.address).into_client_request()?;
        change(request.headers_mut());
        let stream = TcpStream::connect(self.address).await?;
        let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
        let (socket, response) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await?;
        Ok((WebSocket(socket), response))
    }

    pub(crate) async fn http(&self, request: http::Request<String>) -> Answered {
        let mut response = self.open(request).await;
        let body = within(response.body_mut().collect()).await.unwrap().to_bytes();
        Answered { status: response.status().as_u16(), headers: response.headers().clone(), body }
    }

    /// A response whose body is still to come.
    pub(crate) async fn open(&self, request: http::Request<String>) -> http::Response<hyper::body::Incoming> {
        let stream = TokioIo::new(TcpStream::connect(self.address).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        // Ends with the client's half.
        tokio::spawn(connection);
        let (mut head, body) = request.into_parts();
        if !head.headers.contains_key("host") {
            head.headers.insert("host", self.address.to_string().parse().unwrap());
        }
        let request = http::Request::from_parts(head, Full::new(Bytes::from(body)));
        within(sender.send_request(request)).await.unwrap()
    }

    pub(crate) async fn post(&self, fields: &[(&str, &str)], message: &Value) -> Answered {
        self.http(post(fields, message.to_string())).await
    }
}

pub(crate) fn post(fields: &[(&str, &str)], body: String) -> http::Request<String> {
    let mut request = http::Request::post("/mcp")
        .header("content-type", "application/json")
        .header("accept", "application/json, text/event-stream");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(body).unwrap()
}

pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    body: Bytes,
}

impl Answered {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The messages of a stream of events.
    pub(crate) fn events(&self) -> Vec<Value> {
        assert_eq!(self.headers["content-type"], "text/event-stream");
        let text = self.text();
        text.lines()
            .filter_map(|line| line.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).unwrap())
            .collect()
    }
}

pub(crate) struct WebSocket(pub(crate) WebSocketStream<TcpStream>);

impl WebSocket {
    pub(crate) async fn send(&mut self, message: &Value) {
        self.send_text(message.to_string()).await;
    }

    pub(crate) async fn send_text(&mut self, text: String) {
        self.0.send(Message::text(text)).await.unwrap();
    }

    /// The next message that is no ping.
    pub(crate) async fn next(&mut self) -> Value {
        within(async {
            loop {
                match self.0.next().await.unwrap().unwrap() {
                    Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                    Message::Close(frame) => panic!("closed: {frame:?}"),
                    _ => {}
                }
            }
        })
        .await
    }

    pub(crate) async fn ask(&mut self, message: &Value) -> Value {
        self.send(message).await;
        self.next().await
    }

    /// The code with which the server closes.
    pub(crate) async fn close_code(&mut self) -> u16 {
        within(async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => return frame.code.into(),
                    Some(Ok(_)) => {}
                    other => panic!("no close frame: {other:?}"),
                }
            }
        })
        .await
    }
}

pub(crate) fn request(id: u64, method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

pub(crate) fn call(id: u64, tool: &str, arguments: Value) -> Value {
    request(id, "tools/call", json!({"name": tool, "arguments": arguments}))
}

pub(crate) fn initialize(version: &str) -> Value {
    let client = json!({"name": "test", "version": "1"});
    request(0, "initialize", json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client}))
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("nothing within {PATIENCE:?}"))
}
