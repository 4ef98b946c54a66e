//! When two messages are the same message, and two histories the same history.
//!
//! Agents resend their history with every turn and do not resend it exactly: cache markers move, reminders come and go,
//! thinking is dropped, old tool results are cleared, system messages follow the git status. The identity of a message
//! is what stays: its role, the words of its text, and the ids of its tool calls and results.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::text::{self, Block};
use crate::model::Timestamp;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The person, or the program that speaks for them.
    User,
    /// The model.
    Assistant,
    /// Instructions.
    System,
    /// A tool's result, where an API gives it a role of its own.
    Tool,
}

impl Role {
    /// Every role; the position is the stored number.
    pub const ALL: [Role; 4] = [Role::User, Role::Assistant, Role::System, Role::Tool];

    /// The name under which users know it, e.g. `user`.
    pub fn name(self) -> &'static str {
        match self {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System => "system",
            Role::Tool => "tool",
        }
    }

    /// The role that an API or a user calls so.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "developer" => Some(Role::System),
            "model" => Some(Role::Assistant),
            "function" => Some(Role::Tool),
            _ => Self::ALL.into_iter().find(|r| r.name() == name),
        }
    }
}

/// A message's id follows from where and when it stands, so that it need not be stored.
pub(crate) fn message_uuid(at: Timestamp, conversation: Uuid, turn: u64) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    hasher.update(conversation.as_bytes());
    hasher.update(&turn.to_le_bytes());
    let mut random = [0; 10];
    random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis((at.0 / 1000).max(0) as u64, &random).into_uuid()
}

/// Identity of one message.
pub(crate) type MessageDigest = [u8; 16];

/// Identity of a history up to and including one message.
pub(crate) type Chain = [u8; 16];

/// The history before the first message.
pub(crate) const EMPTY: Chain = [0; 16];

/// The history `before`, continued by one message.
pub(crate) fn continued(before: &Chain, message: &MessageDigest) -> Chain {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(message);
    short(&hasher)
}

/// Identity of a message from its role and what it says.
pub(crate) fn digest(role: Role, content: &Value) -> MessageDigest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(role.name().as_bytes());
    if role != Role::System {
        text::blocks(content).iter().for_each(|block| add(&mut hasher, block));
    }
    short(&hasher)
}

fn add(hasher: &mut blake3::Hasher, block: &Block<'_>) {
    match block {
        Block::Text(text) => {
            let text = text::without_reminders(text);
            if !text.is_empty() {
                field(hasher, b't', text.as_bytes());
            }
        }
        Block::Thinking(_) => {}
        Block::ToolUse { id, name, .. } => {
            field(hasher, b'u', id.as_bytes());
            field(hasher, b'n', name.as_bytes());
        }
        Block::ToolResult { id, .. } => field(hasher, b'r', id.as_bytes()),
        Block::Other(value) => field(hasher, b'o', without_cache_control(value).to_string().as_bytes()),
    }
}

fn without_cache_control(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Object(fields) = &mut value {
        fields.shift_remove("cache_control");
    }
    value
}

fn field(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn short(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_agents_change_in_passing_does_not_change_a_message() {
        let newest = json!([{"type":"text","text":"<system-reminder>r</system-reminder>"},{"type":"text","text":"go on","cache_control":{"type":"ephemeral"}}]);
        assert_eq!(digest(Role::User, &newest), digest(Role::User, &json!("go on ")));
        let answer = json!([{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"t1","name":"Bash","input":{"a":1}}]);
        let resent = json!([{"type":"tool_use","id":"t1","name":"Bash","input":{}}]);
        assert_eq!(digest(Role::Assistant, &answer), digest(Role::Assistant, &resent));
        let result = json!([{"type":"tool_result","tool_use_id":"t1","content":"lots"}]);
        let cleared = json!([{"type":"tool_result","tool_use_id":"t1","content":"[cleared]"}]);
        assert_eq!(digest(Role::User, &result), digest(Role::User, &cleared));
        assert_eq!(digest(Role::System, &json!("a")), digest(Role::System, &json!("b")));
    }

    #[test]
    fn what_was_said_and_by_whom_makes_a_message() {
        assert_ne!(digest(Role::User, &json!("a")), digest(Role::User, &json!("b")));
        assert_ne!(digest(Role::User, &json!("a")), digest(Role::Assistant, &json!("a")));
        let call = |id: &str| json!([{"type":"tool_use","id":id,"name":"Bash","input":{}}]);
        assert_ne!(digest(Role::Assistant, &call("t1")), digest(Role::Assistant, &call("t2")));
    }
}
