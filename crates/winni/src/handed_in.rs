//! What is handed in to be stored, checked and brought into the form in which it is kept. Shared by all backends, so
//! that they refuse the same things in the same words.

use serde_json::Value;
use uuid::Uuid;

use crate::conversation::identity::Role;
use crate::conversation::text;
use crate::model::{ConversationSource, Destination, NewConversation, NewMessage, Timestamp};
use crate::store::{Error, Result};

/// Names that people give are kept short enough to stand in an index.
const MAX_NAME: usize = 1_000;

const LEVEL: i32 = 3;

/// More bytes of JSON than any message has; what claims to have more is damaged.
const MAX_CONTENT: usize = 1 << 30;

/// A conversation to be begun, checked.
pub(crate) struct AcceptedConversation {
    pub(crate) session: String,
    /// A JSON object's text; absent for an empty one.
    pub(crate) metadata: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) source: ConversationSource,
}

/// A message to be stored, checked.
pub(crate) struct AcceptedMessage {
    pub(crate) role: Role,
    /// The content's JSON.
    pub(crate) content: Vec<u8>,
    /// The content as it is kept; an [`Unpacker`] reads it.
    pub(crate) packed: Vec<u8>,
    /// A title for the conversation, should it have none.
    pub(crate) title: Option<String>,
    pub(crate) turn: Option<u64>,
    /// A JSON object's text; absent for an empty one.
    pub(crate) metadata: Option<String>,
    pub(crate) created_at: Timestamp,
}

pub(crate) fn conversation(new: NewConversation) -> Result<AcceptedConversation> {
    if new.source == ConversationSource::Captured {
        return Err(Error::Invalid("a conversation that is handed in is stored or imported, not captured".into()));
    }
    let session = new.session_id.unwrap_or_else(|| Uuid::now_v7().to_string());
    check_name("session_id", &session)?;
    let title = new.metadata.get("title").and_then(text::title);
    Ok(AcceptedConversation { session, metadata: object("metadata", &new.metadata)?, title, source: new.source })
}

/// Messages for a conversation that exists or for a new one, checked.
pub(crate) struct Accepted {
    pub(crate) into: AcceptedDestination,
    pub(crate) messages: Vec<AcceptedMessage>,
}

/// Where accepted messages go.
pub(crate) enum AcceptedDestination {
    Existing(Uuid),
    New(AcceptedConversation),
}

/// Checks and packs messages; takes as long as that takes, and asks no database.
pub(crate) fn accept(into: Destination, messages: Vec<NewMessage>) -> Result<Accepted> {
    let into = match into {
        Destination::Existing(id) => AcceptedDestination::Existing(id),
        Destination::New(new) => AcceptedDestination::New(conversation(new)?),
    };
    let mut packer = zstd::bulk::Compressor::new(LEVEL).map_err(cannot_compress)?;
    let messages = messages.into_iter().map(|new| message(new, &mut packer)).collect::<Result<_>>()?;
    Ok(Accepted { into, messages })
}

fn cannot_compress(error: std::io::Error) -> Error {
    Error::Unavailable(format!("compressing: {error}"))
}

fn message(new: NewMessage, packer: &mut zstd::bulk::Compressor<'_>) -> Result<AcceptedMessage> {
    check_content(&new.content)?;
    let title = (new.role == Role::User).then(|| text::title(&new.content)).flatten();
    let content = serde_json::to_vec(&new.content).map_err(|e| Error::Invalid(format!("content: {e}")))?;
    Ok(AcceptedMessage {
        role: new.role,
        packed: packer.compress(&content).map_err(cannot_compress)?,
        content,
        title,
        turn: new.turn,
        metadata: object("metadata", &new.metadata)?,
        created_at: new.created_at.unwrap_or_else(Timestamp::now),
    })
}

/// Checks that a message's wish for a turn, if it has one, is the next one.
pub(crate) fn check_turn(wanted: Option<u64>, next: u64) -> Result<()> {
    match wanted {
        Some(wanted) if wanted != next => {
            Err(Error::Invalid(format!("`turn_number` must be {next}, the next turn, or absent, not {wanted}")))
        }
        _ => Ok(()),
    }
}

