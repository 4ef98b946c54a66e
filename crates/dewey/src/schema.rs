//! Pieces of JSON Schema that several tools share, beside those of all servers.

pub(crate) use mcp::schema::{input, output, text};
use serde_json::{Value, json};

pub(crate) fn id(description: &str) -> Value {
    json!({"type": "string", "description": format!("{description} (a UUID)")})
}

pub(crate) fn time(description: &str) -> Value {
    json!({"type": "string", "description": format!("{description} (RFC 3339, UTC)")})
}

pub(crate) fn count(description: &str) -> Value {
    json!({"type": "integer", "minimum": 0, "description": description})
}

pub(crate) fn flag(description: &str, default: bool) -> Value {
    json!({"type": "boolean", "default": default, "description": description})
}

pub(crate) fn list_of(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(crate) fn metadata(description: &str) -> Value {
    json!({"type": "object", "description": description})
}

pub(crate) fn role() -> Value {
    json!({"type": "string", "enum": ["user", "assistant", "system", "tool"], "description": "Who said it"})
}

pub(crate) fn content() -> Value {
    let block = json!({"type": "object", "properties": {"type": {"type": "string"}}, "required": ["type"]});
    json!({
        "anyOf": [{"type": "string"}, {"type": "array", "items": block}],
        "description": "What was said: a string, or an array of content blocks in the model API's own form",
    })
}

/// The result of a tool whose list comes in pages.
pub(crate) fn page_of(list: &str, item: Value) -> Value {
    output(json!({
        list: list_of(item),
        "total": count("How many there are"),
        "limit": count("The page's length"),
        "offset": count("Where the page begins"),
    }))
}

/// `limit`, from 1 to 100, for results that come in pages.
pub(crate) fn page_limit() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 20, "description": "At most so many"})
}

pub(crate) fn offset() -> Value {
    json!({"type": "integer", "minimum": 0, "default": 0, "description": "Skip so many"})
}
