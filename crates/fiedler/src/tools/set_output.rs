//! `fiedler_set_output`.

use std::path::PathBuf;
use std::sync::Arc;

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;

use crate::output::{create_folder, write_atomically};
use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_set_output";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Choose where answers go",
        description: "Chooses the folder below which each run gets a folder of its own. It is created if it is not there. Stays \
                      so until it is called again.",
        input_schema: schema::input(json!({"output_dir": schema::text("An absolute path")}), &["output_dir"]),
        output_schema: schema::output(json!({"output_dir": schema::text("Where answers go now")})),
        annotations: Annotations::REPLACES,
    }
}

pub(super) fn call(fiedler: &Arc<Fiedler>, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let folder = PathBuf::from(arguments.required_text("output_dir", 4096)?);
    let wrong = |problem: String| ToolError::parameter("output_dir", problem);
    if !folder.is_absolute() {
        return Err(wrong("must be an absolute path".to_owned()));
    }
    let unusable = |error: std::io::Error| wrong(format!("must be a folder that can be written to: {error}"));
    create_folder(&folder).map_err(unusable)?;
    // Tried now: an answer that was paid for is a bad moment to find out.
    let trial = folder.join(format!(".fiedler-{}", uuid::Uuid::new_v4().simple()));
    write_atomically(&trial, b"").and_then(|()| std::fs::remove_file(&trial)).map_err(unusable)?;
    fiedler.settings.change(|settings| settings.output_dir = Some(folder.clone())).map_err(ToolError::new)?;
    ToolOutput::of(&json!({"output_dir": folder}))
}
