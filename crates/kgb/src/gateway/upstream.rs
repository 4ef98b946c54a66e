//! The client side: pooled connections to the upstreams, HTTP/1.1 or, over TLS, HTTP/2 if the upstream offers it.
//!
//! Guaranteed: a connection attempt (DNS, TCP and TLS together) ends after [`CONNECT_TIMEOUT`]; a response may take as
//! long as it likes. Certificates are verified as the platform does; `SSL_CERT_FILE` and `SSL_CERT_DIR` are honoured
//! where the platform's roots are files. A request is sent again only if its pooled connection turned out to be closed
//! before a single byte of it was written.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use tower_service::Service;

use super::taps::RequestBody;

/// For DNS, TCP and TLS together.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
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

pub(super) type UpstreamClient = Client<Connector, RequestBody>;

/// Builds the client. Fails only if TLS is `needed` and the platform has no root certificates.
pub(super) fn client(tls_needed: bool) -> Result<UpstreamClient, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new()
        .with_tls_config(tls(tls_needed)?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp);
    let client = Client::builder(TokioExecutor::new())
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
        .build(Connector(https));
    Ok(client)
}

/// More than any API sends; hyper's own default is 100.
pub(super) const MAX_HEADERS: usize = 256;

fn tls(needed: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = || ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    match versions()?.try_with_platform_verifier() {
        Ok(config) => Ok(config.with_no_client_auth()),
        Err(error) if needed => Err(error),
        // Plain HTTP upstreams only, on a machine without certificates: nothing will ever be verified.
        Err(_) => Ok(versions()?.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()),
    }
}

/// The HTTPS connector with one deadline over all its steps: without it, an upstream that accepts the connection and
/// then says nothing during the TLS handshake would hold a request forever.
#[derive(Clone)]
pub(super) struct Connector(HttpsConnector<HttpConnector>);

type Connected = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
type BoxError = Box<dyn std::error::Error + Send + Sync>;

impl Service<Uri> for Connector {
    type Response = Connected;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Connected, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let in_time = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await;
            in_time.unwrap_or_else(|_| {
                let message = format!("no connection within {} s", CONNECT_TIMEOUT.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message).into())
            })
        })
    }
}

/// Every cause of an error, outermost first, in one line.
pub(super) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Whether the other side reset the connection.
pub(super) fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            return true;
        }
        cause = error.source();
    }
    false
}
