//! The way to the providers: through the recorder's gateway, on loopback, by HTTP.
//!
//! The gateway does TLS, proxies and connection reuse, so that what is left here is a request and a body that is read.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// The recorder's gateway.
pub trait Gateway: Send + Sync {
    /// Where it listens.
    fn address(&self) -> SocketAddr;

    /// Makes sure that requests below `/PREFIX/` go to this base URL.
    ///
    /// # Errors
    /// If the gateway cannot forward there; what is wrong.
    fn route(&self, prefix: &str, base_url: &Url) -> Result<(), String>;
}

/// An answer under way; dropping it hangs up.
pub(crate) struct Exchange {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: AbortOnDropHandle<()>,
}

/// Sends a request. An error is one of the gateway's connection: nothing is known of the provider then.
pub(crate) async fn post(
    gateway: &dyn Gateway,
    path: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Exchange, String> {
    let address = gateway.address();
    let unreachable =
        |error: &dyn std::fmt::Display| format!("cannot reach the recorder's gateway at {address}: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| unreachable(&error))?;
    // Not needed for correctness.
    let _unset = stream.set_nodelay(true);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(&error))?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to the gateway ended early");
        }
    }));
    let mut request =
        Request::post(path).body(Full::new(body)).map_err(|error| format!("the path is wrong: {error}"))?;
    *request.headers_mut() = headers;
    let host = HeaderValue::from_str(&address.to_string()).map_err(|error| unreachable(&error))?;
    request.headers_mut().insert(header::HOST, host);
    let broke = |error: hyper::Error| format!("the connection broke before there was an answer: {error}");
    let response = sender.send_request(request).await.map_err(broke)?;
    Ok(Exchange { response, connection })
}
