//! `fiedler_set_models`.

use std::sync::Arc;

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;

use super::{MAX_MODELS, MAX_NAME_BYTES, texts};
use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_set_models";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Choose the models",
        description: "Chooses the models that fiedler_send asks when it names none. Stays so until it is called again.",
        input_schema: schema::input(json!({"models": schema::texts("Ids or aliases, at least one")}), &["models"]),
        output_schema: schema::output(json!({"models": schema::texts("The ids that are chosen now")})),
        annotations: Annotations::REPLACES,
    }
}

pub(super) fn call(fiedler: &Arc<Fiedler>, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let names = texts(arguments, "models", MAX_MODELS, MAX_NAME_BYTES)?;
    if names.is_empty() {
        return Err(ToolError::parameter("models", "must name at least one model"));
    }
    let (catalog, _) = fiedler.models.current();
    let mut ids: Vec<String> = Vec::new();
    for name in &names {
        let model = catalog.model(name).map_err(|problem| ToolError::parameter("models", problem))?;
        if !ids.contains(&model.id) {
            ids.push(model.id.clone());
        }
    }
    fiedler.settings.change(|settings| settings.models = Some(ids.clone())).map_err(ToolError::new)?;
    ToolOutput::of(&json!({"models": ids}))
}
