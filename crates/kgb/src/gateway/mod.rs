//! The HTTP gateway: HTTP/1.1 or HTTP/2 in, HTTP/1.1 or HTTP/2 out, everything that passes on record.
//!
//! Guaranteed, for what passes through: bodies byte for byte in both directions, each chunk as soon as it is recorded;
//! end-to-end headers in their order and case, none added to a request, only `x-iccm-exchange-id` to a response; an
//! exchange that the upstream breaks off is broken off towards the client too (with HTTP/2 its stream), never ended
//! properly; a client that hangs up cancels the upstream's work. Memory does not grow with the size of a body.
//!
//! One header may change on the way: where a client sent the [word](PLACEHOLDER) for it, the default upstream gets the credential
//! that lives with the gateway.
//!
//! A WebSocket is carried byte for byte, message by message on record (`gateway::websocket`).
//!
//! Refused, in the API's own error shape: other upgrades (501; `h2c` is ignored instead), requests that are meant for
//! somebody else (501; it is no forward proxy), requests that others could understand in another way (400; the connection is closed), and whatever cannot be recorded while policy says so
//! (503). What is malformed is answered without a body, counted (`iccm_malformed_requests_total`) and not recorded: there is
//! no exchange.
//!
//! Informational responses (1xx) are not passed on. Responses that end with the upstream's connection (HTTP/1.0 style)
//! are passed on chunked. Trailers pass where the message announces them (`Trailer`). A client that closes its sending
//! half counts as gone, because it cannot be told from one that hung up.

mod addressee;
mod answer;
pub(crate) mod asked;
mod body;
mod cause;
mod client_io;
mod config;
mod connection;
mod credential;
mod forward;
mod framing;
pub(crate) mod hop;
mod life;
mod own;
mod pace;
mod probe;
mod proxy;
mod refuse;
pub(crate) mod route;
pub(crate) mod shared;
mod strict;
mod taps;
mod tls;
mod upstream;
pub(crate) mod ways;
mod websocket;
mod workers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use crate::error::RouteError;
use crate::error::{Error, Result};
use crate::recorder::Recorder;
pub use config::GatewayConfig;
pub use credential::PLACEHOLDER;
use life::Life;
pub use pace::Limits;
pub use probe::{Unreachable, probe};
pub use proxy::Proxies;
use shared::Shared;
pub use tls::UpstreamTls;
use workers::{Worker, Workers};

/// After a failed accept (no descriptors left, most likely) the listener rests, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Changes a gateway while it runs.
#[derive(Clone)]
pub struct GatewayHandle(Arc<Shared>);

impl GatewayHandle {
    /// From now on requests go where this configuration says: upstream, providers, certificates and proxies all at once,
    /// or, if there is an error, none of them. Exchanges under way end as they began, and no client's connection is
    /// touched. Limits and grace stay what they were.
    pub fn reload(&self, config: &GatewayConfig) -> Result<()> {
        self.0.replace(config.forwarding()?);
        Ok(())
    }
}

/// A gateway that listens.
pub struct Gateway {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    workers: Workers,
    limits: Limits,
    grace: Duration,
}

impl Gateway {
    /// Listens on an address; port 0 takes a free one.
    pub async fn bind(listen: SocketAddr, config: GatewayConfig, recorder: Arc<Recorder>) -> Result<Self> {
        let shared = Shared::new(recorder, config.forwarding()?, &config.limits);
        Self::listen(listen, shared, config.limits, config.grace).await
    }

    /// Serves whatever `shared` says on an address.
    pub(crate) async fn listen(
        listen: SocketAddr,
        shared: Arc<Shared>,
        limits: Limits,
        grace: Duration,
    ) -> Result<Self> {
        let cannot_listen = |source| Error::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let workers = Workers::start().map_err(Error::Threads)?;
        Ok(Self { listener, address, shared, workers, limits, grace })
    }

    /// The address that clients reach.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What changes it while it runs.
    pub fn handle(&self) -> GatewayHandle {
        GatewayHandle(self.shared.clone())
    }

    /// Serves until `shutdown`, then lets running exchanges end within the grace period, then cuts what is left. When it
    /// returns, every exchange has its end on record.
    pub async fn run(self, shutdown: CancellationToken) {
        let (cut, tasks) = (CancellationToken::new(), TaskTracker::new());
        let life = Life { shutdown, cut, tasks, worker: Worker::default() };
        let room = Arc::new(Semaphore::new(self.limits.connections));
        let accepting = async {
            // Taken before there is a connection: who does not fit waits in the kernel's queue. Never closed.
            while let Ok(room) = room.clone().acquire_owned().await {
                if let Some(stream) = accept(&self.listener).await {
                    life.carry(self.workers.place(), room, |life| {
                        connection::serve(self.shared.clone(), stream, self.limits, life)
                    });
                }
            }
        };
        life.shutdown.run_until_cancelled(accepting).await;
        drop(self.listener);
        life.tasks.close();
        if tokio::time::timeout(self.grace, life.tasks.wait()).await.is_err() {
            tracing::warn!(tasks = life.tasks.len(), "the grace period is over; running exchanges are cut");
            self.shared.recorder.cut_running();
            life.cut.cancel();
            life.tasks.wait().await;
        }
        self.workers.stop().await;
    }
}

/// The next connection, which belongs to no runtime yet.
async fn accept(listener: &TcpListener) -> Option<std::net::TcpStream> {
    match listener.accept().await.and_then(|(stream, _)| stream.into_std()) {
        Ok(stream) => Some(stream),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection; if descriptors ran out, raise the limit (ulimit -n)");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}
