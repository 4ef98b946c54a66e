//! How each client writes a request: fields, key order, and where the cache marks stand.
//!
//! Seen in captures of the real programs: 2.1.x sends `model, messages, system, tools, metadata, …`, may have a message
//! of role `system`, and marks the newest message only; 2.0.5 has another order and marks the newest two. A message
//! that loses its mark and consists of one text flips from an array of blocks to a plain string.

use serde_json::{Map, Value, json};

use super::prose;
use crate::DUMMY_KEY;
use crate::random::Random;

/// A client that can be imitated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Claude Code 2.1.330.
    Newest,
    /// Claude Code 2.1.197.
    Middle,
    /// Claude Code 2.0.5: no session or agent headers.
    Oldest,
}

/// A message of a history.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `user`, `assistant` or `system`.
    pub role: &'static str,
    /// Content blocks.
    pub blocks: Vec<Value>,
}

impl Message {
    /// A message of texts.
    pub fn texts<S: Into<String>>(role: &'static str, texts: impl IntoIterator<Item = S>) -> Self {
        let blocks = texts.into_iter().map(|text| json!({"type": "text", "text": text.into()})).collect();
        Self { role, blocks }
    }

    fn write(&self, marked: bool) -> Value {
        let mut blocks = self.blocks.clone();
        match (marked, blocks.as_mut_slice()) {
            (true, [.., last]) => last["cache_control"] = json!({"type": "ephemeral"}),
            (false, [only]) if only["type"] == "text" => return json!({"role": self.role, "content": only["text"]}),
            _ => {}
        }
        json!({"role": self.role, "content": blocks})
    }
}

/// Who speaks in a request.
#[derive(Clone, Debug, Default)]
pub struct Speaker {
    /// The session's id.
    pub session: String,
    /// 64 hexadecimal digits.
    pub device: String,
    /// A sub-agent's id.
    pub agent: Option<String>,
    /// The id of the sub-agent that started it.
    pub parent_agent: Option<String>,
}

