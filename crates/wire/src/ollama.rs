//! Ollama's own API (`/api/chat`, `/api/generate`): replies in the same form as Anthropic's.
//!
//! A reply is a JSON object a line, each with the next piece; one that is not streamed is a single line. The last has `done`,
//! and with it the message is complete.
//!
//! Source of the format: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use serde_json::{Value, json};

use crate::assembled::{Assembled, Object, Usage, message, take_error, take_object, text_of};

/// The reply that a whole recorded body (content codings undone) comes to, streamed or not. `None` if no line is one of a
/// reply's.
pub fn assemble(body: &[u8]) -> Option<Assembled> {
    let mut assembler = Assembler::default();
    body.split(|byte| *byte == b'\n').for_each(|line| assembler.push(line));
    assembler.has_begun.then(|| assembler.finish())
}

/// Puts a message together from lines as they come.
#[derive(Debug, Default)]
pub struct Assembler {
    has_begun: bool,
    model: Option<String>,
    thinking: String,
    text: String,
    calls: Vec<Value>,
    stop: Option<String>,
    usage: Object,
    /// Everything but the message and what is derived from it.
    result: Assembled,
}

impl Assembler {
    /// Takes the next line. Half of one, where the reply broke off, says nothing.
    pub fn push(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Object>(line) {
            Ok(part) if ["message", "response", "done", "error"].iter().any(|field| part.contains_key(*field)) => {
                self.add(part)
            }
            Ok(other) => {
                self.result.unknown_events += 1;
                self.result.unknown.push(Value::Object(other));
            }
            Err(_) => {}
        }
    }

    /// Ends the reply, wherever it stands.
    pub fn finish(self) -> Assembled {
        let tokens = |field: &str| self.usage.get(field).and_then(Value::as_u64);
        let usage = Usage {
            input_tokens: tokens("prompt_eval_count"),
            output_tokens: tokens("eval_count"),
            ..Usage::default()
        };
        let mut content = Vec::new();
        for (kind, text) in [("thinking", self.thinking), ("text", self.text)] {
            if !text.is_empty() {
                content.push(json!({"type": kind, kind: text}));
            }
        }
        content.extend(self.calls);
        let counts = Some(self.usage).filter(|counts| !counts.is_empty()).map_or(Value::Null, Value::Object);
        let message = message(None, self.model.as_deref(), content, self.stop.as_deref(), counts);
        Assembled {
            message: Value::Object(message),
            model: self.model,
            usage,
            stop_reason: self.stop,
            complete: self.result.complete && self.result.error.is_none(),
            ..self.result
        }
    }

    fn add(&mut self, mut part: Object) {
        self.has_begun = true;
        if let Some(error) = take_error(&mut part) {
            self.result.error = Some(error);
        }
        self.model = self.model.take().or_else(|| text_of(&part, "model"));
        // `/api/generate` has these two beside the rest, `/api/chat` within the message.
        self.text.push_str(part.get("response").and_then(Value::as_str).unwrap_or_default());
        self.thinking.push_str(part.get("thinking").and_then(Value::as_str).unwrap_or_default());
        if let Some(message) = take_object(&mut part, "message") {
            self.text.push_str(message.get("content").and_then(Value::as_str).unwrap_or_default());
            self.thinking.push_str(message.get("thinking").and_then(Value::as_str).unwrap_or_default());
            self.calls.extend(calls(message.get("tool_calls")));
        }
        if part.get("done") == Some(&json!(true)) {
            self.result.complete = true;
            self.stop = text_of(&part, "done_reason");
            self.usage = part.into_iter().filter(|(field, _)| field.ends_with("_count")).collect();
        }
    }
}

/// The calls of functions in a message, which have no ids in older versions: there the function's name is one.
pub fn calls(calls: Option<&Value>) -> Vec<Value> {
    let block = |call: &Value| {
        let function = &call["function"];
        let id = call.get("id").unwrap_or(&function["name"]);
        json!({"type": "tool_use", "id": id, "name": function["name"], "input": function["arguments"]})
    };
    calls.and_then(Value::as_array).into_iter().flatten().map(block).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = concat!(
        r#"{"model":"llama-x","message":{"role":"assistant","content":"","thinking":"So"},"done":false}"#,
        "\n",
        r#"{"model":"llama-x","message":{"role":"assistant","content":"Hal"},"done":false}"#,
        "\n",
        r#"{"model":"llama-x","message":{"content":"lo","tool_calls":[{"function":{"name":"ls","arguments":{"p":1}}}]},"done":false}"#,
        "\n",
        r#"{"model":"llama-x","message":{"content":""},"done":true,"done_reason":"stop","prompt_eval_count":11,"eval_count":7}"#,
        "\n",
    );

    #[test]
    fn a_reply_is_put_together_line_by_line() {
        let assembled = assemble(REPLY.as_bytes()).unwrap();
        let expected = json!([
            {"type": "thinking", "thinking": "So"},
            {"type": "text", "text": "Hallo"},
            {"type": "tool_use", "id": "ls", "name": "ls", "input": {"p": 1}},
        ]);
        assert_eq!(assembled.message["content"], expected);
        assert_eq!((assembled.model.as_deref(), assembled.stop_reason.as_deref()), (Some("llama-x"), Some("stop")));
        assert_eq!((assembled.usage.input_tokens, assembled.usage.output_tokens), (Some(11), Some(7)));
        assert!(assembled.complete);
    }

    #[test]
    fn a_reply_in_one_piece_and_that_of_generate_read_alike() {
        let whole = assemble(br#"{"model":"m","message":{"content":"Hello"},"done":true,"eval_count":2}"#).unwrap();
        let generated =
            assemble(b"{\"model\":\"m\",\"response\":\"Hel\",\"done\":false}\n{\"response\":\"lo\",\"done\":true,\"eval_count\":2}")
                .unwrap();
        assert_eq!(whole, generated);
        assert_eq!(whole.message["content"], json!([{"type": "text", "text": "Hello"}]));
    }

    #[test]
    fn what_breaks_off_fails_or_is_no_reply_is_told_apart() {
        let cut = assemble(&REPLY.as_bytes()[..REPLY.find("lo\",").unwrap()]).unwrap();
        assert_eq!((cut.complete, &cut.message["content"][1]["text"]), (false, &json!("Hal")));
        let failed = assemble(b"{\"message\":{\"content\":\"a\"}}\n{\"error\":\"out of memory\"}\n").unwrap();
        assert_eq!((failed.complete, failed.error), (false, Some(json!("out of memory"))));
        for other in ["", "\n", "<html>", "[1]", r#"{"models":[]}"#] {
            assert_eq!(assemble(other.as_bytes()), None, "{other}");
        }
    }
}
