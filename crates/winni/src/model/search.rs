//! What a search asks for and what it finds.

use serde::Serialize;
use uuid::Uuid;

use super::Timestamp;

/// What to search for.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// Words, "phrases", `-word`, `word*`, and filters among them: `role:user`, `model:sonnet`, `tool:Bash`, `session:ID`,
    /// `project:/home/ada/app`, `since:2026-11-01`, `until:2h`, `has:error`. Each of them narrows what the other fields of
    /// this query let through. Without any word the newest messages that fit come first.
    pub text: String,
    /// Only this role.
    pub role: Option<String>,
    /// Only conversations that a model answered in whose name has this part.
    pub model: Option<String>,
    /// Only messages that call, or carry the result of, this tool; a `*` at its end makes it a beginning.
    pub tool: Option<String>,
    /// Only this session.
    pub session_id: Option<String>,
    /// Only sessions in this project folder or below it, or in one whose path has this part.
    pub project: Option<String>,
    /// Only messages that carry a tool's error, or that an exchange brought which failed.
    pub has_error: bool,
    /// Only messages recorded at or after.
    pub since: Option<Timestamp>,
    /// Only messages recorded before.
    pub until: Option<Timestamp>,
    /// At most so many.
    pub limit: u64,
    /// Skip so many.
    pub offset: u64,
}

/// One message that a search found.
#[derive(Clone, Debug, Serialize)]
pub struct SearchHit {
    /// The conversation that holds the message.
    pub conversation_id: Uuid,
    /// Its session.
    pub session_id: String,
    /// The message.
    pub message_id: Uuid,
    /// Its turn.
    pub turn: u64,
    /// Its role.
    pub role: String,
    /// What it says: a string, or an array of content blocks.
    pub content: serde_json::Value,
    /// The passage around the match, matches between `[` and `]`.
    pub snippet: String,
    /// Higher is better.
    pub rank: f64,
    /// When the message was recorded.
    pub created_at: Timestamp,
    /// The conversation's metadata, a JSON object.
    pub conversation_metadata: serde_json::Value,
}
