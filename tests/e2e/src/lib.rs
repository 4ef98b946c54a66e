//! What the whole-program tests are made of.
//!
//! * [`fake_api`]: a model API on loopback that plays scripted tool loops and every fault a network has, and keeps an
//!   exact log of what it saw and sent. The record is compared with that log.
//! * [`claude`]: the real Claude Code, in the versions that `scripts/test` installs, in a home of its own.
//! * [`recorder`]: the executable under test, started, stopped, killed and read through its command line.
//! * [`raw_client`]: a client that shows what is on the wire, unimproved by an HTTP library.
//! * [`stage`]: a recorder and two fake APIs, so that what it changes can be seen.
//! * [`load`]: clients that keep a recorder busy and remember what they got.
//! * [`disk_fault`]: a disk that is full or read-only while a test says so.
//! * [`power_cut`]: a folder that loses what was not synced.
//! * [`flood`]: an upstream for bodies of any size; [`resources`]: what a process holds meanwhile.
//! * [`relay`]: the MCP relay and a client of it; [`mcp_server`]: a scripted MCP server of both eras, on all transports.
//! * [`providers`]: the APIs of model providers, with every kind of trouble.
//! * [`postgres`]: PostgreSQL clusters, started, killed and removed.
//! * [`generator`]: agent sessions of the shape that real clients produce, from a seed.
//!
//! Nothing here sleeps to let something happen: every wait is for a condition and ends with a deadline ([`wait`]).
//! Whatever cannot be had (the executable, Claude Code, a tool of the system) is a failure that says what to do, never
//! a test that is quietly left out.

pub mod claude;
pub mod disk_fault;
pub mod fake_api;
pub mod fixtures;
pub mod flood;
pub mod generator;
pub mod http;
pub mod load;
pub mod mcp;
pub mod mcp_sdks;
pub mod mcp_server;
pub mod postgres;
pub mod power_cut;
pub mod preload;
pub mod process;
pub mod providers;
pub mod random;
pub mod raw_client;
pub mod recorder;
pub mod relay;
pub mod resources;
pub mod stage;
pub mod terminal;
pub mod verify;
pub mod wait;

/// The only credential that the tests ever use.
pub const DUMMY_KEY: &str = "sk-ant-test-000";

/// SHA-256 in lower hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    hex(&Sha256::digest(bytes))
}

/// Lower hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
