//! Where requests may go: to model APIs through the gateway, to MCP servers through the spy.

use http::Uri;

use super::forward::{Asked, To};
use super::route::{Routes, Upstream};
use crate::spy::{Backends, Server, Stray};

/// All ways of one listener.
pub(crate) enum Ways {
    /// The gateway's: by the first path segment.
    Model(Routes),
    /// The spy's: by name.
    Servers(Backends),
}

/// One request's way.
pub(crate) struct Way<'w> {
    pub(crate) upstream: &'w Upstream,
    /// What to ask the upstream for; `None`: it cannot be put into a URI.
    pub(crate) uri: Option<Uri>,
    /// Whose messages they are, should it become a WebSocket.
    pub(crate) server: Server,
}

impl Ways {
    pub(super) fn find(&self, asked: &Asked) -> Result<Way<'_>, Stray> {
        match self {
            Self::Servers(backends) => backends.find(asked),
            Self::Model(routes) => {
                let (upstream, rest) = routes.find(asked.target.as_str());
                let server = Server::model_api(upstream, asked);
                Ok(Way { upstream, uri: upstream.uri(&asked.target, rest), server })
            }
        }
    }

    pub(super) fn any_https(&self) -> bool {
        match self {
            Self::Servers(backends) => backends.any_https(),
            Self::Model(routes) => routes.any_https(),
        }
    }
}

/// As the record names where a request was to go; nothing, if that is nowhere.
pub(super) trait Named {
    fn to(&self) -> To<'_>;
}

impl Named for Result<Way<'_>, Stray> {
    fn to(&self) -> To<'_> {
        self.as_ref().map_or_else(|_| To::default(), |way| way.server.to(way.upstream))
    }
}
