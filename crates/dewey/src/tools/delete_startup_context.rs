//! `dewey_delete_startup_context`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;
use winni::model::ContextDeletion;

use super::{MAX_NAME_BYTES, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_delete_startup_context";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Delete a startup context",
        description: "Deletes a startup context with all its versions, for good.",
        input_schema: schema::input(
            json!({
                "name": schema::text("Its name"),
                "force": schema::flag("Also the active one", false),
            }),
            &["name"],
        ),
        output_schema: schema::output(json!({"deleted": {"type": "boolean"}})),
        annotations: Annotations::REMOVES,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let name = arguments.required_text("name", MAX_NAME_BYTES)?;
    let force = arguments.boolean("force", false)?;
    match dewey.store.delete_startup_context(name, force).await.map_err(refused)? {
        ContextDeletion::Unknown => {
            Err(ToolError::parameter("name", "names nothing: there is no such startup context"))
        }
        ContextDeletion::Kept => {
            let problem = "must be true to delete this startup context: it is the active one; nothing was deleted";
            Err(ToolError::parameter("force", problem))
        }
        ContextDeletion::Deleted => ToolOutput::of(&json!({"deleted": true})),
    }
}
