//! What is handed to a database and what it gives back, row by row.

use uuid::Uuid;

use crate::content::manifest::BlockHash;
use crate::conversation::identity::{Chain, Role};
use crate::model::{CapturedExchange, CapturedFrame, Frame, Timestamp};

/// Where bytes stand in a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) pack: i64,
    pub(crate) offset: usize,
    pub(crate) length: usize,
}

/// Where a captured turn's content is: elements of a request's history, or the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) first: i64,
    pub(crate) count: i64,
}

impl Source {
    /// The exchange's response.
    pub(crate) const RESPONSE: Source = Source { first: -1, count: 1 };
}

/// Where a message's content is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// In the exchange that brought it.
    Exchange(i64, Source),
    /// In a content of its own, as a message that was handed in has it.
    Content(i64),
}

/// How a body is kept. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Empty = 0,
    Enveloped = 1,
    Manifest = 2,
    Chunks = 3,
}

/// An exchange's content columns.
#[derive(Clone, Debug)]
pub(crate) struct ContentRow {
    pub(crate) epoch: i32,
    pub(crate) api: Option<i64>,
    /// Absent once it is erased.
    pub(crate) envelope: Option<Location>,
    pub(crate) request_form: i64,
    /// The manifest, or the hashes of chunks.
    pub(crate) request_data: Option<Vec<u8>>,
    /// The exchange whose manifest this one's is written relative to.
    pub(crate) request_base: Option<i64>,
    pub(crate) response_form: i64,
    pub(crate) response_data: Option<Vec<u8>>,
    pub(crate) digests: Option<Vec<u8>>,
}

/// A message's row.
#[derive(Clone, Debug)]
pub(crate) struct MessageRow {
    pub(crate) id: i64,
    pub(crate) conversation_uuid: Uuid,
    pub(crate) turn: u64,
    pub(crate) role: Role,
    pub(crate) complete: bool,
    pub(crate) held: Held,
    pub(crate) exchange_uuid: Option<Uuid>,
    pub(crate) created_at: Timestamp,
    pub(crate) metadata: Option<String>,
}

/// A turn to be added.
#[derive(Clone, Debug)]
pub(crate) struct NewTurn {
    pub(crate) turn: u64,
    pub(crate) role: Role,
    pub(crate) complete: bool,
    pub(crate) chain: Chain,
    pub(crate) source: Source,
}

/// A captured conversation to be added.
#[derive(Clone, Debug)]
pub(crate) struct NewLine {
    pub(crate) session: i64,
    pub(crate) agent: Option<String>,
    pub(crate) parent: Option<i64>,
    pub(crate) fork: Option<(i64, u64)>,
    pub(crate) title: Option<String>,
    pub(crate) at: Timestamp,
}

/// What is known of an exchange beside what was captured. Texts that many exchanges share are given by number.
pub(crate) struct NewExchange<'a> {
    pub(crate) captured: &'a CapturedExchange,
    pub(crate) epoch: i32,
    pub(crate) recorder: i64,
    pub(crate) seq: u64,
    pub(crate) session: Option<i64>,
    pub(crate) conversation: Option<i64>,
    pub(crate) kind: i64,
    pub(crate) api: Option<i64>,
    pub(crate) method: i64,
    pub(crate) path: i64,
    pub(crate) upstream: i64,
    pub(crate) model: Option<i64>,
    pub(crate) fingerprint: Option<i64>,
    pub(crate) streaming: bool,
    pub(crate) input_tokens: Option<u64>,
    pub(crate) output_tokens: Option<u64>,
    pub(crate) cache_read: Option<u64>,
    pub(crate) cache_write: Option<u64>,
    pub(crate) cost_nano: Option<i64>,
    pub(crate) envelope: Location,
    pub(crate) request_form: Form,
    pub(crate) request_data: Option<&'a [u8]>,
    pub(crate) request_base: Option<i64>,
    pub(crate) response_form: Form,
    pub(crate) response_data: Option<&'a [u8]>,
    pub(crate) digests: &'a [u8],
}

/// A connection's row: its number and its session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionRow {
    pub(crate) id: i64,
    pub(crate) session: Option<i64>,
}

/// Whose a message of a connection is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) session: Option<i64>,
    pub(crate) conversation: Option<i64>,
    pub(crate) tool_use: Option<String>,
}

/// What is known of a connection's message beside what was captured.
pub(crate) struct NewFrame<'a> {
    pub(crate) captured: &'a CapturedFrame,
    pub(crate) epoch: i32,
    pub(crate) recorder: i64,
    pub(crate) seq: u64,
    pub(crate) exchange: Option<i64>,
    pub(crate) connection: i64,
    pub(crate) owner: &'a Owner,
    /// 0 request, 1 notification, 2 result, 3 error, 4 other.
    pub(crate) kind: i64,
    pub(crate) method: Option<i64>,
    pub(crate) rpc_id: Option<&'a str>,
    pub(crate) subject: Option<i64>,
    pub(crate) is_error: bool,
    pub(crate) at: Option<Location>,
    pub(crate) chunks: Option<&'a [u8]>,
    pub(crate) digest: [u8; 16],
}

/// Where the bytes of a connection's message are.
#[derive(Clone, Debug)]
pub(crate) struct FrameContent {
    pub(crate) row: i64,
    pub(crate) epoch: i32,
    pub(crate) at: Option<Location>,
    /// Hashes of its blocks, if it is kept in chunks.
    pub(crate) chunks: Option<Vec<u8>>,
    /// Absent once it is erased.
    pub(crate) digest: Option<Vec<u8>>,
}

impl FrameContent {
    pub(crate) fn blocks(&self) -> impl Iterator<Item = BlockHash> {
        self.chunks.as_deref().unwrap_or_default().chunks_exact(16).filter_map(|hash| hash.try_into().ok())
    }
}

/// A connection's message, and what only the database knows of it.
#[derive(Clone, Debug)]
pub(crate) struct FoundFrame {
    pub(crate) row: i64,
    pub(crate) connection: i64,
    pub(crate) frame: Frame,
}

/// Bytes that rows take with their share of indexes, measured; a row's own data comes on top.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSizes {
    pub(crate) record: u64,
    pub(crate) exchange: u64,
    pub(crate) message: u64,
    pub(crate) block: u64,
    pub(crate) piece: u64,
    pub(crate) frame: u64,
    pub(crate) tool_use: u64,
}
