//! Anthropic's messages API: a reply from its events, or from its one JSON body.
//!
//! Guaranteed: whatever bytes come in, there is a result. A stream may break off anywhere; the message is then what had
//! arrived, and `complete` is false. Block types that are given whole (`redacted_thinking`, server tools and their
//! results, and any that does not exist yet) are kept as they came. Deltas, and events, of unknown types are counted
//! and kept.
//!
//! Source of the format: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::assembled::{Assembled, Block, Blocks, Object, UNKNOWN_DELTAS, Usage, merge, take_object, text_of};
use crate::sse;

/// The reply that a whole recorded stream (content codings undone) comes to.
pub fn assemble_stream(stream: &[u8]) -> Assembled {
    let mut assembler = Assembler::default();
    let mut parser = sse::Parser::new();
    let mut rest = stream;
    // Event by event where each ends with a blank line of LFs; what has other line ends comes as one piece.
    while !rest.is_empty() {
        let end = memchr::memmem::find(rest, b"\n\n").map_or(rest.len(), |at| at + 2);
        let (event, after) = rest.split_at(end);
        // The very first one may begin with a byte order mark, which is the parser's to know.
        if rest.len() == stream.len() || !plain_data(event).is_some_and(|data| assembler.push_plain_delta(data)) {
            for piece in event.chunks(PIECE_BYTES) {
                parser.feed(piece).for_each(|event| assembler.push(&event));
            }
        }
        rest = after;
    }
    if let Some(event) = parser.finish() {
        assembler.push(&event);
    }
    assembler.finish()
}

/// So much is parsed at a time, so that the events of a large stream never exist all at once.
const PIECE_BYTES: usize = 16 * 1024;

/// The data of an event that is written as the API writes nearly all of them. What it takes to find it must be all that
/// the parser would find there: no other field, no other line end.
fn plain_data(event: &[u8]) -> Option<&str> {
    let data = event.strip_prefix(b"event: content_block_delta\ndata: ")?.strip_suffix(b"\n\n")?;
    if memchr::memchr2(b'\r', b'\n', data).is_some() {
        return None;
    }
    std::str::from_utf8(data).ok()
}

/// The reply in a JSON body: a message, or an error. `None` for any other JSON (a token count, a list of models) and
/// for what is no JSON.
pub fn assemble_json(body: &[u8]) -> Option<Assembled> {
    let mut reply: Object = serde_json::from_slice(body).ok()?;
    match reply.get("type")?.as_str()? {
        "message" => {
            let mut assembled = of_message(reply);
            assembled.complete = true;
            Some(assembled)
        }
        "error" => {
            let error = reply.remove("error").unwrap_or(Value::Object(reply));
            Some(Assembled { error: Some(error), ..of_message(Object::new()) })
        }
        _ => None,
    }
}

/// Puts a message together from events as they come.
#[derive(Debug, Default)]
pub struct Assembler {
    begun: bool,
    message: Object,
    blocks: Blocks,
    /// Everything but the message and what is derived from it.
    result: Assembled,
}

impl Assembler {
    /// Takes the next event.
    pub fn push(&mut self, event: &sse::Event) {
        if !self.push_plain_delta(&event.data) {
            self.push_any(event);
        }
    }

    fn push_any(&mut self, event: &sse::Event) {
        let Ok(mut data) = serde_json::from_str::<Object>(&event.data) else {
            // Where the stream broke off there is half an event. That is no news from the API.
            self.result.unknown_events += u64::from(event.terminated);
            return;
        };
        let kind = text_of(&data, "type").unwrap_or_else(|| event.event.clone());
        let in_place = match kind.as_str() {
            "ping" => true,
            "message_start" => self.begin(data),
            "content_block_start" => self.begin_block(data),
            "content_block_delta" => self.extend_block(data),
            "content_block_stop" => self.blocks.get_mut(index(&data)).is_some(),
            "message_delta" => self.amend(data),
            "message_stop" => !std::mem::replace(&mut self.result.complete, true),
            "error" => {
                self.result.error = Some(data.remove("error").unwrap_or(Value::Object(data)));
                true
            }
            _ => {
                self.result.unknown_events += 1;
                self.result.unknown.push(Value::Object(data));
                true
            }
        };
        self.result.misplaced_events += u64::from(!in_place);
    }

    /// Ends the stream, wherever it stands.
    pub fn finish(mut self) -> Assembled {
        if let Some(Value::Array(given)) = self.message.remove("content")
            && !given.is_empty()
        {
            // The stream's blocks come one by one; a start that has some already is not of this protocol.
            self.result.misplaced_events += 1;
        }
        let content = Value::Array(self.blocks.finish());
        self.message.insert("content".to_owned(), content);
        let Assembled { message, model, usage, stop_reason, .. } = of_message(self.message);
        Assembled { message, model, usage, stop_reason, ..self.result }
    }

    fn begin(&mut self, mut data: Object) -> bool {
        if std::mem::replace(&mut self.begun, true) {
            return false;
        }
        // A delta that came too early has been merged already, and is the later word.
        let early = std::mem::take(&mut self.message);
        self.message = take_object(&mut data, "message").unwrap_or_default();
        self.merge_message(early);
        true
    }

    fn begin_block(&mut self, mut data: Object) -> bool {
        let index = index(&data);
        let block = take_object(&mut data, "content_block").unwrap_or_default();
        self.blocks.begin(index, block) && self.begun
    }

