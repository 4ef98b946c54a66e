//! The HTTP gateway: HTTP/1.1 in, HTTP/1.1 or HTTP/2 out, everything that passes on record.
//!
//! Guaranteed, for what passes through: bodies byte for byte in both directions, each chunk as soon as it is recorded;
//! end-to-end headers in their order and case, none added to a request, only `x-iccm-exchange-id` to a response; an
//! exchange that the upstream breaks off is broken off towards the client too, never ended properly; a client that hangs
//! up cancels the upstream's work. Memory does not grow with the size of a body.
//!
//! Refused: upgrades (501; `h2c` is ignored instead), CONNECT (501), and whatever cannot be recorded while policy says so (503), each
//! in the API's own error shape. Informational responses (1xx) are not passed on. Responses that end with the upstream's
//! connection (HTTP/1.0 style) are passed on chunked. A client that closes its sending half counts as gone, because it
//! cannot be told from one that hung up.

mod body;
mod cause;
mod client_io;
mod forward;
mod hop;
mod own;
mod proxy;
mod refuse;
mod route;
mod taps;
mod tls;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::{Error, Recorder, Result};
use client_io::{ClientIo, ClientState};
pub use proxy::Proxies;
pub use route::RouteError;
use route::Routes;
pub use tls::UpstreamTls;
use upstream::{MAX_HEADERS, UpstreamClient};

/// A head may have this size; with more the client is answered 431.
const MAX_HEAD_BYTES: usize = 256 * 1024;
/// Read and write buffer of a client's connection, at most.
const BUFFER_BYTES: usize = 256 * 1024;
/// After a failed accept (no descriptors left, most likely) the listener rests, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where to forward to, and how to stop.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Everything goes there whose first path segment names no provider.
    pub upstream: Url,
    /// Upstreams by first path segment; the segment is removed.
    pub providers: BTreeMap<String, Url>,
    /// Certificates for the upstreams, beyond the platform's.
    pub tls: UpstreamTls,
    /// Proxies on the way to the upstreams.
    pub proxies: Proxies,
    /// How long running exchanges may go on after the shutdown began, before they are cut.
    pub grace: Duration,
}

impl GatewayConfig {
    /// One upstream, no providers, no proxies, 10 seconds of grace.
    pub fn new(upstream: Url) -> Self {
        Self {
            upstream,
            providers: BTreeMap::new(),
            tls: UpstreamTls::default(),
            proxies: Proxies::default(),
            grace: Duration::from_secs(10),
        }
    }
}

/// What all exchanges share.
struct Shared {
    recorder: Arc<Recorder>,
    routes: Routes,
    client: UpstreamClient,
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    grace: Duration,
}

impl Gateway {
    /// Listens on an address; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr, config: GatewayConfig, recorder: Arc<Recorder>) -> Result<Self> {
        let routes = Routes::new(&config.upstream, &config.providers)?;
        let tls = tls::client_config(&config.tls, routes.any_https())?;
        let client = UpstreamClient::new(tls, &config.proxies);
        let cannot_listen = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        Ok(Self {
            address: listener.local_addr().map_err(cannot_listen)?,
            listener,
            shared: Arc::new(Shared { recorder, routes, client }),
            grace: config.grace,
        })
    }

    /// The address that clients reach.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets running exchanges end within the grace period, then cuts what is left. When it
    /// returns, every exchange has its end on record.
    pub async fn run(self, shutdown: CancellationToken) {
        let connections = TaskTracker::new();
        let cut = CancellationToken::new();
        let accepting = async {
            loop {
                if let Some(stream) = accept(&self.listener).await {
                    let connection = serve(self.shared.clone(), stream, shutdown.clone());
                    connections.spawn(cut.clone().run_until_cancelled_owned(connection));
                }
            }
        };
        shutdown.run_until_cancelled(accepting).await;
        drop(self.listener);
        connections.close();
        if tokio::time::timeout(self.grace, connections.wait()).await.is_err() {
            tracing::warn!(connections = connections.len(), "the grace period is over; running exchanges are cut");
            self.shared.recorder.cut_running();
            cut.cancel();
            connections.wait().await;
        }
    }
}

async fn accept(listener: &TcpListener) -> Option<TcpStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection; if descriptors ran out, raise the limit (ulimit -n)");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One client's connection. Dropping this future cuts it.
async fn serve(shared: Arc<Shared>, stream: TcpStream, shutdown: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn off Nagle's algorithm");
    }
    let client = Arc::new(ClientState::default());
    let io = ClientIo::new(stream, client.clone());
    let service = service_fn(move |request| forward::exchange(shared.clone(), client.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .preserve_header_case(true)
        .auto_date_header(false)
        .half_close(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(io, service);
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
