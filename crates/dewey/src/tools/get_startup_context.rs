//! `dewey_get_startup_context`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::{Value, json};

use super::{MAX_NAME_BYTES, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_get_startup_context";

pub(super) fn tool() -> Tool {
    let or_null = |kind: &str, description: &str| json!({"type": [kind, "null"], "description": description});
    Tool {
        name: NAME,
        title: "Read a startup context",
        description: "Gives the text that sessions are to begin with: the active startup context, or the one of that name. \
                      null if there is none (in structured content: every field null).",
        input_schema: schema::input(json!({"name": schema::text("Its name; the active one if absent")}), &[]),
        output_schema: schema::output(json!({
            "id": or_null("string", "The startup context (a UUID)"),
            "name": or_null("string", "Its name"),
            "content": or_null("string", "The text"),
            "is_active": or_null("boolean", "Whether it is the active one"),
            "created_at": or_null("string", "When it was first set (RFC 3339, UTC)"),
            "updated_at": or_null("string", "When it was last set (RFC 3339, UTC)"),
        })),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let name = arguments.text("name", MAX_NAME_BYTES)?;
    match dewey.store.startup_context(name).await.map_err(refused)? {
        Some(context) => ToolOutput::of(&context),
        None => {
            let fields = ["id", "name", "content", "is_active", "created_at", "updated_at"];
            ToolOutput::none(&Value::from_iter(fields.map(|field| (field, Value::Null))))
        }
    }
}
