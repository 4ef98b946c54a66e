//! The MCP relay, by its streams and its configuration alone.

mod eras;
mod lifecycle;
mod passing;
mod real_servers;
mod recorded;
mod servers;
