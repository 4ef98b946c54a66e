//! The ports to listen on, and the upstream to forward to.

use std::net::SocketAddr;

use http::StatusCode;
use tokio::net::TcpListener;

use super::Finding;
use crate::cli::ready::{PATIENCE, ask};
use crate::config::Config;
use crate::wiring::gateway_config;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let elsewhere = "stop what uses it, or choose another address with --gateway-listen (iccm run takes any free port)";
    let gateway = port("gateway", config.checked_listen(), "correct gateway_listen", elsewhere);
    let elsewhere = "stop what uses it, or choose another address with --dewey-listen";
    let dewey = port("dewey", config.checked_dewey_listen(), "correct dewey_listen", elsewhere);
    let (gateway, dewey, upstream) = tokio::join!(gateway, dewey, upstream(config));
    vec![gateway, dewey, upstream]
}

/// Whether a part could listen, or an `iccm` does already.
async fn port(
    check: &'static str,
    address: Result<SocketAddr, String>,
    correct: &'static str,
    elsewhere: &'static str,
) -> Finding {
    let address = match address {
        Ok(address) => address,
        Err(refusal) => return Finding::broken(check, refusal, correct),
    };
    match TcpListener::bind(address).await {
        Ok(_) => Finding::good(check, format!("{address} is free; iccm up would listen there")),
        Err(_) if is_iccm(address).await => Finding::good(check, format!("an iccm is answering on {address}")),
        Err(error) => Finding::broken(check, format!("cannot listen on {address}: {error}"), elsewhere),
    }
}

async fn is_iccm(address: SocketAddr) -> bool {
    let Ok((status, body)) = ask(&format!("http://{address}/health")).await else {
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
    // As exchanges reach it: through the proxies, with the certificates.
    let gateway = gateway_config(config);
    match tokio::time::timeout(PATIENCE, kgb::gateway::probe(&gateway)).await {
        Ok(Ok(status)) => Finding::good(CHECK, format!("{url} answers ({status}); set by: {origin}")),
        Ok(Err(error)) => {
            Finding::broken(CHECK, format!("cannot reach {url}: {error}; set by: {origin}"), error.advice.clone())
        }
        Err(_) => Finding::broken(
            CHECK,
            format!("{url} gives no answer within {} s; set by: {origin}", PATIENCE.as_secs()),
            "check the network and the URL",
        ),
    }
}
