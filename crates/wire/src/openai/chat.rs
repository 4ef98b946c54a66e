//! The chat completions API (`/v1/chat/completions`), which most other servers speak as well.
//!
//! The message is that of the first choice; further ones are kept beside it. It is complete once its choice has a
//! finish reason or `[DONE]` was seen: not every server sends both.
//!
//! Source of the format: <https://platform.openai.com/docs/api-reference/chat-streaming>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{text_block, thinking_block, tool_block, usage};
use crate::assembled::{Assembled, Object, take_object, text_of};
use crate::choices::{Names, Reply};
use crate::sse;

/// The fields of a chunk.
const NAMES: Names = Names { id: "id", model: "model", usage: "usage", choices: "choices" };

/// The reply that a whole recorded stream (content codings undone) comes to.
pub fn assemble_stream(stream: &[u8]) -> Assembled {
    let mut assembler = Assembler::default();
    sse::events(stream).for_each(|event| assembler.push(&event));
    assembler.finish()
}

/// The reply in a JSON body: a completion, or an error. `None` for any other JSON and for what is no JSON.
pub fn assemble_json(body: &[u8]) -> Option<Assembled> {
    let reply: Object = serde_json::from_slice(body).ok()?;
    if !reply.get("choices").is_some_and(Value::is_array) && reply.get("error").is_none_or(Value::is_null) {
        return None;
    }
    let mut assembler = Assembler::default();
    assembler.add(reply);
    let mut assembled = assembler.finish();
    assembled.complete = assembled.error.is_none();
    Some(assembled)
}

/// Puts a message together from events as they come.
#[derive(Debug, Default)]
pub struct Assembler {
    reply: Reply,
    choices: BTreeMap<u64, Choice>,
}

#[derive(Debug, Default)]
struct Choice {
    reasoning: String,
    text: String,
    refusal: String,
    tools: BTreeMap<u64, Tool>,
    finish_reason: Option<String>,
}

#[derive(Debug, Default)]
struct Tool {
    id: Option<String>,
    name: Option<String>,
    arguments: String,
}

impl Assembler {
    /// Takes the next event.
    pub fn push(&mut self, event: &sse::Event) {
        if event.data.trim() == "[DONE]" {
            self.reply.result.complete = true;
            return;
        }
        let is_chunk = |chunk: &Object| ["choices", "usage", "error"].iter().any(|field| chunk.contains_key(*field));
        if let Some(chunk) = self.reply.chunk(event, is_chunk) {
            self.add(chunk);
        }
    }

    /// Ends the stream, wherever it stands.
    pub fn finish(self) -> Assembled {
        self.reply.finish(self.choices.into_values().map(Choice::finish), usage)
    }

    /// Adds a chunk, or a whole completion: they differ in `delta` and `message` only.
    fn add(&mut self, chunk: Object) {
        for (index, mut choice) in self.reply.take(chunk, &NAMES) {
            let delta = take_object(&mut choice, "delta").or_else(|| take_object(&mut choice, "message"));
            let so_far = self.choices.entry(index).or_default();
            so_far.add(&delta.unwrap_or_default());
            so_far.finish_reason = text_of(&choice, "finish_reason").or(so_far.finish_reason.take());
        }
    }
}

impl Choice {
    fn add(&mut self, delta: &Object) {
        let text = |field: &str| delta.get(field).and_then(Value::as_str).unwrap_or_default();
        // The name that DeepSeek introduced, and the one that OpenRouter and vLLM use; some servers send both.
        let reasoning = Some(text("reasoning_content")).filter(|reasoning| !reasoning.is_empty());
        self.reasoning.push_str(reasoning.unwrap_or_else(|| text("reasoning")));
        self.text.push_str(text("content"));
        self.refusal.push_str(text("refusal"));
        let calls = delta.get("tool_calls").and_then(Value::as_array).into_iter().flatten();
        for (call, position) in calls.zip(0..) {
            let index = call.get("index").and_then(Value::as_u64).unwrap_or(position);
            self.tools.entry(index).or_default().add(call, "function");
        }
        // The name of the time when there was at most one call.
        if delta.get("function_call").is_some_and(Value::is_object) {
            self.tools.entry(0).or_default().add(&Value::Object(delta.clone()), "function_call");
        }
    }

    fn finish(self) -> (Vec<Value>, Option<String>) {
        let mut content = Vec::new();
        if !self.reasoning.is_empty() {
            content.push(thinking_block(&self.reasoning));
        }
        if !self.text.is_empty() {
            content.push(text_block(&self.text));
        }
        if !self.refusal.is_empty() {
            content.push(json!({"type": "refusal", "refusal": self.refusal}));
        }
        content.extend(self.tools.into_values().map(Tool::finish));
        (content, self.finish_reason)
    }
}

impl Tool {
    fn add(&mut self, call: &Value, function: &str) {
        let text =
            |value: Option<&Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned);
        let function = call.get(function).unwrap_or(&Value::Null);
        self.id = self.id.take().or_else(|| text(call.get("id")));
        self.name = self.name.take().or_else(|| text(function.get("name")));
        self.arguments.push_str(function.get("arguments").and_then(Value::as_str).unwrap_or_default());
    }

    fn finish(self) -> Value {
        tool_block(self.id.as_deref(), self.name.as_deref(), &self.arguments)
    }
}

#[cfg(test)]
mod tests;
