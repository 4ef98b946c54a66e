//! Whether the upstream can be reached, in the way in which exchanges reach it.

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use super::cause::{advice, explain};
use super::config::GatewayConfig;
use super::tls;
use super::upstream::{Speaks, connector};
use crate::error::Error;

/// Why an upstream cannot be reached.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub struct Unreachable {
    /// All causes, in one line.
    pub why: String,
    /// What to do about it.
    pub advice: String,
}

/// Asks the upstream of a configuration for the head of its base path: through its proxies, with its certificates, and within its
/// time for a connection. Whatever the answer, it is one. Nothing is recorded.
pub async fn probe(config: &GatewayConfig) -> Result<StatusCode, Unreachable> {
    let refused = |error: Error| Unreachable { why: error.to_string(), advice: String::new() };
    let tls = tls::client_config(&config.tls, config.upstream.scheme() == "https").map_err(refused)?;
    let invalid = |error: http::uri::InvalidUri| Unreachable { why: error.to_string(), advice: String::new() };
    let uri: Uri = config.upstream.as_str().parse().map_err(invalid)?;
    let (connector, rules) = connector(tls, &config.proxies, config.connect_timeout, Speaks::Http);
    let mut request = Request::new(Empty::<Bytes>::new());
    if let Some(credentials) = rules.authorization(&uri) {
        request.headers_mut().insert(PROXY_AUTHORIZATION, credentials.clone());
    }
    *request.method_mut() = Method::HEAD;
    *request.uri_mut() = uri;
    request.headers_mut().insert(http::header::USER_AGENT, HeaderValue::from_static("iccm-doctor"));
    match Client::builder(TokioExecutor::new()).build(connector).request(request).await {
        Ok(response) => Ok(response.status()),
        Err(error) => Err(Unreachable { why: explain(&error), advice: advice(&error).to_owned() }),
    }
}
