//! What a model's tool call came to at an MCP server, in words.

use serde_json::Value;
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

/// The conversation in which the call has stored messages, as Dewey says.
pub(super) fn stored_in(call: &ToolCall) -> Option<&str> {
    let said = call.result.get("structuredContent")?;
    let has_stored = said.get("message_id").is_some() || said.get("message_ids").is_some();
    let conversation = said.get("conversation_id").or_else(|| call.arguments.get("conversation_id"));
    conversation?.as_str().filter(|_| has_stored)
}

fn items(result: &Value) -> impl Iterator<Item = &Value> {
    result.get("content").and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;
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
            arguments: json!({"conversation_id": "c"}),
            result,
            result_bytes: Some(10),
        }
    }

    #[test]
    fn a_call_says_who_answered_and_how_long_it_took() {
        let call = call(json!({"content": [{"type": "text", "text": "{}"}], "structuredContent": {"message_id": "m"}}));
        assert!(
            headline(&call).starts_with("dewey answered dewey_store_message in 12.3 ms (spy, "),
            "{}",
            headline(&call)
        );
        assert_eq!(answer(&call), "{}");
        assert_eq!(stored_in(&call), Some("c"));
    }

    #[test]
    fn failures_and_silence_are_told() {
        let failed = ToolCall { is_error: true, ..call(json!({"code": -32602, "message": "no"})) };
        assert!(headline(&failed).contains("failed at"));
        assert!(answer(&failed).contains("-32602"));
        assert_eq!(stored_in(&failed), None);
        let silent = ToolCall { duration_ms: None, ..call(Value::Null) };
        assert!(headline(&silent).contains("has not answered"));
        assert_eq!(answer(&silent), "");
    }
}
