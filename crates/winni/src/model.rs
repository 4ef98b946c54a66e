//! What the record is made of, in domain types: no SQL type and no wire format appears here.
//!
//! A recorder's life is a gap-free sequence of [`Item`]s. Most of them are exchanges; the rest mark the life's begin and
//! end and the gaps in between. Reading gives [`Conversation`]s, [`Turn`]s and [`Exchange`]s, whose serialised field
//! names are fixed (see the command-line reference) and therefore never renamed.

mod captured;
mod frame;
mod search;
mod stored;
mod time;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use crate::conversation::identity::Role;
pub use captured::{BodySource, CapturedExchange, ChunkTiming, Durability, Outcome};
pub use frame::{CapturedFrame, ConnectionEnd, Direction, Frame, FrameFilter, FrameForm, FrameSource, ToolCall};
pub use search::{SearchHit, SearchQuery};
pub use stored::{
    ContextDeletion, ConversationSource, Deletion, Destination, NewConversation, NewMessage, Sort, StartupContext,
    StoredMessage,
};
pub use time::Timestamp;

/// One position of a recorder's gap-free sequence.
pub enum Item {
    /// The recorder began; always number 0.
    LifeBegin {
        /// When.
        at: Timestamp,
        /// Version and host, for people.
        about: String,
    },
    /// An exchange.
    Exchange(Box<CapturedExchange>),
    /// A message of a connection.
    Frame(Box<CapturedFrame>),
    /// The end of a connection whose messages are on record.
    ConnectionEnd(ConnectionEnd),
    /// Bytes that passed unrecorded.
    Gap(Gap),
    /// The recorder ended; always the last number of a life.
    LifeEnd {
        /// When; unknown if it crashed.
        at: Option<Timestamp>,
        /// Whether the end was written by the recorder itself (not by the recovery that found it dead).
        orderly: bool,
    },
}

/// Items of one recorder, to be stored in one transaction.
pub struct Batch {
    /// The recorder whose items these are.
    pub recorder: Uuid,
    /// Sequence number and item, in the order in which they are to be threaded (the order of their ends).
    pub items: Vec<(u64, Item)>,
}

/// Exchanges that passed without being recorded, as the policy allows when the spool is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// When the first of them began.
    pub from: Timestamp,
    /// When recording worked again.
    pub until: Timestamp,
    /// How many exchanges are wholly or partly missing.
    pub exchanges: u64,
    /// How many bytes passed unrecorded.
    pub bytes: u64,
}

/// Where a conversation left the line of another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ForkPoint {
    /// The conversation whose line it shares.
    pub conversation_id: Uuid,
    /// The last turn that both share.
    pub turn: u64,
}

/// One line of messages.
#[derive(Clone, Debug, Serialize)]
pub struct Conversation {
    /// The conversation's id.
    pub id: Uuid,
    /// The session it belongs to, as the client names it.
    pub session_id: String,
    /// The conversation whose agent started this one as a sub-agent.
    pub parent_conversation_id: Option<Uuid>,
    /// Where it left another conversation's line.
    pub forked_from: Option<ForkPoint>,
    /// A title, from the agent's own title call or the first user text.
    pub title: Option<String>,
    /// Where it came from: `captured`, `stored` (through Dewey), `imported`.
    pub source: String,
    /// When its first message was recorded.
    pub created_at: Timestamp,
    /// When its last message was recorded.
    pub updated_at: Timestamp,
    /// Turns of the whole line, shared ones included.
    pub message_count: u64,
    /// Exchanges that belong to it.
    pub exchange_count: u64,
    /// Models that answered in it.
    pub models: Vec<String>,
    /// Input tokens, all exchanges (cache reads and writes not included).
    pub input_tokens: u64,
    /// Output tokens, all exchanges.
    pub output_tokens: u64,
    /// Cost in US dollars; null if any exchange's model has no known price.
    pub cost_usd: Option<f64>,
    /// Free-form, a JSON object.
    pub metadata: serde_json::Value,
}

/// One message of a conversation's line.
#[derive(Clone, Debug, Serialize)]
pub struct Turn {
    /// The message's id.
    pub id: Uuid,
    /// The conversation that holds it (a fork's shared turns are held by the conversation it left).
    pub conversation_id: Uuid,
    /// 1-based position in the line.
    pub turn: u64,
    /// `user`, `assistant`, `system` or `tool`.
    pub role: String,
    /// A string, or an array of content blocks in the API's own form.
    pub content: serde_json::Value,
    /// False while only a part of an answer is known (the stream broke off).
    pub complete: bool,
    /// When it was recorded.
    pub created_at: Timestamp,
    /// The exchange that brought it; none for a message that was stored.
    pub exchange_id: Option<Uuid>,
    /// Free-form, a JSON object.
    pub metadata: serde_json::Value,
}

