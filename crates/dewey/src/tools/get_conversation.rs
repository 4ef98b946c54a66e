//! `dewey_get_conversation`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{Conversation, Timestamp, Turn};

use super::{MAX_OFFSET, no_conversation, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_get_conversation";

pub(super) fn tool() -> Tool {
    let message = schema::output(json!({
        "id": schema::id("The message"),
        "turn": schema::count("Its place, from 1"),
        "role": schema::role(),
        "content": schema::content(),
        "metadata": schema::metadata("What describes it"),
        "created_at": schema::time("When it was said"),
    }));
    Tool {
        name: NAME,
        title: "Read a conversation",
        description: "Gives a conversation with its messages, in order: one that was stored, or one that was captured.",
        input_schema: schema::input(
            json!({
                "conversation_id": schema::id("The conversation"),
                "limit": {"type": "integer", "minimum": 1, "description": "At most so many messages; all if absent"},
                "offset": schema::offset(),
            }),
            &["conversation_id"],
        ),
        output_schema: schema::output(json!({
            "conversation_id": schema::id("The conversation"),
            "session_id": schema::text("Its session"),
            "created_at": schema::time("When it began"),
            "updated_at": schema::time("When its last message came"),
            "metadata": schema::metadata("What describes it"),
            "messages": schema::list_of(message),
        })),
        annotations: Annotations::READS,
    }
}

/// A conversation as this tool and the resources give it.
#[derive(Serialize)]
pub(crate) struct Shown<'a> {
    conversation_id: Uuid,
    session_id: &'a str,
    title: Option<&'a str>,
    source: &'a str,
    created_at: Timestamp,
    updated_at: Timestamp,
    metadata: &'a Value,
    /// All of them, however many are given here.
    message_count: u64,
    messages: Vec<ShownMessage<'a>>,
}

#[derive(Serialize)]
struct ShownMessage<'a> {
    id: Uuid,
    turn: u64,
    role: &'a str,
    content: &'a Value,
    /// False for an answer that broke off.
    complete: bool,
    metadata: &'a Value,
    created_at: Timestamp,
}

impl<'a> Shown<'a> {
    pub(crate) fn new(conversation: &'a Conversation, turns: &'a [Turn]) -> Self {
        let message = |turn: &'a Turn| ShownMessage {
            id: turn.id,
            turn: turn.turn,
            role: &turn.role,
            content: &turn.content,
            complete: turn.complete,
            metadata: &turn.metadata,
            created_at: turn.created_at,
        };
        Self {
            conversation_id: conversation.id,
            session_id: &conversation.session_id,
            title: conversation.title.as_deref(),
            source: &conversation.source,
            created_at: conversation.created_at,
            updated_at: conversation.updated_at,
            metadata: &conversation.metadata,
            message_count: conversation.message_count,
            messages: turns.iter().map(message).collect(),
        }
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let id = arguments.required_uuid("conversation_id")?;
    let limit = arguments.integer("limit", 1..=MAX_OFFSET)?;
    let offset = arguments.integer("offset", 0..=MAX_OFFSET)?.unwrap_or(0);
    let conversation = dewey.store.conversation(id).await.map_err(refused)?.ok_or_else(|| no_conversation(id))?;
    let turns = dewey.store.turns(id, offset, limit).await.map_err(refused)?;
    ToolOutput::of(&Shown::new(&conversation, &turns))
}
