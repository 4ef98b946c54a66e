//! What a request asks the fake API for.

use serde_json::Value;

/// What a caller wants besides an answer. Request fields (`x-fake-…`) come first, then markers in the newest user text
/// that has a `SCRIPT:` marker, so that the real Claude Code can ask too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `SCRIPT:name`, and how many answers the script has given since.
    pub script: Option<(String, usize)>,
    /// `DIR:path` or the working folder that the client names: where a script's files go.
    pub folder: Option<String>,
    /// `x-fake-fault` or `FAULT:name`; a marker is played the first time that its request comes, so that a retry succeeds.
    pub fault: Option<String>,
    /// `x-fake-encoding` or `ENCODING:gzip`.
    pub encoding: Option<String>,
    /// `x-fake-pace-ms` or `PACE:20`: milliseconds between two pieces of a stream.
    pub pace_ms: u64,
    /// `x-fake-gate`: the gate at which a fault waits before it strikes, and a lockstep stream before each piece.
    pub gate: Option<String>,
    /// `x-fake-bytes`: the size of the answer's text.
    pub bytes: Option<usize>,
    /// `MCP:path`: the program of an MCP server that the agent shall add.
    pub server: Option<String>,
}

/// The kinds of calls that are not turns of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SideCall {
    /// A title for the session, as JSON.
    Title,
    /// A summary that replaces the history.
    Compaction,
    /// A short question without tools (2.0.5: prefixes of commands, file names, topics).
    Short,
}

/// A request to the Messages API.
#[derive(Clone, Debug)]
pub struct MessageRequest {
    /// The body.
    pub json: Value,
    /// What it asks for.
    pub wishes: Wishes,
}

impl MessageRequest {
    /// Reads a request; `None` when the body is not a JSON object.
    pub fn read(fields: &[(String, String)], body: &[u8]) -> Option<Self> {
        let json: Value = serde_json::from_slice(body).ok().filter(Value::is_object)?;
        let mut wishes = wishes_of_fields(fields);
        add_markers(&mut wishes, &json);
        if wishes.folder.is_none() {
            wishes.folder = working_folder(body);
        }
        Some(Self { json, wishes })
    }

    /// The model that is asked.
    pub fn model(&self) -> &str {
        self.json["model"].as_str().unwrap_or("claude-opus-5-5")
    }

    /// Whether a stream is wanted.
    pub fn streamed(&self) -> bool {
        self.json["stream"] == true
    }

    /// The tool of that name, as the client describes it.
    pub fn tool(&self, name: &str) -> Option<&Value> {
        self.json["tools"].as_array()?.iter().find(|tool| tool["name"] == name)
    }

    /// What kind of side call this is, if it is one.
    pub fn side_call(&self) -> Option<SideCall> {
        let newest =
            self.messages().iter().rev().find(|message| message["role"] == "user").map(texts).unwrap_or_default();
        let no_tools = self.json["tools"].as_array().is_none_or(Vec::is_empty);
        if newest.contains("Respond with TEXT ONLY") || newest.contains("detailed summary of the conversation so far") {
            Some(SideCall::Compaction)
        } else if self.json["output_config"]["format"].is_object() {
            Some(SideCall::Title)
        } else if no_tools && self.json["max_tokens"].as_u64().is_some_and(|n| n <= 512) {
            Some(SideCall::Short)
        } else {
            None
        }
    }

    /// What the newest result of a tool that is JSON says under `name`.
    pub fn told(&self, name: &str) -> Option<Value> {
        let results =
            self.messages().iter().rev().flat_map(|message| message["content"].as_array().into_iter().flatten());
        results.filter(|block| block["type"] == "tool_result").find_map(|block| {
            let text = block["content"].as_str().map_or_else(|| texts(block), str::to_owned);
            serde_json::from_str::<Value>(&text).ok()?.get(name).cloned()
        })
    }

    fn messages(&self) -> &[Value] {
        self.json["messages"].as_array().map(Vec::as_slice).unwrap_or_default()
    }
}

