//! A connection that stands: its lists are kept current, its messages find their way, and its silence is noticed.
//!
//! Guaranteed: the server is asked to tell of changes before it is asked for its lists, so that no change falls in between.
//! Nothing is sent to it for the client before it has told all its lists.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::mpsc;
use tokio::time::Instant;
use wire::json_rpc::{self, IdKey, Message, Outcome, batch};

use super::handshake::{Introduced, member, plain_params};
use crate::catalog::Item;
use crate::hub::{Command, Hello, Hub, Own, Question, page};
use crate::link::{Event, Failure, Link, Outgoing};
use crate::protocol::{
    ACKNOWLEDGED, CANCELLED, DISCOVER, Era, LISTEN, LOG_MESSAGE, ListKind, PROGRESS, Params, RESOURCE_UPDATED,
};

/// How often the state of a connection is looked at, at least.
const TICK: Duration = Duration::from_secs(5);
/// For the first lists.
const LIST_PATIENCE: Duration = Duration::from_secs(60);
/// A list with more pages than this has no end.
const MAX_PAGES: usize = 10_000;

/// Why a connection has ended.
#[derive(Clone, Debug)]
pub(super) enum End {
    Stopped,
    Reconnect,
    Lost(Failure),
}

/// What is being asked for a list.
#[derive(Debug, Default)]
struct Fetch {
    under_way: bool,
    /// It has changed since it was asked for.
    again: bool,
    pages: usize,
}

/// A connection and what belongs to it alone.
#[derive(Debug)]
pub(super) struct Session<'a> {
    hub: &'a Arc<Hub>,
    name: &'a str,
    link: Link,
    era: Era,
    hello: Hello,
    introduced: Introduced,
    fetches: BTreeMap<ListKind, Fetch>,
    ready: bool,
    /// Requests to be sent (once more) when the server is ready.
    resend: Vec<Outgoing>,
    /// Requests that the server did not take because it had forgotten the session.
    expired: Vec<Outgoing>,
    subscribed: BTreeSet<String>,
    /// The request whose stream tells of changes (modern).
    listening: Option<u64>,
    listened: Instant,
    began: Instant,
    heard: Instant,
    pinged: Option<Instant>,
}

impl<'a> Session<'a> {
    /// Begins to serve.
    pub(super) fn begin(
        hub: &'a Arc<Hub>,
        name: &'a str,
        link: Link,
        introduced: Introduced,
        resend: Vec<Outgoing>,
    ) -> Self {
        let (now, era) = (Instant::now(), introduced.era);
        let texts = [introduced.description.clone(), introduced.instructions.clone()];
        hub.connected(name, era, introduced.capabilities, texts);
        let (hello, fetches) = (hub.hello(), BTreeMap::new());
        let (subscribed, expired) = (BTreeSet::new(), Vec::new());
        Self {
            hub,
            name,
            link,
            era,
            hello,
            introduced,
            fetches,
            ready: false,
            resend,
            expired,
            subscribed,
            listening: None,
            listened: now,
            began: now,
            heard: now,
            pinged: None,
        }
    }

    /// Serves until the end.
    pub(super) async fn serve(&mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        let mut next_beat = Instant::now();
        self.sync();
        for kind in ListKind::ALL {
            self.fetch(kind);
        }
        self.ready_if_listed().await;
        loop {
            let event = tokio::select! {
                event = self.link.event() => event,
                command = commands.recv() => match command {
                    Some(Command::Sync) => {
                        self.sync();
                        continue;
                    }
                    Some(Command::Reconnect) => return End::Reconnect,
                    Some(Command::Stop) | None => return End::Stopped,
                },
                () = tokio::time::sleep_until(next_beat) => match self.beat() {
                    Ok(()) => {
                        // What is configured may have changed.
                        next_beat = Instant::now() + TICK.min(self.hub.silence() / 6);
                        continue;
                    }
                    Err(failure) => return End::Lost(failure),
                },
            };
            self.heard = Instant::now();
            self.pinged = None;
            if let Some(end) = self.event(event).await {
                return end;
            }
        }
    }

