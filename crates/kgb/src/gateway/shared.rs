//! What the exchanges of one listener share: the recorder, the ways, and what asks the upstreams.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::pace::Limits;
use super::proxy::Proxies;
use super::tls::{self, UpstreamTls};
use super::upstream::UpstreamClient;
use super::ways::Ways;
use super::workers::{self, Worker};
use crate::error::Result;
use crate::recorder::Recorder;

/// WebSockets at once.
const MAX_SOCKETS: usize = 1024;

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
    pub(super) ways: Box<dyn Ways>,
    /// One for each worker.
    clients: Vec<UpstreamClient>,
}

impl Forwarding {
    /// `patience`: for a connection.
    pub(crate) fn along(
        ways: impl Ways + 'static,
        tls: &UpstreamTls,
        proxies: &Proxies,
        patience: Duration,
    ) -> Result<Arc<Self>> {
        let tls = tls::client_config(tls, ways.any_https())?;
        let clients = (0..workers::count()).map(|_| UpstreamClient::new(tls.clone(), proxies, patience)).collect();
        Ok(Arc::new(Self { ways: Box::new(ways), clients }))
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

    pub(super) fn forwarding(&self) -> Arc<Forwarding> {
        self.forwarding.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
