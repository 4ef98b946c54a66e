//! `fiedler_delete_key`.

use std::sync::Arc;

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;

use super::MAX_NAME_BYTES;
use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_delete_key";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Forget a key",
        description: "Forgets a provider's kept key. One in an environment variable is not ours to remove; the result names it.",
        input_schema: schema::input(json!({"provider": schema::provider()}), &["provider"]),
        output_schema: schema::output(json!({
            "provider": schema::text("Whose key it was"),
            "deleted": {"type": "boolean", "description": "Whether there was one"},
        })),
        annotations: Annotations::REMOVES,
    }
}

pub(super) async fn call(fiedler: &Arc<Fiedler>, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let name = arguments.required_text("provider", MAX_NAME_BYTES)?;
    let (catalog, _) = fiedler.models.current();
    let provider = catalog.provider(&name).map_err(|problem| ToolError::parameter("provider", problem))?;
    let deleted = fiedler.keys.delete(&provider.name).await.map_err(ToolError::new)?;
    let left = fiedler.keys.get(provider).await.map_err(ToolError::new)?.map(|(_, source)| source.to_string());
    ToolOutput::of(&json!({"provider": provider.name, "deleted": deleted, "still_in": left}))
}
