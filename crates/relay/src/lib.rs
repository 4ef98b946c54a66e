//! The MCP relay: one stdio server for an agent, many MCP servers behind it.
//!
//! Guaranteed: a backend that is dead, slow or wrong costs only its own tools. What a backend says reaches the client as it
//! was written, but for ids, progress tokens and names that would collide. Every request gets one answer, and none is sent
//! to a server twice. The client is told of a changed list when, and only when, the merged list changed. When the relay
//! ends, however it ends, its children end, too.
//! Refused: whatever would have to be guessed. A name that leads to several tools, a request to a server that is away, a
//! message that is no message: each is an error that says so.
//!
//! [`run`] is everything: it serves a client on two streams until the first of them ends.

mod backend;
mod catalog;
mod client;
mod config;
pub mod guard;
mod hub;
mod link;
mod own_tools;
mod protocol;
mod standard_streams;
mod tap;

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub use config::ConfigError;
pub use standard_streams::standard_streams;
pub use tap::{Direction, Observed, Tap};

use client::Front;
use client::streams::{OUTGOING_MESSAGES, read, write};
use config::{ConfigFile, Expand};
use hub::{Hub, Parts};
use link::connector::Connector;

/// A client that has said its last word may still read the answers to it.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(5);

/// How a relay runs.
#[derive(Debug)]
pub struct Options {
    /// The `mcpServers` file. It need not exist yet.
    pub config: PathBuf,
    /// The environment: for `${NAME}` in the file, and for the little of it that children get.
    pub environment: Vec<(String, String)>,
    /// The program, and its first arguments, that stdio servers run below: one that calls [`guard::run_if_asked`].
    pub guard: Vec<OsString>,
    /// Sees every message.
    pub tap: Option<Arc<dyn Tap>>,
}

/// Why a relay cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file is wrong. While the relay runs this is told to the client; at the start it is fatal.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Serves the client until its stream ends or `stop` is cancelled; then ends all servers.
///
/// # Errors
///
/// [`Error`] if it cannot start. Once it serves, nothing that a client or a server does ends it.
pub async fn run(
    options: Options,
    reader: impl AsyncBufRead + Unpin,
    writer: impl AsyncWrite + Unpin + Send + 'static,
    stop: CancellationToken,
) -> Result<(), Error> {
    let (to_client, messages) = mpsc::channel(OUTGOING_MESSAGES);
    let parts = Parts {
        file: ConfigFile::new(options.config),
        expand: Expand::new(options.environment),
        guard: options.guard,
        connector: Connector::new()?,
        tap: options.tap.clone(),
    };
    let hub = Arc::new(Hub::new(parts, to_client, own_tools::tools()));
    let text = hub.file.read()?;
    hub.apply(&text).await?;
    let mut writing = tokio::spawn(write(writer, messages, options.tap));
    let front = Front { hub: hub.clone() };
    tokio::select! {
        () = read(&front, reader) => last_answers(&hub, &stop, &mut writing).await,
        () = watch(&hub, text) => {}
        _ = &mut writing => {}
        () = stop.cancelled() => {}
    }
    hub.end_listens().await;
    hub.stop.cancel();
    hub.stop_all().await;
    hub.tasks.close();
    drop((front, hub));
    // What is still to be written needs a client that reads; a moment is enough for one that does.
    let _ = tokio::time::timeout(Duration::from_millis(200), writing).await;
    Ok(())
}

/// The client has closed its stream: what it asked before is answered, if it does not take long.
async fn last_answers(hub: &Hub, stop: &CancellationToken, writing: &mut tokio::task::JoinHandle<()>) {
    let answered = async {
        while hub.is_busy() && !writing.is_finished() {
            tokio::time::sleep(POLL).await;
        }
    };
    let _ = stop.run_until_cancelled(tokio::time::timeout(LAST_ANSWERS, answered)).await;
}

/// Applies every change of the file; one that cannot be read leaves the servers as they are.
async fn watch(hub: &Arc<Hub>, text: String) {
    let changed = tokio::sync::Notify::new();
    let watching = hub.file.watch(text, |_| changed.notify_one());
    let applying = async {
        loop {
            changed.notified().await;
            let _changing = hub.changing.lock().await;
            // Read again under the lock: the relay's own tools may have changed it meanwhile.
            let applied = match hub.file.read() {
                Ok(text) => hub.apply(&text).await,
                Err(error) => Err(error),
            };
            match applied {
                Ok(change) => tracing::info!(?change, "the configuration was read again"),
                Err(error) => tracing::warn!(%error, "the servers stay as they are"),
            }
        }
    };
    tokio::join!(watching, applying);
}
