//! The spy: it stands between an agent and its MCP servers and puts every message on record before it is passed on.
//!
//! - `ws://HOST:PORT?upstream=NAME` is connected with the server of that name. A name that is not on the list of allowed
//!   ones is told so: close code 4001, and the list as the reason.
//! - `http://HOST:PORT/mcp/NAME` is the Streamable HTTP endpoint of that server: the [gateway](crate::gateway)'s code
//!   forwards and records it.
//! - A WebSocket through the gateway is carried and recorded by the same code.
//!
//! Guaranteed, for a WebSocket: the HTTP heads pass, and behind them every byte of both directions as it came, masks,
//! fragmentation, pings, close codes and violations of the protocol included; what one side's TCP shows (end, reset) the
//! other side's shows too. Each message is a record of its own, with its exact bytes, however large; memory does not grow
//! with it. Back-pressure goes through: nothing is read that is not passed on. A peer that is gone without a word is found
//! by TCP (after two minutes, or what [`Limits::peer_silence`] says), which changes nothing in the stream.
//!
//! Two things are not as without the spy. The offer of an extension (`permessage-deflate`) is taken out of the request, so
//! that what passes can be read; and the subprotocol `mcp` is answered when it was offered, whether the server does so or
//! not, because there are clients that hang up without it.
//!
//! Refused: reconnecting, queueing, repairing. A connection that breaks is the client's to open again.

mod backends;
mod handshake;
mod pump;
mod socket;
mod tap;
mod turn_away;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use url::Url;

use crate::gateway::ways::Ways;
use crate::gateway::{Forwarding, Gateway, Limits, Proxies, Shared, UpstreamTls};
use crate::{Recorder, Result};
pub(crate) use backends::{Backends, Server, Stray};
pub(crate) use handshake::{Call, carry};
pub(crate) use turn_away::turn_away;

/// The server of a client that names none.
pub const DEFAULT_SERVER: &str = "fiedler";

/// Where a server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerUrls {
    /// `ws://` or `wss://`.
    pub websocket: Option<Url>,
    /// `http://` or `https://`: its Streamable HTTP endpoint.
    pub http: Option<Url>,
}

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
        Forwarding::along(Ways::Servers(Backends::new(&self.servers)?), &self.tls, &self.proxies, self.connect_timeout)
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
