//! `fiedler_set_key`.

use std::sync::Arc;

use mcp::{Annotations, Arguments, Tool, ToolError, ToolOutput};
use serde_json::json;

use super::{MAX_NAME_BYTES, refused};
use crate::{Fiedler, schema};

pub(super) const NAME: &str = "fiedler_set_key";

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Keep a key",
        description: "Keeps a provider's API key in the system's keyring, or else in the encrypted file that the operator set up. \
                      It replaces the one that was there. A key is never shown again.",
        input_schema: schema::input(
            json!({"provider": schema::provider(), "api_key": schema::text("The key")}),
            &["provider", "api_key"],
        ),
        output_schema: schema::output(json!({
            "provider": schema::text("Whose key it is"),
            "kept_in": schema::text("Where it is kept"),
        })),
        annotations: Annotations::REPLACES,
    }
}

pub(super) async fn call(fiedler: &Arc<Fiedler>, arguments: &Arguments) -> Result<ToolOutput, ToolError> {
    let provider = arguments.required_text("provider", MAX_NAME_BYTES)?;
    // Whatever is wrong with it, its error must not repeat it.
    let wrong = ToolError::parameter("api_key", "must be a key of 1 to 4096 visible ASCII characters");
    let key = arguments.required_text("api_key", 8192).map_err(|_| wrong)?;
    let (provider, kept_in) = fiedler.set_key(&provider, &key).await.map_err(refused)?;
    ToolOutput::of(&json!({"provider": provider, "kept_in": kept_in}))
}
