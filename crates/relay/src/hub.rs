//! What the relay knows at this moment, shared by the client's side and the backends' tasks.
//!
//! One mutex guards all of it. It is held for table look-ups only: never while something is awaited, and never while a
//! message is copied, so that one large message does not hold up the others.
//!
//! Ids: every request that leaves the relay, to whichever side, gets a number that was never used before. The number is
//! its progress token, too. So an answer, a progress notification and a cancellation each find their request, whatever ids
//! and tokens the peers chose, and a late answer finds nothing.

mod asked;
mod calls;
mod lists;
mod multi_round;
mod servers;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wire::json_rpc::IdKey;

use self::asked::Asked;
pub(crate) use self::asked::Question;
pub(crate) use self::calls::modern_meta;
pub(crate) use self::calls::{Call, Forward, Refusal};
pub(crate) use self::lists::{GRACE, page};
pub(crate) use self::multi_round::PARKED;
use self::multi_round::{Gathering, Parked};
pub(crate) use self::subscriptions::Listen;
use crate::catalog::{Catalog, Item, Lists};
use crate::config::{ConfigFile, Expand, Server, Settings};
use crate::link::connector::Connector;
use crate::link::{About, Outbox, Variables};
use crate::protocol::{Capabilities, Era, ListKind, OWN_INFO};
use crate::tap::Tap;

/// Everything that the parts of the relay share.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    to_client: mpsc::Sender<Bytes>,
    /// True once every server of the start was tried, or the wait for them is over.
    settled: watch::Sender<bool>,
    pub(crate) file: ConfigFile,
    /// Held while the file is read, changed and applied, so that two changes do not lose each other.
    pub(crate) changing: tokio::sync::Mutex<()>,
    pub(crate) expand: Expand,
    pub(crate) inherited: Variables,
    pub(crate) guard: Vec<OsString>,
    pub(crate) connector: Connector,
    pub(crate) tap: Option<Arc<dyn Tap>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// The part behind the mutex.
#[derive(Debug, Default)]
struct State {
    client: Client,
    settings: Settings,
    refused: BTreeMap<String, String>,
    config_error: Option<String>,
    backends: BTreeMap<String, Backend>,
    own_tools: Vec<Item>,
    catalog: Arc<Catalog>,
    /// The client's requests under way, by the client's id.
    places: HashMap<IdKey, Place>,
    asked: HashMap<u64, Asked>,
    parked: HashMap<String, Parked>,
    gatherings: HashMap<u64, Gathering>,
    last_id: u64,
}

/// What is known of the client.
#[derive(Debug, Default)]
struct Client {
    /// Its capabilities and description (JSON), from its first words; servers are connected to only then.
    hello: Option<Hello>,
    /// It has sent `initialize`.
    legacy: bool,
    log_level: Option<String>,
    listens: Vec<Listen>,
    /// Resources that it subscribed to in the legacy way.
    subscribed: BTreeSet<String>,
}

/// How a client introduced itself.
#[derive(Clone, Debug)]
pub(crate) struct Hello {
    pub(crate) capabilities: Arc<str>,
    pub(crate) info: Arc<str>,
}

/// Where a request of the client is.
#[derive(Debug)]
enum Place {
    Backend { server: String, id: u64 },
    Local(AbortHandle),
    Gathering(u64),
}

/// A configured server.
#[derive(Debug)]
struct Backend {
    server: Server,
    phase: Phase,
    /// It was told to connect anew and has not begun to.
    is_to_reconnect: bool,
    /// When the last connection that was ready ended.
    lost_at: Option<Instant>,
    /// Counts connections, so that what belongs to an earlier one is not taken for this one's.
    generation: u64,
    /// There while it can be sent to.
    outbox: Option<Outbox>,
    era: Era,
    capabilities: Capabilities,
    description: Option<String>,
    instructions: Option<String>,
    lists: Lists,
    waiting: HashMap<u64, Waiting>,
    log_level: Option<String>,
    connects: u64,
    calls: u64,
    commands: mpsc::Sender<Command>,
    task: Option<JoinHandle<()>>,
    /// Its first attempt is not over.
    is_new: bool,
}