impl Client {
    /// The model of its turns.
    pub fn model(self) -> &'static str {
        match self {
            Self::Newest => "claude-opus-5-5",
            Self::Middle => "claude-opus-4-8",
            Self::Oldest => "claude-sonnet-4-5-20250929",
        }
    }

    /// The name of its sub-agent tool.
    pub fn agent_tool(self) -> &'static str {
        if self == Self::Oldest { "Task" } else { "Agent" }
    }

    /// Whether its histories have messages of role `system`.
    pub fn has_system_messages(self) -> bool {
        self != Self::Oldest
    }

    /// The fields of a request, in the order in which the client sends them.
    pub fn fields(self, speaker: &Speaker) -> Vec<(String, String)> {
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let agent = match self {
            Self::Newest => "claude-cli/2.1.330 (external, sdk-cli)",
            Self::Middle => "claude-cli/2.1.197 (external, sdk-cli)",
            Self::Oldest => "claude-cli/2.0.5 (external, sdk-cli)",
        };
        let mut fields = vec![pair(("Accept", "application/json")), pair(("Content-Type", "application/json"))];
        fields.push(pair(("User-Agent", agent)));
        if self != Self::Oldest {
            fields.push(pair(("X-Claude-Code-Session-Id", &speaker.session)));
            fields.extend(speaker.agent.iter().map(|id| pair(("x-claude-code-agent-id", id))));
            fields.extend(speaker.parent_agent.iter().map(|id| pair(("x-claude-code-parent-agent-id", id))));
        }
        fields.extend([("X-Stainless-Retry-Count", "0"), ("X-Stainless-Lang", "js")].map(pair));
        fields.extend([("anthropic-version", "2023-06-01"), ("x-api-key", DUMMY_KEY), ("x-app", "cli")].map(pair));
        fields.push(pair(("Accept-Encoding", "gzip, deflate, br, zstd")));
        fields
    }

    /// The body of a turn.
    pub fn turn(self, speaker: &Speaker, history: &[Message]) -> Vec<u8> {
        let marks = if self == Self::Oldest { 2 } else { 1 };
        let write = |(i, message): (usize, &Message)| message.write(i + marks >= history.len());
        let messages: Value = history.iter().enumerate().map(write).collect();
        let (system, tools) = (self.system(speaker), self.tools(speaker));
        let (user, max_tokens) = (self.metadata(speaker), if self == Self::Oldest { 32_000 } else { 128_000 });
        let body = match self {
            Self::Oldest => json!({
                "model": self.model(), "messages": messages, "temperature": 1, "system": system, "tools": tools,
                "metadata": user, "max_tokens": max_tokens, "stream": true,
            }),
            Self::Newest | Self::Middle => json!({
                "model": self.model(), "messages": messages, "system": system, "tools": tools, "metadata": user,
                "max_tokens": max_tokens, "thinking": {"type": "adaptive", "display": "updates"},
                "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
                "output_config": {"effort": "medium"}, "stream": true,
            }),
        };
        bytes(&body)
    }

    /// The body of a side call that asks for a title.
    pub fn title_call(self, speaker: &Speaker, prompt: &str) -> Vec<u8> {
        let system = json!([{"type": "text", "text": "Summarize this coding conversation in under 50 characters."}]);
        let user = self.metadata(speaker);
        let body = if self == Self::Oldest {
            json!({
                "model": "claude-3-5-haiku-20241022", "max_tokens": 512,
                "messages": [{"role": "user", "content": format!("Please write a 5-10 word title for: {prompt}")}],
                "system": system, "temperature": 0, "metadata": user, "stream": true,
            })
        } else {
            let schema = json!({"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]});
            let content = json!([{"type": "text", "text": prompt}]);
            json!({
                "model": "claude-haiku-4-5-20251001", "messages": [{"role": "user", "content": content}],
                "system": system, "tools": [], "metadata": user, "max_tokens": 32000,
                "output_config": {"format": {"type": "json_schema", "schema": schema}}, "stream": true,
            })
        };
        bytes(&body)
    }

    fn metadata(self, speaker: &Speaker) -> Value {
        let Speaker { session, device, .. } = speaker;
        let id = match self {
            Self::Oldest => format!("user_{device}_account__session_{session}"),
            _ => json!({"device_id": device, "account_uuid": "", "session_id": session}).to_string(),
        };
        json!({"user_id": id})
    }

    fn system(self, speaker: &Speaker) -> Value {
        let mark = json!({"type": "ephemeral"});
        let role = if speaker.agent.is_some() { "sub-agent" } else { "interactive agent" };
        let mut random = Random::new(self as u64 * 2 + u64::from(speaker.agent.is_some()));
        let rules = format!("You are an {role}. {}", prose::sentences(&mut random, 7_000));
        let identity = json!({"type": "text", "text": "You are a test agent of a recorder.", "cache_control": mark});
        let mut blocks = vec![identity, json!({"type": "text", "text": rules, "cache_control": mark})];
        if self != Self::Oldest {
            let billing = format!("x-billing-header: version={self:?}; subagent={}", speaker.agent.is_some());
            blocks.insert(0, json!({"type": "text", "text": billing}));
        }
        Value::Array(blocks)
    }

    fn tools(self, speaker: &Speaker) -> Value {
        let mut names =
            vec![self.agent_tool(), "Bash", "Edit", "Glob", "Grep", "Read", "Write", "WebFetch", "TodoWrite"];
        if speaker.agent.is_some() {
            names.truncate(7);
        }
        let mut random = Random::new(77 + self as u64);
        names.into_iter().map(|name| tool(name, &mut random)).collect()
    }
}

fn tool(name: &str, random: &mut Random) -> Value {
    let size = random.between(800, 4_000);
    let mut properties = Map::new();
    for key in ["command", "file_path", "description"] {
        properties.insert(key.to_owned(), json!({"type": "string", "description": prose::sentences(random, 120)}));
    }
    json!({
        "name": name, "description": prose::sentences(random, size),
        "input_schema": {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object", "properties": properties,
            "required": ["command"], "additionalProperties": false,
        },
    })
}

fn bytes(body: &Value) -> Vec<u8> {
    serde_json::to_vec(body).expect("JSON")
}
