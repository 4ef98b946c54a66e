//! Exchanges as an agent makes them.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::*;
use wire::head::{Headers, RequestHead, ResponseHead};

/// An agent whose requests look like Claude Code's.
pub(crate) struct Agent {
    pub(crate) session: &'static str,
    pub(crate) agent: Option<&'static str>,
    pub(crate) parent_agent: Option<&'static str>,
    /// So that exchanges have times in order.
    pub(crate) clock: i64,
}

impl Agent {
    pub(crate) fn new(session: &'static str) -> Self {
        Self { session, agent: None, parent_agent: None, clock: 1_795_343_812_000_000 }
    }

    pub(crate) fn body(messages: &[Value]) -> Value {
        let mut messages = messages.to_vec();
        if let Some(last) = messages.last_mut()
            && let Some(text) = last["content"].as_str().map(str::to_owned)
        {
            last["content"] = json!([{"type":"text","text":text,"cache_control":{"type":"ephemeral"}}]);
        }
        json!({"model":"claude-sonnet-4-5","messages":messages,"system":[{"type":"text","text":"be good"}],
               "tools":[{"name":"Bash","input_schema":{"type":"object"}}],"max_tokens":32000,"stream":true})
    }

    pub(crate) fn ask(&mut self, messages: &[Value], answer: &str) -> CapturedExchange {
        self.exchange(&Self::body(messages), answer.as_bytes(), Outcome::Complete)
    }

    pub(crate) fn exchange(&mut self, body: &Value, response: &[u8], outcome: Outcome) -> CapturedExchange {
        self.clock += 1_000_000;
        let mut headers = vec![("User-Agent", "claude-cli/2.1.330"), ("X-Claude-Code-Session-Id", self.session)];
        headers.extend(self.agent.map(|a| ("x-claude-code-agent-id", a)));
        headers.extend(self.parent_agent.map(|a| ("x-claude-code-parent-agent-id", a)));
        headers.retain(|(_, value)| !value.is_empty());
        exchange_at(
            Timestamp(self.clock),
            "/v1/messages?beta=true",
            &headers,
            body.to_string().into_bytes(),
            response,
            outcome,
        )
    }
}

pub(crate) fn exchange_at(
    at: Timestamp,
    target: &str,
    headers: &[(&str, &str)],
    request: Vec<u8>,
    response: &[u8],
    outcome: Outcome,
) -> CapturedExchange {
    let own = |h: &[(&str, &str)]| Headers(h.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect());
    let sse = response.starts_with(b"event:");
    let content_type = if sse { "text/event-stream; charset=utf-8" } else { "application/json" };
    CapturedExchange {
        id: Uuid::now_v7(),
        started_at: at,
        first_byte_at: Some(Timestamp(at.0 + 1500)),
        ended_at: Some(Timestamp(at.0 + 9000)),
        durability: Durability::Process,
        outcome,
        upstream: "http://127.0.0.1:1".into(),
        server: None,
        key_fingerprint: Some("0123456789abcdef".into()),
        request_head: RequestHead {
            method: "POST".into(),
            target: target.into(),
            version: "HTTP/1.1".into(),
            headers: own(headers),
        },
        request_body: Box::new(request),
        response_head: Some(ResponseHead {
            status: 200,
            version: "HTTP/1.1".into(),
            headers: own(&[("content-type", content_type)]),
        }),
        response_body: Box::new(response.to_vec()),
        response_chunks: vec![ChunkTiming { after_us: 1500, bytes: response.len() as u64 }],
    }
}

pub(crate) fn stream(blocks: &[Value], end: bool) -> String {
    let mut events = vec![json!({"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",
        "model":"claude-sonnet-4-5-20250929","content":[],"usage":{"input_tokens":10,"output_tokens":1}}})];
    for (index, block) in blocks.iter().enumerate() {
        events.push(json!({"type":"content_block_start","index":index,"content_block":block}));
        if end || index + 1 < blocks.len() {
            events.push(json!({"type":"content_block_stop","index":index}));
        }
    }
    if end {
        events.push(json!({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":20}}));
        events.push(json!({"type":"message_stop"}));
    }
    events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap())).collect()
}

pub(crate) fn says(text: &str) -> String {
    stream(&[json!({"type":"text","text":text})], true)
}

pub(crate) fn user(text: &str) -> Value {
    json!({"role":"user","content":text})
}

pub(crate) fn assistant(text: &str) -> Value {
    json!({"role":"assistant","content":[{"type":"text","text":text}]})
}
