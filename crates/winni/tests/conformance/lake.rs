//! A database to try things on, and what the behaviours ask of it.

use std::sync::Arc;

use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;
use winni::model::*;
use winni::store::Store;

/// An empty database, for as long as it is needed.
pub(crate) struct Database {
    pub(crate) url: String,
    /// Where `sqlite:` finds its file; whatever else the database needs goes when this does.
    pub(crate) folder: TempDir,
}

impl Database {
    /// The URL, whichever the data folder is.
    pub(crate) fn full_url(&self) -> String {
        match self.is_sqlite() {
            true => format!("sqlite:{}", self.folder.path().join(winni::DEFAULT_FILE).display()),
            false => self.url.clone(),
        }
    }

    /// The name of a database in the shared cluster.
    pub(crate) fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap()
    }

    pub(crate) fn is_sqlite(&self) -> bool {
        self.url == "sqlite:"
    }
}

pub(crate) fn sqlite() -> Database {
    Database { url: "sqlite:".into(), folder: tempfile::tempdir().unwrap() }
}

pub(crate) fn postgres() -> Database {
    let database = e2e::postgres::shared().database();
    Database { url: database.url().to_owned(), folder: tempfile::tempdir().unwrap() }
}

/// A store on a database of its own, and a recorder that hands items to it.
pub(crate) struct Lake {
    pub(crate) database: Database,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) recorder: Uuid,
    pub(crate) seq: u64,
}

impl Lake {
    pub(crate) async fn open(database: Database) -> Self {
        let store = winni::open(&database.url, database.folder.path()).await.unwrap();
        Self { database, store, recorder: Uuid::now_v7(), seq: 0 }
    }

    /// The same database as another process would open it.
    pub(crate) async fn again(&self) -> Arc<dyn Store> {
        winni::open(&self.database.url, self.database.folder.path()).await.unwrap()
    }

    /// Another database of the same kind.
    pub(crate) async fn empty(&self) -> Self {
        Self::open(if self.database.is_sqlite() { sqlite() } else { postgres() }).await
    }

    pub(crate) async fn record(&mut self, exchange: CapturedExchange) -> Uuid {
        let id = exchange.id;
        let items = vec![(self.seq, Item::Exchange(Box::new(exchange)))];
        self.seq += 1;
        self.store.append(Batch { recorder: self.recorder, items }).await.unwrap();
        id
    }

    /// Traffic that could not be recorded.
    pub(crate) async fn gap(&mut self, exchanges: u64) {
        let gap = Gap { from: Timestamp(1_795_343_000_000_000), until: Timestamp::now(), exchanges, bytes: 9 };
        let items = vec![(self.seq, Item::Gap(gap))];
        self.seq += 1;
        self.store.append(Batch { recorder: self.recorder, items }).await.unwrap();
    }

    /// Goes on where the recorder's sequence is in the store.
    pub(crate) async fn seq_from_store(&mut self) {
        self.seq = self.store.watermark(self.recorder).await.unwrap().contiguous;
    }

    pub(crate) async fn keep_frame(&mut self, frame: CapturedFrame) {
        let items = vec![(self.seq, Item::Frame(Box::new(frame)))];
        self.seq += 1;
        self.store.append(Batch { recorder: self.recorder, items }).await.unwrap();
    }

    /// Begins a conversation with these messages of the user's.
    pub(crate) async fn keep(&self, session: &str, texts: &[&str]) -> Uuid {
        let new = NewConversation { session_id: Some(session.into()), ..NewConversation::default() };
        let messages = texts.iter().map(|text| message(Role::User, text)).collect();
        self.store.store_messages(Destination::New(new), messages).await.unwrap().0
    }

    pub(crate) async fn index(&self) {
        while self.store.index_pending(100).await.unwrap() > 0 {}
    }

    pub(crate) async fn part(&self, id: Uuid, part: Part) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(self.store.part(id, part, &mut bytes).await.unwrap(), Some(true));
        bytes
    }

    /// All conversations, the oldest first.
    pub(crate) async fn conversations(&self) -> Vec<Conversation> {
        let mut found = self.store.conversations(ConversationFilter::default()).await.unwrap();
        found.sort_by_key(|c| c.id);
        found
    }

    /// Turn, role and text of each message of a conversation's line.
    pub(crate) async fn said(&self, conversation: Uuid) -> Vec<(u64, String, String)> {
        let turns = self.store.turns(conversation, 0, None).await.unwrap();
        turns.into_iter().map(|t| (t.turn, t.role, text(&t.content))).collect()
    }

    /// The texts of all messages that a query finds, sorted: its match set.
    pub(crate) async fn found(&self, query: &str) -> Vec<String> {
        self.found_by(SearchQuery { text: query.into(), ..SearchQuery::default() }).await
    }

    pub(crate) async fn found_by(&self, query: SearchQuery) -> Vec<String> {
        let mut found: Vec<String> = self.hits(query).await.iter().map(|h| text(&h.content)).collect();
        found.sort();
        found
    }

    /// All hits of a query, in ranked order.
    pub(crate) async fn hits(&self, query: SearchQuery) -> Vec<SearchHit> {
        let (hits, total) = self.store.search(SearchQuery { limit: 1000, ..query }).await.unwrap();
        assert_eq!(hits.len() as u64, total);
        hits
    }
}

/// A message to be stored.
pub(crate) fn message(role: Role, text: &str) -> NewMessage {
    NewMessage { role, content: text.into(), turn: None, metadata: Value::Null, created_at: None }
}

/// The texts of a message, its other blocks left out.
pub(crate) fn text(content: &Value) -> String {
    match content {
        Value::Array(blocks) => blocks.iter().filter_map(|b| b["text"].as_str()).collect::<Vec<_>>().join("\n"),
        other => other.as_str().unwrap_or_default().to_owned(),
    }
}

pub(crate) fn turn(turn: u64, role: &str, text: &str) -> (u64, String, String) {
    (turn, role.to_owned(), text.to_owned())
}
