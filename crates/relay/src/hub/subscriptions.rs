//! What the client wants to be told of.

use std::collections::BTreeSet;

use wire::json_rpc::{self, Edits, IdKey, items, string, text};

use super::Hub;
use crate::protocol::{ACKNOWLEDGED, LOG_MESSAGE, ListKind, META_SUBSCRIPTION, Params, severity};

/// An open `subscriptions/listen` of the client.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    /// The request's id, as the client wrote it.
    id: String,
    key: IdKey,
    tools: bool,
    prompts: bool,
    resources: bool,
    uris: BTreeSet<String>,
}

impl Listen {
    pub(crate) fn of(id: &serde_json::value::RawValue, params: &Params<'_>) -> Self {
        let filter = params.inner("notifications");
        let uris = filter.get("resourceSubscriptions").and_then(items).unwrap_or_default();
        Self {
            id: id.get().to_owned(),
            key: IdKey::of(id),
            tools: filter.is_true("toolsListChanged"),
            prompts: filter.is_true("promptsListChanged"),
            resources: filter.is_true("resourcesListChanged"),
            uris: uris.into_iter().filter_map(string).map(std::borrow::Cow::into_owned).collect(),
        }
    }

    pub(super) fn wants(&self, kind: ListKind) -> bool {
        match kind {
            ListKind::Tools => self.tools,
            ListKind::Prompts => self.prompts,
            ListKind::Resources | ListKind::Templates => self.resources,
        }
    }

    fn meta(&self) -> String {
        format!(r#"{{"{META_SUBSCRIPTION}":{}}}"#, self.id)
    }

    /// Parameters that name the subscription; `more` begins with a comma.
    pub(super) fn params(&self, more: &str) -> String {
        format!(r#"{{"_meta":{}{more}}}"#, self.meta())
    }

    fn acknowledgement(&self) -> Vec<u8> {
        let flags = [
            ("toolsListChanged", self.tools),
            ("promptsListChanged", self.prompts),
            ("resourcesListChanged", self.resources),
        ];
        let mut agreed: Vec<String> =
            flags.iter().filter(|(_, wanted)| *wanted).map(|(name, _)| format!("\"{name}\":true")).collect();
        if !self.uris.is_empty() {
            let uris: Vec<String> = self.uris.iter().map(|uri| text(uri)).collect();
            agreed.push(format!("\"resourceSubscriptions\":[{}]", uris.join(",")));
        }
        let more = format!(",\"notifications\":{{{}}}", agreed.join(","));
        json_rpc::notification(ACKNOWLEDGED, Some(&self.params(&more)))
    }

    /// The answer that ends it in good order.
    fn closure(&self) -> Vec<u8> {
        json_rpc::result(&self.id, &format!(r#"{{"resultType":"complete","_meta":{}}}"#, self.meta()))
    }
}

impl Hub {
    /// Begins a subscription. The acknowledgement goes first, so that no notification precedes it.
    pub(crate) async fn listen(&self, listen: Listen) {
        self.send(listen.acknowledgement()).await;
        self.lock().client.listens.push(listen);
        self.sync_all();
    }

    /// Ends a subscription that the client cancelled.
    pub(super) fn end_listen(&self, key: &IdKey) -> bool {
        let listens = &mut self.lock().client.listens;
        let before = listens.len();
        listens.retain(|listen| listen.key != *key);
        listens.len() < before
    }

    /// Ends all of them, because the relay ends.
    pub(crate) async fn end_listens(&self) {
        let listens = std::mem::take(&mut self.lock().client.listens);
        for listen in listens {
            self.send(listen.closure()).await;
        }
    }

    /// Notes a legacy client's subscription, or its end.
    pub(crate) fn subscribe(&self, uri: &str, wanted: bool) {
        let subscribed = &mut self.lock().client.subscribed;
        if wanted {
            subscribed.insert(uri.to_owned());
        } else {
            subscribed.remove(uri);
        }
    }

    /// The resources of a backend that the client wants to hear of.
    pub(crate) fn wanted_of(&self, server: &str) -> BTreeSet<String> {
        let uris: BTreeSet<String> = {
            let state = self.lock();
            let listened = state.client.listens.iter().flat_map(|listen| &listen.uris);
            listened.chain(&state.client.subscribed).cloned().collect()
        };
        uris.into_iter().filter(|uri| self.resource(uri).as_deref() == Some(server)).collect()
    }

    /// A resource has changed.
    pub(crate) async fn updated(&self, source: &[u8], params: &Params<'_>) {
        let Some(uri) = params.text("uri") else { return };
        let messages: Vec<Vec<u8>> = {
            let state = self.lock();
            let mut messages = Vec::new();
            if state.client.legacy {
                messages.push(source.to_vec());
            }
            for listen in state.client.listens.iter().filter(|listen| listen.uris.contains(&*uri)) {
                messages.extend(with_meta(source, params, listen));
            }
            messages
        };
        for message in messages {
            self.send(message).await;
        }
    }

    /// A log message. A modern client gets it only while a request waits for this backend that asked for such messages.
    pub(crate) async fn logged(&self, server: &str, source: &[u8], params: &Params<'_>) {
        let level = params.text("level").as_deref().and_then(severity).unwrap_or(usize::MAX);
        let wanted = {
            let state = self.lock();
            let asked = |w: &super::Waiting| matches!(w, super::Waiting::Client(call) if call.log_level.is_some_and(|l| l <= level));
            let by_level = |known: &str| severity(known).is_none_or(|least| least <= level);
            if state.client.legacy {
                state.client.log_level.as_deref().is_none_or(by_level)
            } else {
                state.backends.get(server).is_some_and(|backend| backend.waiting.values().any(asked))
            }
        };
        if wanted {
            self.send(source.to_vec()).await;
        } else {
            tracing::debug!(server, method = LOG_MESSAGE, "a log message that the client did not ask for");
        }
    }

    /// A legacy client's log level.
    pub(crate) fn set_log_level(&self, level: &str) {
        self.lock().client.log_level = Some(level.to_owned());
        self.sync_all();
    }

    /// The level to ask a legacy backend for, if it is another than it was asked for.
    pub(crate) fn take_log_level(&self, server: &str) -> Option<String> {
        let mut state = self.lock();
        let level = state.client.log_level.clone()?;
        let backend = state.backends.get_mut(server).filter(|backend| backend.capabilities.logging)?;
        if backend.log_level.as_ref() == Some(&level) {
            return None;
        }
        backend.log_level = Some(level.clone());
        Some(level)
    }
}

/// The notification with the subscription's id; an id of the backend's own subscription is replaced.
fn with_meta(source: &[u8], params: &Params<'_>, listen: &Listen) -> Option<Vec<u8>> {
    let mut edits = Edits::of(source)?;
    match params.get("_meta") {
        Some(meta) => edits.set(meta, META_SUBSCRIPTION, &listen.id),
        None => edits.set(params.object?, "_meta", &listen.meta()),
    };
    Some(edits.finish())
}
