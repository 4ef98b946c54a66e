//! The merged lists, and telling the client when, and only when, they have changed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use wire::json_rpc;

use super::{Hub, Phase, State};
use crate::catalog::{Catalog, Item, Route, Source};
use crate::config::Transport;
use crate::hub::Refusal;
use crate::protocol::{Era, ListKind, META_SERVER, OWN_INFO};

/// A server that is back within this time never left the lists: a restart is not worth two notifications, each of which
/// makes the client's model read all tools anew.
pub(crate) const GRACE: Duration = Duration::from_secs(1);

impl Hub {
    /// Takes a backend's list. True if it is another than before.
    pub(crate) fn set_list(&self, server: &str, kind: ListKind, items: Vec<Item>) -> bool {
        let mut state = self.lock();
        let Some(backend) = state.backends.get_mut(server) else { return false };
        if backend.lists.of(kind) == items {
            return false;
        }
        backend.lists.0.insert(kind, items);
        true
    }

    /// Merges the lists anew and tells the client what has changed.
    pub(crate) async fn refresh(&self) {
        // Until the first servers have been tried there is only one change to tell: the one when they have been.
        if !*self.settled.borrow() {
            return;
        }
        let notifications = self.lock().refreshed();
        for notification in notifications {
            self.send(notification).await;
        }
    }

    /// A list, once the servers of the start have been tried.
    pub(crate) async fn list(&self, kind: ListKind, era: Era) -> String {
        self.everything_tried().await;
        let list = self.lock().catalog.list(kind);
        let modern = match era {
            Era::Legacy => String::new(),
            Era::Modern => format!(
                r#","resultType":"complete","ttlMs":0,"cacheScope":"private","_meta":{{"{META_SERVER}":{OWN_INFO}}}"#
            ),
        };
        format!(r#"{{"{}":{list}{modern}}}"#, kind.member())
    }

    /// The client has introduced itself, and the servers of the start have not all been tried.
    pub(crate) fn is_starting(&self) -> bool {
        !*self.settled.borrow() && self.lock().client.hello.is_some()
    }

    /// Waits until the servers of the start have been tried.
    pub(crate) async fn everything_tried(&self) {
        // The sender lives as long as the hub.
        let _ = self.settled.subscribe().wait_for(|settled| *settled).await;
    }

    /// The first servers have been tried, or nobody wants to wait for them any longer. The client is not told of what they
    /// brought: it has been given no list that could have changed.
    pub(crate) fn settle(&self) {
        self.lock().merge();
        self.settled.send_replace(true);
    }

    /// A server's first attempt is over.
    pub(crate) fn tried(&self, server: &str) {
        let all = {
            let mut state = self.lock();
            if let Some(backend) = state.backends.get_mut(server) {
                backend.is_new = false;
            }
            !state.backends.values().any(|backend| backend.is_new)
        };
        if all && !*self.settled.borrow() {
            self.settle();
        }
    }

    /// Where a tool or prompt is.
    pub(crate) fn route(&self, kind: ListKind, name: &str) -> Result<Route, Refusal> {
        let catalog = self.lock().catalog.clone();
        catalog.route(kind, name).cloned().map_err(Refusal::invalid)
    }

    /// The backend that has a resource.
    pub(crate) fn resource(&self, uri: &str) -> Option<String> {
        let state = self.lock();
        let with: Vec<&str> =
            state.backends.iter().filter(|(_, b)| b.capabilities.resources).map(|(name, _)| name.as_str()).collect();
        state.catalog.resource(uri, &with)
    }

    /// The backend that has a resource template.
    pub(crate) fn template(&self, text: &str) -> Option<String> {
        self.lock().catalog.template(text)
    }
}

impl State {
    /// Puts the merged lists together from what the backends listed.
    pub(super) fn merge(&mut self) {
        let sources: Vec<Source<'_>> = self
            .backends
            .iter()
            .map(|(name, backend)| Source {
                server: name,
                lists: &backend.lists,
                listed: backend.is_listed(),
                prefix: self.settings.prefix || backend.server.prefix,
                is_http: matches!(backend.server.transport, Transport::Http { .. }),
            })
            .collect();
        let merged = Catalog::merge(&self.own_tools, &sources, self.settings.name_limit());
        for problem in merged.problems.iter().filter(|problem| !self.catalog.problems.contains(problem)) {
            tracing::warn!(backend = problem.0, "{}", problem.1);
        }
        self.catalog = Arc::new(merged);
    }

    fn refreshed(&mut self) -> Vec<Vec<u8>> {
        let before = self.catalog.clone();
        self.merge();
        let mut notifications = Vec::new();
        let mut told = Vec::new();
        for kind in ListKind::ALL {
            let method = kind.changed();
            if before.list(kind) != self.catalog.list(kind) && !told.contains(&method) {
                told.push(method);
                notifications.extend(self.notifications(kind, method));
            }
        }
        notifications
    }

    /// One notification in the legacy way, or one for each listener that wants it.
    fn notifications(&self, kind: ListKind, method: &str) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = Vec::new();
        if self.client.legacy {
            all.push(json_rpc::notification(method, None));
        }
        let wanting = self.client.listens.iter().filter(|listen| listen.wants(kind));
        all.extend(wanting.map(|listen| json_rpc::notification(method, Some(&listen.params("")))));
        all
    }
}

impl super::Backend {
    fn is_listed(&self) -> bool {
        match &self.phase {
            Phase::Ready { .. } => true,
            // Once it has been ready, and for a moment.
            Phase::Down { since, .. } => self.connects > 0 && since.elapsed() < GRACE,
            Phase::Connecting => self.lost_at.is_some_and(|since| since.elapsed() < GRACE),
        }
    }
}

/// The items of a page, and where the next one begins.
pub(crate) fn page(kind: ListKind, result: &RawValue) -> (Vec<Item>, Option<String>) {
    let result = crate::protocol::Params::of(Some(result));
    let items = result.get(kind.member()).and_then(json_rpc::items).unwrap_or_default();
    let named = items.into_iter().filter_map(|item| {
        let key = crate::protocol::Params::of(Some(item)).text(kind.key())?.into_owned();
        Some(Item { key, json: item.get().into() })
    });
    (named.collect(), result.text("nextCursor").map(std::borrow::Cow::into_owned))
}
