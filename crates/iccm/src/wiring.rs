//! The one place where the parts meet: recorder, gateway, spy, drain and store, Dewey and Fiedler.
//!
//! Order matters. The gateway and the spy are bound before anything is said to be ready; the recorder lives before they serve;
//! the store may come whenever it can. At the end it goes the other way round: no more traffic, the life ended, the rest
//! drained.

pub(crate) mod dewey;
pub(crate) mod fiedler;
mod late_store;
pub(crate) mod pending;
pub(crate) mod relay_tap;
mod routes;
mod spies;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::fiedler::Gateway as _;
use anyhow::Context;
use kgb::drain::{Drain, DrainHandle};
use kgb::gateway::{Gateway, GatewayConfig, Limits, UpstreamTls};
use kgb::spy::{Spy, SpyConfig, SpyHandle};
use kgb::{Recorder, RecorderConfig};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use winni::store::Store;

pub(crate) use self::late_store::LateStore;
use self::routes::Routes;
use self::spies::Announced;
use crate::config::{Config, Origin};

/// How long the end waits for the database: long enough for a long session, short enough for whoever waits at a prompt. What
/// is left stays in the spool.
const DRAIN_PATIENCE: Duration = Duration::from_secs(15);
/// The same while the database has not even been opened.
const OPEN_PATIENCE: Duration = Duration::from_secs(2);

/// The folder below the data folder that holds every recorder's folder.
pub(crate) fn spool_root(data_dir: &Path) -> PathBuf {
    RecorderConfig::new(data_dir).spool_root()
}

/// A recorder at work.
pub(crate) struct Running {
    recorder: Arc<Recorder>,
    routes: Arc<Routes>,
    spy: Option<(SocketAddr, SpyHandle)>,
    /// There while the spy may be found.
    announced: Option<Announced>,
    serving: Vec<JoinHandle<()>>,
    shutdown: CancellationToken,
    drain: DrainHandle,
    store: Arc<LateStore>,
}

/// What is left when a recorder has stopped.
pub(crate) struct Stopped {
    pub(crate) store: Arc<dyn Store>,
    /// Whether everything that was recorded is stored.
    pub(crate) is_drained: bool,
}

/// Where to listen.
pub(crate) struct Addresses {
    pub(crate) gateway: SocketAddr,
    /// Without one there is no spy.
    pub(crate) spy: Option<SocketAddr>,
}

/// Starts to record: from now on the addresses answer. Does not wait for the database, and does not fail with it.
pub(crate) async fn start(config: &Config, listen: Addresses) -> anyhow::Result<Running> {
    let data_dir = &config.data_dir.value;
    std::fs::create_dir_all(data_dir).with_context(|| {
        format!("cannot create the data folder {}; choose another one with --data-dir", data_dir.display())
    })?;
    let recording = recorder_config(config);
    let root = recording.spool_root();
    let recorder = Recorder::start(recording)?;
    let (gateway, spy) = match bind(config, &listen, &recorder).await {
        Ok(bound) => bound,
        Err(error) => {
            // Nothing passed; a life without an end would look like a crash to whoever reads the record.
            recorder.end_life()?;
            return Err(error.into());
        }
    };
    let store = Arc::new(LateStore::open(config.database_url.value.clone(), data_dir.clone()));
    let drain = Drain::spawn(store.clone(), root, recorder.clone());
    let shutdown = CancellationToken::new();
    let routes = Arc::new(Routes::new(gateway.local_addr(), gateway.handle(), gateway_config(config)));
    let mut serving = vec![tokio::spawn(gateway.run(shutdown.clone()))];
    let announced = spy.as_ref().and_then(|spy| announce(data_dir, &recorder, spy.local_addr()));
    let spy = spy.map(|spy| {
        let at = (spy.local_addr(), spy.handle());
        serving.push(tokio::spawn(spy.run(shutdown.clone())));
        at
    });
    Ok(Running { recorder, routes, spy, announced, serving, shutdown, drain, store })
}

/// Lets relays that record into the same data folder know of the spy. Without that they record what it records, too.
fn announce(data_dir: &Path, recorder: &Recorder, spy: SocketAddr) -> Option<Announced> {
    let announced = spies::announce(data_dir, recorder.spool().recorder().0, spy);
    announced.inspect_err(|error| tracing::warn!(%error, "a relay that records will not know the spy")).ok()
}

