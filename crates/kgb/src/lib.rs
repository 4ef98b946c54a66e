//! KGB, the recording proxy: it stands between an agent and the model API, and between the agent
//! and its MCP servers, and puts everything that passes on record.
//!
//! - [`gateway`] forwards HTTP exchanges, byte for byte, each chunk as soon as it is in the spool.
//! - [`spy`] stands in front of MCP servers: WebSocket, message by message, and Streamable HTTP.
//! - [`Recorder`] owns the spool, keeps credentials out of it, and decides what happens when it cannot take more.
//! - [`drain`] moves what is in the spool into the store, exactly once, whenever the store is there.
//!
//! The gateway never waits for the store, and the drain never touches the traffic; the spool is all they share.

mod assemble;
pub mod drain;
pub mod entry;
mod error;
pub mod gateway;
mod metrics;
pub mod recorder;
pub mod spy;

pub use error::{Error, Result};
pub use metrics::Meters;
pub use recorder::{MessageLog, Recorder, RecorderConfig, WhenSpoolFull};
