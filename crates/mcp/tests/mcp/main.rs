//! Both transports, as clients of every version see them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is how a failure is told")]

mod http;
mod stateless;
mod support;
mod websocket;