/// What an exchange is to the conversation it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A turn of a conversation.
    Message,
    /// Made by the agent for itself: titles, summaries, quota probes, token counts.
    Side,
    /// Anything else: probes, model lists, unknown paths.
    Other,
}

/// An exchange's summary, as `iccm exchanges` lists it.
#[derive(Clone, Debug, Serialize)]
pub struct Exchange {
    /// The id that the client was told.
    pub id: Uuid,
    /// The recorder that wrote it.
    pub recorder: Uuid,
    /// Its place in that recorder's sequence.
    pub seq: u64,
    /// The session it belongs to, if any.
    pub session_id: Option<String>,
    /// The conversation it belongs to, if any.
    pub conversation_id: Option<Uuid>,
    /// Turn, side call or something else.
    pub kind: Kind,
    /// When the request's head had been read.
    pub started_at: Timestamp,
    /// When the response's first byte arrived.
    pub first_byte_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Request method.
    pub method: String,
    /// Path and query, credentials replaced.
    pub path: String,
    /// Response status.
    pub status: Option<u16>,
    /// How it ended.
    pub outcome: Outcome,
    /// The durability that held.
    pub durability: Durability,
    /// Base URL of the upstream.
    pub upstream: String,
    /// The model that answered (as the response says), else the one asked for.
    pub model: Option<String>,
    /// Whether the response came piece by piece: as events, or as lines.
    pub streaming: bool,
    /// Size of the request's body on the wire.
    pub request_bytes: u64,
    /// Size of the response's body on the wire.
    pub response_bytes: u64,
    /// Tokens, as the API counted them.
    pub input_tokens: Option<u64>,
    /// Tokens, as the API counted them.
    pub output_tokens: Option<u64>,
    /// Tokens read from the prompt cache.
    pub cache_read_tokens: Option<u64>,
    /// Tokens written to the prompt cache.
    pub cache_write_tokens: Option<u64>,
    /// Cost in US dollars; null where the model has no known price.
    pub cost_usd: Option<f64>,
    /// Keyed fingerprint of the credential.
    pub key_fingerprint: Option<String>,
}

/// Which bytes of an exchange are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `Name: value` lines, sanitised.
    RequestHead,
    /// Exact bytes.
    RequestBody,
    /// `Name: value` lines, sanitised.
    ResponseHead,
    /// Exact bytes.
    ResponseBody,
}

/// What to list of the conversations.
#[derive(Clone, Debug, Default)]
pub struct ConversationFilter {
    /// Only this session.
    pub session_id: Option<String>,
    /// Only conversations that were made so.
    pub source: Option<ConversationSource>,
    /// In which order.
    pub sort: Sort,
    /// At most so many; all if absent.
    pub limit: Option<u64>,
    /// Skip so many.
    pub offset: u64,
}

/// What to list of the exchanges.
#[derive(Clone, Debug, Default)]
pub struct ExchangeFilter {
    /// Only this conversation.
    pub conversation_id: Option<Uuid>,
    /// Only this session.
    pub session_id: Option<String>,
    /// Only this recorder.
    pub recorder: Option<Uuid>,
}

/// Counts over the whole record.
///
/// `stored_bytes` is counted as rows are added, by what a row of each table takes with its index entries; the full-text index is
/// left out, and what is erased is not taken off. In SQLite it is within a tenth of what the tables take. In PostgreSQL it is
/// within a tenth of `pg_total_relation_size` from some thousand exchanges on, and up to a quarter below it before that, when
/// pages are mostly empty; rows that the server has yet to vacuum, and its log, are not in it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Stats {
    /// Conversations.
    pub conversations: u64,
    /// Distinct messages.
    pub messages: u64,
    /// Exchanges.
    pub exchanges: u64,
    /// MCP messages seen by the spy.
    pub mcp_frames: u64,
    /// Bytes of heads and bodies as they passed.
    pub captured_bytes: u64,
    /// Bytes that keeping them takes in the database.
    pub stored_bytes: u64,
    /// `captured_bytes / stored_bytes`.
    pub ratio: f64,
    /// Exchanges that passed without being recorded.
    pub unrecorded: u64,
}

/// Something that has just become part of the record, as `iccm tail` shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// An exchange ended.
    Exchange(Box<Exchange>),
    /// A message was added to a conversation.
    Message(Box<Turn>),
}

/// How far a reader of [`Event`]s has come. Opaque; start from `Store::event_cursor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCursor {
    /// Last exchange seen.
    pub exchange: i64,
    /// Last message seen.
    pub message: i64,
}
