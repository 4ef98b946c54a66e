//! An exchange as it passed: what both sides said, when, and how it ended.

use std::io;

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use wire::head::{RequestHead, ResponseHead};

use super::Timestamp;

/// An HTTP exchange as the gateway recorded it: heads sanitised, bodies exact.
pub struct CapturedExchange {
    /// The id that the client was told in `x-iccm-exchange-id`.
    pub id: Uuid,
    /// When the request's head had been read.
    pub started_at: Timestamp,
    /// When the first byte of the response's body (or its end, for an empty one) arrived.
    pub first_byte_at: Option<Timestamp>,
    /// When the exchange ended; unknown if the recorder crashed.
    pub ended_at: Option<Timestamp>,
    /// The level that held for this exchange.
    pub durability: Durability,
    /// How it ended.
    pub outcome: Outcome,
    /// Base URL that the request was forwarded to, without credentials.
    pub upstream: String,
    /// The MCP server's name, if it passed through the spy; none for a model API.
    pub server: Option<String>,
    /// Keyed fingerprint of the credential that the client used.
    pub key_fingerprint: Option<String>,
    /// What the client sent, credentials replaced by fingerprints.
    pub request_head: RequestHead,
    /// The request's body as it was on the wire.
    pub request_body: Box<dyn BodySource>,
    /// The upstream's (or, for `refused` and `upstream_unreachable`, the gateway's) response.
    pub response_head: Option<ResponseHead>,
    /// The response's body as it was on the wire, Content-Encoding and all.
    pub response_body: Box<dyn BodySource>,
    /// The response's cadence.
    pub response_chunks: Vec<ChunkTiming>,
}

/// The bytes of one body, to be read piece by piece: a body may be larger than memory.
pub trait BodySource: Send + Sync {
    /// Size in bytes.
    fn size(&self) -> u64;
    /// The bytes from `offset` on, at most `max` of them, fewer only at the end of the body.
    fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>>;
}

impl BodySource for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, max: usize) -> io::Result<Vec<u8>> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let end = start.saturating_add(max).min(self.len());
        Ok(self[start..end].to_vec())
    }
}

/// One chunk of a response as it arrived: how long after the exchange's start, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkTiming {
    /// Microseconds since the exchange began.
    pub after_us: u64,
    /// Bytes in the chunk.
    pub bytes: u64,
}

/// How an exchange ended. The names are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Request and response passed whole.
    Complete,
    /// The client hung up, or its request broke off, before the response had ended.
    ClientAborted,
    /// The upstream closed, reset or broke the protocol after it had been reached.
    UpstreamAborted,
    /// No connection to the upstream came about (refused, no route, DNS, TLS).
    UpstreamUnreachable,
    /// The gateway itself refused the exchange (it could not be recorded, or could not be forwarded).
    Refused,
    /// The recorder died while the exchange was running; what had been written until then is on record.
    RecorderCrashed,
    /// The recorder was stopped while the exchange was running, and cut it.
    RecorderStopped,
}

impl Outcome {
    /// Every outcome; the position in this list is the stored number.
    pub const ALL: [Outcome; 7] = [
        Outcome::Complete,
        Outcome::ClientAborted,
        Outcome::UpstreamAborted,
        Outcome::UpstreamUnreachable,
        Outcome::Refused,
        Outcome::RecorderCrashed,
        Outcome::RecorderStopped,
    ];

    /// The name under which users know it, e.g. `client_aborted`.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Complete => "complete",
            Outcome::ClientAborted => "client_aborted",
            Outcome::UpstreamAborted => "upstream_aborted",
            Outcome::UpstreamUnreachable => "upstream_unreachable",
            Outcome::Refused => "refused",
            Outcome::RecorderCrashed => "recorder_crashed",
            Outcome::RecorderStopped => "recorder_stopped",
        }
    }
}

/// What had to be true of an exchange's bytes before they were passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The bytes are with the kernel: they survive the death of the process.
    Process,
    /// The bytes are on stable storage: they survive the loss of power.
    Power,
}
