//! What the APIs that can give several answers to one request share: their chunks tell of the reply (who it is, what it
//! took, what went wrong) and bring the next piece of each answer, by its number.

use serde_json::Value;

use crate::assembled::{Assembled, OTHER_CHOICES, Object, Usage, message, take_error, text_of};
use crate::sse;

/// A reply under way, without what its answers say.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    id: Option<String>,
    model: Option<String>,
    usage: Value,
    /// Everything but the message and what is derived from it.
    pub(crate) result: Assembled,
}

/// What an API calls the fields of a chunk.
pub(crate) struct Names {
    pub(crate) id: &'static str,
    pub(crate) model: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) choices: &'static str,
}

impl Reply {
    /// The chunk in an event. What is none is counted, and kept if it is JSON.
    pub(crate) fn chunk(&mut self, event: &sse::Event, is_chunk: impl Fn(&Object) -> bool) -> Option<Object> {
        match serde_json::from_str::<Object>(&event.data) {
            Ok(chunk) if is_chunk(&chunk) => return Some(chunk),
            Ok(other) => {
                self.result.unknown_events += 1;
                self.result.unknown.push(Value::Object(other));
            }
            // Where the stream broke off there is half an event.
            Err(_) => self.result.unknown_events += u64::from(event.terminated),
        }
        None
    }

    /// Takes what a chunk says of the reply; gives what it brings of each choice.
    pub(crate) fn take(&mut self, mut chunk: Object, names: &Names) -> Vec<(u64, Object)> {
        if let Some(error) = take_error(&mut chunk) {
            self.result.error = Some(error);
        }
        self.id = self.id.take().or_else(|| text_of(&chunk, names.id));
        self.model = self.model.take().or_else(|| text_of(&chunk, names.model));
        // Where several chunks have counts, each has those so far.
        if let Some(usage) = chunk.remove(names.usage).filter(Value::is_object) {
            self.usage = usage;
        }
        let Some(Value::Array(choices)) = chunk.remove(names.choices) else {
            return Vec::new();
        };
        let mut brought = Vec::with_capacity(choices.len());
        for choice in choices {
            match choice {
                Value::Object(choice) => {
                    brought.push((choice.get("index").and_then(Value::as_u64).unwrap_or_default(), choice));
                }
                _ => self.result.misplaced_events += 1,
            }
        }
        brought
    }

    /// Ends the reply with each choice's content and reason to stop. The message is that of the first; the others' contents
    /// are kept beside it.
    pub(crate) fn finish(
        self,
        mut choices: impl Iterator<Item = (Vec<Value>, Option<String>)>,
        usage: impl Fn(&Value) -> Usage,
    ) -> Assembled {
        let (content, stop) = choices.next().unwrap_or_default();
        let used = usage(&self.usage);
        let mut message = message(self.id, self.model.as_deref(), content, stop.as_deref(), self.usage);
        let others: Vec<Value> = choices.map(|(content, _)| Value::Array(content)).collect();
        if !others.is_empty() {
            message.insert(OTHER_CHOICES.to_owned(), Value::Array(others));
        }
        Assembled {
            message: Value::Object(message),
            model: self.model,
            usage: used,
            complete: (self.result.complete || stop.is_some()) && self.result.error.is_none(),
            stop_reason: stop,
            ..self.result
        }
    }
}
