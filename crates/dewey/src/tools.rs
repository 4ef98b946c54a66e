//! The tools, one file each, and what they share.

mod begin_conversation;
mod delete_conversation;
mod delete_startup_context;
mod get_conversation;
mod get_startup_context;
mod list_conversations;
mod list_startup_contexts;
mod search;
mod set_startup_context;
mod store_message;
mod store_messages_bulk;

pub(crate) use get_conversation::Shown;
use mcp::{Arguments, Call, Tool, ToolError, ToolOutput};
use winni::model::Role;
use winni::store::Error;

use crate::Dewey;

/// Names and session ids have at most so many bytes.
const MAX_NAME_BYTES: usize = 1000;
/// Metadata has at most so many bytes of JSON.
const MAX_METADATA_BYTES: usize = 1 << 20;
/// Pages have at most so many entries, and so many if nothing is said.
const MAX_PAGE: u64 = 100;
const PAGE: u64 = 20;
/// The largest number that every backend takes for a place in a list.
const MAX_OFFSET: u64 = i64::MAX as u64;

const ROLES: [(&str, Role); 4] =
    [("user", Role::User), ("assistant", Role::Assistant), ("system", Role::System), ("tool", Role::Tool)];

/// All tools, in the order in which clients see them.
pub(crate) fn all() -> Vec<Tool> {
    vec![
        begin_conversation::tool(),
        store_message::tool(),
        store_messages_bulk::tool(),
        get_conversation::tool(),
        list_conversations::tool(),
        delete_conversation::tool(),
        search::tool(),
        get_startup_context::tool(),
        set_startup_context::tool(),
        list_startup_contexts::tool(),
        delete_startup_context::tool(),
    ]
}

pub(crate) async fn call(
    dewey: &Dewey,
    tool: &str,
    arguments: &Arguments,
    call: &Call,
) -> Result<ToolOutput, ToolError> {
    match tool {
        begin_conversation::NAME => begin_conversation::call(dewey, arguments).await,
        store_message::NAME => store_message::call(dewey, arguments).await,
        store_messages_bulk::NAME => store_messages_bulk::call(dewey, arguments, call).await,
        get_conversation::NAME => get_conversation::call(dewey, arguments).await,
        list_conversations::NAME => list_conversations::call(dewey, arguments).await,
        delete_conversation::NAME => delete_conversation::call(dewey, arguments).await,
        search::NAME => search::call(dewey, arguments).await,
        get_startup_context::NAME => get_startup_context::call(dewey, arguments).await,
        set_startup_context::NAME => set_startup_context::call(dewey, arguments).await,
        list_startup_contexts::NAME => list_startup_contexts::call(dewey, arguments).await,
        delete_startup_context::NAME => delete_startup_context::call(dewey, arguments).await,
        _ => Err(ToolError::new(format!("there is no tool {tool}"))),
    }
}

/// What the store refuses, for a model. What the store cannot do is the operator's too: it is logged here, once.
fn refused(error: Error) -> ToolError {
    match error {
        Error::Invalid(why) => ToolError::new(why),
        Error::NotFound(why) => ToolError::parameter("conversation_id", format!("names nothing: {why}")),
        Error::Unavailable(why) => {
            tracing::warn!(why, "a tool call failed, as the database is not available");
            // A server that goes just after it was told to commit has done so, perhaps.
            ToolError::new(format!(
                "the database is not available now; try again later, and if its connection broke, look first whether this \
                 call was carried out: {why}"
            ))
        }
        other => {
            tracing::error!(error = %other, "a tool call failed");
            ToolError::new(other.to_string())
        }
    }
}

fn no_conversation(id: uuid::Uuid) -> ToolError {
    ToolError::parameter("conversation_id", format!("names nothing: there is no conversation {id}"))
}

/// Where a page begins and how long it is.
fn page(arguments: &Arguments) -> Result<(u64, u64), ToolError> {
    let limit = arguments.integer("limit", 1..=MAX_PAGE)?.unwrap_or(PAGE);
    Ok((limit, arguments.integer("offset", 0..=MAX_OFFSET)?.unwrap_or(0)))
}
