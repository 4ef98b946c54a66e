//! The listener: both transports on one address.
//!
//! | path | |
//! |---|---|
//! | `/mcp` | Streamable HTTP; WebSocket, if the request asks for it |
//! | `/` | WebSocket |
//! | `/health` | 200 while the server runs |

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::dispatch::Dispatcher;
use crate::front::{Front, Limits};
use crate::http_answer::{Body, json_text, not_allowed, refused};
use crate::message::INVALID_REQUEST;
use crate::service::Service;
use crate::streamable_http::sessions::Sessions;
use crate::{Error, Hosts, streamable_http, websocket};

/// After a failed accept (no descriptors left, most likely) the listener rests, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// An idle connection, or a head that does not come, is given up after so long.
const IDLE: Duration = Duration::from_secs(15 * 60);

/// How to serve.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Under which names the server may be reached.
    pub hosts: Hosts,
    /// What clients may take.
    pub limits: Limits,
    /// How long calls under way may go on after the shutdown began.
    pub grace: Duration,
}

impl Default for ListenerConfig {
    fn default() -> Self {
        Self { hosts: Hosts::default(), limits: Limits::default(), grace: Duration::from_secs(10) }
    }
}

/// A server that listens.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    config: ListenerConfig,
    service: Arc<dyn Service>,
}

impl Listener {
    /// Listens on an address; port 0 takes a free one.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(listen: SocketAddr, config: ListenerConfig, service: Arc<dyn Service>) -> Result<Self, Error> {
        let cannot_listen = |source| Error::Listen { address: listen, source };
        let socket = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        Ok(Self { address: socket.local_addr().map_err(cannot_listen)?, socket, config, service })
    }

    /// The address that clients reach.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets calls under way end within the grace period, then drops what is left.
    pub async fn run(self, shutdown: CancellationToken) {
        let front = Arc::new(Front {
            dispatcher: Dispatcher::new(self.service, shutdown.clone()),
            sessions: Sessions::default(),
            limits: self.config.limits,
            hosts: self.config.hosts,
            shutdown,
            cut: CancellationToken::new(),
            tasks: TaskTracker::new(),
        });
        front.shutdown.run_until_cancelled(accept_all(&self.socket, &front)).await;
        drop(self.socket);
        front.tasks.close();
        if tokio::time::timeout(self.config.grace, front.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = front.tasks.len(), "the grace period is over; calls under way are dropped");
            front.cut.cancel();
            front.tasks.wait().await;
        }
    }
}

async fn accept_all(socket: &TcpListener, front: &Arc<Front>) {
    let room = Arc::new(Semaphore::new(front.limits.connections));
    // Taken before there is a connection: who does not fit waits in the kernel's queue. Never closed.
    while let Ok(place) = room.clone().acquire_owned().await {
        match socket.accept().await {
            Ok((stream, _)) => {
                let serving = serve(front.clone(), stream);
                front.spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; if descriptors ran out, raise the limit (ulimit -n)");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(front: Arc<Front>, stream: TcpStream) {
    // Messages are small and waited for. Not needed for correctness.
    let _unset = stream.set_nodelay(true);
    let Ok(local) = stream.local_addr() else {
        return;
    };
    let shutdown = front.shutdown.clone();
    let service = service_fn(move |request| {
        let front = front.clone();
        async move { Ok::<_, Infallible>(route(front, local.ip(), request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client's connection ended early");
    }
}

async fn route(front: Arc<Front>, local: IpAddr, request: Request<Incoming>) -> Response<Body> {
    if let Err(refusal) = front.hosts.check(request.headers(), local) {
        tracing::warn!(refusal, "refused a request");
        return refused(StatusCode::FORBIDDEN, INVALID_REQUEST, &refusal);
    }
    let is_upgrade = websocket::is_asked_for(&request);
    match (request.uri().path(), request.method()) {
        ("/" | "/mcp", &Method::GET) if is_upgrade => websocket::upgrade(front, request),
        ("/mcp", &Method::POST) => streamable_http::post(front, request).await,
        ("/mcp", &Method::GET) => streamable_http::listen(&front, &request),
        ("/mcp", &Method::DELETE) => streamable_http::end_session(&front, &request),
        ("/mcp", _) => not_allowed("GET, POST, DELETE"),
        ("/health", &Method::GET | &Method::HEAD) => health(&front),
        ("/health", _) => not_allowed("GET, HEAD"),
        _ => refused(StatusCode::NOT_FOUND, INVALID_REQUEST, "nothing is here; MCP is at /mcp, and WebSocket at / too"),
    }
}

fn health(front: &Front) -> Response<Body> {
    let about = front.dispatcher.about();
    let health = json!({"status": "healthy", "name": about.name, "version": about.version});
    json_text(StatusCode::OK, health.to_string())
}
