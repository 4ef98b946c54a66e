//! The tools, one file each, and what they share.

mod delete_key;
mod get_config;
mod list_keys;
mod list_models;
mod send;
mod set_key;
mod set_models;
mod set_output;

use std::sync::Arc;

use mcp::{Arguments, Call, Tool, ToolError, ToolOutput};

use crate::{Fiedler, Problem};

/// Names of models and providers have at most so many bytes.
const MAX_NAME_BYTES: usize = 200;
/// Models of a call.
const MAX_MODELS: usize = 200;

/// All tools, in the order in which clients see them.
pub(crate) fn all() -> Vec<Tool> {
    vec![
        send::tool(),
        list_models::tool(),
        set_models::tool(),
        set_output::tool(),
        get_config::tool(),
        set_key::tool(),
        list_keys::tool(),
        delete_key::tool(),
    ]
}

pub(crate) async fn call(
    fiedler: &Arc<Fiedler>,
    tool: &str,
    arguments: &Arguments,
    call: &Call,
) -> Result<ToolOutput, ToolError> {
    match tool {
        send::NAME => send::call(fiedler, arguments, call).await,
        list_models::NAME => list_models::call(fiedler).await,
        set_models::NAME => set_models::call(fiedler, arguments),
        set_output::NAME => set_output::call(fiedler, arguments),
        get_config::NAME => get_config::call(fiedler),
        set_key::NAME => set_key::call(fiedler, arguments).await,
        list_keys::NAME => list_keys::call(fiedler).await,
        delete_key::NAME => delete_key::call(fiedler, arguments).await,
        _ => Err(ToolError::new(format!("there is no tool {tool}"))),
    }
}

fn refused(problem: Problem) -> ToolError {
    if let Problem::Internal(why) = &problem {
        tracing::error!(why, "a tool call failed");
    }
    ToolError::new(problem.to_string())
}

/// A list of strings, none of them empty; empty if it is absent.
fn texts(arguments: &Arguments, name: &str, most: usize, max_bytes: usize) -> Result<Vec<String>, ToolError> {
    let Some(raw) = arguments.raw(name) else {
        return Ok(Vec::new());
    };
    let wrong = |problem: String| ToolError::parameter(name, format!("must be an array of strings{problem}"));
    if !raw.get().starts_with('[') {
        return Err(wrong(", like [\"…\"]".to_owned()));
    }
    let texts: Vec<String> = serde_json::from_str(raw.get()).map_err(|error| wrong(format!(": {error}")))?;
    if texts.len() > most {
        return Err(wrong(format!(", at most {most} of them, not {}", texts.len())));
    }
    match texts.iter().find(|text| text.is_empty() || text.len() > max_bytes || text.contains('\0')) {
        Some(_) => Err(wrong(format!(", each of 1 to {max_bytes} bytes without U+0000"))),
        None => Ok(texts),
    }
}
