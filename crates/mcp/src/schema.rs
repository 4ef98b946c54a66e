//! Pieces of JSON Schema that tools of several servers share.
//!
//! No keyword stands at the top level that model APIs refuse there (`oneOf`, `anyOf`, `allOf`): clients hand these schemas
//! on as they are.

use serde_json::{Value, json};

/// An object of these properties and no others.
pub fn input(properties: Value, required: &[&str]) -> Value {
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

/// An object that has at least these properties: fields may be added.
pub fn output(properties: Value) -> Value {
    let required: Vec<String> = properties.as_object().map(|p| p.keys().cloned().collect()).unwrap_or_default();
    json!({"type": "object", "properties": properties, "required": required})
}

/// A string.
pub fn text(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_is_closed_and_what_comes_out_is_open() {
        let asked = input(json!({"a": text("A"), "b": text("B")}), &["a"]);
        assert_eq!((&asked["required"], &asked["additionalProperties"]), (&json!(["a"]), &json!(false)));
        let given = output(json!({"b": text("B"), "a": text("A")}));
        assert_eq!((&given["required"], given.get("additionalProperties")), (&json!(["b", "a"]), None));
    }
}