/// Where a backend's state machine stands.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    /// Connecting, or being asked for its lists.
    Connecting,
    /// Serving.
    Ready { since: Instant },
    /// Waiting to try again.
    Down { since: Instant, reason: String },
}

/// Who waits for an answer of a backend.
#[derive(Debug)]
enum Waiting {
    Client(Box<Call>),
    Own(Own),
    /// The client will come back for it with this token.
    Parked(String),
}

/// A request of the relay itself.
#[derive(Debug)]
pub(crate) enum Own {
    List(ListKind, Vec<Item>),
    Ping,
    Listen,
    /// Nothing depends on the answer.
    Quiet(&'static str),
}

/// What a backend's task is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// The resources that the client wants to hear of have changed, or the log level.
    Sync,
    /// Begin anew, at once.
    Reconnect,
    Stop,
}

/// What [`Hub::new`] needs beside the channel to the client.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) file: ConfigFile,
    pub(crate) expand: Expand,
    pub(crate) guard: Vec<OsString>,
    pub(crate) connector: Connector,
    pub(crate) tap: Option<Arc<dyn Tap>>,
}

impl Hub {
    pub(crate) fn new(parts: Parts, to_client: mpsc::Sender<Bytes>, own_tools: Vec<Item>) -> Self {
        let Parts { file, expand, guard, connector, tap } = parts;
        let inherited = Arc::new(expand.inherited());
        let state = State { own_tools, ..State::default() };
        let hub = Self {
            state: Mutex::new(state),
            to_client,
            settled: watch::Sender::new(false),
            file,
            changing: tokio::sync::Mutex::default(),
            expand,
            inherited,
            guard,
            connector,
            tap,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        hub.lock().merge();
        hub
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message to the client; waits while the client is slow.
    pub(crate) async fn send(&self, message: impl Into<Bytes>) {
        // It fails only when the client is gone, and then nobody misses the message.
        let _ = self.to_client.send(message.into()).await;
    }

    /// Sends a message to a backend that is ready; nobody waits for what became of it.
    fn send_to(&self, server: &str, message: Vec<u8>) {
        let outbox = self.lock().backends.get(server).and_then(|backend| backend.outbox.clone());
        if let Some(outbox) = outbox
            && let Err(problem) = outbox.send(crate::link::Outgoing::Other { bytes: message.into() })
        {
            tracing::debug!(server, problem, "a message is dropped");
        }
    }

    /// What the client said of itself; the first words count.
    pub(crate) fn hello(&self) -> Hello {
        let none = || Hello { capabilities: "{}".into(), info: OWN_INFO.into() };
        self.lock().client.hello.clone().unwrap_or_else(none)
    }

    /// Takes a client's first words; true if they were the first.
    pub(crate) fn introduce(&self, hello: Hello) -> bool {
        let mut state = self.lock();
        let is_first = state.client.hello.is_none();
        state.client.hello.get_or_insert(hello);
        is_first
    }

    /// The client speaks a legacy version.
    pub(crate) fn initialized(&self) {
        self.lock().client.legacy = true;
    }

    /// Instructions of the servers that are known by now, for the client's model.
    pub(crate) fn instructions(&self) -> Vec<(String, String)> {
        let state = self.lock();
        let known = state.backends.iter().filter_map(|(name, b)| Some((name.clone(), b.instructions.clone()?)));
        known.collect()
    }

    /// Whether requests of the client wait for an answer.
    pub(crate) fn is_busy(&self) -> bool {
        !self.lock().places.is_empty()
    }

    /// Makes a local task findable for a cancellation.
    pub(crate) fn local(&self, id: IdKey, task: AbortHandle) {
        self.lock().places.insert(id, Place::Local(task));
    }

    /// A local task has answered.
    pub(crate) fn local_done(&self, id: &IdKey) {
        self.lock().places.remove(id);
    }
}

impl State {
    /// A number that was never used before.
    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }
}

/// What of a request is needed to ask again with more.
#[derive(Clone, Debug)]
struct Again {
    method: String,
    params: String,
    about: Option<About>,
}
