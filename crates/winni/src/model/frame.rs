//! Messages of connections: what an agent and an MCP server say to each other, one by one.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{BodySource, Durability, Outcome, Timestamp};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the client to the server.
    ToServer = 0,
    /// From the server to the client.
    ToClient = 1,
}

impl Direction {
    /// The stored number's meaning.
    pub fn of(number: u8) -> Option<Self> {
        [Self::ToServer, Self::ToClient].get(usize::from(number)).copied()
    }
}

/// Where a message was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameSource {
    /// On a WebSocket through the spy.
    Spy = 0,
    /// In a body of an HTTP exchange through the spy.
    SpyHttp = 1,
    /// On a WebSocket through the HTTP gateway: a model API's, not MCP.
    Gateway = 2,
    /// By the relay, between it and one of its servers.
    Relay = 3,
}

impl FrameSource {
    /// The stored number's meaning.
    pub fn of(number: u8) -> Option<Self> {
        [Self::Spy, Self::SpyHttp, Self::Gateway, Self::Relay].get(usize::from(number)).copied()
    }

    /// Whether what was seen there is MCP.
    pub fn is_mcp(self) -> bool {
        self != Self::Gateway
    }
}

/// What a message's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameForm {
    /// Text, as the sender says.
    Text,
    /// Binary.
    Binary,
    /// A WebSocket message of a kind that the protocol reserves; its opcode.
    Reserved(u8),
    /// Not a message: bytes of a connection whose framing was lost.
    Unframed,
}

impl FrameForm {
    const UNFRAMED: u8 = 16;

    /// The stored number: a WebSocket opcode, or 16.
    pub fn number(self) -> u8 {
        match self {
            Self::Text => 1,
            Self::Binary => 2,
            Self::Reserved(opcode) => opcode,
            Self::Unframed => Self::UNFRAMED,
        }
    }

    /// The stored number's meaning.
    pub fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Text),
            2 => Some(Self::Binary),
            Self::UNFRAMED => Some(Self::Unframed),
            other => (other < Self::UNFRAMED).then_some(Self::Reserved(other)),
        }
    }
}

/// A message as it was recorded.
pub struct CapturedFrame {
    /// Its id.
    pub id: Uuid,
    /// What the messages of one connection share: the id of the exchange that opened it, where there is one.
    pub connection_id: Uuid,
    /// When its first byte was there.
    pub at: Timestamp,
    /// When its last byte was there; unknown if the recorder crashed.
    pub ended_at: Option<Timestamp>,
    /// The level that held for it.
    pub durability: Durability,
    /// How it ended: `complete`, or what broke it off.
    pub outcome: Outcome,
    /// Which way it went.
    pub direction: Direction,
    /// Where it was seen.
    pub source: FrameSource,
    /// What its bytes are.
    pub form: FrameForm,
    /// The server's name in the configuration.
    pub server: String,
    /// The session, if the client named it when it connected.
    pub session_id: Option<String>,
    /// Its exact bytes, without framing.
    pub body: Box<dyn BodySource>,
}

/// The end of a connection whose messages are on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionEnd {
    /// The exchange that opened it.
    pub connection_id: Uuid,
    /// When the last side had gone.
    pub at: Timestamp,
    /// How it ended.
    pub outcome: Outcome,
    /// Code and reason that the client gave.
    pub by_client: Option<(u16, String)>,
    /// Code and reason that the server gave.
    pub by_server: Option<(u16, String)>,
}

/// A message's summary.
#[derive(Clone, Debug, Serialize)]
pub struct Frame {
    /// Its id.
    pub id: Uuid,
    /// What the messages of one connection share.
    pub connection_id: Uuid,
    /// The recorder that wrote it.
    pub recorder: Uuid,
    /// Its place in that recorder's sequence; for a message within an HTTP exchange, the exchange's.
    pub seq: u64,
    /// The session that it belongs to, if that is known.
    pub session_id: Option<String>,
    /// The conversation whose model asked for it, if one did.
    pub conversation_id: Option<Uuid>,
    /// The server's name.
    pub server: String,
    /// Where it was seen.
    pub source: FrameSource,
    /// Which way it went.
    pub direction: Direction,
    /// When its first byte was there.
    pub at: Timestamp,
    /// When its last byte was there.
    pub ended_at: Option<Timestamp>,
    /// What its bytes are.
    pub form: FrameForm,
    /// How it ended.
    pub outcome: Outcome,
    /// The durability that held.
    pub durability: Durability,
    /// Size.
    pub bytes: u64,
    /// JSON-RPC method.
    pub method: Option<String>,
    /// JSON-RPC id, as it is written in the message.
    pub rpc_id: Option<String>,
    /// The tool, prompt … that a request names.
    pub name: Option<String>,
    /// The model's tool call that it serves.
    pub tool_use_id: Option<String>,
    /// Whether it is an error, or the result of a tool that failed.
    pub is_error: bool,
}

/// What to list of the messages; oldest first.
#[derive(Clone, Debug, Default)]
pub struct FrameFilter {
    /// Only this session.
    pub session_id: Option<String>,
    /// Only this connection.
    pub connection_id: Option<Uuid>,
    /// At most so many; all if absent.
    pub limit: Option<u64>,
    /// Skip so many.
    pub offset: u64,
}

/// What became of a model's tool call at an MCP server.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ToolCall {
    /// The id of the model's `tool_use`.
    pub tool_use_id: String,
    /// The server that was asked.
    pub server: String,
    /// Where the call was seen.
    pub source: FrameSource,
    /// The tool, as the server calls it.
    pub tool: Option<String>,
    /// The message that asked.
    pub request_id: Uuid,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// The message that answered.
    pub response_id: Option<Uuid>,
    /// When the answer was there.
    pub answered_at: Option<Timestamp>,
    /// Milliseconds from the one to the other.
    pub duration_ms: Option<f64>,
    /// Whether the answer is an error, or says that the tool failed.
    pub is_error: bool,
    /// What was asked: the request's `params.arguments`.
    pub arguments: Value,
    /// What was answered: the response's `result` or `error`; null without an answer, or if it is too large to be shown.
    pub result: Value,
    /// Size of the answer.
    pub result_bytes: Option<u64>,
}
