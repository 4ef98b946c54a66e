//! `dewey_set_startup_context`.

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;

use super::{MAX_NAME_BYTES, refused};
use crate::{Dewey, schema};

pub(super) const NAME: &str = "dewey_set_startup_context";

/// Every session begins with it.
const MAX_CONTENT_BYTES: usize = 10 << 20;

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Set a startup context",
        description: "Sets the text of a startup context, and creates it if there is none of that name. Former versions are \
                      kept. At most one startup context is active.",
        input_schema: schema::input(
            json!({
                "name": schema::text("Its name"),
                "content": schema::text("The text"),
                "set_active": schema::flag("Whether it is the active one from now on, and no other", true),
            }),
            &["name", "content"],
        ),
        output_schema: schema::output(json!({
            "id": schema::id("The startup context"),
            "name": schema::text("Its name"),
            "is_active": {"type": "boolean"},
            "created_at": schema::time("When it was first set"),
        })),
        annotations: Annotations::REPLACES,
    }
}

pub(super) async fn call(dewey: &Dewey, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let name = arguments.required_text("name", MAX_NAME_BYTES)?;
    let content = arguments.required_text("content", MAX_CONTENT_BYTES)?;
    let is_active = arguments.boolean("set_active", true)?;
    let set = dewey.store.set_startup_context(name, content, is_active).await.map_err(refused)?;
    ToolOutput::of(&json!({
        "id": set.id,
        "name": set.name,
        "is_active": set.is_active,
        "version": set.version,
        "created_at": set.created_at,
        "updated_at": set.updated_at,
    }))
}
