//! Winni on SQLite: one file, one writing thread, a few reading connections.
//!
//! Guaranteed: a batch is stored whole or not at all, and survives the loss of power once [`Store::append`] has
//! returned. Several processes may use one file at once; they take turns at writing. Readers never wait for writers.

mod append;
mod contexts;
mod conversations;
mod erase;
mod error;
mod exchanges;
mod frames;
mod indexing;
mod ingest;
pub(crate) mod moving;
mod packing;
mod recorders;
mod schema;
mod search;
mod stored;
mod tables;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::Connection;
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
use append::Writer;
use tables::Tables;

/// Reading connections kept open.
const READERS: usize = 4;

/// A data lake in one SQLite file.
pub struct SqliteStore {
    writing: WritingThread<Writer>,
    readers: Arc<Readers>,
    fresh: Arc<Fresh>,
}

impl SqliteStore {
    /// Opens the file, and creates it and its folder where needed.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if it cannot be opened now, [`Error::TooNew`] if a newer version wrote it.
    pub async fn open(path: &Path) -> Result<Self> {
        let path = path.to_owned();
        let opened = tokio::task::spawn_blocking(move || {
            create_folder(&path)?;
            let writer = Writer::open(&path).map_err(|e| at_path(e, &path))?;
            Ok::<_, Error>((writer, path))
        });
        let (writer, path) = opened.await.map_err(stopped)??;
        let fresh = writer.fresh();
        let writing = WritingThread::start(writer)?;
        let readers = Arc::new(Readers { path, tenant: schema::DEFAULT_TENANT, idle: Mutex::default() });
        Ok(Self { writing, readers, fresh })
    }

    /// Runs `work` on the writing thread, after what was asked before.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Writer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.writing.write(work).await
    }

    /// Runs `work` on a reading connection, which sees one state of the database all the time.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection, i64) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let readers = self.readers.clone();
        let reading = move || {
            readers.with(|connection, tenant| {
                let snapshot = connection.unchecked_transaction()?;
                work(&snapshot, tenant)
            })
        };
        tokio::task::spawn_blocking(reading).await.map_err(stopped)?
    }
}

fn create_folder(path: &Path) -> Result<()> {
    let Some(folder) = path.parent() else { return Ok(()) };
    std::fs::create_dir_all(folder).map_err(|e| Error::Unavailable(format!("{}: {e}", folder.display())))
}

struct Readers {
    path: PathBuf,
    tenant: i64,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn with<T>(&self, work: impl FnOnce(&Connection, i64) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path).map_err(|e| at_path(e, &self.path))?,
        };
        let result = work(&connection, self.tenant);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // After an error the next reader looks at the file again: it may have been replaced.
        if result.is_ok() && idle.len() < READERS {
            idle.push(connection);
        }
        result
    }
}

fn stopped(error: tokio::task::JoinError) -> Error {
    Error::Unavailable(format!("the work was stopped: {error}"))
}