/// Checks that messages may be added to a conversation that was made so.
pub(crate) fn check_source(conversation: Uuid, source: &str) -> Result<()> {
    if source == ConversationSource::Captured.name() {
        return Err(Error::Invalid(format!(
            "conversation {conversation} was captured: it is the record of what happened, and nothing is added to it"
        )));
    }
    Ok(())
}

pub(crate) fn unknown_conversation(id: Uuid) -> Error {
    Error::NotFound(format!("there is no conversation {id}"))
}

/// Names stand in texts that no database lets hold a NUL.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    let wrong = if name.trim().is_empty() {
        "is empty"
    } else if name.contains('\0') {
        "holds a NUL character"
    } else if name.len() > MAX_NAME {
        "is longer than 1,000 bytes"
    } else {
        return Ok(());
    };
    Err(Error::Invalid(format!("{what} {wrong}; it must be a text of 1 to 1,000 bytes without NUL")))
}

fn check_content(content: &Value) -> Result<()> {
    let block = |b: &Value| b.get("type").is_some_and(Value::is_string);
    match content {
        Value::String(_) => Ok(()),
        Value::Array(blocks) if blocks.iter().all(block) => Ok(()),
        _ => Err(Error::Invalid(
            "content must be a text, or an array of content blocks, each an object with a `type`".into(),
        )),
    }
}

fn object(what: &str, value: &Value) -> Result<Option<String>> {
    match value {
        Value::Null => Ok(None),
        Value::Object(fields) if fields.is_empty() => Ok(None),
        Value::Object(_) => Ok(Some(value.to_string())),
        _ => Err(Error::Invalid(format!("{what} must be a JSON object"))),
    }
}

/// Reads contents from the form in which they are kept.
#[derive(Default)]
pub(crate) struct Unpacker {
    /// Made when it is first needed: making one takes longer than reading a message.
    decompressor: Option<zstd::bulk::Decompressor<'static>>,
}

impl Unpacker {
    pub(crate) fn unpack(&mut self, data: &[u8]) -> Result<Value> {
        let damaged = |what: String| Error::Damaged(format!("a stored message: {what}"));
        let decompressor = match &mut self.decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(zstd::bulk::Decompressor::new().map_err(|e| Error::Unavailable(e.to_string()))?),
        };
        let size = zstd::zstd_safe::get_frame_content_size(data).ok().flatten();
        let size = size.and_then(|s| usize::try_from(s).ok()).filter(|s| *s <= MAX_CONTENT);
        let size = size.ok_or_else(|| damaged("it does not say how long it is".into()))?;
        let json = decompressor.decompress(data, size).map_err(|e| damaged(e.to_string()))?;
        serde_json::from_slice(&json).map_err(|e| damaged(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn new(content: Value, metadata: Value) -> NewMessage {
        NewMessage { role: Role::User, content, turn: None, metadata, created_at: None }
    }

    fn accepted(new: NewMessage) -> Result<AcceptedMessage> {
        let mut accepted = accept(Destination::Existing(Uuid::nil()), vec![new])?;
        Ok(accepted.messages.remove(0))
    }

    #[test]
    fn content_is_a_text_or_blocks_and_metadata_an_object() {
        for content in [json!(""), json!([]), json!([{"type":"text","text":"a\u{0}b\u{1F600}"}])] {
            let accepted = accepted(new(content.clone(), json!(null))).unwrap_or_else(|e| panic!("{content}: {e}"));
            assert_eq!(Unpacker::default().unpack(&accepted.packed).unwrap(), content);
        }
        for content in [json!(null), json!(3), json!({"type":"text"}), json!(["a"]), json!([{"text":"a"}])] {
            assert!(matches!(accepted(new(content, json!({}))), Err(Error::Invalid(_))));
        }
        assert!(matches!(accepted(new(json!("a"), json!([]))), Err(Error::Invalid(_))));
    }

    #[test]
    fn a_name_must_fit_every_database() {
        for name in ["", " ", "a\0b", &"x".repeat(1_001)] {
            let refused = conversation(NewConversation { session_id: Some(name.into()), ..Default::default() });
            let Err(Error::Invalid(why)) = refused else { panic!("{name:?} was taken") };
            assert!(why.starts_with("session_id "), "{why}");
        }
        assert!(
            conversation(NewConversation { session_id: Some("'; DROP TABLE x; --".into()), ..Default::default() })
                .is_ok()
        );
    }
}
