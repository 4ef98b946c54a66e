//! What is handed in to be kept, beside what is captured: conversations, messages, startup contexts.

use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use super::{Role, Timestamp};

/// Who made a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ConversationSource {
    /// The gateway saw it. Such a conversation is what happened: nobody adds to it.
    Captured,
    /// It was stored message by message, through Dewey.
    #[default]
    Stored,
    /// It was read from somebody else's record.
    Imported,
}

impl ConversationSource {
    /// The name under which users know it.
    pub fn name(self) -> &'static str {
        match self {
            ConversationSource::Captured => "captured",
            ConversationSource::Stored => "stored",
            ConversationSource::Imported => "imported",
        }
    }
}

/// A conversation to be begun.
#[derive(Clone, Debug, Default)]
pub struct NewConversation {
    /// The session it joins; a new one with a name of its own if absent.
    pub session_id: Option<String>,
    /// A JSON object (or null for an empty one); its `title`, if that is a text, is the conversation's title.
    pub metadata: Value,
    /// [`ConversationSource::Stored`] or [`ConversationSource::Imported`].
    pub source: ConversationSource,
}

/// A message to be stored.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Who said it.
    pub role: Role,
    /// A string, or an array of content blocks in the API's own form.
    pub content: Value,
    /// The turn that it must become; refused if it is not the next one. The next one if absent.
    pub turn: Option<u64>,
    /// A JSON object (or null for an empty one).
    pub metadata: Value,
    /// When it was said; now if absent.
    pub created_at: Option<Timestamp>,
}

/// A message that has been stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredMessage {
    /// Its id.
    pub id: Uuid,
    /// Its 1-based place in the conversation.
    pub turn: u64,
    /// When it was said.
    pub created_at: Timestamp,
}

/// Where messages are to go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// The end of this conversation, which must have been stored or imported.
    Existing(Uuid),
    /// A conversation that is begun in the same transaction.
    New(NewConversation),
}

/// What became of a conversation that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// There is no such conversation.
    Unknown,
    /// It has so many messages and the deletion was not forced; nothing happened.
    Kept {
        /// Turns of its line.
        messages: u64,
    },
    /// It is gone.
    Deleted {
        /// Messages that went with it; those that others share live on there.
        messages: u64,
    },
}

/// A text that agents begin their work with. Setting its content anew adds a version; the earlier ones are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StartupContext {
    /// Its id; stays when the content changes.
    pub id: Uuid,
    /// Its name, unique.
    pub name: String,
    /// The newest version's text; absent where it was not asked for.
    pub content: Option<String>,
    /// How often its content has been set.
    pub version: u64,
    /// Whether it is the one that agents get who name none. At most one is.
    pub is_active: bool,
    /// When it was first set.
    pub created_at: Timestamp,
    /// When it was last set.
    pub updated_at: Timestamp,
}

/// What became of a startup context that was to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextDeletion {
    /// There is none of that name.
    Unknown,
    /// It is the active one and the deletion was not forced; nothing happened.
    Kept,
    /// It is gone, with all its versions.
    Deleted,
}

/// Order of a list of conversations; the newest is always first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sort {
    /// By the last message.
    #[default]
    UpdatedAt,
    /// By the beginning.
    CreatedAt,
}
