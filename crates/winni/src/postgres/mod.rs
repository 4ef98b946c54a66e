//! Winni on PostgreSQL 15 and later: one writing connection, one that fills the full-text index, a few reading ones.
//!
//! Guaranteed: a batch is stored whole or not at all, and is with the server's write-ahead log once [`Store::append`] has
//! returned (as far as the server's `synchronous_commit` says). Any number of processes may use one database at once; they
//! take turns at writing. A reading sees one moment. A connection that breaks is replaced by the next call; what the broken
//! one had not committed is as if it had never been.

mod address;
mod batch;
mod connection;
mod contexts;
mod conversations;
mod erase;
mod error;
mod exchanges;
mod frames;
mod indexer;
mod indexing;
pub(crate) mod moving;
mod places;
mod readers;
mod schema;
mod search;
mod snapshot;
mod statistics;
mod stored;
mod tls;
mod value;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::handed_in;
use crate::ingest::fresh::Fresh;
use crate::model::{
    Batch, ContextDeletion, Conversation, ConversationFilter, Deletion, Destination, Event, EventCursor, Exchange,
    ExchangeFilter, Frame, FrameFilter, NewConversation, NewMessage, Part, SearchHit, SearchQuery, StartupContext,
    Stats, StoredMessage, ToolCall, Turn,
};
use crate::reading::{self, BodyReader};
use crate::store::{Error, Result, Store, Watermark};
use crate::writing::WritingThread;
use address::Address;
use connection::{Connection, Limits};
use indexer::Indexer;
use readers::Readers;
use snapshot::Snapshot;
use writer::Writer;

/// Pieces of a body that are read ahead of whoever takes them.
const PIECES_AHEAD: usize = 4;

/// A data lake in a PostgreSQL database.
pub struct PostgresStore {
    writing: WritingThread<Writer>,
    readers: Arc<Readers>,
    indexer: Arc<Indexer>,
    fresh: Arc<Fresh>,
}

impl PostgresStore {
    /// Connects, and creates or updates the schema `iccm` where needed.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a URL that cannot be read, [`Error::Unavailable`] if the server cannot be used now,
    /// [`Error::TooNew`] if a newer version wrote the database.
    pub async fn open(url: &str) -> Result<Self> {
        let address = Arc::new(Address::parse(url)?);
        let at = address.clone();
        let opened = tokio::task::spawn_blocking(move || Writer::open(at.clone()).map_err(|e| at_address(e, &at)));
        Self::with(opened.await.map_err(stopped)??, address)
    }

    /// Connects to read. A role that may not write can do this, unless the schema has to be created or updated. The first
    /// call that writes makes a connection for that.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_for_reading(url: &str) -> Result<Self> {
        let address = Arc::new(Address::parse(url)?);
        let at = address.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&at, Limits::READING)?;
            Ok((schema::is_usable(&connection)?, connection))
        });
        let looked = looked.await.map_err(stopped)?.map_err(|e: Error| at_address(e, &address))?;
        let (true, connection) = looked else { return Self::open(url).await };
        let store = Self::with(Writer::unopened(address.clone()), address)?;
        store.readers.keep(connection);
        Ok(store)
    }

    fn with(writer: Writer, address: Arc<Address>) -> Result<Self> {
        let fresh = writer.fresh.clone();
        let writing = WritingThread::start(writer)?;
        let indexer = Arc::new(Indexer::new(address.clone()));
        let readers = Arc::new(Readers::new(address));
        Ok(Self { writing, readers, indexer, fresh })
    }

    /// Runs `work` on the writing thread, after what was asked before.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writing.write(work).await.map_err(|e| at_address(e, &self.readers.address))
    }

    /// Runs `work` on a reading connection.
    async fn read<T: Send + 'static>(&self, work: impl Fn(&Snapshot<'_>) -> Result<T> + Send + 'static) -> Result<T> {
        let readers = self.readers.clone();
        let permit = self.readers.permits.acquire().await.map_err(|_| Error::Unavailable("it is closed".into()))?;
        let read = tokio::task::spawn_blocking(move || readers.with(work)).await;
        drop(permit);
        read.map_err(stopped)?
    }
}

