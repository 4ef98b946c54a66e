//! A message's content as the parts that a reader tells apart.
//!
//! The content is what a model API and its client made of it: nothing in it is taken for granted. What is not known is kept as
//! [`Block::Other`], so that a reader sees that something is there.

use serde_json::Value;

/// One part of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Block<'a> {
    Text(&'a str),
    Thinking(&'a str),
    /// Thinking that only the API can read; its size in bytes.
    HiddenThinking(usize),
    /// A call of a tool, on the client's side or the API's.
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: &'a Value,
    },
    ToolResult {
        tool_use_id: &'a str,
        is_error: bool,
        content: Vec<Block<'a>>,
    },
    /// An image or a document: what it is, its media type and its size in bytes (0 if it is elsewhere).
    Media {
        what: &'a str,
        media_type: &'a str,
        bytes: usize,
    },
    Other(&'a Value),
}

/// The parts of a content: a string, a block, or an array of either.
pub(crate) fn blocks(content: &Value) -> Vec<Block<'_>> {
    match content {
        Value::Null => Vec::new(),
        Value::Array(items) => items.iter().map(block).collect(),
        other => vec![block(other)],
    }
}

fn block(value: &Value) -> Block<'_> {
    if let Value::String(text) = value {
        return Block::Text(text);
    }
    let field = |name: &str| value.get(name).and_then(Value::as_str);
    let parsed = match field("type").unwrap_or("") {
        "thinking" | "reasoning" => field("thinking").or(field("text")).map(Block::Thinking),
        "redacted_thinking" => Some(Block::HiddenThinking(field("data").map_or(0, str::len))),
        "image" | "document" | "file" | "image_url" | "input_image" | "input_file" => Some(media(value)),
        "tool_use" | "server_tool_use" | "mcp_tool_use" | "function_call" => tool_use(value),
        kind if kind.ends_with("tool_result") => Some(tool_result(value)),
        // OpenAI names texts by their direction, Gemini's parts have no type at all.
        "" | "text" | "input_text" | "output_text" => field("text").map(Block::Text),
        _ => None,
    };
    parsed.unwrap_or(Block::Other(value))
}

fn tool_use(value: &Value) -> Option<Block<'_>> {
    let name = value.get("name")?.as_str()?;
    let id = value.get("id").or_else(|| value.get("call_id")).and_then(Value::as_str).unwrap_or("");
    let input = value.get("input").or_else(|| value.get("arguments")).unwrap_or(&Value::Null);
    Some(Block::ToolUse { id, name, input })
}

fn tool_result(value: &Value) -> Block<'_> {
    Block::ToolResult {
        tool_use_id: value.get("tool_use_id").and_then(Value::as_str).unwrap_or(""),
        is_error: value.get("is_error").and_then(Value::as_bool).unwrap_or(false),
        content: value.get("content").map(blocks).unwrap_or_default(),
    }
}

fn media(value: &Value) -> Block<'_> {
    let source = value.get("source").unwrap_or(value);
    let what = value.get("type").and_then(Value::as_str).unwrap_or("media");
    let media_type = source.get("media_type").and_then(Value::as_str).unwrap_or("");
    // Base64: four characters for three bytes.
    let bytes = source.get("data").and_then(Value::as_str).map_or(0, |data| data.len() / 4 * 3);
    Block::Media { what, media_type, bytes }
}

/// What a message says, in short and unsafe form: its texts, else its tools.
pub(crate) fn preview(content: &Value) -> String {
    let blocks = blocks(content);
    let pieces: Vec<String> = blocks.iter().filter_map(preview_of).collect();
    pieces.join(" ")
}

fn preview_of(block: &Block<'_>) -> Option<String> {
    match block {
        Block::Text(text) => Some((*text).to_owned()),
        Block::ToolUse { name, input, .. } => Some(format!("→ {name} {input}")),
        Block::ToolResult { content, is_error, .. } => {
            let inner: Vec<String> = content.iter().filter_map(preview_of).collect();
            Some(format!("←{} {}", if *is_error { " (error)" } else { "" }, inner.join(" ")))
        }
        Block::Media { what, media_type, .. } => Some(format!("[{what} {media_type}]")),
        Block::Thinking(_) | Block::HiddenThinking(_) | Block::Other(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_string_is_a_text() {
        assert_eq!(blocks(&json!("hi")), [Block::Text("hi")]);
        assert_eq!(
            blocks(&json!([{"type": "output_text", "text": "a"}, {"text": "b"}])),
            [Block::Text("a"), Block::Text("b")]
        );
        assert_eq!(blocks(&Value::Null), []);
    }

    #[test]
    fn results_hold_blocks_of_their_own() {
        let content = json!([
            {"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [{"type": "text", "text": "no"}]},
            {"type": "web_search_tool_result", "tool_use_id": "w", "content": {"type": "web_search_tool_result_error"}},
        ]);
        let parsed = blocks(&content);
        assert_eq!(parsed[0], Block::ToolResult { tool_use_id: "t", is_error: true, content: vec![Block::Text("no")] });
        assert!(
            matches!(&parsed[1], Block::ToolResult { tool_use_id: "w", is_error: false, content } if content.len() == 1)
        );
    }

    #[test]
    fn what_is_unknown_or_malformed_is_kept() {
        let content = json!([{"type": "hologram", "x": 1}, {"type": "text"}, {"type": "tool_use"}, 7]);
        assert!(blocks(&content).iter().all(|block| matches!(block, Block::Other(_))));
    }

    #[test]
    fn a_preview_names_texts_and_tools() {
        let content = json!([
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "Look:"},
            {"type": "tool_use", "id": "1", "name": "Bash", "input": {"command": "ls"}},
        ]);
        assert_eq!(preview(&content), r#"Look: → Bash {"command":"ls"}"#);
    }
}
