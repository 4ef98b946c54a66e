//! The words of a message, for titles and for search.

use serde_json::Value;

const REMINDER_OPEN: &str = "<system-reminder>";
const REMINDER_CLOSE: &str = "</system-reminder>";

/// The text without what an agent's harness wrapped in `<system-reminder>` tags, trimmed. Agents add and drop these
/// from turn to turn, so they are not part of what was said.
pub(crate) fn without_reminders(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(REMINDER_OPEN) {
        let Some(length) = rest[start..].find(REMINDER_CLOSE) else {
            break;
        };
        kept.push_str(&rest[..start]);
        rest = &rest[start + length + REMINDER_CLOSE.len()..];
    }
    kept.push_str(rest);
    kept.trim().to_owned()
}

/// The content blocks of a message; a plain string counts as one text block.
pub(crate) fn blocks(content: &Value) -> Vec<Block<'_>> {
    match content {
        Value::String(text) => vec![Block::Text(text)],
        Value::Array(blocks) => blocks.iter().map(Block::of).collect(),
        _ => Vec::new(),
    }
}

/// A content block as far as reading needs it.
pub(crate) enum Block<'a> {
    Text(&'a str),
    Thinking(&'a str),
    ToolUse { id: &'a str, name: &'a str, input: &'a Value },
    ToolResult { id: &'a str, content: &'a Value, is_error: bool },
    Other(&'a Value),
}

impl<'a> Block<'a> {
    fn of(block: &'a Value) -> Self {
        let field = |name: &str| block.get(name).and_then(Value::as_str).unwrap_or_default();
        match field("type") {
            "text" | "input_text" | "output_text" => Block::Text(field("text")),
            "thinking" => Block::Thinking(field("thinking")),
            "redacted_thinking" => Block::Thinking(""),
            "tool_use" | "server_tool_use" => {
                Block::ToolUse { id: field("id"), name: field("name"), input: &block["input"] }
            }
            "tool_result" => Block::ToolResult {
                id: field("tool_use_id"),
                content: &block["content"],
                is_error: block.get("is_error").and_then(Value::as_bool).unwrap_or(false),
            },
            _ => Block::Other(block),
        }
    }
}

/// All words of a message: texts, thinking, tool inputs and results.
pub(crate) fn words(content: &Value) -> String {
    let mut out = String::new();
    blocks(content).iter().for_each(|block| push_block(&mut out, block));
    out
}

/// All words of one block.
pub(crate) fn block_words(block: &Block<'_>) -> String {
    let mut out = String::new();
    push_block(&mut out, block);
    out
}

fn push_block(out: &mut String, block: &Block<'_>) {
    match block {
        Block::Text(text) => push(out, &without_reminders(text)),
        Block::Thinking(text) => push(out, text),
        Block::ToolUse { name, input, .. } => {
            push(out, name);
            push_strings(out, input);
        }
        Block::ToolResult { content, .. } => push(out, &words(content)),
        Block::Other(value) => push_strings_of_other(out, value),
    }
}

/// A line to know a conversation by: the first words that the user said in this message, at most 80 characters.
pub(crate) fn title(content: &Value) -> Option<String> {
    let text = blocks(content).into_iter().find_map(|block| match block {
        Block::Text(text) => Some(without_reminders(text)).filter(|t| !t.is_empty()),
        _ => None,
    })?;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(match line.char_indices().nth(80) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    })
}

fn push(out: &mut String, text: &str) {
    if !text.is_empty() {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(text);
    }
}

fn push_strings(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => push(out, text),
        Value::Array(items) => items.iter().for_each(|v| push_strings(out, v)),
        Value::Object(fields) => fields.values().for_each(|v| push_strings(out, v)),
        _ => {}
    }
}

/// Images and documents carry base64 that nobody searches for.
fn push_strings_of_other(out: &mut String, block: &Value) {
    if let Value::Object(fields) = block {
        fields.iter().filter(|(name, _)| *name != "source" && *name != "type").for_each(|(_, v)| push_strings(out, v));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reminders_are_no_part_of_what_was_said() {
        assert_eq!(
            without_reminders("<system-reminder>\nx\n</system-reminder>\n hello <system-reminder>y</system-reminder>"),
            "hello"
        );
        assert_eq!(without_reminders("a <system-reminder> that never ends"), "a <system-reminder> that never ends");
    }

    #[test]
    fn the_title_is_the_first_thing_the_user_said() {
        let content = json!([{"type":"text","text":"<system-reminder>z</system-reminder>"},{"type":"text","text":"fix\n the  bug"}]);
        assert_eq!(title(&content).as_deref(), Some("fix the bug"));
        assert_eq!(title(&json!("x".repeat(100))).unwrap().chars().count(), 81);
    }

    #[test]
    fn words_reach_into_tools_and_skip_images() {
        let content = json!([
            {"type":"tool_use","id":"t","name":"Bash","input":{"command":"ls -la","n":3}},
            {"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"total 8"}]},
            {"type":"image","source":{"data":"AAAA"}}
        ]);
        assert_eq!(words(&content), "Bash\nls -la\ntotal 8");
    }
}
