//! Tool arguments that a server wants to see as HTTP headers (`x-mcp-header`, MCP 2026-07-28, Streamable HTTP).
//!
//! Refused: a tool with an annotation that breaks the rules; the specification asks clients to leave such a tool out of the
//! list, and the catalog tells why.

use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;

use crate::link::header_value;
use crate::protocol::Params;

/// Where an argument stands, and the header that it is copied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParamHeader {
    path: Vec<String>,
    header: HeaderName,
}

/// The annotations of a tool's `inputSchema`, or what is wrong with them.
pub(crate) fn annotations(tool: &RawValue) -> Result<Vec<ParamHeader>, String> {
    let schema = Params::of(Some(tool)).get("inputSchema");
    if !schema.is_some_and(|schema| schema.get().contains("x-mcp-header")) {
        return Ok(Vec::new());
    }
    let value: serde_json::Value =
        schema.and_then(|schema| serde_json::from_str(schema.get()).ok()).unwrap_or_default();
    let mut found = Vec::new();
    collect(&value, &mut Vec::new(), true, &mut found)?;
    Ok(found)
}

/// Walks the schema; `reachable` while only `properties` were passed on the way from the root.
fn collect(
    schema: &serde_json::Value,
    path: &mut Vec<String>,
    reachable: bool,
    found: &mut Vec<ParamHeader>,
) -> Result<(), String> {
    let serde_json::Value::Object(object) = schema else {
        if let serde_json::Value::Array(items) = schema {
            return items.iter().try_for_each(|item| collect(item, path, false, found));
        }
        return Ok(());
    };
    // Below `properties` the members are named by the user; a property may well be called "x-mcp-header".
    if let Some(name) = object.get("x-mcp-header") {
        let header = annotation(name, object, path, reachable)?;
        if found.iter().any(|other| other.header == header) {
            return Err(format!("x-mcp-header {header} stands twice"));
        }
        found.push(ParamHeader { path: path.clone(), header });
    }
    for (key, inner) in object.iter().filter(|(key, _)| *key != "x-mcp-header") {
        match (key.as_str(), inner) {
            ("properties", serde_json::Value::Object(properties)) => {
                for (name, property) in properties {
                    path.push(name.clone());
                    collect(property, path, reachable, found)?;
                    path.pop();
                }
            }
            _ => collect(inner, path, false, found)?,
        }
    }
    Ok(())
}

fn annotation(
    name: &serde_json::Value,
    schema: &serde_json::Map<String, serde_json::Value>,
    path: &[String],
    reachable: bool,
) -> Result<HeaderName, String> {
    let name = name.as_str().filter(|name| !name.is_empty()).ok_or("x-mcp-header must be a name")?;
    let kind = schema.get("type").and_then(serde_json::Value::as_str).unwrap_or("");
    if !reachable || path.is_empty() || !matches!(kind, "integer" | "string" | "boolean") {
        return Err(format!("x-mcp-header {name} stands where it may not"));
    }
    HeaderName::try_from(format!("mcp-param-{name}")).map_err(|_| format!("x-mcp-header {name:?} is no header name"))
}

impl ParamHeader {
    /// The header for a call with these arguments, if they have the value.
    pub(crate) fn of(&self, arguments: Option<&RawValue>) -> Option<(HeaderName, HeaderValue)> {
        let (last, way) = self.path.split_last()?;
        let mut place = Params::of(arguments);
        for name in way {
            place = place.inner(name);
        }
        let value = place.get(last)?;
        let text = match value.get() {
            "null" => return None,
            written if written.starts_with('"') => place.text(last)?.into_owned(),
            written => written.to_owned(),
        };
        Some((self.header.clone(), header_value(&text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tool(schema: &str) -> Box<RawValue> {
        RawValue::from_string(format!("{{\"name\":\"t\",\"inputSchema\":{schema}}}")).unwrap()
    }

    #[test]
    fn annotated_arguments_become_headers() {
        let tool = tool(
            r#"{"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"string","x-mcp-header":"Region"}}},"n":{"type":"integer","x-mcp-header":"N"}}}"#,
        );
        let found = annotations(&tool).unwrap();
        let arguments = RawValue::from_string(r#"{"a":{"b":"Hello, 世界"},"n":42}"#.into()).unwrap();
        let headers: Vec<_> = found.iter().filter_map(|header| header.of(Some(&arguments))).collect();
        assert_eq!(headers[0].0, "mcp-param-region");
        assert_eq!(headers[0].1, "=?base64?SGVsbG8sIOS4lueVjA==?=");
        assert_eq!(headers[1].1, "42");
        assert_eq!(found[0].of(None), None);
    }

    #[test]
    fn annotations_out_of_place_refuse_the_tool() {
        for schema in [
            r#"{"properties":{"a":{"type":"number","x-mcp-header":"A"}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":""}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A B"}}}"#,
            r#"{"properties":{"a":{"type":"array","items":{"type":"string","x-mcp-header":"A"}}}}"#,
            r#"{"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}"#,
        ] {
            assert!(annotations(&tool(schema)).is_err(), "{schema}");
        }
        assert_eq!(annotations(&tool("{}")).unwrap(), []);
    }
}