impl PostgresStore {
    /// Finds a row, and hands what it holds over to a sink. The sink is the caller's, so the pieces come to the caller's
    /// thread. Once one has come, a connection that breaks is the end of it: what was written cannot be taken back.
    async fn hand_over(
        &self,
        find: impl Fn(&Snapshot<'_>) -> Result<Option<i64>> + Send + 'static,
        write: impl Fn(&Snapshot<'_>, i64, &mut dyn std::io::Write) -> Result<bool> + Send + 'static,
        sink: &mut (dyn std::io::Write + Send),
    ) -> Result<Option<bool>> {
        let (pieces, mut coming) = mpsc::channel(PIECES_AHEAD);
        let pieces = Mutex::new(Some(pieces));
        let reading = self.read(move |snapshot| {
            let row = find(snapshot)?;
            let pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner).take();
            match (row, pieces) {
                (Some(row), Some(pieces)) => write(snapshot, row, &mut Pieces(pieces)).map(Some),
                (None, _) => Ok(None),
                (Some(_), None) => Err(Error::Unavailable("the connection broke within a body".into())),
            }
        });
        let mut reading = std::pin::pin!(reading);
        let done = loop {
            tokio::select! {
                biased;
                piece = coming.recv() => match piece {
                    Some(piece) => sink.write_all(&piece).map_err(Error::Output)?,
                    None => break reading.await,
                },
                done = &mut reading => break done,
            }
        };
        while let Ok(piece) = coming.try_recv() {
            sink.write_all(&piece).map_err(Error::Output)?;
        }
        done
    }
}

/// Checks a URL without asking the server.
pub(crate) fn check_url(url: &str) -> Result<()> {
    Address::parse(url).map(|_| ())
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::Unavailable(format!("the work was stopped: {error}"))
}

fn at_address(error: Error, address: &Address) -> Error {
    match error {
        Error::Unavailable(why) => Error::Unavailable(format!("{}: {why}", address.shown())),
        other => other,
    }
}

/// Hands pieces of a body to whoever waits for them.
struct Pieces(mpsc::Sender<Vec<u8>>);

impl std::io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.blocking_send(bytes.to_vec()).map_err(|_| std::io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn append(&self, batch: Batch) -> Result<Watermark> {
        self.write(move |writer| writer.append(batch)).await
    }

    async fn watermark(&self, recorder: Uuid) -> Result<Watermark> {
        self.read(move |snapshot| batch::watermark(snapshot, recorder)).await
    }

    async fn index_pending(&self, max: usize) -> Result<usize> {
        let fresh = self.fresh.clone();
        let entries = self.read(move |snapshot| indexing::waiting(snapshot, &fresh, max)).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        let (indexer, count) = (self.indexer.clone(), entries.len());
        let indexed = tokio::task::spawn_blocking(move || indexer.index(&entries)).await;
        indexed.map_err(stopped)?.map_err(|e| at_address(e, &self.readers.address))?;
        Ok(count)
    }

    fn indexes_beside_storing(&self) -> bool {
        true
    }

    async fn begin_conversation(&self, new: NewConversation) -> Result<Conversation> {
        let new = handed_in::conversation(new)?;
        self.write(move |writer| writer.run(|batch, _| stored::begin_conversation(batch, &new))).await
    }

    async fn store_messages(&self, into: Destination, messages: Vec<NewMessage>) -> Result<(Uuid, Vec<StoredMessage>)> {
        // What takes time is done before others have to wait for the lock.
        let accepted =
            tokio::task::spawn_blocking(move || handed_in::accept(into, messages)).await.map_err(stopped)??;
        self.writing.store(accepted).await.map_err(|e| at_address(e, &self.readers.address))
    }

    async fn conversations_total(&self, filter: ConversationFilter) -> Result<u64> {
        self.read(move |snapshot| conversations::total(snapshot, &filter)).await
    }

    async fn conversations(&self, filter: ConversationFilter) -> Result<Vec<Conversation>> {
        self.read(move |snapshot| conversations::list(snapshot, &filter)).await
    }

    async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>> {
        self.read(move |snapshot| conversations::one(snapshot, id)).await
    }

    async fn turns(&self, conversation: Uuid, offset: u64, limit: Option<u64>) -> Result<Vec<Turn>> {
        self.read(move |snapshot| {
            let found = snapshot.conversation_row(conversation)?;
            found.map_or_else(|| Ok(Vec::new()), |row| reading::turns(snapshot, row, offset, limit))
        })
        .await
    }

    async fn exchanges(&self, filter: ExchangeFilter) -> Result<Vec<Exchange>> {
        self.read(move |snapshot| exchanges::list(snapshot, &filter)).await
    }

    async fn exchange(&self, id: Uuid) -> Result<Option<Exchange>> {
        self.read(move |snapshot| exchanges::one(snapshot, id)).await
    }

    async fn part(&self, id: Uuid, part: Part, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        let find = move |snapshot: &Snapshot<'_>| snapshot.exchange_row(id);
        let write = move |snapshot: &Snapshot<'_>, row, sink: &mut dyn std::io::Write| {
            BodyReader::new(snapshot).part(row, part, sink)
        };
        self.hand_over(find, write, sink).await
    }

