//! TCP and TLS for the transports that use a network.

use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::net::TcpStream;
use tower_service::Service;

use super::Failure;

/// For name, TCP and TLS together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A peer that is silent for so long is asked by TCP whether it is still there; half a minute later it counts as gone. A
/// backend may well be busy for longer than that, but then its kernel answers.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 6;
/// Kept below what servers commonly allow, so that we are the ones who close.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(4);
const USER_TIMEOUT: Duration = Duration::from_secs(50);

pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Opens connections.
#[derive(Clone, Debug)]
pub(crate) struct Connector(HttpsConnector<HttpConnector>);

impl Connector {
    /// Certificates are verified as the platform does it. A machine without any will do for backends without TLS.
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = match versions.clone().with_platform_verifier() {
            Ok(trusting) => trusting.with_no_client_auth(),
            Err(error) => {
                tracing::debug!(%error, "no certificates on this machine: https and wss will not work");
                versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
            }
        };
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
        Ok(Self(HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(tcp)))
    }

    /// A client with a pool of such connections.
    pub(crate) fn http_client(&self) -> Client<HttpsConnector<HttpConnector>, Full<Bytes>> {
        Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .build(self.0.clone())
    }

    /// A connection to the host of `uri` (scheme http or https).
    pub(crate) async fn connect(&self, uri: Uri) -> Result<Stream, Failure> {
        let place = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut connector = self.0.clone();
        match tokio::time::timeout(CONNECT_TIMEOUT, connector.call(uri)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Failure::passing(format!("cannot connect to {place}: {}", cause(&*error)))),
            Err(_) => Err(Failure::passing(format!("no connection to {place} within {} s", CONNECT_TIMEOUT.as_secs()))),
        }
    }
}

/// An error and what led to it, in one line.
pub(crate) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(inner) = next {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        next = inner.source();
    }
    text
}
