//! Where requests may go: to model APIs through the gateway, to MCP servers through the spy.

use http::Uri;
use winni::model::FrameSource;

use super::asked::{Asked, To};
use super::route::{Routes, Upstream};

/// All ways of one listener.
pub(crate) trait Ways: Send + Sync {
    /// Where a request goes.
    fn find(&self, asked: &Asked) -> Result<Way<'_>, Stray>;
    /// Whether TLS is needed on any of them.
    fn any_https(&self) -> bool;
}

/// One request's way.
pub(crate) struct Way<'w> {
    pub(crate) upstream: &'w Upstream,
    /// What to ask the upstream for; `None`: it cannot be put into a URI.
    pub(crate) uri: Option<Uri>,
    /// Whose messages they are, should it become a WebSocket.
    pub(crate) server: Server,
}

/// Whose messages pass on a connection.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    /// As the configuration names it; for a model API its base URL.
    pub(crate) name: String,
    pub(crate) source: FrameSource,
    /// As the client named it.
    pub(crate) session: Option<String>,
}

/// A request that leads to no server.
#[derive(Debug)]
pub(crate) enum Stray {
    /// To one that is not on the list of those that can be reached in this way.
    Server { asked: String, allowed: Vec<String> },
    /// It names none.
    Nowhere,
}

/// The gateway's: by the first path segment.
impl Ways for Routes {
    fn find(&self, asked: &Asked) -> Result<Way<'_>, Stray> {
        let (upstream, rest) = self.choose(asked.target.as_str());
        let server = Server::model_api(upstream, asked);
        Ok(Way { upstream, uri: upstream.uri(&asked.target, rest), server })
    }

    fn any_https(&self) -> bool {
        self.upstreams().any(Upstream::is_https)
    }
}

impl Server {
    /// A model API behind the gateway.
    fn model_api(upstream: &Upstream, asked: &Asked) -> Self {
        Self { name: upstream.base.clone(), source: FrameSource::Gateway, session: session_header(asked) }
    }

    /// As the record names it.
    pub(crate) fn to<'a>(&'a self, upstream: &'a Upstream) -> To<'a> {
        To { upstream: &upstream.base, server: self.source.is_mcp().then_some(self.name.as_str()) }
    }
}

/// The session that a client names in its request's head.
pub(crate) fn session_header(asked: &Asked) -> Option<String> {
    let value = asked.headers.get("x-claude-code-session-id")?.to_str().ok()?;
    (!value.is_empty()).then(|| value.to_owned())
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
