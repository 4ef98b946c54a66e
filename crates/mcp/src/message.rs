//! JSON-RPC 2.0 envelopes.
//!
//! Guaranteed: only the envelope is parsed. What stands in `params` stays the exact text, so that an argument that is
//! wrong is the tool's to refuse and not a reason to lose the request's id; an id comes back as it was written.

use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(crate) const PARSE_ERROR: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const METHOD_NOT_FOUND: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const INTERNAL_ERROR: i64 = -32603;
/// Before 2026-07-28; afterwards it is [`INVALID_PARAMS`].
pub(crate) const RESOURCE_NOT_FOUND: i64 = -32002;
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// An error of the protocol, as opposed to one of a tool.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RpcError {
    pub(crate) code: i64,
    pub(crate) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Value>,
    /// What says the same over HTTP, since 2026-07-28; before, an answered request is 200.
    #[serde(skip)]
    pub(crate) status: StatusCode,
}

impl RpcError {
    pub(crate) fn new(code: i64, message: impl Into<String>) -> Self {
        let status = match code {
            METHOD_NOT_FOUND => StatusCode::NOT_FOUND,
            PARSE_ERROR | INVALID_REQUEST | HEADER_MISMATCH | UNSUPPORTED_VERSION => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        };
        Self { code, message: message.into(), data: None, status }
    }

    pub(crate) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(INVALID_PARAMS, message)
    }

    /// What every request must say about itself is missing or wrong.
    pub(crate) fn malformed_meta(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::invalid_params(message) }
    }
}

/// A request's id, as it was written: a string or a number.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(String);

impl Id {
    fn parse(raw: &RawValue) -> Option<Self> {
        let is_id = raw.get().starts_with(|c: char| c == '"' || c == '-' || c.is_ascii_digit());
        is_id.then(|| Self(raw.get().to_owned()))
    }

    pub(crate) fn json(&self) -> &str {
        &self.0
    }
}

/// A request that wants an answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) id: Id,
    pub(crate) method: String,
    pub(crate) params: Option<Box<RawValue>>,
}

/// One message from a client.
#[derive(Debug)]
pub(crate) enum Incoming {
    Request(Request),
    /// A `notifications/cancelled` that names a request.
    Cancelled(Id),
    /// Any other notification, or an answer to a question that we never ask: nothing to do.
    Ignored,
}

/// A message that cannot be understood: the answer that says so.
#[derive(Debug)]
pub(crate) struct Malformed(pub(crate) String);

/// An answer, and the HTTP status that fits it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) status: StatusCode,
}

/// What came in one piece.
#[derive(Debug)]
pub(crate) enum Payload {
    One(Result<Incoming, Malformed>),
    /// Several at once, as only 2025-03-26 has it.
    Batch(Vec<Result<Incoming, Malformed>>),
}

/// Reads what came in one piece: a message, or several in an array.
pub(crate) fn parse(bytes: &[u8]) -> Payload {
    match bytes.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(bytes) {
            Ok(parts) => Payload::Batch(parts.into_iter().map(|part| incoming(part.get().as_bytes())).collect()),
            Err(error) => Payload::One(Err(not_json(&error))),
        },
        _ => Payload::One(incoming(bytes)),
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

/// Keeps `null` apart from absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
struct CancelledParams<'a> {
    #[serde(borrow, rename = "requestId")]
    request_id: &'a RawValue,
}

fn incoming(bytes: &[u8]) -> Result<Incoming, Malformed> {
    let envelope: Envelope<'_> = match serde_json::from_slice(bytes) {
        Ok(envelope) => envelope,
        Err(error) if error.is_data() => {
            return Err(invalid(None, &format!("a message is a JSON object with each field once: {error}")));
        }
        Err(error) => return Err(not_json(&error)),
    };
    let Some(method) = envelope.method else {
        let is_answer = envelope.result.is_some() || envelope.error.is_some();
        let id = envelope.id.and_then(Id::parse);
        return if is_answer { Ok(Incoming::Ignored) } else { Err(invalid(id, "a request has a `method`")) };
    };
    let id = match envelope.id.map(Id::parse) {
        Some(None) => return Err(invalid(None, "an `id` is a string or a number")),
        other => other.flatten(),
    };
    let Ok(method) = serde_json::from_str::<String>(method.get()) else {
        return Err(invalid(id, "`method` is a string"));
    };
    match id {
        Some(id) => Ok(Incoming::Request(Request { id, method, params: envelope.params.map(ToOwned::to_owned) })),
        None if method == "notifications/cancelled" => Ok(cancelled(envelope.params)),
        None => Ok(Incoming::Ignored),
    }
}

/// What cannot be understood cancels nothing: a notification has no answer in which to say so.
fn cancelled(params: Option<&RawValue>) -> Incoming {
    let params = params.and_then(|params| serde_json::from_str::<CancelledParams<'_>>(params.get()).ok());
    params.and_then(|params| Id::parse(params.request_id)).map_or(Incoming::Ignored, Incoming::Cancelled)
}

fn not_json(error: &serde_json::Error) -> Malformed {
    Malformed(error_answer(None, &RpcError::new(PARSE_ERROR, format!("not JSON: {error}"))))
}

fn invalid(id: Option<Id>, why: &str) -> Malformed {
    Malformed(error_answer(id.as_ref(), &RpcError::new(INVALID_REQUEST, why)))
}

/// The answer with this result, a JSON text.
pub(crate) fn result_answer(id: &Id, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id.json())
}

/// The answer that there is none. Without an id where the request's could not be read.
pub(crate) fn error_answer(id: Option<&Id>, error: &RpcError) -> String {
    let error = json!(error);
    format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id.map_or("null", Id::json))
}

#[cfg(test)]
mod tests;
