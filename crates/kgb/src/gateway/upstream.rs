//! The client side: pooled connections to the upstreams, HTTP/1.1 or, over TLS, HTTP/2 if the upstream offers it.
//!
//! Guaranteed: a connection attempt (DNS, proxy, TCP and TLS together) ends after the configured time; a response may take as
//! long as it likes. A request is sent again only if its pooled connection turned out to be closed before a single byte of
//! it was written.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::PROXY_AUTHORIZATION;
use http::{Request, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower_service::Service;

use super::proxy::{Proxies, ProxyRules, Via, Way};
use super::taps::RequestBody;

/// Kept below what servers and the boxes in between commonly allow, so that we are the ones who close.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(50);
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// Read and write buffer of one HTTP/1.1 connection, at most.
const HTTP1_BUFFER_BYTES: usize = 256 * 1024;
/// What one slow client can make an HTTP/2 connection hold for it.
const HTTP2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const HTTP2_CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const HTTP2_SEND_BUFFER_BYTES: usize = 256 * 1024;
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(30);

/// Asks the upstreams.
pub(crate) struct UpstreamClient {
    client: Client<Connector, RequestBody>,
    /// Makes connections for one client each, on which HTTP/1.1 is spoken.
    sockets: Connector,
    rules: Arc<ProxyRules>,
}

impl UpstreamClient {
    /// `patience`: for a connection.
    pub(super) fn new(tls: ClientConfig, proxies: &Proxies, patience: Duration) -> Self {
        let (sockets, rules) = connector(tls.clone(), proxies, patience, Speaks::Http1InTunnels);
        let (connector, _) = connector(tls, proxies, patience, Speaks::Http);
        Self { client: client(connector), sockets, rules }
    }

    /// Sends a request, which is on record; what a proxy needs beside it is not.
    pub(super) fn request(&self, mut request: Request<RequestBody>) -> ResponseFuture {
        if let Some(credentials) = self.rules.authorization(request.uri()) {
            request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
        }
        self.client.request(request)
    }
}

/// What is spoken on the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// HTTP of either version.
    Http,
    /// HTTP/1.1, and then something else: whatever is on the way must not look at it.
    Http1InTunnels,
}

/// What makes connections, and what the way through proxies is.
pub(super) fn connector(
    tls: ClientConfig,
    proxies: &Proxies,
    patience: Duration,
    speaks: Speaks,
) -> (Connector, Arc<ProxyRules>) {
    let rules = Arc::new(ProxyRules::new(proxies));
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_connect_timeout(Some(patience));
    let https = || HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
    let way = Way::new(tcp.clone(), https().enable_http1().wrap_connector(tcp), rules.clone());
    let https = match speaks {
        Speaks::Http => https().enable_all_versions().wrap_connector(way),
        Speaks::Http1InTunnels => https().enable_http1().wrap_connector(way.with_tunnels_only()),
    };
    (Connector { https, patience }, rules)
}

impl UpstreamClient {
    /// A connection that nobody else gets, to speak HTTP/1.1 on.
    pub(crate) async fn connect(&self, uri: Uri) -> Result<Connected, BoxError> {
        self.sockets.clone().call(uri).await
    }
}

fn client(connector: Connector) -> Client<Connector, RequestBody> {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .http1_preserve_header_case(true)
        .http1_max_buf_size(HTTP1_BUFFER_BYTES)
        .http1_max_headers(MAX_HEADERS)
        .http2_initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .http2_max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
        .http2_keep_alive_interval(HTTP2_PING_INTERVAL)
        .set_host(false)
        .build(connector)
}

/// More than any API sends; hyper's own default is 100.
pub(super) const MAX_HEADERS: usize = 256;

/// The HTTPS connector with one deadline over all its steps: without it, an upstream that accepts the connection and
/// then says nothing during the TLS handshake would hold a request forever.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Way>,
    patience: Duration,
}

/// A connection to an upstream.
pub(crate) type Connected = MaybeHttpsStream<Via>;
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, patience) = (self.https.call(uri), self.patience);
        Box::pin(async move {
            let in_time = tokio::time::timeout(patience, connecting).await;
            in_time.unwrap_or_else(|_| {
                let message = format!("no connection within {} s", patience.as_secs_f32());
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })
        })
    }
}
