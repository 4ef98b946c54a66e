//! A store that may not be open yet.
//!
//! Recording must not wait for the database, nor fail with it: the recorder starts with a [`LateStore`], which is
//! `Unavailable` until a task of its own has opened the database, however often that takes. Once open it stays open; what
//! goes wrong afterwards is the backend's to mend and the drain's to wait for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use winni::model::{
    Batch, ContextDeletion, Conversation, ConversationFilter, Deletion, Destination, Event, EventCursor, Exchange,
    ExchangeFilter, Frame, FrameFilter, NewConversation, NewMessage, Part, SearchHit, SearchQuery, StartupContext,
    Stats, StoredMessage, ToolCall, Turn,
};
use winni::store::{Error, Result, Store, Watermark};

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(15);

/// The database, once it is open.
pub(crate) struct LateStore {
    state: watch::Receiver<State>,
    _opener: AbortOnDropHandle<()>,
}

enum State {
    /// It is being opened for the first time; no answer yet.
    Opening,
    /// Why it is not open.
    NotYet(String),
    Open(Arc<dyn Store>),
}

impl LateStore {
    /// Begins to open the database, and keeps trying.
    pub(crate) fn open(url: String, data_dir: PathBuf) -> Self {
        let (publish, state) = watch::channel(State::Opening);
        Self { state, _opener: AbortOnDropHandle::new(tokio::spawn(keep_opening(url, data_dir, publish))) }
    }

    /// Waits until the database is open, at most so long; whether it is.
    pub(crate) async fn opened_within(&self, patience: Duration) -> bool {
        let mut state = self.state.clone();
        let open = state.wait_for(|state| matches!(state, State::Open(_)));
        matches!(tokio::time::timeout(patience, open).await, Ok(Ok(_)))
    }

    /// Why the database is not open.
    pub(crate) fn why_not_open(&self) -> String {
        match &*self.state.borrow() {
            State::Open(_) => "it is open".into(),
            State::Opening => "it is being opened".into(),
            State::NotYet(why) => why.clone(),
        }
    }

    /// The store, or why there is none. Waits for the outcome of the first attempt: nobody should be told of trouble before
    /// there is any.
    async fn store(&self) -> Result<Arc<dyn Store>> {
        let mut state = self.state.clone();
        match state.wait_for(|state| !matches!(state, State::Opening)).await.as_deref() {
            Ok(State::Open(store)) => Ok(store.clone()),
            Ok(State::NotYet(why)) => Err(Error::Unavailable(why.clone())),
            Ok(State::Opening) | Err(_) => Err(Error::Unavailable("nobody is opening it any more".into())),
        }
    }
}

async fn keep_opening(url: String, data_dir: PathBuf, publish: watch::Sender<State>) {
    let mut retry = FIRST_RETRY;
    loop {
        match winni::open(&url, &data_dir).await {
            Ok(store) => {
                publish.send_replace(State::Open(store));
                return;
            }
            Err(error) => {
                let why = match error {
                    // Whoever is told by this store hears the same words again.
                    Error::Unavailable(why) => why,
                    other => other.to_string(),
                };
                // Told in the log by the drain, which meets it at once.
                tracing::debug!("cannot open the database: {why}");
                publish.send_replace(State::NotYet(why));
            }
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

#[async_trait]
impl Store for LateStore {
    async fn append(&self, batch: Batch) -> Result<Watermark> {
        self.store().await?.append(batch).await
    }

    async fn watermark(&self, recorder: Uuid) -> Result<Watermark> {
        self.store().await?.watermark(recorder).await
    }

    async fn index_pending(&self, max: usize) -> Result<usize> {
        self.store().await?.index_pending(max).await
    }

    fn indexes_beside_storing(&self) -> bool {
        matches!(&*self.state.borrow(), State::Open(store) if store.indexes_beside_storing())
    }

    async fn conversations(&self, filter: ConversationFilter) -> Result<Vec<Conversation>> {
        self.store().await?.conversations(filter).await
    }

    async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>> {
        self.store().await?.conversation(id).await
    }

    async fn turns(&self, conversation: Uuid, offset: u64, limit: Option<u64>) -> Result<Vec<Turn>> {
        self.store().await?.turns(conversation, offset, limit).await
    }

    async fn exchanges(&self, filter: ExchangeFilter) -> Result<Vec<Exchange>> {
        self.store().await?.exchanges(filter).await
    }

    async fn exchange(&self, id: Uuid) -> Result<Option<Exchange>> {
        self.store().await?.exchange(id).await
    }

    async fn part(&self, id: Uuid, part: Part, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        self.store().await?.part(id, part, sink).await
    }

    async fn frames(&self, filter: FrameFilter) -> Result<Vec<Frame>> {
        self.store().await?.frames(filter).await
    }

    async fn frame_body(&self, id: Uuid, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        self.store().await?.frame_body(id, sink).await
    }

    async fn tool_calls(&self, tool_use_ids: Vec<String>) -> Result<Vec<ToolCall>> {
        self.store().await?.tool_calls(tool_use_ids).await
    }

    async fn session_of_tool_use(&self, tool_use_id: String) -> Result<Option<String>> {
        self.store().await?.session_of_tool_use(tool_use_id).await
    }

    async fn search(&self, query: SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
        self.store().await?.search(query).await
    }

    async fn begin_conversation(&self, new: NewConversation) -> Result<Conversation> {
        self.store().await?.begin_conversation(new).await
    }

    async fn store_messages(&self, into: Destination, messages: Vec<NewMessage>) -> Result<(Uuid, Vec<StoredMessage>)> {
        self.store().await?.store_messages(into, messages).await
    }

    async fn conversations_total(&self, filter: ConversationFilter) -> Result<u64> {
        self.store().await?.conversations_total(filter).await
    }

    async fn delete_conversation(&self, id: Uuid, force: bool) -> Result<Deletion> {
        self.store().await?.delete_conversation(id, force).await
    }

    async fn set_startup_context(&self, name: String, content: String, active: bool) -> Result<StartupContext> {
        self.store().await?.set_startup_context(name, content, active).await
    }

    async fn startup_context(&self, name: Option<String>) -> Result<Option<StartupContext>> {
        self.store().await?.startup_context(name).await
    }

    async fn startup_contexts(&self, include_content: bool) -> Result<Vec<StartupContext>> {
        self.store().await?.startup_contexts(include_content).await
    }

    async fn startup_context_versions(&self, name: String) -> Result<Vec<StartupContext>> {
        self.store().await?.startup_context_versions(name).await
    }

    async fn delete_startup_context(&self, name: String, force: bool) -> Result<ContextDeletion> {
        self.store().await?.delete_startup_context(name, force).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.store().await?.stats().await
    }

    async fn event_cursor(&self) -> Result<EventCursor> {
        self.store().await?.event_cursor().await
    }

    async fn events(&self, after: EventCursor, limit: u64) -> Result<(Vec<Event>, EventCursor)> {
        self.store().await?.events(after, limit).await
    }
}