fn recorder_config(config: &Config) -> RecorderConfig {
    RecorderConfig {
        durability: config.durability.value,
        when_spool_full: config.when_spool_full.value,
        segment_bytes: config.bounds.spool_segment_bytes.value,
        max_spool_bytes: config.bounds.spool_max_bytes.value,
        ..RecorderConfig::new(&config.data_dir.value)
    }
}

/// Gateway and spy. A spy whose address nobody chose gives way to whoever is there already: the gateway is what most come
/// for.
async fn bind(
    config: &Config,
    listen: &Addresses,
    recorder: &Arc<Recorder>,
) -> Result<(Gateway, Option<Spy>), kgb::Error> {
    let gateway = Gateway::bind(listen.gateway, gateway_config(config), recorder.clone()).await?;
    let Some(address) = listen.spy else { return Ok((gateway, None)) };
    match Spy::bind(address, spy_config(config), recorder.clone()).await {
        Ok(spy) => Ok((gateway, Some(spy))),
        Err(error @ kgb::Error::Listen { .. }) if config.servers.spy_listen.origin == Origin::Default => {
            tracing::warn!("going on without the spy: {error}, or set spy_listen (--spy-listen)");
            Ok((gateway, None))
        }
        Err(error) => Err(error),
    }
}

/// Which servers the spy connects to, in the way in which the gateway reaches its upstreams.
fn spy_config(config: &Config) -> SpyConfig {
    let GatewayConfig { tls, proxies, connect_timeout, limits, grace, .. } = gateway_config(config);
    SpyConfig { servers: config.allowed_servers(), tls, proxies, connect_timeout, limits, grace }
}

/// Where the gateway forwards to, and what its clients may take.
pub(crate) fn gateway_config(config: &Config) -> GatewayConfig {
    let providers = config.providers.iter().map(|(name, url)| (name.clone(), url.value.clone())).collect();
    let tls = UpstreamTls {
        ca_file: config.upstream_ca_file.value.clone(),
        client_cert: config.upstream_client_cert.value.clone(),
        client_key: config.upstream_client_key.value.clone(),
    };
    let bounds = &config.bounds;
    GatewayConfig {
        providers,
        credential_file: config.upstream_credential_file.value.clone(),
        tls,
        proxies: config.proxies.clone(),
        connect_timeout: bounds.connect_timeout.value,
        limits: Limits {
            header_read: bounds.header_timeout.value,
            idle: bounds.idle_timeout.value,
            connections: bounds.max_connections.value,
            peer_silence: bounds.peer_timeout.value,
        },
        grace: bounds.shutdown_grace.value,
        ..GatewayConfig::new(config.upstream.value.clone())
    }
}

impl Running {
    /// Where clients reach the gateway.
    pub(crate) fn address(&self) -> SocketAddr {
        self.routes.address()
    }

    /// The gateway, for those who send their own requests through it.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        self.routes.clone()
    }

    /// Where clients reach the spy, if there is one.
    pub(crate) fn spy_address(&self) -> Option<SocketAddr> {
        self.spy.as_ref().map(|(address, _)| *address)
    }

    /// Sends requests from now on where this configuration says; what else it says needs a restart.
    pub(crate) fn reload(&self, config: &Config) -> Result<(), kgb::Error> {
        self.routes.reload(gateway_config(config))?;
        self.spy.iter().try_for_each(|(_, spy)| spy.reload(&spy_config(config)))
    }

    /// The store, which may not be open yet.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// Which recorder this is in the record.
    pub(crate) fn recorder_id(&self) -> Uuid {
        self.recorder.spool().recorder().0
    }

    /// Waits until the database is open, at most so long; if it is not, why.
    pub(crate) async fn database_opens_within(&self, patience: Duration) -> Result<(), String> {
        if self.store.opened_within(patience).await { Ok(()) } else { Err(self.store.why_not_open()) }
    }

    /// Takes no more requests, lets running ones end within the gateway's grace, ends the life and drains.
    pub(crate) async fn stop(self) -> Stopped {
        self.shutdown.cancel();
        drop(self.announced);
        for serving in self.serving {
            if let Err(error) = serving.await {
                tracing::error!("a listener broke off: {error}");
            }
        }
        if let Err(error) = self.recorder.end_life() {
            tracing::error!("cannot end the recording in an orderly way, the next start does it: {error}");
        }
        let patience = if self.store.opened_within(OPEN_PATIENCE).await { DRAIN_PATIENCE } else { Duration::ZERO };
        let is_drained = self.drain.shutdown(patience).await;
        Stopped { store: self.store, is_drained }
    }
}
