//! `fiedler_get_config`.

use std::sync::Arc;

use mcp::{Annotations, Tool, ToolError, ToolOutput};
use serde_json::json;

use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_get_config";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Show the configuration",
        description: "Which models are asked by default, where answers go, which folders files may come from, and where models.toml is.",
        input_schema: schema::input(json!({}), &[]),
        output_schema: schema::output(json!({
            "models": schema::texts("Asked where fiedler_send names none"),
            "output_dir": schema::text("Below which each run gets a folder"),
            "file_folders": schema::texts("Below which files[] may be"),
            "models_file": schema::text("The models; edit it to add some"),
            "max_parallel": {"type": "integer"},
        })),
        annotations: Annotations::READS,
    }
}

pub(super) fn call(fiedler: &Arc<Fiedler>) -> Result<ToolOutput, ToolError> {
    let (catalog, problem) = fiedler.models.current();
    let mut result = json!({
        "models": fiedler.default_models(&catalog),
        "output_dir": fiedler.output_dir(),
        "file_folders": fiedler.file_folders(),
        "models_file": fiedler.models.path(),
        "max_parallel": catalog.max_parallel,
    });
    if let Some(problem) = problem {
        result["problem"] = json!(problem);
    }
    ToolOutput::of(&result)
}
