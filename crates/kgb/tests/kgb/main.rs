//! KGB from outside: real sockets on both sides, scripted bytes, and a look into the spool.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod credential;
mod drain;
mod faults;
mod forwarding;
mod http2;
mod lifecycle;
mod limits;
mod nginx;
mod proxies;
mod smuggling;
mod spy;
mod strict_upstream;
mod support;
mod tls;
mod tls_upstream;
mod tool_key;
