//! OpenAI's two APIs, and the many servers that speak one of them: replies in the same form as Anthropic's.
//!
//! Texts become `text` blocks, reasoning `thinking`, calls of functions `tool_use` with the arguments parsed; what has
//! no counterpart stays as the API gave it. Cached input is taken out of the input tokens, since OpenAI counts it in
//! both numbers.

pub mod chat;
pub mod responses;

use serde_json::{Value, json};

use crate::assembled::{Usage, tool_input};

fn text_block(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn thinking_block(text: &str) -> Value {
    json!({"type": "thinking", "thinking": text})
}

fn tool_block(id: Option<&str>, name: Option<&str>, arguments: &str) -> Value {
    json!({"type": "tool_use", "id": id, "name": name, "input": tool_input(arguments)})
}

/// The usage of either API; they differ only in what the fields are called.
fn usage(usage: &Value) -> Usage {
    let tokens =
        |value: &Value, names: [&str; 2]| names.iter().find_map(|name| value.get(name).and_then(Value::as_u64));
    let details = ["prompt_tokens_details", "input_tokens_details"].iter().find_map(|name| usage.get(name));
    let cached = details.and_then(|details| details.get("cached_tokens")).and_then(Value::as_u64);
    let input = tokens(usage, ["prompt_tokens", "input_tokens"]);
    Usage {
        input_tokens: input.map(|input| input.saturating_sub(cached.unwrap_or(0))),
        output_tokens: tokens(usage, ["completion_tokens", "output_tokens"]),
        cache_read_tokens: cached,
        cache_write_tokens: None,
        cache_write_1h_tokens: None,
    }
}
