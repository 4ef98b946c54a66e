//! `dewey_begin_conversation`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;
use winni::model::{ConversationSource, NewConversation};

use super::{MAX_METADATA_BYTES, MAX_NAME_BYTES, refused};
use crate::Dewey;
use crate::schema;

pub(super) const NAME: &str = "dewey_begin_conversation";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Begin a conversation",
        description: "Begins a conversation that messages can be stored in.",
        input_schema: schema::input(
            json!({
                "session_id": schema::text("The session that it belongs to; a new one if absent"),
                "metadata": schema::metadata("Whatever describes it; its `title` is shown in lists"),
            }),
            &[],
        ),
        output_schema: schema::output(json!({
            "conversation_id": schema::id("The conversation"),
            "session_id": schema::text("Its session"),
            "created_at": schema::time("When it began"),
        })),
        annotations: Annotations::ADDS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let new = NewConversation {
        session_id: arguments.text("session_id", MAX_NAME_BYTES)?,
        metadata: arguments.object("metadata", MAX_METADATA_BYTES)?.unwrap_or_else(|| json!({})),
        source: ConversationSource::Stored,
    };
    let begun = dewey.store.begin_conversation(new).await.map_err(refused)?;
    ToolOutput::of(&json!({
        "conversation_id": begun.id,
        "session_id": begun.session_id,
        "created_at": begun.created_at,
    }))
}
