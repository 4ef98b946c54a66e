//! `fiedler_list_keys`.

use std::sync::Arc;

use mcp::{Annotations, Tool, ToolError, ToolOutput};
use serde_json::{Value, json};

use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_list_keys";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "List the providers with keys",
        description: "The providers that there is a key for, and where it is kept. Never a key.",
        input_schema: schema::input(json!({}), &[]),
        output_schema: schema::output(json!({"providers": schema::texts("Those with a key")})),
        annotations: Annotations::READS,
    }
}

pub(super) async fn call(fiedler: &Arc<Fiedler>) -> Result<ToolOutput, ToolError> {
    let (catalog, _) = fiedler.models.current();
    let mut kept_in = serde_json::Map::new();
    for provider in catalog.providers.values() {
        if let Some((_, source)) = fiedler.keys.get(provider).await.map_err(ToolError::new)? {
            kept_in.insert(provider.name.clone(), Value::String(source.to_string()));
        }
    }
    let providers: Vec<&String> = kept_in.keys().collect();
    ToolOutput::of(&json!({"providers": providers, "kept_in": kept_in}))
}
