//! The connection that fills the full-text index, beside the one that writes: the server then works on both at once.

use std::sync::{Arc, Mutex, PoisonError};

use super::address::Address;
use super::connection::{Connection, Limits};
use super::indexing::{self, Ready};
use super::schema::{self, DEFAULT_TENANT};
use crate::moving::sides::unfinished;
use crate::store::Result;

/// Fills the index of one database; connects when it is asked for the first time, and again when the connection has broken.
pub(super) struct Indexer {
    address: Arc<Address>,
    open: Mutex<Option<Open>>,
}

struct Open {
    connection: Connection,
    /// The message that the parts of the index end before, as far as it is known.
    reaches: i64,
    /// Messages added to the newest part, and how many of them the planner is to look at next.
    added: usize,
    next_look: usize,
}

/// The planner looks at a part when it has so many messages, and whenever they have doubled. Of a part that it has never seen
/// it believes that a search is best done by reading all of it.
const FIRST_LOOK: usize = 500;

impl Indexer {
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self { address, open: Mutex::default() }
    }

    /// Puts entries into the index, in one transaction.
    pub(super) fn index(&self, read: &[Ready]) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.as_ref().is_none_or(|open| !open.connection.is_usable()) {
            *open = None;
            let connection = Connection::open(&self.address, Limits::WRITING)?;
            *open = Some(Open { connection, reaches: 0, added: 0, next_look: FIRST_LOOK });
        }
        let Some(Open { connection, reaches, added, next_look }) = &mut *open else { return Ok(()) };
        let last = read.iter().map(Ready::message).max().unwrap_or(0);
        let enters_part = last >= *reaches;
        if enters_part {
            *reaches = schema::make_words_parts(connection, last)?;
            (*added, *next_look) = (0, FIRST_LOOK);
        }
        connection.transaction("BEGIN", || {
            // Somebody may be moving a record here.
            if schema::moved(connection)? == Some(false) {
                return Err(unfinished());
            }
            indexing::index(connection, DEFAULT_TENANT, read)
        })?;
        // Little is added to older parts from now on, so nobody else would for a long time.
        if enters_part {
            indexing::merge_lists(connection)?;
        }
        *added += read.len();
        if *added >= *next_look {
            *next_look = 2 * *added;
            connection.batch(&format!("ANALYZE message_words_{}", *reaches / schema::WORDS_PART))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::PostgresStore;
    use super::super::snapshot::Snapshot;
    use super::super::writer::Writer;
    use super::*;
    use crate::conversation::identity::Role;
    use crate::ingest::fresh::Fresh;
    use crate::model::{Destination, NewConversation, NewMessage, SearchQuery};
    use crate::store::Store;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_writer_is_changing_is_left_for_the_next_time() {
        let database = e2e::postgres::shared().database();
        let store = PostgresStore::open(database.url()).await.unwrap();
        let said = NewMessage {
            role: Role::User,
            content: "wombat".into(),
            turn: None,
            metadata: serde_json::Value::Null,
            created_at: None,
        };
        store.store_messages(Destination::New(NewConversation::default()), vec![said]).await.unwrap();
        let address = Arc::new(Address::parse(database.url()).unwrap());
        let changing = tokio::task::spawn_blocking(move || {
            let reader = Connection::open(&address, Limits::READING).unwrap();
            let read = indexing::waiting(&Snapshot::new(&reader, DEFAULT_TENANT), &Fresh::new(), 10).unwrap();
            assert_eq!(read.iter().map(Ready::message).collect::<Vec<_>>(), [1]);
            let mut writer = Writer::open(address.clone()).unwrap();
            let indexer = Indexer::new(address);
            // The change is not committed yet, so whoever indexes now cannot see it.
            writer.run(|batch, _| indexing::requeue(batch, &[1]).and_then(|()| indexer.index(&read))).unwrap();
        });
        changing.await.unwrap();
        let wombats = SearchQuery { text: "wombat".into(), limit: 1, ..SearchQuery::default() };
        assert_eq!(store.search(wombats.clone()).await.unwrap().1, 0);
        assert_eq!(store.index_pending(10).await.unwrap(), 1);
        assert_eq!(store.search(wombats).await.unwrap().1, 1);
    }
}
