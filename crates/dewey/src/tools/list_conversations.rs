//! `dewey_list_conversations`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::{Value, json};
use winni::model::{Conversation, ConversationFilter, Sort};

use super::{MAX_NAME_BYTES, page, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_list_conversations";

const ORDERS: [(&str, Sort); 2] = [("created_at", Sort::CreatedAt), ("updated_at", Sort::UpdatedAt)];

pub(super) fn tool() -> Tool {
    let conversation = schema::output(json!({
        "id": schema::id("The conversation"),
        "session_id": schema::text("Its session"),
        "created_at": schema::time("When it began"),
        "updated_at": schema::time("When its last message came"),
        "message_count": schema::count("Its messages"),
        "metadata": schema::metadata("What describes it"),
    }));
    Tool {
        name: NAME,
        title: "List conversations",
        description: "Lists conversations, captured and stored, newest first.",
        input_schema: schema::input(
            json!({
                "session_id": schema::text("Only this session's"),
                "limit": schema::page_limit(),
                "offset": schema::offset(),
                "sort_by": {
                    "type": "string",
                    "enum": ["created_at", "updated_at"],
                    "default": "updated_at",
                    "description": "What newest means",
                },
            }),
            &[],
        ),
        output_schema: schema::page_of("conversations", conversation),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let (limit, offset) = page(arguments)?;
    let filter = ConversationFilter {
        session_id: arguments.text("session_id", MAX_NAME_BYTES)?,
        sort: arguments.one_of("sort_by", &ORDERS)?.unwrap_or_default(),
        limit: Some(limit),
        offset,
        ..ConversationFilter::default()
    };
    let total = dewey.store.conversations_total(filter.clone()).await.map_err(refused)?;
    let found = dewey.store.conversations(filter).await.map_err(refused)?;
    let conversations: Vec<Value> = found.iter().map(line).collect();
    ToolOutput::of(&json!({"conversations": conversations, "total": total, "limit": limit, "offset": offset}))
}

fn line(conversation: &Conversation) -> Value {
    json!({
        "id": conversation.id,
        "session_id": conversation.session_id,
        "title": conversation.title,
        "source": conversation.source,
        "created_at": conversation.created_at,
        "updated_at": conversation.updated_at,
        "message_count": conversation.message_count,
        "metadata": conversation.metadata,
    })
}
