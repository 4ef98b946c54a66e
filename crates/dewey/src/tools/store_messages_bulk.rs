//! `dewey_store_messages_bulk`.

use mcp::{Annotations, Arguments, Call, Tool, ToolError, ToolOutput};
use serde_json::json;
use uuid::Uuid;
use winni::model::{ConversationSource, Destination, NewConversation};

use super::{MAX_METADATA_BYTES, MAX_NAME_BYTES, no_conversation, refused};
use crate::incoming::{self, Batch, Source};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_store_messages_bulk";

const MAX_PATH_BYTES: usize = 4096;

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Store many messages",
        description: "Stores many messages at once, all or none: give `messages`, or `messages_file`, and not both. They go \
                      to the end of `conversation_id`, or into a new conversation.",
        input_schema: schema::input(
            json!({
                "messages": schema::list_of(json!({
                    "type": "object",
                    "properties": {
                        "role": schema::role(),
                        "content": schema::content(),
                        "turn_number": {"type": "integer", "minimum": 1},
                        "metadata": schema::metadata("Whatever describes the message"),
                        "created_at": schema::time("When it was said; now if absent"),
                    },
                    "required": ["role", "content"],
                })),
                "messages_file": schema::text(
                    "A file below an import folder of the server: a JSON array of messages, JSON Lines of messages, or a \
                     Claude Code transcript",
                ),
                "conversation_id": schema::id("The conversation; a new one if absent"),
                "session_id": schema::text("The new conversation's session; the transcript's, or a new one, if absent"),
                "metadata": schema::metadata("Whatever describes the new conversation"),
            }),
            &[],
        ),
        output_schema: schema::output(json!({
            "conversation_id": schema::id("Where they are"),
            "stored": schema::count("How many"),
            "message_ids": schema::list_of(schema::id("A message")),
        })),
        annotations: Annotations::ADDS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments, call: &Call) -> Result<ToolOutput, ToolError> {
    let source = source(arguments)?;
    let conversation = arguments.uuid("conversation_id")?;
    let session_id = arguments.text("session_id", MAX_NAME_BYTES)?;
    let metadata = arguments.object("metadata", MAX_METADATA_BYTES)?;
    if let Some(id) = conversation {
        check_existing(dewey, id, session_id.as_deref(), metadata.is_some()).await?;
    }
    let batch = incoming::read(source, dewey.import_folders.clone(), call.clone()).await?;
    let Batch { messages, session_id: read_session_id, is_transcript } = batch;
    let destination = match conversation {
        Some(id) => Destination::Existing(id),
        None => Destination::New(NewConversation {
            session_id: session_id.or(read_session_id),
            metadata: metadata.unwrap_or_else(|| json!({})),
            source: if is_transcript { ConversationSource::Imported } else { ConversationSource::Stored },
        }),
    };
    let total = messages.len() as u64;
    let (conversation, stored) = dewey.store.store_messages(destination, messages).await.map_err(refused)?;
    dewey.stored.notify_one();
    call.report(2 * total, 2 * total, "stored");
    let ids: Vec<Uuid> = stored.iter().map(|message| message.id).collect();
    ToolOutput::of(&json!({"conversation_id": conversation, "stored": ids.len(), "message_ids": ids}))
}

fn source(arguments: &Arguments) -> Result<Source, ToolError> {
    let file = arguments.text("messages_file", MAX_PATH_BYTES)?;
    match (arguments.raw("messages"), file) {
        (Some(messages), None) => Ok(Source::Given(messages.to_owned())),
        (None, Some(file)) => Ok(Source::File(file.into())),
        (None, None) => Err(ToolError::new("`messages` or `messages_file` is required")),
        (Some(_), Some(_)) => Err(ToolError::new("give `messages` or `messages_file`, not both")),
    }
}

/// What describes a conversation is said when it begins; to say something else later would be silently lost.
async fn check_existing(dewey: &Dewey, id: Uuid, session: Option<&str>, has_metadata: bool) -> Result<(), ToolError> {
    let known = dewey.store.conversation(id).await.map_err(refused)?.ok_or_else(|| no_conversation(id))?;
    if session.is_some_and(|session| session != known.session_id) {
        let problem = format!("must be {}, the session of the given conversation, or absent", known.session_id);
        return Err(ToolError::parameter("session_id", problem));
    }
    if has_metadata {
        let problem = "must be absent when `conversation_id` is given: it describes a new conversation";
        return Err(ToolError::parameter("metadata", problem));
    }
    Ok(())
}
