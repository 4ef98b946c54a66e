//! Which backends there are: the configuration applied, and the state of each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{Backend, Command, Hub, Own, Phase, Waiting};
use crate::backend;
use crate::catalog::Lists;
use crate::config::{ConfigError, Loaded, Server};
use crate::link::{Failure, Outbox};
use crate::protocol::{Capabilities, Era, ListKind};

/// A reconnect and a sync may both wait; more would do the same again.
const COMMANDS: usize = 8;

/// What was done, the tasks that end, and who waits in vain.
type Replaced = (Change, Vec<tokio::task::JoinHandle<()>>, Vec<(String, u64, Waiting)>);

/// What a changed configuration did.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Hub {
    /// Reads the text of the configuration and makes it so. Servers whose entries did not change are not touched.
    pub(crate) async fn apply(self: &Arc<Self>, text: &str) -> Result<Change, ConfigError> {
        let text = if text.trim().is_empty() { "{}" } else { text };
        let loaded = match Loaded::parse(text, &self.expand) {
            Ok(loaded) => loaded,
            Err(error) => {
                let error = self.file.syntax(error);
                self.lock().config_error = Some(error.to_string());
                return Err(error);
            }
        };
        for (name, reason) in &loaded.refused {
            tracing::warn!(server = name, "its entry cannot be used: {reason}");
        }
        let (change, stopped, abandoned) = self.replace_servers(loaded);
        let removed = Failure::passing("its entry in the configuration was removed or changed");
        for (server, id, waiting) in abandoned {
            self.lock().forget_call(&waiting, id);
            self.give_up(&server, waiting, &removed).await;
        }
        for task in stopped {
            // It ends its server in order; how long that may take is bounded where it is done.
            let _ = task.await;
        }
        if self.lock().client.hello.is_some() {
            self.start();
        }
        self.refresh().await;
        Ok(change)
    }

    fn replace_servers(&self, loaded: Loaded) -> Replaced {
        let mut state = self.lock();
        state.config_error = None;
        state.settings = loaded.settings;
        state.refused = loaded.refused;
        let mut change = Change::default();
        let (mut stopped, mut abandoned) = (Vec::new(), Vec::new());
        let gone: Vec<String> = state
            .backends
            .iter()
            .filter(|(name, backend)| {
                loaded.servers.get(*name).map(|s| &s.transport) != Some(&backend.server.transport)
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in gone {
            if let Some(mut backend) = state.backends.remove(&name) {
                let _ = backend.commands.try_send(Command::Stop);
                stopped.extend(backend.task.take());
                abandoned.extend(backend.waiting.drain().map(|(id, waiting)| (name.clone(), id, waiting)));
                change.removed.push(name);
            }
        }
        for (name, server) in loaded.servers {
            if let Some(existing) = state.backends.get_mut(&name) {
                existing.server = server;
            } else {
                state.backends.insert(name.clone(), Backend::new(server));
                change.added.push(name);
            }
        }
        (change, stopped, abandoned)
    }

    /// Starts every backend that has no task yet.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut state = self.lock();
        for (name, backend) in state.backends.iter_mut().filter(|(_, backend)| backend.task.is_none()) {
            let (commands, receiver) = mpsc::channel(COMMANDS);
            backend.commands = commands;
            let task = backend::run(self.clone(), name.clone(), backend.server.transport.clone(), receiver);
            backend.task = Some(tokio::spawn(task));
        }
    }

    /// Ends all backends and waits for their end.
    pub(crate) async fn stop_all(&self) {
        let tasks: Vec<_> = {
            let mut state = self.lock();
            let all = state.backends.values_mut();
            all.filter_map(|backend| {
                let _ = backend.commands.try_send(Command::Stop);
                backend.task.take()
            })
            .collect()
        };
        for task in tasks {
            let _ = task.await;
        }
    }

    /// Tells a backend's task something; false if there is no such backend.
    pub(crate) fn command(&self, server: &str, command: Command) -> bool {
        let state = self.lock();
        let backend = state.backends.get(server);
        backend.is_some_and(|backend| backend.commands.try_send(command).is_ok())
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().backends.keys().cloned().collect()
    }

    /// How long the start waits for servers.
    /// How long a backend that has nothing to do may be silent before it is asked; not so short that asking is all it does.
    pub(crate) fn silence(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.lock().settings.silence_ms.max(100))
    }

    pub(crate) fn startup_wait(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.lock().settings.startup_wait_ms)
    }

    pub(crate) fn connecting(&self, server: &str) {
        if let Some(backend) = self.lock().backends.get_mut(server) {
            backend.phase = Phase::Connecting;
            backend.is_to_reconnect = false;
        }
    }

    /// A connection anew is asked for; until it is tried, nothing of the one before is the outcome.
    pub(crate) fn to_reconnect(&self, server: &str, is_so: bool) {
        if let Some(backend) = self.lock().backends.get_mut(server) {
            backend.is_to_reconnect = is_so;
        }
    }

    /// A connection is made; nothing is sent over it for the client yet.
    pub(crate) fn connected(&self, server: &str, era: Era, capabilities: Capabilities, texts: [Option<String>; 2]) {
        if let Some(backend) = self.lock().backends.get_mut(server) {
            let [description, instructions] = texts;
            backend.generation += 1;
            backend.era = era;
            backend.capabilities = capabilities;
            backend.description = description;
            backend.instructions = instructions;
            backend.log_level = None;
        }
    }

    /// The backend has told its lists and can be called.
    pub(crate) async fn ready(&self, server: &str, outbox: &Outbox) {
        {
            let mut state = self.lock();
            let Some(backend) = state.backends.get_mut(server) else { return };
            backend.phase = Phase::Ready { since: Instant::now() };
            backend.lost_at = None;
            backend.connects += 1;
            backend.outbox = Some(outbox.clone());
            for kind in ListKind::ALL.into_iter().filter(|kind| !backend.capabilities.lists(*kind)) {
                backend.lists.0.remove(&kind);
            }
        }
        self.refresh().await;
    }

    pub(crate) fn down(&self, server: &str, failure: &Failure) {
        if let Some(backend) = self.lock().backends.get_mut(server) {
            let was_ready = matches!(backend.phase, Phase::Ready { .. });
            let now = Instant::now();
            if was_ready {
                backend.lost_at = Some(now);
            }
            // The moment when it was lost, not that of the latest attempt.
            let since = backend.lost_at.unwrap_or(now);
            backend.phase = Phase::Down { since, reason: failure.reason.clone() };
        }
    }

    /// The state of one server, or of all.
    pub(crate) fn status(&self, only: Option<&str>) -> Vec<Value> {
        let state = self.lock();
        let problems = &state.catalog.problems;
        let chosen = |name: &String| only.is_none_or(|only| only == name);
        let known = state.backends.iter().filter(|(name, _)| chosen(name)).map(|(name, backend)| {
            let its: Vec<&str> = problems.iter().filter(|(s, _)| s == name).map(|(_, p)| p.as_str()).collect();
            backend.status(name, &its)
        });
        let refused = state
            .refused
            .iter()
            .filter(|(name, _)| chosen(name))
            .map(|(name, reason)| json!({"name": name, "state": "refused", "error": reason, "tools": 0}));
        known.chain(refused).collect()
    }

    /// What holds for all of it.
    pub(crate) fn totals(&self) -> Value {
        let state = self.lock();
        let is_ready = |backend: &&Backend| matches!(backend.phase, Phase::Ready { .. });
        let tools: Value = serde_json::from_str(&state.catalog.list(ListKind::Tools)).unwrap_or_default();
        let in_flight = |b: &Backend| b.waiting.values().filter(|w| !matches!(w, Waiting::Own(Own::Listen))).count();
        json!({
            "configured": state.backends.len() + state.refused.len(),
            "connected": state.backends.values().filter(is_ready).count(),
            "tools": tools.as_array().map_or(0, Vec::len),
            "calls": state.backends.values().map(|b| b.calls).sum::<u64>(),
            "in_flight": state.backends.values().map(in_flight).sum::<usize>(),
            "config_file": self.file.path().display().to_string(),
            "config_error": state.config_error,
            "problems": state.catalog.problems.iter().map(|(s, p)| format!("{s}: {p}")).collect::<Vec<_>>(),
        })
    }

    /// Whether a server is called that, usable or not.
    pub(crate) fn is_configured(&self, server: &str) -> bool {
        let state = self.lock();
        state.backends.contains_key(server) || state.refused.contains_key(server)
    }

    /// Whether a server's attempt to connect is over, however it went.
    pub(crate) fn is_settled(&self, server: &str) -> bool {
        let state = self.lock();
        let is_over = |b: &Backend| !b.is_to_reconnect && !matches!(b.phase, Phase::Connecting);
        state.backends.get(server).is_none_or(is_over)
    }
}

