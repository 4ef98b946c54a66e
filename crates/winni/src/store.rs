//! The one door to the data lake. Coarse, in domain types; each backend answers with SQL of its own.

use async_trait::async_trait;
use uuid::Uuid;

use crate::model::{
    Batch, ContextDeletion, Conversation, ConversationFilter, Deletion, Destination, Event, EventCursor, Exchange,
    ExchangeFilter, Frame, FrameFilter, NewConversation, NewMessage, Part, SearchHit, SearchQuery, StartupContext,
    Stats, StoredMessage, ToolCall, Turn,
};

/// What can go wrong with the data lake.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be used now (locked, full, read-only, gone, unreachable); the same call may succeed later.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// The stored data does not fit together; the message names what and where.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The database was written by a newer version.
    #[error("the database has schema version {found}, this iccm knows up to {known}; use a newer iccm")]
    TooNew {
        /// What the database says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// A query or argument that makes no sense; the message says what would.
    #[error("{0}")]
    Invalid(String),
    /// What a call names does not exist; the message names it.
    #[error("{0}")]
    NotFound(String),
    /// The recorded bytes could not be read from the spool.
    #[error("cannot read the spool: {0}")]
    Source(std::io::Error),
    /// What was asked for could not be written out.
    #[error("cannot write: {0}")]
    Output(std::io::Error),
}

/// Result of a call to the data lake.
pub type Result<T> = std::result::Result<T, Error>;

/// Which items of a recorder's life the store holds: everything below `contiguous`, and the listed ones above it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermark {
    /// All sequence numbers below this one are stored.
    pub contiguous: u64,
    /// Stored numbers at or above `contiguous`, ascending.
    pub beyond: Vec<u64>,
}

impl Watermark {
    /// Whether the item with this number is stored.
    pub fn covers(&self, seq: u64) -> bool {
        seq < self.contiguous || self.beyond.binary_search(&seq).is_ok()
    }
}

/// A data lake for one tenant.
#[async_trait]
pub trait Store: Send + Sync {
    /// Stores a batch in one transaction and says what is stored of that recorder now. Items that are stored already
    /// are passed over, so a batch may be handed in again after a crash at any moment.
    async fn append(&self, batch: Batch) -> Result<Watermark>;

    /// What is stored of a recorder.
    async fn watermark(&self, recorder: Uuid) -> Result<Watermark>;

    /// Indexes up to `max` messages for full-text search that are not indexed yet; how many it did. What somebody else is
    /// changing at this moment is left for the next time.
    async fn index_pending(&self, max: usize) -> Result<usize>;

    /// Whether indexing keeps nobody from storing. If not, it waits until nothing else is to be stored.
    fn indexes_beside_storing(&self) -> bool {
        false
    }

    /// Begins a conversation that has no message yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the session's name is empty or holds a NUL, or the metadata is no object.
    async fn begin_conversation(&self, new: NewConversation) -> Result<Conversation>;

    /// Adds messages to the end of a conversation, all or none, and says which conversation that is. Turn numbers are
    /// given out in order without gap or double, however many writers and processes there are.
    ///
    /// # Errors
    /// [`Error::NotFound`] for an unknown conversation; [`Error::Invalid`] for a captured one, for a turn that is not
    /// the next one (the message says which is), and for content or metadata of the wrong kind.
    async fn store_messages(&self, into: Destination, messages: Vec<NewMessage>) -> Result<(Uuid, Vec<StoredMessage>)>;

    /// Conversations, newest first.
    async fn conversations(&self, filter: ConversationFilter) -> Result<Vec<Conversation>>;

    /// How many conversations the filter lets through, its limit and offset left out of account.
    async fn conversations_total(&self, filter: ConversationFilter) -> Result<u64>;

    /// One conversation.
    async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>>;

    /// The turns of a conversation's whole line, in order, from the `offset`-th on.
    async fn turns(&self, conversation: Uuid, offset: u64, limit: Option<u64>) -> Result<Vec<Turn>>;

    /// Exchanges, oldest first.
    async fn exchanges(&self, filter: ExchangeFilter) -> Result<Vec<Exchange>>;

    /// One exchange.
    async fn exchange(&self, id: Uuid) -> Result<Option<Exchange>>;

    /// Writes the exact bytes of a part to `sink`, piece by piece. `None` if there is no such exchange; `Some(false)` if
    /// it has no such part (no response came) or its content was erased.
    async fn part(&self, id: Uuid, part: Part, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>>;

    /// Messages of connections, oldest first.
    async fn frames(&self, filter: FrameFilter) -> Result<Vec<Frame>>;

    /// Writes the exact bytes of a message to `sink`, piece by piece. `None` if there is no such message; `Some(false)` if
    /// its content was erased.
    async fn frame_body(&self, id: Uuid, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>>;

    /// What became of models' tool calls at MCP servers, by the ids of the calls, in the order in which servers were asked.
    async fn tool_calls(&self, tool_use_ids: Vec<String>) -> Result<Vec<ToolCall>>;

    /// The session whose model made this tool call, if the record holds the model's answer.
    async fn session_of_tool_use(&self, tool_use_id: String) -> Result<Option<String>>;

    /// Ranked search over distinct messages: hits and the total number, which is counted up to
    /// [`crate::search::MAX_COUNTED`].
    async fn search(&self, query: SearchQuery) -> Result<(Vec<SearchHit>, u64)>;

    /// Erases a conversation's content: messages, bodies and heads of its exchanges. What other conversations share
    /// stays theirs. The places in the recorders' sequences remain. Without `force` only an empty one goes.
    async fn delete_conversation(&self, id: Uuid, force: bool) -> Result<Deletion>;

    /// Gives a startup context new content, and creates it where there is none of that name. Afterwards it is active if
    /// and only if `active`; another that was active no longer is then.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the name is empty or holds a NUL.
    async fn set_startup_context(&self, name: String, content: String, active: bool) -> Result<StartupContext>;

    /// A startup context by its name, or the active one.
    async fn startup_context(&self, name: Option<String>) -> Result<Option<StartupContext>>;

    /// All startup contexts by name.
    async fn startup_contexts(&self, include_content: bool) -> Result<Vec<StartupContext>>;

    /// All versions of a startup context, newest first; `updated_at` is when each was set. Empty if there is none.
    async fn startup_context_versions(&self, name: String) -> Result<Vec<StartupContext>>;

    /// Deletes a startup context with all its versions. Without `force` not the active one.
    async fn delete_startup_context(&self, name: String, force: bool) -> Result<ContextDeletion>;

    /// Counts.
    async fn stats(&self) -> Result<Stats>;

    /// The position after the newest event.
    async fn event_cursor(&self) -> Result<EventCursor>;

    /// Events after a position, oldest first, and the position after them.
    async fn events(&self, after: EventCursor, limit: u64) -> Result<(Vec<Event>, EventCursor)>;
}
