//! The spy: it stands between an agent and its MCP servers and puts every message on record before it is passed on.
//!
//! - `ws://HOST:PORT?upstream=NAME` is connected with the server of that name. A name that is not on the list of allowed
//!   ones is told so: close code 4001, and the list as the reason.
//! - `http://HOST:PORT/mcp/NAME` is the Streamable HTTP endpoint of that server.
//!
//! It is a second listener with ways of its own: the [gateway](crate::gateway)'s code forwards and records both. What is guaranteed
//! for a WebSocket, and what is refused, stands with `gateway::websocket`.

mod backends;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::gateway::shared::{Forwarding, Shared};
use crate::gateway::{Gateway, Limits, Proxies, UpstreamTls};
use crate::recorder::Recorder;
use backends::Backends;
pub use backends::{DEFAULT_SERVER, ServerUrls};

/// Which servers may be reached, and how to stop.
#[derive(Clone, Debug)]
pub struct SpyConfig {
    /// The allowed servers, by name.
    pub servers: BTreeMap<String, ServerUrls>,
    /// Certificates for the servers, beyond the platform's.
    pub tls: UpstreamTls,
    /// Proxies on the way to the servers.
    pub proxies: Proxies,
    /// What clients may take.
    pub limits: Limits,
    /// For a connection with a server: DNS, proxy, TCP and TLS together.
    pub connect_timeout: Duration,
    /// How long what runs may go on after the shutdown began.
    pub grace: Duration,
}

impl SpyConfig {
    /// These servers, no proxies, the usual limits, 10 seconds for a connection and of grace.
    pub fn new(servers: BTreeMap<String, ServerUrls>) -> Self {
        Self {
            servers,
            tls: UpstreamTls::default(),
            proxies: Proxies::default(),
            limits: Limits::default(),
            connect_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
        }
    }

    fn forwarding(&self) -> Result<Arc<Forwarding>> {
        Forwarding::along(Backends::new(&self.servers)?, &self.tls, &self.proxies, self.connect_timeout)
    }
}

/// A spy that listens.
pub struct Spy {
    listener: Gateway,
    shared: Arc<Shared>,
}

impl Spy {
    /// Listens on an address; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr, config: SpyConfig, recorder: Arc<Recorder>) -> Result<Self> {
        let shared = Shared::new(recorder, config.forwarding()?, &config.limits);
        let listener = Gateway::listen(listen, shared.clone(), config.limits, config.grace).await?;
        Ok(Self { listener, shared })
    }

    /// The address that clients reach.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// What changes it while it runs.
    pub fn handle(&self) -> SpyHandle {
        SpyHandle(self.shared.clone())
    }

    /// Serves until `shutdown`. Then WebSockets that have become quiet are closed with code 1001, running exchanges may
    /// end, and what is left after the grace period is cut.
    pub async fn run(self, shutdown: CancellationToken) {
        self.listener.run(shutdown).await;
    }
}

/// Changes a spy while it runs.
#[derive(Clone)]
pub struct SpyHandle(Arc<Shared>);

impl SpyHandle {
    /// From now on these servers may be reached; connections under way go on.
    pub fn reload(&self, config: &SpyConfig) -> Result<()> {
        self.0.replace(config.forwarding()?);
        Ok(())
    }
}
