//! `dewey_store_message`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;
use winni::model::{Destination, NewMessage};

use super::{MAX_METADATA_BYTES, MAX_OFFSET, ROLES, refused};
use crate::{Dewey, incoming, schema};

pub(super) const NAME: &str = "dewey_store_message";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Store a message",
        description: "Adds a message to the end of a conversation. Turn numbers are given out in order.",
        input_schema: schema::input(
            json!({
                "conversation_id": schema::id("The conversation"),
                "role": schema::role(),
                "content": schema::content(),
                "turn_number": {
                    "type": "integer",
                    "minimum": 1,
                    "description": "The turn that it must become; refused if that is not the next one",
                },
                "metadata": schema::metadata("Whatever describes the message"),
            }),
            &["conversation_id", "role", "content"],
        ),
        output_schema: schema::output(json!({
            "message_id": schema::id("The message"),
            "turn_number": schema::count("Its place in the conversation, from 1"),
            "created_at": schema::time("When it was stored"),
        })),
        annotations: Annotations::ADDS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let conversation = arguments.required_uuid("conversation_id")?;
    let role = arguments.one_of("role", &ROLES)?;
    let content = arguments.raw("content").map(|raw| incoming::content("content", raw)).transpose()?;
    let (Some(role), Some(content)) = (role, content) else {
        return Err(ToolError::new("`role` and `content` are required"));
    };
    let message = NewMessage {
        role,
        content,
        turn: arguments.integer("turn_number", 1..=MAX_OFFSET)?,
        metadata: arguments.object("metadata", MAX_METADATA_BYTES)?.unwrap_or_else(|| json!({})),
        created_at: None,
    };
    let stored = dewey.store.store_messages(Destination::Existing(conversation), vec![message]).await;
    let (_, stored) = stored.map_err(refused)?;
    dewey.stored.notify_one();
    let Some(stored) = stored.first() else {
        return Err(ToolError::new("the message was not stored"));
    };
    ToolOutput::of(&json!({
        "message_id": stored.id,
        "turn_number": stored.turn,
        "created_at": stored.created_at,
    }))
}
