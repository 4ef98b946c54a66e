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
//! A WebSocket is carried by the [spy](crate::spy)'s code, message by message on record.
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
pub(crate) mod body;
pub(crate) mod cause;
pub(crate) mod client_io;
mod connection;
mod credential;
pub(crate) mod forward;
mod framing;
pub(crate) mod hop;
mod own;
mod pace;
mod probe;
mod proxy;
pub(crate) mod refuse;
pub(crate) mod route;
mod strict;
pub(crate) mod taps;
mod tls;
pub(crate) mod upstream;
pub(crate) mod ways;
mod workers;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::{Error, Recorder, Result};
use credential::Credential;
pub use credential::PLACEHOLDER;
pub use pace::Limits;
pub use probe::{Unreachable, probe};
pub use proxy::Proxies;
pub use route::RouteError;
use route::Routes;
pub use tls::UpstreamTls;
use upstream::UpstreamClient;
use ways::Ways;
use workers::{Place, Worker, Workers};

/// WebSockets at once.
const MAX_SOCKETS: usize = 1024;

/// After a failed accept (no descriptors left, most likely) the listener rests, instead of spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Where to forward to, and how to stop.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Everything goes there whose first path segment names no provider.
    pub upstream: Url,
    /// Upstreams by first path segment; the segment is removed.
    pub providers: BTreeMap<String, Url>,
    /// The file of the credential that the default upstream gets in place of [`PLACEHOLDER`].
    pub credential_file: Option<PathBuf>,
    /// Certificates for the upstreams, beyond the platform's.
    pub tls: UpstreamTls,
    /// Proxies on the way to the upstreams.
    pub proxies: Proxies,
    /// How long a connection to an upstream may take: DNS, proxy, TCP and TLS together.
    pub connect_timeout: Duration,
    /// What clients may take.
    pub limits: Limits,
    /// How long running exchanges may go on after the shutdown began, before they are cut.
    pub grace: Duration,
}

impl GatewayConfig {
    /// One upstream, no providers, no proxies, the usual limits, 10 seconds for a connection and of grace.
    pub fn new(upstream: Url) -> Self {
        Self {
            upstream,
            providers: BTreeMap::new(),
            credential_file: None,
            tls: UpstreamTls::default(),
            proxies: Proxies::default(),
            connect_timeout: Duration::from_secs(10),
            limits: Limits::default(),
            grace: Duration::from_secs(10),
        }
    }
}

/// What all exchanges share.
pub(crate) struct Shared {
    pub(crate) recorder: Arc<Recorder>,
    /// Replaced as a whole: an exchange takes it once, and goes on with what it took.
    forwarding: RwLock<Arc<Forwarding>>,
    /// Places of the WebSockets; who finds none is refused.
    pub(crate) sockets: Arc<Semaphore>,
    /// After so long without a sign of it the peer of a WebSocket is gone.
    pub(crate) peer_silence: Duration,
}

/// Where requests go, and how.
pub(crate) struct Forwarding {
    ways: Ways,
    /// One for each worker.
    clients: Vec<UpstreamClient>,
}

impl Forwarding {
    fn new(config: &GatewayConfig) -> Result<Arc<Self>> {
        let credential = config.credential_file.as_deref().map(Credential::read).transpose()?;
        let routes = Routes::new(&config.upstream, &config.providers)?.with_credential(credential);
        Self::along(Ways::Model(routes), &config.tls, &config.proxies, config.connect_timeout)
    }

    pub(crate) fn along(ways: Ways, tls: &UpstreamTls, proxies: &Proxies, patience: Duration) -> Result<Arc<Self>> {
        let tls = tls::client_config(tls, ways.any_https())?;
        let clients = (0..workers::count()).map(|_| UpstreamClient::new(tls.clone(), proxies, patience)).collect();
        Ok(Arc::new(Self { ways, clients }))
    }

    /// What asks the upstreams from a worker.
    #[expect(clippy::indexing_slicing, reason = "there is one for each worker")]
    pub(crate) fn client(&self, worker: Worker) -> &UpstreamClient {
        &self.clients[worker.number()]
    }
}

impl Shared {
    pub(crate) fn new(recorder: Arc<Recorder>, forwarding: Arc<Forwarding>, limits: &Limits) -> Arc<Self> {
        let sockets = Arc::new(Semaphore::new(MAX_SOCKETS));
        let (forwarding, peer_silence) = (RwLock::new(forwarding), limits.peer_silence);
        Arc::new(Self { recorder, forwarding, sockets, peer_silence })
    }

    pub(crate) fn replace(&self, forwarding: Arc<Forwarding>) {
        *self.forwarding.write().unwrap_or_else(PoisonError::into_inner) = forwarding;
    }

    fn forwarding(&self) -> Arc<Forwarding> {
        self.forwarding.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Changes a gateway while it runs.
#[derive(Clone)]
pub struct GatewayHandle(Arc<Shared>);

impl GatewayHandle {
    /// From now on requests go where this configuration says: upstream, providers, certificates and proxies all at once,
    /// or, if there is an error, none of them. Exchanges under way end as they began, and no client's connection is
    /// touched. Limits and grace stay what they were.
    pub fn reload(&self, config: &GatewayConfig) -> Result<()> {
        self.0.replace(Forwarding::new(config)?);
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
        let shared = Shared::new(recorder, Forwarding::new(&config)?, &config.limits);
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

/// How connections, and the exchanges that share one, come to their end. Owns their tasks.
#[derive(Clone)]
pub(crate) struct Life {
    /// Nothing new is to begin.
    pub(crate) shutdown: CancellationToken,
    /// What is left is to stop where it is.
    cut: CancellationToken,
    tasks: TaskTracker,
    /// On whose thread all this happens.
    pub(crate) worker: Worker,
}

impl Life {
    /// Has a connection served in its place, which it keeps until it ends.
    fn carry<F>(&self, place: Place, room: OwnedSemaphorePermit, serve: impl FnOnce(Self) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let serving = serve(Self { worker: place.worker, ..self.clone() });
        let runtime = place.runtime.clone();
        let task = async move {
            serving.await;
            drop((place, room));
        };
        self.tasks.spawn_on(self.cut.clone().run_until_cancelled_owned(task), &runtime);
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Life {
    fn execute(&self, task: F) {
        self.tasks.spawn(self.cut.clone().run_until_cancelled_owned(task));
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
