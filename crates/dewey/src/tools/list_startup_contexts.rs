//! `dewey_list_startup_contexts`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::{Value, json};
use winni::model::StartupContext;

use super::refused;
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_list_startup_contexts";

pub(super) fn tool() -> Tool {
    let context = schema::output(json!({
        "id": schema::id("The startup context"),
        "name": schema::text("Its name"),
        "is_active": {"type": "boolean"},
        "created_at": schema::time("When it was first set"),
        "updated_at": schema::time("When it was last set"),
    }));
    Tool {
        name: NAME,
        title: "List startup contexts",
        description: "Lists the startup contexts by name.",
        input_schema: schema::input(json!({"include_content": schema::flag("With their texts", false)}), &[]),
        output_schema: schema::output(json!({"contexts": schema::list_of(context)})),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let include_content = arguments.boolean("include_content", false)?;
    let contexts = dewey.store.startup_contexts(include_content).await.map_err(refused)?;
    ToolOutput::of(&json!({"contexts": contexts.iter().map(line).collect::<Vec<_>>()}))
}

/// A context without its content has no such field, rather than an empty one.
fn line(context: &StartupContext) -> Value {
    let mut line = json!(context);
    if context.content.is_none()
        && let Some(fields) = line.as_object_mut()
    {
        fields.remove("content");
    }
    line
}