/// The wishes that stand in a request's fields.
pub fn wishes_of_fields(fields: &[(String, String)]) -> Wishes {
    let get = |name: &str| fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone());
    let number = |name: &str| get(name).and_then(|value| value.parse().ok());
    Wishes {
        script: get("x-fake-script").map(|name| (name, 0)),
        folder: None,
        fault: get("x-fake-fault"),
        encoding: get("x-fake-encoding"),
        pace_ms: number("x-fake-pace-ms").unwrap_or(0) as u64,
        gate: get("x-fake-gate"),
        bytes: number("x-fake-bytes"),
        server: None,
    }
}

fn add_markers(wishes: &mut Wishes, json: &Value) {
    let messages = json["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let marked =
        messages.iter().enumerate().rev().filter(|(_, message)| message["role"] == "user").find_map(|(i, message)| {
            let text = texts(message);
            marker(&text, "SCRIPT:").map(|name| (i, name, text))
        });
    let Some((position, name, text)) = marked else { return };
    let step = messages[position..].iter().filter(|message| message["role"] == "assistant").count();
    wishes.script.get_or_insert((name, step));
    wishes.folder = marker(&text, "DIR:");
    wishes.server = marker(&text, "MCP:");
    wishes.encoding = wishes.encoding.take().or_else(|| marker(&text, "ENCODING:"));
    if wishes.pace_ms == 0 {
        wishes.pace_ms = marker(&text, "PACE:").and_then(|ms| ms.parse().ok()).unwrap_or(0);
    }
    if wishes.fault.is_none() && step == 0 {
        wishes.fault = marker(&text, "FAULT:").map(|name| format!("{name}:once"));
    }
}

/// The text that a message's author wrote: not the results of tools.
fn texts(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

/// The last marker of that name, up to white space or a quotation mark.
fn marker(text: &str, name: &str) -> Option<String> {
    let rest = &text[text.rfind(name)? + name.len()..];
    let value: String = rest.chars().take_while(|c| !c.is_whitespace() && !"\"'`<>\\".contains(*c)).collect();
    Some(value).filter(|value| !value.is_empty())
}

/// The working folder as Claude Code states it in its prompts.
fn working_folder(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    ["orking directory: /"].iter().find_map(|label| {
        let at = text.find(label)? + label.len() - 1;
        let folder: String = text[at..].chars().take_while(|c| !c.is_whitespace() && !"\"\\<".contains(*c)).collect();
        Some(folder)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> MessageRequest {
        let body = json!({"model": "m", "messages": messages, "tools": [{"name": "Bash"}], "stream": true});
        MessageRequest::read(&[], &serde_json::to_vec(&body).unwrap()).unwrap()
    }

    #[test]
    fn the_newest_marker_counts_and_its_step_is_the_number_of_answers_since() {
        let request = read(json!([
            {"role": "user", "content": [{"type": "text", "text": "SCRIPT:long go on DIR:/tmp/a"}]},
            {"role": "assistant", "content": "one"},
            {"role": "user", "content": "SCRIPT:again PACE:7 please"},
            {"role": "assistant", "content": [{"type": "tool_use", "input": {"prompt": "SCRIPT:sub"}}]},
            {"role": "user", "content": [{"type": "tool_result", "content": "SCRIPT:trap"}]},
        ]));
        assert_eq!(request.wishes.script, Some(("again".to_owned(), 1)));
        assert_eq!(request.wishes.pace_ms, 7);
        assert_eq!(request.side_call(), None);
    }

    #[test]
    fn fields_come_before_markers_and_a_fault_by_marker_strikes_once() {
        let body = json!({"messages": [{"role": "user", "content": "SCRIPT:hello FAULT:status_529 ENCODING:gzip"}]});
        let body = serde_json::to_vec(&body).unwrap();
        let marked = MessageRequest::read(&[], &body).unwrap().wishes;
        assert_eq!(marked.fault.as_deref(), Some("status_529:once"));
        assert_eq!(marked.encoding.as_deref(), Some("gzip"));
        let fields = [("X-Fake-Fault".to_owned(), "hang".to_owned())];
        assert_eq!(MessageRequest::read(&fields, &body).unwrap().wishes.fault.as_deref(), Some("hang"));
    }
}