    /// Closes the connection and answers whoever waits. Gives the requests to be sent in the next one.
    pub(super) async fn end(self, end: &End) -> Vec<Outgoing> {
        let failure = match end {
            End::Lost(failure) => failure.clone(),
            End::Reconnect => Failure::passing("the relay was told to reconnect"),
            End::Stopped => Failure::passing("the server was removed, or the relay ends"),
        };
        let kept: Vec<u64> = self.expired.iter().filter_map(number_of).collect();
        self.hub.down(self.name, &failure);
        self.hub.lost(self.name, &failure, &kept).await;
        self.link.close().await;
        self.expired
    }

    async fn event(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Message { bytes, within } => match batch(&bytes) {
                // Only 2025-03-26 has these; each message stands for itself.
                Some(messages) => {
                    for message in messages {
                        self.message(Bytes::copy_from_slice(message.get().as_bytes()), within).await;
                    }
                }
                None => self.message(bytes.clone(), within).await,
            },
            Event::Failed { id, failure, is_lost } => {
                if let Some(own) = self.hub.failed(self.name, id, &failure).await {
                    self.own_failed(id, own, &failure).await;
                }
                return is_lost.then_some(End::Lost(failure));
            }
            Event::Expired { id, bytes, about } => {
                self.expired.push(Outgoing::Request { id, bytes, about });
                return Some(End::Lost(Failure::passing("the server no longer knows the session")));
            }
            Event::Lost(failure) => return Some(End::Lost(failure)),
        }
        None
    }

    async fn message(&mut self, bytes: Bytes, within: Option<u64>) {
        match Message::parse(&bytes) {
            Ok(Message::Response { id, outcome }) => {
                let Some(number) = IdKey::of(id).number() else { return };
                if let Some(own) = self.hub.answered(self.name, number, bytes.clone(), outcome).await {
                    self.own_answered(number, own, outcome).await;
                }
            }
            Ok(Message::Notification { method, params }) => {
                self.notification(&bytes, &method, &Params::of(params)).await;
            }
            Ok(Message::Request { id, method, .. }) if method == "ping" => {
                self.put(Outgoing::Other { bytes: json_rpc::result(id.get(), "{}").into() });
            }
            Ok(Message::Request { id, method, params }) => {
                let question = Question { source: &bytes, id, method: &method, params, within };
                self.hub.ask_client(self.name, &question).await;
            }
            Err(error) => tracing::warn!(backend = self.name, %error, "not a message; it is dropped"),
        }
    }

    async fn notification(&mut self, source: &[u8], method: &str, params: &Params<'_>) {
        let (hub, name) = (self.hub, self.name);
        match method {
            PROGRESS => hub.progress(name, source, params).await,
            LOG_MESSAGE => hub.logged(name, source, params).await,
            RESOURCE_UPDATED => hub.updated(source, params).await,
            CANCELLED => hub.withdrawn(name, source, params).await,
            ACKNOWLEDGED => {}
            _ => match ListKind::ALL.into_iter().filter(|kind| kind.changed() == method).collect::<Vec<_>>() {
                changed if changed.is_empty() => hub.send(source.to_vec()).await,
                changed => changed.into_iter().for_each(|kind| self.fetch(kind)),
            },
        }
    }

    fn put(&self, outgoing: Outgoing) {
        if let Err(problem) = self.link.outbox.send(outgoing) {
            tracing::debug!(backend = self.name, problem, "a message is dropped");
        }
    }

    fn request(&self, own: Own, method: &str, more: &str) -> u64 {
        let params = plain_params(self.era, &self.hello, more);
        self.hub.own_request(self.name, &self.link.outbox, own, method, &params)
    }

    /// Asks for a list, unless it is being asked for: then once more when that is done.
    fn fetch(&mut self, kind: ListKind) {
        if !self.introduced.capabilities.lists(kind) {
            return;
        }
        let fetch = self.fetches.entry(kind).or_default();
        if fetch.under_way {
            fetch.again = true;
            return;
        }
        *fetch = Fetch { under_way: true, again: false, pages: 0 };
        self.request(Own::List(kind, Vec::new()), kind.method(), "");
    }

    async fn own_answered(&mut self, number: u64, own: Own, outcome: Outcome<'_>) {
        match (own, outcome) {
            (Own::List(kind, before), Outcome::Result(result)) => self.listed(kind, before, result).await,
            (Own::List(kind, before), Outcome::Error(error)) => {
                tracing::info!(backend = self.name, error = error.get(), "{} was refused", kind.method());
                self.list_done(kind, before).await;
            }
            (Own::Listen, Outcome::Result(_)) => self.listen_ended(number),
            // It has no such thing, and asking again would not change that.
            (Own::Listen, Outcome::Error(error)) => {
                tracing::info!(backend = self.name, error = error.get(), "{LISTEN} was refused");
            }
            (Own::Quiet(what), Outcome::Error(error)) => {
                tracing::info!(backend = self.name, error = error.get(), "{what} was refused");
            }
            (Own::Ping | Own::Quiet(_), _) => {}
        }
    }

    async fn own_failed(&mut self, number: u64, own: Own, failure: &Failure) {
        match own {
            Own::List(kind, before) => {
                tracing::info!(backend = self.name, %failure, "{} was not answered", kind.method());
                self.list_done(kind, before).await;
            }
            Own::Listen => self.listen_ended(number),
            Own::Ping | Own::Quiet(_) => {}
        }
    }

    async fn listed(&mut self, kind: ListKind, mut items: Vec<Item>, result: &RawValue) {
        let (more, next) = page(kind, result);
        items.extend(more);
        let fetch = self.fetches.entry(kind).or_default();
        fetch.pages += 1;
        match next {
            Some(cursor) if fetch.pages < MAX_PAGES => {
                self.request(Own::List(kind, items), kind.method(), &member("cursor", &cursor));
            }
            _ => self.list_done(kind, items).await,
        }
    }

    async fn list_done(&mut self, kind: ListKind, items: Vec<Item>) {
        let has_changed = self.hub.set_list(self.name, kind, items);
        let fetch = self.fetches.entry(kind).or_default();
        fetch.under_way = false;
        if fetch.again {
            self.fetch(kind);
        }
        if self.ready {
            if has_changed {
                self.hub.refresh().await;
            }
        } else {
            self.ready_if_listed().await;
        }
    }

    async fn ready_if_listed(&mut self) {
        if self.ready || self.fetches.values().any(|fetch| fetch.under_way) {
            return;
        }
        self.ready = true;
        self.hub.ready(self.name, &self.link.outbox).await;
        self.hub.tried(self.name);
        tracing::info!(backend = self.name, era = ?self.era, "connected");
        for outgoing in std::mem::take(&mut self.resend) {
            self.put(outgoing);
        }
        // Which resources are this server's is known only now.
        self.sync();
    }

    /// Looks after a connection on which nothing happens.
    fn beat(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        if !self.ready {
            let is_late = now - self.began > LIST_PATIENCE;
            return if is_late { Err(Failure::passing("it does not tell what it offers")) } else { Ok(()) };
        }
        if self.era == Era::Modern && self.listening.is_none() {
            self.listen_again();
        }
        match self.pinged {
            Some(pinged) if now - pinged > self.hub.silence() / 3 => {
                Err(Failure::passing(format!("it has not answered for {} s", (now - self.heard).as_secs())))
            }
            Some(_) => Ok(()),
            // One that works on a call is not asked: many can do only one thing at a time.
            None if now - self.heard < self.hub.silence() || self.hub.has_calls(self.name) => Ok(()),
            None => {
                self.pinged = Some(now);
                self.request(Own::Ping, if self.era == Era::Legacy { "ping" } else { DISCOVER }, "");
                Ok(())
            }
        }
    }
}

fn number_of(outgoing: &Outgoing) -> Option<u64> {
    match outgoing {
        Outgoing::Request { id, .. } => Some(*id),
        _ => None,
    }
}
