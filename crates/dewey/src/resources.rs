//! Conversations and sessions as resources, so that a client can attach one.

use mcp::{Resource, ResourceError, ResourcePage, ResourceTemplate, ResourceText};
use serde::Serialize;
use winni::model::{Conversation, ConversationFilter, Sort};
use winni::store::{Error, Store};

use crate::tools::Shown;

const JSON: &str = "application/json";
const CONVERSATION: &str = "iccm://conversation/";
const SESSION: &str = "iccm://session/";
/// Conversations a page. Resources are listed for people to choose from, newest first.
const PAGE: u64 = 100;

pub(crate) const TEMPLATES: [ResourceTemplate; 2] = [
    ResourceTemplate {
        uri_template: "iccm://conversation/{id}",
        name: "conversation",
        title: "Conversation",
        description: "A conversation with all its messages",
        mime_type: JSON,
    },
    ResourceTemplate {
        uri_template: "iccm://session/{id}",
        name: "session",
        title: "Session",
        description: "All conversations of a session with all their messages, oldest first. Characters of the id that a URI \
                      does not take are percent-encoded.",
        mime_type: JSON,
    },
];

/// A page of the conversations. They are listed by their beginning, so that a conversation that goes on meanwhile does not
/// change places; new ones come before the first page.
pub(crate) async fn list(store: &dyn Store, cursor: Option<&str>) -> Result<ResourcePage, ResourceError> {
    let offset = match cursor {
        None => 0,
        Some(cursor) => {
            let offset: Result<u32, _> = cursor.parse();
            offset.map(u64::from).map_err(|_| ResourceError::Invalid("`params.cursor` is none of ours".into()))?
        }
    };
    let filter =
        ConversationFilter { sort: Sort::CreatedAt, limit: Some(PAGE + 1), offset, ..ConversationFilter::default() };
    let found = store.conversations(filter).await.map_err(failed)?;
    let has_more = found.len() as u64 > PAGE;
    let resources = found.iter().take(PAGE as usize).map(resource).collect();
    Ok(ResourcePage { resources, next_cursor: has_more.then(|| (offset + PAGE).to_string()) })
}

fn resource(conversation: &Conversation) -> Resource {
    Resource {
        uri: format!("{CONVERSATION}{}", conversation.id),
        name: conversation.id.to_string(),
        title: conversation.title.clone(),
        mime_type: JSON,
    }
}

#[derive(Serialize)]
struct Session<'a> {
    session_id: &'a str,
    conversations: Vec<serde_json::Value>,
}

pub(crate) async fn read(store: &dyn Store, uri: &str) -> Result<ResourceText, ResourceError> {
    let not_found = || ResourceError::NotFound(uri.to_owned());
    if let Some(id) = uri.strip_prefix(CONVERSATION) {
        let id = id.parse().map_err(|_| not_found())?;
        let conversation = store.conversation(id).await.map_err(failed)?.ok_or_else(not_found)?;
        let turns = store.turns(id, 0, None).await.map_err(failed)?;
        return text(&Shown::new(&conversation, &turns));
    }
    let session = uri.strip_prefix(SESSION).and_then(decoded).filter(|id| !id.contains('\0')).ok_or_else(not_found)?;
    let filter = ConversationFilter {
        session_id: Some(session.clone()),
        sort: Sort::CreatedAt,
        ..ConversationFilter::default()
    };
    let found = store.conversations(filter).await.map_err(failed)?;
    if found.is_empty() {
        return Err(not_found());
    }
    let mut conversations = Vec::with_capacity(found.len());
    for conversation in found.iter().rev() {
        let turns = store.turns(conversation.id, 0, None).await.map_err(failed)?;
        conversations.push(serde_json::json!(Shown::new(conversation, &turns)));
    }
    text(&Session { session_id: &session, conversations })
}

fn text<T: Serialize>(content: &T) -> Result<ResourceText, ResourceError> {
    let text = serde_json::to_string(content).map_err(|error| ResourceError::Failed(error.to_string()))?;
    Ok(ResourceText { mime_type: JSON, text })
}

fn failed(error: Error) -> ResourceError {
    ResourceError::Failed(error.to_string())
}

/// Takes percent-encoding back (RFC 3986, section 2.1); `None` where the result is no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = (*first == b'%').then(|| after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok())).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => bytes.push(*first),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_encoding_is_taken_back() {
        assert_eq!(decoded("a%20b%C3%A9").as_deref(), Some("a bé"));
        assert_eq!(decoded("100%").as_deref(), Some("100%"));
        assert_eq!(decoded("%zz%2").as_deref(), Some("%zz%2"));
        assert_eq!(decoded("%ff"), None);
    }
}