fn at_path(error: Error, path: &Path) -> Error {
    match error {
        Error::Unavailable(why) => Error::Unavailable(format!("{}: {why}", path.display())),
        other => other,
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn append(&self, batch: Batch) -> Result<Watermark> {
        self.write(move |writer| writer.append(batch)).await
    }

    async fn watermark(&self, recorder: Uuid) -> Result<Watermark> {
        self.write(move |writer| writer.watermark(recorder)).await
    }

    async fn index_pending(&self, max: usize) -> Result<usize> {
        let fresh = self.fresh.clone();
        let entries = self.read(move |connection, tenant| indexing::waiting(connection, tenant, &fresh, max)).await?;
        if entries.is_empty() {
            return Ok(0);
        }
        self.write(move |writer| indexing::index(writer, &entries)).await
    }

    async fn begin_conversation(&self, new: NewConversation) -> Result<Conversation> {
        self.write(move |writer| stored::begin_conversation(writer, new)).await
    }

    async fn store_messages(&self, into: Destination, messages: Vec<NewMessage>) -> Result<(Uuid, Vec<StoredMessage>)> {
        let accepted =
            tokio::task::spawn_blocking(move || handed_in::accept(into, messages)).await.map_err(stopped)??;
        self.writing.store(accepted).await
    }

    async fn conversations_total(&self, filter: ConversationFilter) -> Result<u64> {
        self.read(move |connection, tenant| conversations::total(connection, tenant, &filter)).await
    }

    async fn conversations(&self, filter: ConversationFilter) -> Result<Vec<Conversation>> {
        self.read(move |connection, tenant| conversations::list(connection, tenant, &filter)).await
    }

    async fn conversation(&self, id: Uuid) -> Result<Option<Conversation>> {
        self.read(move |connection, tenant| conversations::one(connection, tenant, id)).await
    }

    async fn turns(&self, conversation: Uuid, offset: u64, limit: Option<u64>) -> Result<Vec<Turn>> {
        self.read(move |connection, tenant| {
            let tables = Tables { connection, tenant };
            let found = tables.conversation_row(conversation)?;
            found.map_or_else(|| Ok(Vec::new()), |row| reading::turns(&tables, row, offset, limit))
        })
        .await
    }

    async fn exchanges(&self, filter: ExchangeFilter) -> Result<Vec<Exchange>> {
        self.read(move |connection, tenant| exchanges::list(connection, tenant, &filter)).await
    }

    async fn exchange(&self, id: Uuid) -> Result<Option<Exchange>> {
        self.read(move |connection, tenant| exchanges::one(connection, tenant, id)).await
    }

    async fn part(&self, id: Uuid, part: Part, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        // The sink is the caller's, so the reading happens on the caller's thread.
        self.readers.with(|connection, tenant| {
            let tables = Tables { connection, tenant };
            let Some(row) = tables.exchange_row(id)? else {
                return Ok(None);
            };
            BodyReader::new(&tables).part(row, part, sink).map(Some)
        })
    }

    async fn frames(&self, filter: FrameFilter) -> Result<Vec<Frame>> {
        self.read(move |connection, tenant| frames::list(connection, tenant, &filter)).await
    }

    async fn frame_body(&self, id: Uuid, sink: &mut (dyn std::io::Write + Send)) -> Result<Option<bool>> {
        // The sink is the caller's, so the reading happens on the caller's thread.
        self.readers.with(|connection, tenant| {
            let tables = Tables { connection, tenant };
            let row = tables.frame_row(id)?;
            row.map(|row| reading::frames::body(&tables, row, sink)).transpose()
        })
    }

    async fn tool_calls(&self, tool_use_ids: Vec<String>) -> Result<Vec<ToolCall>> {
        self.read(move |connection, tenant| reading::frames::tool_calls(&Tables { connection, tenant }, &tool_use_ids))
            .await
    }

    async fn session_of_tool_use(&self, tool_use_id: String) -> Result<Option<String>> {
        self.read(move |connection, tenant| frames::session_of_tool_use(connection, tenant, &tool_use_id)).await
    }

    async fn search(&self, query: SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
        self.read(move |connection, tenant| search::search(connection, tenant, &query)).await
    }

    async fn delete_conversation(&self, id: Uuid, force: bool) -> Result<Deletion> {
        self.write(move |writer| erase::conversation(writer, id, force)).await
    }

    async fn set_startup_context(&self, name: String, content: String, active: bool) -> Result<StartupContext> {
        self.write(move |writer| contexts::set(writer, &name, &content, active)).await
    }

    async fn startup_context(&self, name: Option<String>) -> Result<Option<StartupContext>> {
        self.read(move |connection, tenant| contexts::one(connection, tenant, name.as_deref())).await
    }

    async fn startup_contexts(&self, include_content: bool) -> Result<Vec<StartupContext>> {
        self.read(move |connection, tenant| contexts::all(connection, tenant, include_content)).await
    }

    async fn startup_context_versions(&self, name: String) -> Result<Vec<StartupContext>> {
        self.read(move |connection, tenant| contexts::versions(connection, tenant, &name)).await
    }

    async fn delete_startup_context(&self, name: String, force: bool) -> Result<ContextDeletion> {
        self.write(move |writer| contexts::delete(writer, &name, force)).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.read(stats).await
    }

    async fn event_cursor(&self) -> Result<EventCursor> {
        self.read(exchanges::cursor).await
    }

    async fn events(&self, after: EventCursor, limit: u64) -> Result<(Vec<Event>, EventCursor)> {
        self.read(move |connection, tenant| exchanges::events(connection, tenant, after, limit)).await
    }
}

fn stats(connection: &Connection, tenant: i64) -> Result<Stats> {
    let count = |table: &str| {
        connection
            .query_row(&format!("SELECT count(*) FROM {table} WHERE tenant = ?1"), [tenant], |row| row.get::<_, i64>(0))
    };
    let totals = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let (captured, stored, unrecorded) = connection.query_row(
        "SELECT captured_bytes, stored_bytes, unrecorded FROM total WHERE tenant = ?1",
        [tenant],
        totals,
    )?;
    Ok(Stats {
        conversations: count("conversation")? as u64,
        messages: count("message")? as u64,
        exchanges: count("exchange")? as u64,
        mcp_frames: frames::mcp_frames(connection, tenant)?,
        captured_bytes: captured as u64,
        stored_bytes: stored as u64,
        ratio: if stored > 0 { captured as f64 / stored as f64 } else { 0.0 },
        unrecorded: unrecorded as u64,
    })
}
