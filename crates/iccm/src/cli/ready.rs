//! `iccm ready`: whether a gateway records, as an exit code. For health checks, where there may be no shell and no curl, and
//! for whoever must not start before it does.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::config::{Config, parse_upstream};

/// How long one question may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// The answer is short; what is longer is somebody else's.
const ANSWER_BYTES: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Args)]
pub(crate) struct ReadyArgs {
    /// The gateway's base URL [default: where gateway_listen says, on this machine]
    #[arg(value_name = "URL", value_parser = parse_upstream)]
    url: Option<Url>,
    /// Ask again for up to so many seconds, instead of once
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

pub(super) async fn run(args: ReadyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let base = args.url.map_or_else(|| own_gateway(config), |url| url.as_str().trim_end_matches('/').to_owned());
    if !base.starts_with("http://") {
        bail!("{base} is no gateway's address, which begins with http://");
    }
    let deadline = Instant::now() + Duration::from_secs(args.wait);
    loop {
        match is_ready(&base).await {
            Ok(()) => return Ok(ExitCode::SUCCESS),
            Err(_) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(why) => return Err(why),
        }
    }
}

/// Where a gateway of this configuration is reached from its own machine.
fn own_gateway(config: &Config) -> String {
    let mut address = config.gateway_listen.value.0;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    format!("http://{address}")
}

async fn is_ready(base: &str) -> anyhow::Result<()> {
    let answer = ask(&format!("{base}/ready")).await;
    let (status, body) = answer
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("no gateway answers at {base}; start it with iccm up, or name another address"))?;
    if status != StatusCode::OK {
        bail!("the gateway at {base} is not ready: {}", String::from_utf8_lossy(&body));
    }
    Ok(())
}

/// Asks a gateway for one of its own paths, without TLS.
pub(super) async fn ask(url: &str) -> Result<(StatusCode, Bytes), BoxError> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let asking = async {
        let response = client.get(url.parse()?).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
        Ok((status, body))
    };
    timeout(PATIENCE, asking).await.map_err(|_| format!("no answer within {} s", PATIENCE.as_secs()))?
}