impl Backend {
    fn new(server: Server) -> Self {
        Self {
            server,
            phase: Phase::Connecting,
            is_to_reconnect: false,
            lost_at: None,
            generation: 0,
            outbox: None,
            era: Era::Legacy,
            capabilities: Capabilities::default(),
            description: None,
            instructions: None,
            lists: Lists(BTreeMap::new()),
            waiting: HashMap::new(),
            log_level: None,
            connects: 0,
            calls: 0,
            commands: mpsc::channel(1).0,
            task: None,
            is_new: true,
        }
    }

    fn status(&self, name: &str, problems: &[&str]) -> Value {
        let (state, error) = match &self.phase {
            Phase::Connecting => ("connecting", None),
            Phase::Ready { .. } => ("connected", None),
            Phase::Down { reason, .. } => ("disconnected", Some(reason.as_str())),
        };
        let seconds = match &self.phase {
            Phase::Ready { since } | Phase::Down { since, .. } => Some(since.elapsed().as_secs()),
            Phase::Connecting => None,
        };
        let is_ready = matches!(self.phase, Phase::Ready { .. });
        let count = |kind| if is_ready { self.lists.of(kind).len() } else { 0 };
        json!({
            "name": name,
            "type": self.server.transport.kind(),
            "target": self.server.transport.describe(),
            "state": state,
            "error": error,
            "seconds_in_state": seconds,
            "protocol": is_ready.then_some(match self.era { Era::Modern => "modern", Era::Legacy => "legacy" }),
            "server": self.description.as_deref().and_then(|text| serde_json::from_str::<Value>(text).ok()),
            "tools": count(ListKind::Tools),
            "prompts": count(ListKind::Prompts),
            "resources": count(ListKind::Resources) + count(ListKind::Templates),
            "calls": self.calls,
            "connections": self.connects,
            "problems": problems,
        })
    }
}
