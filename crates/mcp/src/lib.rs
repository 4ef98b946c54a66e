//! How our MCP servers are served: WebSocket and Streamable HTTP on one listener, all protocol versions on one endpoint.
//!
//! Guaranteed: versions 2024-11-05 to 2025-11-25, which begin with `initialize`, and 2026-07-28, which has no beginning and
//! no session, are told apart request by request; every request gets exactly one answer, unless it is cancelled; what a
//! client sends inside a tool's arguments (lone surrogates, NUL, wrong types, a megabyte of nonsense) ends in an answer
//! that says what is wrong, never in a dead connection; a message may have [`Limits::message_bytes`].
//!
//! Refused: requests whose `Host` or `Origin` is not ours ([`Hosts`]), because a web page could otherwise reach a server on
//! loopback by DNS rebinding; batches in any version but 2025-03-26.
//!
//! A server is a [`Service`]; what it is told of a call is [`Call`], what it was given are [`Arguments`]. [`schema`] has what
//! tools' descriptions share, [`files`] reads the files that calls name.

mod arguments;
mod batch;
mod call;
mod dispatch;
pub mod files;
mod front;
mod host;
mod http_answer;
mod in_flight;
mod listener;
mod message;
pub mod schema;
mod service;
mod streamable_http;
mod version;
mod websocket;

pub use arguments::{Arguments, kept_value};
pub use call::Call;
pub use front::Limits;
pub use host::Hosts;
pub use listener::{Listener, ListenerConfig};
pub use service::{
    About, Annotations, Resource, ResourceError, ResourcePage, ResourceTemplate, ResourceText, Service, Tool,
    ToolError, ToolOutput,
};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address could not be listened on.
    #[error("cannot listen on {address}: {source}; is another iccm running? choose another address")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}
