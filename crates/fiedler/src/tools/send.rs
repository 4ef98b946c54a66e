//! `fiedler_send`.

use std::sync::Arc;

use mcp::{Annotations, Arguments, Call, Tool, ToolError, ToolOutput};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{MAX_MODELS, MAX_NAME_BYTES, refused, texts};
use crate::files::MAX_FILES;
use crate::run::MAX_PROMPT_BYTES;
use crate::{Event, Fiedler, Order, Watcher, schema};

pub(super) const NAME: &str = "fiedler_send";
const MAX_PATH_BYTES: usize = 4096;

pub(super) fn tool() -> Tool {
    Tool {
        name: NAME,
        title: "Ask many models",
        description: "Sends one prompt, with files, to several models at once and waits for all of them. Each answer is in the \
                      file that its result names; a model that fails or takes too long does not hold up the others. Takes as \
                      long as the slowest model, which can be minutes; progress is reported.",
        input_schema: schema::input(
            json!({
                "prompt": schema::text("What to ask"),
                "files": schema::texts("Paths of text files or images (PNG, JPEG, GIF, WebP) to send along, below an allowed folder"),
                "models": schema::texts("Whom to ask, by id or alias; those that fiedler_set_models chose if absent"),
            }),
            &["prompt"],
        ),
        output_schema: schema::output(json!({
            "status": {"type": "string", "enum": ["success", "partial_success", "failure"]},
            "correlation_id": schema::text("The run's id (a UUID)"),
            "output_dir": schema::text("Folder with everything"),
            "summary_file": schema::text("This result, in a file"),
            "conversation_id": schema::optional("string", "The run in the record; null if that was not available"),
            "results": {"type": "array", "items": schema::output(json!({
                "model": schema::text("Its id"),
                "provider": schema::text("Who serves it"),
                "status": {"type": "string", "enum": ["success", "failure"]},
                "output_file": schema::optional("string", "The answer; after a failure what came of it, null if nothing did"),
                "duration_seconds": {"type": "number"},
                "tokens": schema::output(json!({
                    "prompt": schema::optional("integer", "As the provider counted"),
                    "completion": schema::optional("integer", "As the provider counted"),
                })),
                "cost_usd": schema::optional("number", "By the price in models.toml"),
                "error": schema::optional("string", "Why there is no whole answer, and what to do"),
            }))},
            "message": schema::text("The same in words"),
        })),
        annotations: Annotations { is_open_world: true, ..Annotations::ADDS },
    }
}

pub(super) async fn call(fiedler: &Arc<Fiedler>, arguments: &Arguments, call: &Call) -> Result<ToolOutput, ToolError> {
    let order = Order {
        prompt: arguments.required_text("prompt", MAX_PROMPT_BYTES)?,
        files: texts(arguments, "files", MAX_FILES, MAX_PATH_BYTES)?,
        models: texts(arguments, "models", MAX_MODELS, MAX_NAME_BYTES)?,
        any_file: false,
        tool_use_id: call.tool_use_id().map(str::to_owned),
    };
    if order.prompt.trim().is_empty() {
        return Err(ToolError::parameter("prompt", "must be a question, not blanks"));
    }
    let watcher = Arc::new(Watched(call.clone()));
    let report = fiedler.send(order, watcher, CancellationToken::new()).await.map_err(refused)?;
    ToolOutput::of(&report)
}

/// The client of the call.
struct Watched(Call);

impl Watcher for Watched {
    fn event(&self, event: &Event<'_>) {
        self.0.report(event.done, event.total, &event.message);
    }
}
