//! Dewey, the librarian: an MCP server that stores, fetches, lists, searches and deletes conversations and startup
//! contexts, and gives conversations as resources.
//!
//! Guaranteed: what a call stores is stored whole or not at all; wrong input is a tool error that names the parameter and
//! what it must be; captured conversations are read like stored ones.
//!
//! Refused: adding to a captured conversation, which is the record of what happened; files outside the import folders.

mod incoming;
mod resources;
mod schema;
mod server;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;

use mcp::Tool;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use winni::store::Store;

/// Messages that are indexed at a time.
const INDEX_AT_ONCE: usize = 256;

/// The server's tools over a store.
pub struct Dewey {
    store: Arc<dyn Store>,
    import_folders: Vec<PathBuf>,
    tools: Vec<Tool>,
    /// Told when there is something to index.
    stored: Notify,
}

impl Dewey {
    /// Dewey over this store. Files of messages are read from below `import_folders` and from nowhere else.
    pub fn new(store: Arc<dyn Store>, import_folders: Vec<PathBuf>) -> Arc<Self> {
        Arc::new(Self { store, import_folders, tools: tools::all(), stored: Notify::new() })
    }

    /// Indexes what is stored, as it comes, until `shutdown`; without it, only a search does.
    pub async fn keep_index(self: Arc<Self>, shutdown: CancellationToken) {
        let indexing = async {
            loop {
                // Registered before the store is asked: what comes in between wakes us up again.
                let stored = self.stored.notified();
                self.index(usize::MAX).await;
                stored.await;
            }
        };
        shutdown.run_until_cancelled(indexing).await;
    }

    /// Indexes what waits, in at most so many steps.
    async fn index(&self, steps: usize) {
        for _ in 0..steps {
            match self.store.index_pending(INDEX_AT_ONCE).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot fill the search index now; it goes on with the next message");
                    return;
                }
            }
        }
    }
}
