//! Pieces of JSON Schema that several tools share, beside those of all servers.

pub(crate) use mcp::schema::{input, output, text};
use serde_json::{Value, json};

pub(crate) fn texts(description: &str) -> Value {
    json!({"type": "array", "items": {"type": "string"}, "description": description})
}

/// What may be null.
pub(crate) fn optional(kind: &str, description: &str) -> Value {
    json!({"type": [kind, "null"], "description": description})
}

pub(crate) fn provider() -> Value {
    text("google, openai, together, xai, anthropic, or another provider that models.toml names")
}
