//! Google's Gemini API (`generateContent`, `streamGenerateContent`): replies in the same form as Anthropic's.
//!
//! A stream is a series of responses, each with the next parts: as events, or, without `alt=sse`, as one JSON array. Texts
//! become `text` blocks, thoughts `thinking`, function calls `tool_use` (a call without an id has its function's name as one); other
//! parts stay as they came. The message is that of the first candidate; further ones are kept beside it. It is complete once
//! there is a finish reason, or the prompt was blocked, which is a `refusal` block. Cached input is taken out of the input
//! tokens, and thoughts are part of the output, as they are billed.
//!
//! Source of the format: <https://ai.google.dev/api/generate-content>.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::assembled::{Assembled, Object, Usage, take_object, text_of};
use crate::choices::{Names, Reply};
use crate::sse;

/// The fields of a response.
const NAMES: Names = Names { id: "responseId", model: "modelVersion", usage: "usageMetadata", choices: "candidates" };

/// The reply that a whole recorded stream of events (content codings undone) comes to.
pub fn assemble_stream(stream: &[u8]) -> Assembled {
    let mut assembler = Assembler::default();
    sse::events(stream).for_each(|event| assembler.push(&event));
    assembler.finish()
}

/// The reply in a JSON body: a response, an array of them, or an error. `None` for any other JSON and for what is no JSON.
pub fn assemble_json(body: &[u8]) -> Option<Assembled> {
    let mut assembler = Assembler::default();
    let responses = match serde_json::from_slice(body).ok()? {
        Value::Array(responses) => responses,
        response => vec![response],
    };
    for response in responses {
        match response {
            Value::Object(response) if is_response(&response) => assembler.add(response),
            _ => return None,
        }
    }
    Some(assembler.finish())
}

/// Puts a message together from responses as they come.
#[derive(Debug, Default)]
pub struct Assembler {
    reply: Reply,
    candidates: BTreeMap<u64, Candidate>,
}

#[derive(Debug, Default)]
struct Candidate {
    content: Vec<Value>,
    finish_reason: Option<String>,
}

impl Assembler {
    /// Takes the next event.
    pub fn push(&mut self, event: &sse::Event) {
        if let Some(response) = self.reply.chunk(event, is_response) {
            self.add(response);
        }
    }

    /// Ends the stream, wherever it stands.
    pub fn finish(self) -> Assembled {
        let candidates = self.candidates.into_values();
        self.reply.finish(candidates.map(|candidate| (candidate.content, candidate.finish_reason)), usage)
    }

    fn add(&mut self, response: Object) {
        if let Some(reason) = response.get("promptFeedback").and_then(|f| f.get("blockReason")).and_then(Value::as_str)
        {
            let refusal = format!("the prompt was blocked ({reason})");
            self.candidates.entry(0).or_default().content.push(json!({"type": "refusal", "refusal": refusal}));
            self.reply.result.complete = true;
        }
        for (index, mut candidate) in self.reply.take(response, &NAMES) {
            let so_far = self.candidates.entry(index).or_default();
            so_far.finish_reason = text_of(&candidate, "finishReason").or(so_far.finish_reason.take());
            let parts = take_object(&mut candidate, "content").and_then(|mut content| content.remove("parts"));
            if let Some(Value::Array(parts)) = parts {
                parts.into_iter().for_each(|part| add_part(&mut so_far.content, part));
            }
        }
    }
}

fn is_response(response: &Object) -> bool {
    ["candidates", "promptFeedback", "usageMetadata", "error"].iter().any(|field| response.contains_key(*field))
}

/// The blocks that the parts of a message come to; consecutive texts of a kind are one.
pub fn blocks(parts: Vec<Value>) -> Vec<Value> {
    let mut blocks = Vec::new();
    parts.into_iter().for_each(|part| add_part(&mut blocks, part));
    blocks
}

fn add_part(blocks: &mut Vec<Value>, part: Value) {
    let name = |call: &Value| call.get("id").or_else(|| call.get("name")).cloned().unwrap_or_default();
    if let Some(text) = part.get("text").and_then(Value::as_str) {
        let kind = if part.get("thought") == Some(&json!(true)) { "thinking" } else { "text" };
        let last = blocks.last_mut().filter(|block| block["type"] == kind).and_then(|block| block.get_mut(kind));
        match last {
            Some(Value::String(so_far)) => so_far.push_str(text),
            _ => blocks.push(json!({"type": kind, kind: text})),
        }
    } else if let Some(call) = part.get("functionCall") {
        let input = call.get("args").cloned().unwrap_or_else(|| json!({}));
        blocks.push(json!({"type": "tool_use", "id": name(call), "name": call["name"], "input": input}));
    } else if let Some(result) = part.get("functionResponse") {
        blocks.push(json!({"type": "tool_result", "tool_use_id": name(result), "content": [result["response"]]}));
    } else {
        blocks.push(part);
    }
}

