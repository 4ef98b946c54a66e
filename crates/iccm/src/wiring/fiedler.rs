//! Fiedler over a gateway and a store, on an address of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context;
use fiedler::{Fiedler, Server};
use mcp::{Hosts, Listener, ListenerConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Addresses, Running};
use crate::config::{Config, Origin};

/// Fiedler's folder in the data folder.
const FOLDER: &str = "fiedler";

/// Fiedler at work.
pub(crate) struct FiedlerServer {
    address: SocketAddr,
    fiedler: Arc<Fiedler>,
    shutdown: CancellationToken,
    serving: JoinHandle<()>,
}

/// Fiedler without a listener, whose requests a recorder puts on record.
pub(crate) fn orchestra(config: &Config, running: &Running) -> anyhow::Result<Arc<Fiedler>> {
    let env = config.environment().clone();
    let fiedler_config = fiedler::Config {
        home: config.data_dir.value.join(FOLDER),
        file_folders: config.fiedler_folders(),
        key_file: config.fiedler_key_file(),
        variables: Box::new(move |name| env.text(name).map(str::to_owned)),
    };
    Ok(Fiedler::new(fiedler_config, running.routes(), running.store())?)
}

/// Where the recorder of a Fiedler alone listens: nobody else need find its gateway.
pub(crate) fn private_addresses(config: &Config) -> anyhow::Result<Addresses> {
    let gateway = match config.gateway_listen.origin {
        Origin::Default => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        _ => config.checked_listen().map_err(anyhow::Error::msg)?,
    };
    Ok(Addresses { gateway, spy: None })
}

impl FiedlerServer {
    /// Starts to serve.
    pub(crate) async fn start(config: &Config, running: &Running) -> anyhow::Result<Self> {
        let address = config.checked_fiedler_listen().map_err(anyhow::Error::msg)?;
        let fiedler = orchestra(config, running).context("Fiedler cannot start")?;
        let hosts = Hosts::loopback_and(config.allowed_hosts.value.iter().cloned());
        let grace = config.bounds.shutdown_grace.value;
        let listener_config = ListenerConfig { hosts, grace, ..ListenerConfig::default() };
        let service = Arc::new(Server(fiedler.clone()));
        let listener = Listener::bind(address, listener_config, service).await.context("Fiedler cannot start")?;
        let address = listener.local_addr();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(listener.run(shutdown.clone()));
        Ok(Self { address, fiedler, shutdown, serving })
    }

    /// Where clients reach it over HTTP; over WebSocket it is the same with `ws`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, lets those under way end within the grace period, and has the rest written down. Before the
    /// gateway stops, through which they speak.
    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.serving.await {
            tracing::error!("Fiedler broke off: {error}");
        }
        self.fiedler.finish().await;
    }
}
