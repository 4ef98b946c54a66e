//! What a model says, and the bytes in which the Messages API says it.
//!
//! Source: the streaming events of the Messages API (`message_start`, `content_block_*`, `message_delta`,
//! `message_stop`, `ping`, `error`), in the compact JSON that the API sends.

use serde_json::{Value, json};

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block {
    /// Text.
    Text(String),
    /// Thinking, with a signature made of its text.
    Thinking(String),
    /// Thinking that the API has encrypted.
    RedactedThinking(String),
    /// A tool call.
    Tool {
        /// The tool's name.
        name: String,
        /// Its input, an object.
        input: Value,
    },
}

impl Block {
    /// A tool call.
    pub fn tool(name: &str, input: Value) -> Self {
        Self::Tool { name: name.to_owned(), input }
    }

    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// 24 hexadecimal digits from which all ids of the answer are made.
    pub id: String,
    /// The model that answers.
    pub model: String,
    /// What it says.
    pub blocks: Vec<Block>,
    /// Size of the request's body in bytes; the token counts are made from it.
    pub request_bytes: usize,
}

impl Answer {
    /// `tool_use` when a tool is called, else `end_turn`.
    pub fn stop_reason(&self) -> &'static str {
        if self.blocks.iter().any(|block| matches!(block, Block::Tool { .. })) { "tool_use" } else { "end_turn" }
    }

    /// The id of the tool call in block `index`.
    pub fn tool_id(&self, index: usize) -> String {
        format!("toolu_{}{index:02x}", &self.id[..22])
    }

    /// The content array as a client keeps it in its history.
    pub fn content(&self) -> Value {
        self.blocks.iter().enumerate().map(|(i, block)| self.whole(i, block)).collect()
    }

    /// The answer as one JSON body.
    pub fn json(&self) -> Vec<u8> {
        let mut message = self.envelope(self.content(), json!(self.stop_reason()));
        message["usage"]["output_tokens"] = json!(self.output_tokens());
        serde_json::to_vec(&message).expect("JSON")
    }

    /// The answer as a stream, an event a piece.
    pub fn events(&self) -> Vec<Vec<u8>> {
        let start = json!({"type": "message_start", "message": self.envelope(json!([]), Value::Null)});
        let mut events = vec![event(&start), event(&json!({"type": "ping"}))];
        for (index, block) in self.blocks.iter().enumerate() {
            let start =
                json!({"type": "content_block_start", "index": index, "content_block": self.opening(index, block)});
            events.push(event(&start));
            events.extend(
                deltas(block)
                    .into_iter()
                    .map(|delta| event(&json!({"type": "content_block_delta", "index": index, "delta": delta}))),
            );
            events.push(event(&json!({"type": "content_block_stop", "index": index})));
        }
        events.push(event(&json!({
            "type": "message_delta",
            "delta": {"stop_reason": self.stop_reason(), "stop_sequence": null},
            "usage": {"output_tokens": self.output_tokens()},
        })));
        events.push(event(&json!({"type": "message_stop"})));
        events
    }

    fn envelope(&self, content: Value, stop_reason: Value) -> Value {
        json!({
            "id": format!("msg_{}", self.id), "type": "message", "role": "assistant", "model": self.model,
            "content": content, "stop_reason": stop_reason, "stop_sequence": null,
            "usage": {
                "input_tokens": 50, "cache_creation_input_tokens": 200,
                "cache_read_input_tokens": self.request_bytes / 4, "output_tokens": 1,
            },
        })
    }

    fn output_tokens(&self) -> usize {
        serde_json::to_string(&self.content()).expect("JSON").len() / 4 + 1
    }

    fn whole(&self, index: usize, block: &Block) -> Value {
        match block {
            Block::Text(text) => json!({"type": "text", "text": text}),
            Block::Thinking(text) => json!({"type": "thinking", "thinking": text, "signature": signature(text)}),
            Block::RedactedThinking(data) => json!({"type": "redacted_thinking", "data": data}),
            Block::Tool { name, input } => {
                json!({"type": "tool_use", "id": self.tool_id(index), "name": name, "input": input})
            }
        }
    }

    fn opening(&self, index: usize, block: &Block) -> Value {
        match block {
            Block::Text(_) => json!({"type": "text", "text": ""}),
            Block::Thinking(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
            Block::RedactedThinking(_) => self.whole(index, block),
            Block::Tool { name, .. } => {
                json!({"type": "tool_use", "id": self.tool_id(index), "name": name, "input": {}})
            }
        }
    }
}

/// An event in the form of the stream.
pub fn event(data: &Value) -> Vec<u8> {
    let name = data["type"].as_str().expect("an event has a type");
    format!("event: {name}\ndata: {data}\n\n").into_bytes()
}

fn deltas(block: &Block) -> Vec<Value> {
    match block {
        Block::Text(text) => pieces(text, 48).map(|text| json!({"type": "text_delta", "text": text})).collect(),
        Block::Thinking(text) => pieces(text, 48)
            .map(|text| json!({"type": "thinking_delta", "thinking": text}))
            .chain([json!({"type": "signature_delta", "signature": signature(text)})])
            .collect(),
        Block::RedactedThinking(_) => Vec::new(),
        Block::Tool { input, .. } => pieces(&input.to_string(), 60)
            .map(|text| json!({"type": "input_json_delta", "partial_json": text}))
            .collect(),
    }
}

/// At most `size` characters each, cut between characters.
fn pieces(text: &str, size: usize) -> impl Iterator<Item = String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(size).map(|piece| piece.iter().collect()).collect::<Vec<String>>().into_iter()
}

fn signature(text: &str) -> String {
    crate::sha256(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_carries_the_same_content_as_the_whole_message() {
        let answer = Answer {
            id: "0123456789abcdef01234567".to_owned(),
            model: "claude-opus-5-5".to_owned(),
            blocks: vec![
                Block::Thinking("Zuerst überlegen, dann handeln. ".repeat(5)),
                Block::text("Step 1.\n"),
                Block::tool("Bash", json!({"command": "echo \"grüße\""})),
            ],
            request_bytes: 400,
        };
        let mut partial = String::new();
        for piece in answer.events() {
            let text = String::from_utf8(piece).unwrap();
            let data: Value =
                serde_json::from_str(text.lines().nth(1).unwrap().strip_prefix("data: ").unwrap()).unwrap();
            if let Some(json) = data["delta"]["partial_json"].as_str() {
                partial.push_str(json);
            }
        }
        let whole: Value = serde_json::from_slice(&answer.json()).unwrap();
        assert_eq!(whole["content"][2]["input"], serde_json::from_str::<Value>(&partial).unwrap());
        assert_eq!(whole["stop_reason"], "tool_use");
    }
}
