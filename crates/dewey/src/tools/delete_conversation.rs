//! `dewey_delete_conversation`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;
use winni::model::Deletion;

use super::{no_conversation, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_delete_conversation";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Delete a conversation",
        description: "Erases a conversation with its messages, for good. Messages that other conversations share stay theirs.",
        input_schema: schema::input(
            json!({
                "conversation_id": schema::id("The conversation"),
                "force": schema::flag("Also one that has messages", false),
            }),
            &["conversation_id"],
        ),
        output_schema: schema::output(json!({
            "deleted": {"type": "boolean"},
            "messages_deleted": schema::count("Messages that went with it"),
        })),
        annotations: Annotations::REMOVES,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let id = arguments.required_uuid("conversation_id")?;
    let force = arguments.boolean("force", false)?;
    match dewey.store.delete_conversation(id, force).await.map_err(refused)? {
        Deletion::Unknown => Err(no_conversation(id)),
        Deletion::Kept { messages } => {
            let messages = if messages == 1 { "1 message".to_owned() } else { format!("{messages} messages") };
            let problem = format!("must be true to delete this conversation: it has {messages}; nothing was deleted");
            Err(ToolError::parameter("force", problem))
        }
        Deletion::Deleted { messages } => ToolOutput::of(&json!({"deleted": true, "messages_deleted": messages})),
    }
}
