//! What is to be said of a gateway before it listens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::credential::Credential;
use super::pace::Limits;
use super::proxy::Proxies;
use super::route::Routes;
use super::shared::Forwarding;
use super::tls::UpstreamTls;
use crate::error::Result;

/// Where to forward to, and how to stop.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Everything goes there whose first path segment names no provider.
    pub upstream: Url,
    /// Upstreams by first path segment; the segment is removed.
    pub providers: BTreeMap<String, Url>,
    /// The file of the credential that the default upstream gets in place of [`PLACEHOLDER`](super::PLACEHOLDER).
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

    pub(super) fn forwarding(&self) -> Result<Arc<Forwarding>> {
        let credential = self.credential_file.as_deref().map(Credential::read).transpose()?;
        let routes = Routes::new(&self.upstream, &self.providers)?.with_credential(credential);
        Forwarding::along(routes, &self.tls, &self.proxies, self.connect_timeout)
    }
}
