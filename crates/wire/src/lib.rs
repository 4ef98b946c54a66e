//! Formats on the wire, and nothing else: no IO, no clock, no runtime.
//!
//! Everything here is a function from bytes to values. What comes in was written by strangers (a client, an upstream,
//! a torn connection), so no function of this crate panics on any input, and time and memory are linear in it.

pub mod anthropic;
pub mod assembled;
mod choices;
pub mod digest;
pub mod encoding;
pub mod gemini;
pub mod head;
pub mod json_rpc;
pub mod mcp;
pub mod ollama;
pub mod openai;
pub mod redact;
pub mod spans;
pub mod sse;
pub mod transcript;
pub mod websocket;
