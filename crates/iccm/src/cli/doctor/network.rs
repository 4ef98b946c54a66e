//! The port to listen on, and the upstream to forward to.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_rustls::{ConfigBuilderExt, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use super::Finding;
use crate::config::Config;

const PATIENCE: Duration = Duration::from_secs(5);
/// A health answer is short; what is longer is somebody else's.
const HEALTH_BYTES: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let (gateway, upstream) = tokio::join!(gateway(config), upstream(config));
    vec![gateway, upstream]
}

/// Whether the gateway could listen, or an `iccm` does already.
async fn gateway(config: &Config) -> Finding {
    const CHECK: &str = "gateway";
    let address = match config.checked_listen() {
        Ok(address) => address,
        Err(refusal) => return Finding::broken(CHECK, refusal, "correct gateway_listen"),
    };
    match TcpListener::bind(address).await {
        Ok(_) => Finding::good(CHECK, format!("{address} is free; iccm up would listen there")),
        Err(_) if is_iccm(address).await => Finding::good(CHECK, format!("an iccm is answering on {address}")),
        Err(error) => Finding::broken(
            CHECK,
            format!("cannot listen on {address}: {error}"),
            "stop what uses it, or choose another address with --gateway-listen (iccm run takes any free port)",
        ),
    }
}

async fn is_iccm(address: SocketAddr) -> bool {
    let Ok((status, body)) = ask(Method::GET, &format!("http://{address}/health")).await else {
        return false;
    };
    let health: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    status == StatusCode::OK && health.get("status").and_then(serde_json::Value::as_str) == Some("healthy")
}

/// Whether the upstream can be reached; that it answers is enough, as without a key it can only refuse.
async fn upstream(config: &Config) -> Finding {
    const CHECK: &str = "upstream";
    let url = &config.upstream.value;
    let origin = &config.upstream.origin;
    match ask(Method::HEAD, url.as_str()).await {
        Ok((status, _)) => Finding::good(CHECK, format!("{url} answers ({status}); set by: {origin}")),
        Err(error) => Finding::broken(
            CHECK,
            format!("cannot reach {url}: {}; set by: {origin}", explain(error.as_ref())),
            "check the network, the URL, and the CA certificates (SSL_CERT_FILE)",
        ),
    }
}

async fn ask(method: Method, url: &str) -> Result<(StatusCode, Bytes), BoxError> {
    let tls = match rustls::ClientConfig::builder().try_with_platform_verifier() {
        Ok(tls) => tls.with_no_client_auth(),
        // Plain HTTP on a machine without certificates: there is nothing to verify.
        Err(_) if url.starts_with("http:") => {
            rustls::ClientConfig::builder().with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth()
        }
        Err(error) => return Err(error.into()),
    };
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().build();
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let request =
        Request::builder().method(method).uri(url).header("user-agent", "iccm-doctor").body(Empty::<Bytes>::new())?;
    let asking = async {
        let response = client.request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), HEALTH_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    tokio::time::timeout(PATIENCE, asking).await.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
}

/// The causes of an error in one line, without the outermost if there is more: "client error (Connect)" helps nobody.
fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let error = error.source().unwrap_or(error);
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