fn usage(usage: &Value) -> Usage {
    let tokens = |field: &str| usage.get(field).and_then(Value::as_u64);
    let cached = tokens("cachedContentTokenCount");
    let prompt = tokens("promptTokenCount").map(|prompt| prompt + tokens("toolUsePromptTokenCount").unwrap_or(0));
    Usage {
        input_tokens: prompt.map(|prompt| prompt.saturating_sub(cached.unwrap_or(0))),
        output_tokens: tokens("candidatesTokenCount")
            .map(|answered| answered + tokens("thoughtsTokenCount").unwrap_or(0)),
        cache_read_tokens: cached,
        ..Usage::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assembled::OTHER_CHOICES;

    const STREAM: &str = concat!(
        r#"data: {"candidates":[{"content":{"parts":[{"text":"So","thought":true},{"text":"Hal"}],"role":"model"},"index":0}],"#,
        r#""usageMetadata":{"promptTokenCount":9},"modelVersion":"gemini-x","responseId":"r1"}"#,
        "\r\n\r\n",
        r#"data: {"candidates":[{"content":{"parts":[{"text":"lo"},{"functionCall":{"name":"ls","args":{"p":1}}},{"inlineData":{}}]}}]}"#,
        "\r\n\r\n",
        r#"data: {"candidates":[{"finishReason":"STOP"},{"index":1,"content":{"parts":[{"text":"or"}]}}],"usageMetadata":"#,
        r#"{"promptTokenCount":100,"cachedContentTokenCount":64,"candidatesTokenCount":7,"thoughtsTokenCount":5}}"#,
        "\r\n\r\n",
    );

    #[test]
    fn a_stream_is_put_together() {
        let assembled = assemble_stream(STREAM.as_bytes());
        let expected = json!([
            {"type": "thinking", "thinking": "So"},
            {"type": "text", "text": "Hallo"},
            {"type": "tool_use", "id": "ls", "name": "ls", "input": {"p": 1}},
            {"inlineData": {}},
        ]);
        assert_eq!(assembled.message["content"], expected);
        assert_eq!(assembled.message[OTHER_CHOICES], json!([[{"type": "text", "text": "or"}]]));
        assert_eq!((assembled.model.as_deref(), &assembled.message["id"]), (Some("gemini-x"), &json!("r1")));
        assert_eq!(assembled.stop_reason.as_deref(), Some("STOP"));
        let usage = assembled.usage;
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (Some(36), Some(12), Some(64)));
        assert!(assembled.complete);
        assert_eq!((assembled.unknown_events, assembled.misplaced_events), (0, 0));
    }

    #[test]
    fn the_same_as_an_array_or_as_one_response_gives_the_same() {
        let events = STREAM.split("\r\n\r\n").filter_map(|event| event.strip_prefix("data: "));
        let array = format!("[{}]", events.collect::<Vec<_>>().join(","));
        assert_eq!(assemble_json(array.as_bytes()), Some(assemble_stream(STREAM.as_bytes())));
        let whole =
            br#"{"candidates":[{"content":{"parts":[{"text":"a"},{"text":"b"}]},"finishReason":"MAX_TOKENS"}]}"#;
        let assembled = assemble_json(whole).unwrap();
        assert_eq!(assembled.message["content"], json!([{"type": "text", "text": "ab"}]));
        assert_eq!((assembled.complete, assembled.stop_reason.as_deref()), (true, Some("MAX_TOKENS")));
    }

    #[test]
    fn blocked_broken_and_wrong_replies_are_told_apart() {
        let blocked = assemble_json(br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#).unwrap();
        assert!(blocked.complete && blocked.message["content"][0]["refusal"].as_str().unwrap().contains("SAFETY"));
        let error = assemble_json(br#"{"error":{"code":400,"message":"no"}}"#).unwrap();
        assert_eq!((error.complete, error.error), (false, Some(json!({"code": 400, "message": "no"}))));
        let cut = assemble_stream(&STREAM.as_bytes()[..STREAM.find("lo").unwrap()]);
        assert_eq!((cut.complete, cut.unknown_events), (false, 0));
        assert_eq!(cut.message["content"][1], json!({"type": "text", "text": "Hal"}));
        for other in ["{}", "[1]", "5", "<html>", r#"{"candidates":"#] {
            assert_eq!(assemble_json(other.as_bytes()), None, "{other}");
        }
        let odd = assemble_json(br#"{"candidates":[5,{"content":[],"index":-1}],"usageMetadata":7}"#).unwrap();
        assert_eq!((odd.misplaced_events, odd.complete), (1, false));
    }
}
