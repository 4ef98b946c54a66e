//! The gateway's providers: those that are configured, and those that Fiedler's models bring along.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use fiedler::Gateway;
use kgb::gateway::{GatewayConfig, GatewayHandle};
use url::Url;

/// Where the gateway forwards to. What is configured and what is brought along change independently of each other.
pub(crate) struct Routes {
    address: SocketAddr,
    gateway: GatewayHandle,
    state: Mutex<State>,
}

struct State {
    configured: GatewayConfig,
    brought: BTreeMap<String, Url>,
}

impl State {
    fn together(&self) -> GatewayConfig {
        let mut all = self.configured.clone();
        // What the operator configured goes first, under whichever name.
        let brought = self.brought.iter().filter(|(name, _)| !self.configured.providers.contains_key(*name));
        all.providers.extend(brought.map(|(name, url)| (name.clone(), url.clone())));
        all
    }
}

impl Routes {
    pub(super) fn new(address: SocketAddr, gateway: GatewayHandle, configured: GatewayConfig) -> Self {
        Self { address, gateway, state: Mutex::new(State { configured, brought: BTreeMap::new() }) }
    }

    /// From now on what is configured is this.
    pub(super) fn reload(&self, configured: GatewayConfig) -> Result<(), kgb::Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let new = State { configured, brought: state.brought.clone() };
        self.gateway.reload(&new.together())?;
        *state = new;
        Ok(())
    }
}

impl Gateway for Routes {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn route(&self, prefix: &str, base_url: &Url) -> Result<(), String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.brought.get(prefix) == Some(base_url) {
            return Ok(());
        }
        let mut new = State { configured: state.configured.clone(), brought: state.brought.clone() };
        new.brought.insert(prefix.to_owned(), base_url.clone());
        self.gateway.reload(&new.together()).map_err(|error| error.to_string())?;
        *state = new;
        Ok(())
    }
}
