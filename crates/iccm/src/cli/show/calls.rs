//! What a model's tool call came to at an MCP server, in words.

use serde_json::Value;
use uuid::Uuid;
use winni::model::{FrameSource, ToolCall};

use super::paragraphs::spaced_json;
use crate::render::quantity;

/// Which server was asked for what, by which way, and how it ended: `dewey answered dewey_search in 12.3 ms (spy, 1.2 KB)`.
pub(super) fn headline(call: &ToolCall) -> String {
    let tool = call.tool.as_deref().unwrap_or("(unnamed)");
    let way = match call.source {
        FrameSource::Spy | FrameSource::Gateway => "spy",
        FrameSource::SpyHttp => "spy, HTTP",
        FrameSource::Relay => "relay",
    };
    let Some(took) = call.duration_ms else {
        return format!("{} was asked for {tool} and has not answered ({way})", call.server);
    };
    let verb = if call.is_error { "failed at" } else { "answered" };
    let size = quantity::bytes(call.result_bytes.unwrap_or(0));
    format!("{} {verb} {tool} in {took:.1} ms ({way}, {size})", call.server)
}

/// What the server answered: the texts of a tool's result, or else the whole of it.
pub(super) fn answer(call: &ToolCall) -> String {
    let texts: Vec<&str> = items(&call.result).filter_map(|item| item.get("text")?.as_str()).collect();
    match (&call.result, texts.is_empty()) {
        (Value::Null, _) => String::new(),
        (_, false) => texts.join("\n"),
        (result, true) => spaced_json(result),
    }
}

/// What a call says that it has stored; whether that is so, the store knows.
#[derive(Debug, PartialEq)]
pub(super) struct Claim {
    pub(super) conversation: Uuid,
    pub(super) messages: Vec<Uuid>,
    /// The message's turn, where there is one message.
    pub(super) turn: Option<u64>,
}

/// The messages that a call has stored, as Dewey says: in its structured result, or, to clients that know none, in its text.
pub(super) fn claim(call: &ToolCall) -> Option<Claim> {
    let text = || serde_json::from_str(items(&call.result).find_map(|item| item.get("text")?.as_str())?).ok();
    let said = call.result.get("structuredContent").cloned().or_else(text)?;
    let id = |value: &Value| value.as_str()?.parse::<Uuid>().ok();
    let one = said.get("message_id").and_then(id);
    let many = said.get("message_ids").and_then(Value::as_array).into_iter().flatten().filter_map(id);
    let messages: Vec<Uuid> = one.into_iter().chain(many).collect();
    let conversation = said.get("conversation_id").or_else(|| call.arguments.get("conversation_id")).and_then(id)?;
    let turn = said.get("turn_number").and_then(Value::as_u64).filter(|_| one.is_some());
    (!messages.is_empty()).then_some(Claim { conversation, messages, turn })
}

fn items(result: &Value) -> impl Iterator<Item = &Value> {
    result.get("content").and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use winni::model::Timestamp;

    use super::*;

    fn call(result: Value) -> ToolCall {
        ToolCall {
            tool_use_id: "t".into(),
            server: "dewey".into(),
            source: FrameSource::Spy,
            tool: Some("dewey_store_message".into()),
            request_id: Uuid::nil(),
            asked_at: Timestamp(0),
            response_id: Some(Uuid::nil()),
            answered_at: Some(Timestamp(12_340)),
            duration_ms: Some(12.34),
            is_error: false,
            arguments: json!({"conversation_id": Uuid::from_u128(1)}),
            result,
            result_bytes: Some(10),
        }
    }

    #[test]
    fn a_call_says_who_answered_and_how_long_it_took() {
        let said = json!({"message_id": Uuid::from_u128(2), "turn_number": 3});
        let call = call(json!({"content": [{"type": "text", "text": "{}"}], "structuredContent": said}));
        assert!(
            headline(&call).starts_with("dewey answered dewey_store_message in 12.3 ms (spy, "),
            "{}",
            headline(&call)
        );
        assert_eq!(answer(&call), "{}");
        let one = Claim { conversation: Uuid::from_u128(1), messages: vec![Uuid::from_u128(2)], turn: Some(3) };
        assert_eq!(claim(&call), Some(one));
        let said =
            json!({"conversation_id": Uuid::from_u128(4), "message_ids": [Uuid::from_u128(5), Uuid::from_u128(6)]});
        let many = ToolCall { result: json!({"content": [{"type": "text", "text": said.to_string()}]}), ..call };
        assert_eq!(claim(&many).unwrap().messages, [5, 6].map(Uuid::from_u128));
    }

    #[test]
    fn failures_and_silence_are_told() {
        let failed = ToolCall { is_error: true, ..call(json!({"code": -32602, "message": "no"})) };
        assert!(headline(&failed).contains("failed at"));
        assert!(answer(&failed).contains("-32602"));
        assert_eq!(claim(&failed), None);
        let silent = ToolCall { duration_ms: None, ..call(Value::Null) };
        assert!(headline(&silent).contains("has not answered"));
        assert_eq!(answer(&silent), "");
    }
}
