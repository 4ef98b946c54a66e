//! Pieces of JSON Schema that several tools share.

use serde_json::{Value, json};

/// An object of these properties and no others.
pub(crate) fn input(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// An object that has at least these properties: fields may be added.
pub(crate) fn output(properties: Value) -> Value {
    let required: Vec<String> = properties.as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
    json!({"type": "object", "properties": properties, "required": required})
}

pub(crate) fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

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
