//! What a client asks for, and how the record names it.

use bytes::Bytes;
use http::header::ACCEPT;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Version};

use crate::recorder::NewExchange;

/// What the client asks for.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// Whom it is meant for instead of us; recorded in place of the target.
    pub(crate) somebody_else: Option<String>,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// hyper's memory of the case in which names were written; the upstream gets them likewise.
    pub(crate) extensions: http::Extensions,
}

/// Whom a request goes to, as the record names it.
#[derive(Clone, Copy, Default)]
pub(crate) struct To<'a> {
    pub(crate) upstream: &'a str,
    /// The MCP server's name, if it passes through the spy.
    pub(crate) server: Option<&'a str>,
}

impl Asked {
    /// Whether it goes to an MCP server through the gateway, which knows its upstreams as model APIs only: Streamable HTTP
    /// has headers of its own, and clients take both kinds of answers.
    fn looks_like_mcp(&self) -> bool {
        let path = self.target.path().trim_end_matches('/');
        let accepts = |media: &str| {
            let mut values = self.headers.get_all(ACCEPT).iter();
            values.any(|value| value.to_str().is_ok_and(|value| value.contains(media)))
        };
        path.ends_with("/mcp")
            || self.headers.keys().any(|name| name.as_str().starts_with("mcp-"))
            || (accepts("application/json") && accepts("text/event-stream"))
    }

    pub(crate) fn as_new<'a>(&'a self, to: To<'a>, body: Option<&'a Bytes>) -> NewExchange<'a> {
        NewExchange {
            method: self.method.as_str(),
            target: self.somebody_else.as_deref().unwrap_or(self.target.as_str()),
            version: self.version,
            headers: &self.headers,
            upstream: to.upstream,
            server: to.server,
            body: body.map(AsRef::as_ref),
            calls_tools: to.server.is_some() || self.looks_like_mcp(),
        }
    }
}
