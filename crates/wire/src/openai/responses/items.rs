//! The items of a response: put together from deltas, and turned into blocks.

use super::{BTreeMap, Object, Value, json, text_block, text_of, thinking_block, tool_block};

/// An item under way, or whole.
#[derive(Debug, Default)]
pub(super) struct Item {
    given: Object,
    /// The deltas so far, by the list and the place in it where they belong.
    parts: BTreeMap<(Part, u64), String>,
    /// The arguments or the input of a call so far.
    arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Summary,
    Reasoning,
    Text,
    Refusal,
}

impl Part {
    /// The list that holds such parts, their type, and the field of their text.
    fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Part::Summary => ("summary", "summary_text", "text"),
            Part::Reasoning => ("content", "reasoning_text", "text"),
            Part::Text => ("content", "output_text", "text"),
            Part::Refusal => ("content", "refusal", "refusal"),
        }
    }
}

impl Item {
    pub(super) fn begin(given: Object) -> Self {
        Self { given, ..Self::default() }
    }

    /// An item that its `done` event gave whole; what came in pieces before is in it.
    pub(super) fn whole(given: Object) -> Self {
        Self::begin(given)
    }

    /// Adds a delta; false when its type is not known here.
    pub(super) fn extend(&mut self, kind: &str, data: &Object) -> bool {
        let (part, item_type) = match kind {
            "response.output_text.delta" => (Some(Part::Text), "message"),
            "response.refusal.delta" => (Some(Part::Refusal), "message"),
            "response.reasoning_text.delta" => (Some(Part::Reasoning), "reasoning"),
            "response.reasoning_summary_text.delta" => (Some(Part::Summary), "reasoning"),
            "response.function_call_arguments.delta" => (None, "function_call"),
            "response.custom_tool_call_input.delta" => (None, "custom_tool_call"),
            _ => return false,
        };
        self.given.entry("type").or_insert_with(|| json!(item_type));
        let text = data.get("delta").and_then(Value::as_str).unwrap_or_default();
        let place = ["summary_index", "content_index"].iter().find_map(|name| data.get(*name).and_then(Value::as_u64));
        match part {
            Some(part) => self.parts.entry((part, place.unwrap_or_default())).or_default().push_str(text),
            None => self.arguments.push_str(text),
        }
        true
    }

    /// The item as its `done` event would have given it, as far as it came.
    pub(super) fn finish(mut self) -> Value {
        for ((part, _), text) in self.parts {
            let (list, kind, field) = part.place();
            let element = json!({"type": kind, field: text});
            match self.given.get_mut(list) {
                Some(Value::Array(elements)) => elements.push(element),
                _ => {
                    self.given.insert(list.to_owned(), json!([element]));
                }
            }
        }
        if !self.arguments.is_empty() {
            let is_custom = self.given.get("type").is_some_and(|kind| kind == "custom_tool_call");
            let field = if is_custom { "input" } else { "arguments" };
            self.given.insert(field.to_owned(), self.arguments.into());
        }
        Value::Object(self.given)
    }
}

/// An item as blocks. Types without a counterpart (web searches, images …) stay as they are.
pub(super) fn blocks(item: Value) -> Vec<Value> {
    let Value::Object(item) = item else { return vec![item] };
    let text = |field: &str| item.get(field).and_then(Value::as_str);
    match text("type") {
        Some("message") => list(&item, "content").map(part_block).collect(),
        Some("reasoning") => vec![reasoning_block(&item)],
        Some("function_call") => vec![tool_block(text("call_id"), text("name"), text("arguments").unwrap_or_default())],
        Some("custom_tool_call") => {
            // Its input is free text by definition, even where it looks like JSON.
            let input = text("input").unwrap_or_default();
            vec![json!({"type": "tool_use", "id": text("call_id"), "name": text("name"), "input": input})]
        }
        _ => vec![Value::Object(item)],
    }
}

fn list<'i>(item: &'i Object, field: &str) -> impl Iterator<Item = &'i Value> {
    item.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn part_block(part: &Value) -> Value {
    let (Some("output_text"), Some(text)) = (part["type"].as_str(), part["text"].as_str()) else {
        return part.clone();
    };
    let mut block = text_block(text);
    if part["annotations"].as_array().is_some_and(|annotations| !annotations.is_empty()) {
        block["citations"] = part["annotations"].clone();
    }
    block
}

fn reasoning_block(item: &Object) -> Value {
    let texts = list(item, "summary").chain(list(item, "content"));
    let texts: Vec<&str> = texts.filter_map(|part| part["text"].as_str()).collect();
    let mut block = thinking_block(&texts.join("\n\n"));
    if let Some(encrypted) = text_of(item, "encrypted_content") {
        block["signature"] = encrypted.into();
    }
    block
}
