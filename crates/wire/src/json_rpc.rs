//! JSON-RPC 2.0 messages as envelopes: what a relay must read is read, and every other byte stays where it is.
//!
//! Guaranteed: [`Message::parse`] copies nothing but a method name that needs unescaping; ids, parameters and results stay
//! the sender's own text (integers of any size, unknown fields, the order of members). [`Edits`] replaces chosen values in
//! that text and leaves the rest byte for byte.
//! Refused: a message whose envelope has a member twice (two readers could understand it in two ways), and one that is
//! neither request, notification nor response.
//!
//! Source: <https://www.jsonrpc.org/specification>; MCP's `_meta` and `progressToken` from its specification.

mod edit;
mod members;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub use edit::Edits;
pub use members::{Member, items, members, string, text};

/// Codes of the JSON-RPC specification.
pub mod code {
    /// Not JSON.
    pub const PARSE_ERROR: i64 = -32700;
    /// JSON, but no message.
    pub const INVALID_REQUEST: i64 = -32600;
    /// Nobody knows the method.
    pub const METHOD_NOT_FOUND: i64 = -32601;
    /// The parameters are wrong; MCP also says so of unknown tools, prompts and resources.
    pub const INVALID_PARAMS: i64 = -32602;
    /// Whoever was asked could not answer.
    pub const INTERNAL_ERROR: i64 = -32603;
    /// MCP 2026-07-28: the protocol version of a request is not spoken here.
    pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// Not JSON, or a member of the envelope twice.
    #[error("not a JSON-RPC message: {0}")]
    Json(#[from] serde_json::Error),
    /// A JSON object that is no message.
    #[error("neither request, notification nor response")]
    Kind,
}

/// A message; everything points into the bytes that it was parsed from.
#[derive(Clone, Debug)]
pub enum Message<'a> {
    /// Wants an answer.
    Request {
        /// Any JSON value, as its sender wrote it.
        id: &'a RawValue,
        /// The method's name.
        method: Cow<'a, str>,
        /// `params`, if there are any.
        params: Option<&'a RawValue>,
    },
    /// Wants none.
    Notification {
        /// The method's name.
        method: Cow<'a, str>,
        /// `params`, if there are any.
        params: Option<&'a RawValue>,
    },
    /// An answer.
    Response {
        /// The id of what it answers; `null` where the other side could not read one.
        id: &'a RawValue,
        /// `result` or `error`.
        outcome: Outcome<'a>,
    },
}

/// What a response says.
#[derive(Clone, Copy, Debug)]
pub enum Outcome<'a> {
    /// The value of `result`.
    Result(&'a RawValue),
    /// The value of `error`.
    Error(&'a RawValue),
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A member that is there, also as `null`: `"id": null` is not the same as no id.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl<'a> Message<'a> {
    /// Reads one message.
    ///
    /// # Errors
    ///
    /// [`Malformed`] for anything else, a batch included (see [`batch`]).
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let envelope: Envelope<'a> = serde_json::from_slice(bytes)?;
        let Envelope { id, method, params, result, error } = envelope;
        match (method, id, result, error) {
            (Some(method), Some(id), None, None) => Ok(Message::Request { id, method, params }),
            (Some(method), None, None, None) => Ok(Message::Notification { method, params }),
            (None, Some(id), Some(result), None) => Ok(Message::Response { id, outcome: Outcome::Result(result) }),
            (None, Some(id), None, Some(error)) => Ok(Message::Response { id, outcome: Outcome::Error(error) }),
            _ => Err(Malformed::Kind),
        }
    }
}

/// The messages of a batch (a JSON array, which only MCP 2025-03-26 has); `None` if the bytes are no array.
pub fn batch(bytes: &[u8]) -> Option<Vec<&RawValue>> {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace())?;
    if *first == b'[' { serde_json::from_slice(bytes).ok() } else { None }
}

/// An id as a key: two spellings of the same string are the same id; numbers are compared as they are written, so that none
/// is too big.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum IdKey {
    /// A string, unescaped.
    Text(String),
    /// Anything else, as written.
    Other(String),
}

impl IdKey {
    /// The key of an id.
    pub fn of(id: &RawValue) -> Self {
        match string(id) {
            Some(text) => IdKey::Text(text.into_owned()),
            None => IdKey::Other(id.get().to_owned()),
        }
    }

    /// The number, if the id is one that this side could have given out.
    pub fn number(&self) -> Option<u64> {
        match self {
            IdKey::Other(text) => text.parse().ok(),
            IdKey::Text(_) => None,
        }
    }
}

/// The bytes of a response with a result.
pub fn result(id: &str, result: &str) -> Vec<u8> {
    [r#"{"jsonrpc":"2.0","id":"#, id, r#","result":"#, result, "}"].concat().into_bytes()
}

/// The bytes of a response with an error. `data` is JSON.
pub fn error(id: &str, code: i64, message: &str, data: Option<&str>) -> Vec<u8> {
    let (code, message) = (code.to_string(), text(message));
    let head = [r#"{"jsonrpc":"2.0","id":"#, id, r#","error":{"code":"#, &code, r#","message":"#, &message].concat();
    match data {
        Some(data) => [&head, r#","data":"#, data, "}}"].concat().into_bytes(),
        None => [&head, "}}"].concat().into_bytes(),
    }
}

/// The bytes of a request.
pub fn request(id: &str, method: &str, params: &str) -> Vec<u8> {
    [r#"{"jsonrpc":"2.0","id":"#, id, r#","method":"#, &text(method), r#","params":"#, params, "}"]
        .concat()
        .into_bytes()
}

/// The bytes of a notification.
pub fn notification(method: &str, params: Option<&str>) -> Vec<u8> {
    let head = [r#"{"jsonrpc":"2.0","method":"#, &text(method)].concat();
    match params {
        Some(params) => [&head, r#","params":"#, params, "}"].concat().into_bytes(),
        None => [&head, "}"].concat().into_bytes(),
    }
}

#[cfg(test)]
mod tests;
