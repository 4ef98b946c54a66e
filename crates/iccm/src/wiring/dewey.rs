//! Dewey over a store, on an address of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use dewey::Dewey;
use mcp::{Hosts, Listener, ListenerConfig};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use winni::store::Store;

use crate::config::Config;

/// Dewey at work.
pub(crate) struct DeweyServer {
    address: SocketAddr,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl DeweyServer {
    /// Starts to serve. Does not wait for the database: calls are answered that it is not there yet.
    pub(crate) async fn start(config: &Config, store: Arc<dyn Store>) -> anyhow::Result<Self> {
        let address = config.checked_dewey_listen().map_err(anyhow::Error::msg)?;
        let folders = config.import_folders();
        for folder in &folders {
            // So that it can be found; what cannot be created is told when a file is asked for.
            if let Err(error) = std::fs::create_dir_all(folder) {
                tracing::debug!(%error, folder = %folder.display(), "cannot create an import folder");
            }
        }
        let dewey = Dewey::new(store, folders);
        let hosts = Hosts::loopback_and(config.allowed_hosts.value.iter().cloned());
        let grace = config.bounds.shutdown_grace.value;
        let listener_config = ListenerConfig { hosts, grace, ..ListenerConfig::default() };
        let listener = Listener::bind(address, listener_config, dewey.clone()).await.context("Dewey cannot start")?;
        let address = listener.local_addr();
        let (shutdown, mut tasks) = (CancellationToken::new(), JoinSet::new());
        tasks.spawn(listener.run(shutdown.clone()));
        tasks.spawn(dewey.keep_index(shutdown.clone()));
        Ok(Self { address, shutdown, tasks })
    }

    /// Where clients reach it over HTTP; over WebSocket it is the same with `ws`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, and lets those under way end within the grace period.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!("Dewey broke off: {error}");
            }
        }
    }
}
