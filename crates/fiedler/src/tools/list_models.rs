//! `fiedler_list_models`.

use std::sync::Arc;

use mcp::{Annotations, Tool, ToolError, ToolOutput};
use serde_json::json;

use super::refused;
use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_list_models";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "List the models",
        description: "All models that can be asked: names, provider, limits, price, and whether there is a key for them.",
        input_schema: schema::input(json!({}), &[]),
        output_schema: schema::output(json!({"models": {"type": "array", "items": {"type": "object"}}})),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(fiedler: &Arc<Fiedler>) -> Result<ToolOutput, ToolError> {
    let (models, problem) = fiedler.list_models().await.map_err(refused)?;
    let mut result = json!({"models": models, "models_file": fiedler.models.path()});
    if let Some(problem) = problem {
        result["problem"] = json!(problem);
    }
    ToolOutput::of(&result)
}