    async fn frames(&self, filter: FrameFilter) -> Result<Vec<Frame>> {
        self.read(move |snapshot| frames::list(snapshot, &filter)).await
    }

    async fn frame_body(&self, id: Uuid, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        let find = move |snapshot: &Snapshot<'_>| snapshot.frame_row(id);
        let write =
            |snapshot: &Snapshot<'_>, row, sink: &mut dyn std::io::Write| reading::frames::body(snapshot, row, sink);
        self.hand_over(find, write, sink).await
    }

    async fn tool_calls(&self, tool_use_ids: Vec<String>) -> Result<Vec<ToolCall>> {
        self.read(move |snapshot| reading::frames::tool_calls(snapshot, &tool_use_ids)).await
    }

    async fn session_of_tool_use(&self, tool_use_id: String) -> Result<Option<String>> {
        self.read(move |snapshot| frames::session_of_tool_use(snapshot, &tool_use_id)).await
    }

    async fn search(&self, query: SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
        self.read(move |snapshot| search::search(snapshot, &query)).await
    }

    async fn delete_conversation(&self, id: Uuid, force: bool) -> Result<Deletion> {
        self.write(move |writer| writer.run(|batch, _| erase::conversation(batch, id, force))).await
    }

    async fn set_startup_context(&self, name: String, content: String, active: bool) -> Result<StartupContext> {
        self.write(move |writer| writer.run(|batch, _| contexts::set(batch, &name, &content, active))).await
    }

    async fn startup_context(&self, name: Option<String>) -> Result<Option<StartupContext>> {
        self.read(move |snapshot| contexts::one(snapshot, name.as_deref())).await
    }

    async fn startup_contexts(&self, include_content: bool) -> Result<Vec<StartupContext>> {
        self.read(move |snapshot| contexts::all(snapshot, include_content)).await
    }

    async fn startup_context_versions(&self, name: String) -> Result<Vec<StartupContext>> {
        self.read(move |snapshot| contexts::versions(snapshot, &name)).await
    }

    async fn delete_startup_context(&self, name: String, force: bool) -> Result<ContextDeletion> {
        self.write(move |writer| writer.run(|batch, _| contexts::delete(batch, &name, force))).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.read(conversations::stats).await
    }

    async fn event_cursor(&self) -> Result<EventCursor> {
        self.read(exchanges::cursor).await
    }

    async fn events(&self, after: EventCursor, limit: u64) -> Result<(Vec<Event>, EventCursor)> {
        self.read(move |snapshot| exchanges::events(snapshot, after, limit)).await
    }
}
