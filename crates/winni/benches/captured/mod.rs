//! Exchanges as the recorder captures them, for all benches.

use serde_json::Value;
use uuid::Uuid;
use winni::model::{CapturedExchange, Durability, Outcome, Timestamp};
use wire::head::{Headers, RequestHead, ResponseHead};

/// An exchange with these bodies; `named` stands in the request's head beside the client's name.
pub(crate) fn exchange(named: (&str, &str), request: Vec<u8>, response: Vec<u8>) -> CapturedExchange {
    let headers = |pairs: &[(&str, &str)]| {
        Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect())
    };
    let version = || "HTTP/1.1".to_owned();
    CapturedExchange {
        id: Uuid::now_v7(),
        started_at: Timestamp::now(),
        first_byte_at: None,
        ended_at: Some(Timestamp::now()),
        durability: Durability::Process,
        outcome: Outcome::Complete,
        upstream: "http://127.0.0.1:1".into(),
        server: None,
        key_fingerprint: None,
        request_head: RequestHead {
            method: "POST".into(),
            target: "/v1/messages?beta=true".into(),
            version: version(),
            headers: headers(&[("user-agent", "claude-cli/2.1.330"), named]),
        },
        request_body: Box::new(request),
        response_head: Some(ResponseHead {
            status: 200,
            version: version(),
            headers: headers(&[("content-type", "text/event-stream")]),
        }),
        response_body: Box::new(response),
        response_chunks: Vec::new(),
    }
}

/// The event that a streamed answer begins with.
pub(crate) fn message_start() -> Value {
    serde_json::json!({"type": "message_start", "message": {"role": "assistant", "model": "claude-sonnet-4-5",
        "usage": {"input_tokens": 1, "output_tokens": 1}}})
}

/// A streamed answer.
pub(crate) fn stream(events: &[Value]) -> Vec<u8> {
    let event = |e: &Value| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap_or_default());
    events.iter().map(event).collect::<String>().into_bytes()
}