    fn extend_block(&mut self, mut data: Object) -> bool {
        let index = index(&data);
        let delta = take_object(&mut data, "delta").unwrap_or_default();
        let kind = text_of(&delta, "type").unwrap_or_default();
        let known = self.blocks.get_mut(index).is_some();
        let block = self.blocks.get_or_begin(index, block_type(&kind));
        if !apply(block, &kind, &delta) {
            self.result.unknown_events += 1;
            block.push(UNKNOWN_DELTAS, Value::Object(delta));
        }
        known
    }

    /// Takes what nearly all events of a stream are, without building an object of each: a delta of a block that has begun,
    /// of a known type and with nothing but what this type has. False: it is not one, and nothing has been done.
    fn push_plain_delta(&mut self, data: &str) -> bool {
        let Ok(event) = serde_json::from_str::<PlainDelta<'_>>(data) else { return false };
        let Some(block) = self.blocks.get_mut(event.index).filter(|_| event.kind == "content_block_delta") else {
            return false;
        };
        match event.delta {
            Plain { kind: "text_delta", text: Some(text), partial_json: None, thinking: None } => {
                block.append("text", &text.0);
            }
            Plain { kind: "thinking_delta", text: None, partial_json: None, thinking: Some(text) } => {
                block.append("thinking", &text.0);
            }
            Plain { kind: "input_json_delta", text: None, partial_json: Some(json), thinking: None } => {
                block.json.push_str(&json.0);
            }
            _ => return false,
        }
        true
    }

    fn amend(&mut self, mut data: Object) -> bool {
        let delta = take_object(&mut data, "delta").unwrap_or_default();
        data.remove("type");
        self.merge_message(data);
        self.merge_message(delta);
        self.begun
    }

    /// Merges fields into the message; its usage is merged field by field, since a delta names only what it changes.
    fn merge_message(&mut self, mut fields: Object) {
        if let Some(usage) = take_object(&mut fields, "usage") {
            match self.message.get_mut("usage") {
                Some(Value::Object(so_far)) => merge(so_far, usage),
                _ => {
                    self.message.insert("usage".to_owned(), Value::Object(usage));
                }
            }
        }
        merge(&mut self.message, fields);
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PlainDelta<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    index: u64,
    #[serde(borrow)]
    delta: Plain<'a>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow, default)]
    text: Option<PlainText<'a>>,
    #[serde(borrow, default)]
    partial_json: Option<PlainText<'a>>,
    #[serde(borrow, default)]
    thinking: Option<PlainText<'a>>,
}

#[derive(serde::Deserialize)]
struct PlainText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Applies a delta of a known type; false when it is not one.
fn apply(block: &mut Block, kind: &str, delta: &Object) -> bool {
    let text = |field: &str| delta.get(field).and_then(Value::as_str);
    let appended = match kind {
        "text_delta" => text("text").map(|text| block.append("text", text)),
        "thinking_delta" => text("thinking").map(|text| block.append("thinking", text)),
        "signature_delta" => text("signature").map(|text| block.append("signature", text)),
        "input_json_delta" => text("partial_json").map(|text| block.json.push_str(text)),
        "compaction_delta" => text("content").map(|text| block.append("content", text)),
        "citations_delta" => delta.get("citation").map(|citation| block.push("citations", citation.clone())),
        _ => None,
    };
    appended.is_some()
}

/// The type of a block whose beginning is missing, from what is added to it.
fn block_type(delta: &str) -> &'static str {
    match delta {
        "text_delta" | "citations_delta" => "text",
        "thinking_delta" | "signature_delta" => "thinking",
        "input_json_delta" => "tool_use",
        "compaction_delta" => "compaction",
        _ => "unknown",
    }
}

fn index(data: &Object) -> u64 {
    data.get("index").and_then(Value::as_u64).unwrap_or_default()
}

fn of_message(mut message: Object) -> Assembled {
    for (field, default) in [("role", json!("assistant")), ("content", json!([]))] {
        message.entry(field).or_insert(default);
    }
    Assembled {
        model: text_of(&message, "model"),
        stop_reason: text_of(&message, "stop_reason"),
        usage: message.get("usage").map(usage).unwrap_or_default(),
        message: Value::Object(message),
        ..Assembled::default()
    }
}

fn usage(usage: &Value) -> Usage {
    let tokens = |value: &Value, field: &str| value.get(field).and_then(Value::as_u64);
    let by_time = usage.get("cache_creation").unwrap_or(&Value::Null);
    let for_an_hour = tokens(by_time, "ephemeral_1h_input_tokens");
    let for_five_minutes = tokens(by_time, "ephemeral_5m_input_tokens");
    let written_by_time = match (for_an_hour, for_five_minutes) {
        (None, None) => None,
        (hour, minutes) => Some(hour.unwrap_or(0).saturating_add(minutes.unwrap_or(0))),
    };
    Usage {
        input_tokens: tokens(usage, "input_tokens"),
        output_tokens: tokens(usage, "output_tokens"),
        cache_read_tokens: tokens(usage, "cache_read_input_tokens"),
        cache_write_tokens: tokens(usage, "cache_creation_input_tokens").or(written_by_time),
        cache_write_1h_tokens: for_an_hour,
    }
}

#[cfg(test)]
mod tests;
