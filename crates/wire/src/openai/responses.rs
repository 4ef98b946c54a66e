//! The responses API (`/v1/responses`).
//!
//! The stream's last event repeats the whole response; where it came, it is the message. Before that the message is
//! made of the items: whole ones as their `done` event gave them, the one under way from its deltas.
//!
//! Source of the format: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{text_block, thinking_block, tool_block, usage};
use crate::assembled::{Assembled, Object, message, take_error, take_object, text_of};
use crate::sse;

mod items;

use items::Item;

/// The reply that a whole recorded stream (content codings undone) comes to.
pub fn assemble_stream(stream: &[u8]) -> Assembled {
    let mut assembler = Assembler::default();
    sse::events(stream).for_each(|event| assembler.push(&event));
    assembler.finish()
}

/// The reply in a JSON body: a response, or an error. `None` for any other JSON and for what is no JSON.
pub fn assemble_json(body: &[u8]) -> Option<Assembled> {
    let mut reply: Object = serde_json::from_slice(body).ok()?;
    let is_response = reply.get("output").is_some_and(Value::is_array);
    let error = take_error(&mut reply);
    if !is_response && error.is_none() {
        return None;
    }
    let complete = is_response && error.is_none() && has_ended(&reply);
    Some(Assembled { complete, error, ..of_response(reply, Vec::new()) })
}

/// Puts a message together from events as they come.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The response as last given, without what came in pieces since.
    response: Object,
    items: BTreeMap<u64, Item>,
    /// Everything but the message and what is derived from it.
    result: Assembled,
}

impl Assembler {
    /// Takes the next event.
    pub fn push(&mut self, event: &sse::Event) {
        if event.data.trim() == "[DONE]" {
            return;
        }
        let Ok(mut data) = serde_json::from_str::<Object>(&event.data) else {
            // Where the stream broke off there is half an event.
            self.result.unknown_events += u64::from(event.terminated);
            return;
        };
        let kind = text_of(&data, "type").unwrap_or_else(|| event.event.clone());
        let index = data.get("output_index").and_then(Value::as_u64).unwrap_or_default();
        match kind.as_str() {
            "error" => self.result.error = Some(take_error(&mut data).unwrap_or(Value::Object(data))),
            "response.output_item.added" => {
                let item = Item::begin(take_object(&mut data, "item").unwrap_or_default());
                let replaced = self.items.insert(index, item);
                self.result.misplaced_events += u64::from(replaced.is_some());
            }
            "response.output_item.done" => {
                let item = Item::whole(take_object(&mut data, "item").unwrap_or_default());
                self.items.insert(index, item);
            }
            kind if kind.ends_with(".delta") => {
                self.result.misplaced_events += u64::from(!self.items.contains_key(&index));
                let known = self.items.entry(index).or_default().extend(kind, &data);
                self.result.unknown_events += u64::from(!known);
            }
            kind if kind.starts_with("response.") => self.update(data),
            _ => {
                self.result.unknown_events += 1;
                self.result.unknown.push(Value::Object(data));
            }
        }
    }

    /// Ends the stream, wherever it stands.
    pub fn finish(self) -> Assembled {
        let items: Vec<Value> = self.items.into_values().map(Item::finish).collect();
        let error = self.result.error;
        let complete = self.result.complete && error.is_none();
        let Assembled { message, model, usage, stop_reason, .. } = of_response(self.response, items);
        Assembled { message, model, usage, stop_reason, complete, error, ..self.result }
    }

    /// Takes the response that an event carries. The others (`….done`, `response.content_part.added`, progress of
    /// server tools …) repeat what deltas and items say.
    fn update(&mut self, mut data: Object) {
        let Some(mut response) = take_object(&mut data, "response") else {
            return;
        };
        if let Some(error) = take_error(&mut response) {
            self.result.error = Some(error);
        }
        self.result.complete |= has_ended(&response);
        self.response = response;
    }
}

/// Whether the response says of itself that nothing more will come; one cut at its token limit has ended, too.
fn has_ended(response: &Object) -> bool {
    matches!(response.get("status").and_then(Value::as_str), Some("completed" | "incomplete"))
}

/// The message in a response; its own output counts before the items that came one by one.
fn of_response(mut response: Object, items: Vec<Value>) -> Assembled {
    let output = match response.remove("output") {
        Some(Value::Array(output)) if !output.is_empty() => output,
        _ => items,
    };
    let content = output.into_iter().flat_map(items::blocks).collect();
    let model = text_of(&response, "model");
    let reason = response.get("incomplete_details").and_then(|details| details.get("reason")).and_then(Value::as_str);
    let stop_reason = reason.map(str::to_owned).or_else(|| text_of(&response, "status"));
    let raw_usage = response.get("usage").cloned().unwrap_or_default();
    let used = usage(&raw_usage);
    let id = text_of(&response, "id");
    Assembled {
        message: Value::Object(message(id, model.as_deref(), content, stop_reason.as_deref(), raw_usage)),
        model,
        usage: used,
        stop_reason,
        ..Assembled::default()
    }
}

#[cfg(test)]
mod tests;
