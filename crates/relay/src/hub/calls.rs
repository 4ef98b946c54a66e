//! A client's request on its way to a backend and back.
//!
//! Guaranteed: each request gets exactly one answer: the backend's, or an error when the backend cannot be sent to, goes
//! away, or does not take the request. A request that was sent once is not sent again.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use serde_json::value::RawValue;
use wire::json_rpc::{self, Edits, IdKey, Outcome, code, text};

use super::{Again, Command, Hello, Hub, Own, Phase, Place, State, Waiting};
use crate::link::{About, Failure, Outbox, Outgoing};
use crate::protocol::{
    CANCELLED, Era, META_CAPABILITIES, META_CLIENT, META_LOG_LEVEL, META_PROGRESS, META_VERSION, MODERN_VERSION,
    Params, RESOURCES_READ, severity,
};

/// A client's request that a backend is to answer.
#[derive(Debug)]
pub(crate) struct Call {
    /// As the client wrote it.
    pub(crate) id: Box<str>,
    pub(crate) era: Era,
    /// The client's progress token, as it wrote it.
    pub(crate) progress: Option<Box<str>>,
    pub(crate) method: Box<str>,
    /// From which severity on the client wants log messages with this request (modern).
    pub(crate) log_level: Option<usize>,
    /// Kept where the backend may ask back before it answers.
    pub(super) again: Option<Again>,
}

impl Call {
    /// A request that comes back for a call that was parked.
    pub(crate) fn returning(id: &RawValue, era: Era, method: &str, progress: Option<Box<str>>) -> Self {
        Self { id: id.get().into(), era, progress, method: method.into(), log_level: None, again: None }
    }
}

/// A request to be passed on.
#[derive(Debug)]
pub(crate) struct Forward<'a> {
    pub(crate) source: &'a [u8],
    pub(crate) id: &'a RawValue,
    pub(crate) method: &'a str,
    pub(crate) params: &'a Params<'a>,
    pub(crate) meta: &'a Params<'a>,
    pub(crate) era: Era,
    pub(crate) server: &'a str,
    /// The name or URI, where HTTP says it in a header.
    pub(crate) name: Option<String>,
    /// A value that the backend knows by another name.
    pub(crate) rename: Option<(&'a RawValue, String)>,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Why a request goes no further.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) server: Option<String>,
}

impl Refusal {
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self { code: code::INVALID_PARAMS, message: message.into(), server: None }
    }

    pub(crate) fn of_server(server: &str, message: String) -> Self {
        Self { code: code::INTERNAL_ERROR, message, server: Some(server.to_owned()) }
    }

    /// The answer to the request.
    pub(crate) fn response(&self, id: &str) -> Vec<u8> {
        let data = self.server.as_ref().map(|server| format!(r#"{{"server":{}}}"#, text(server)));
        json_rpc::error(id, self.code, &self.message, data.as_deref())
    }
}

impl Hub {
    /// Passes a request on.
    pub(crate) fn forward(&self, forward: &Forward<'_>) -> Result<(), Refusal> {
        let hello = self.hello();
        let (id, outbox, backend_era, level) = self.register(forward)?;
        let bytes = rewritten(forward, id, backend_era, &hello, level.as_deref());
        let about =
            About { method: forward.method.to_owned(), name: forward.name.clone(), headers: forward.headers.clone() };
        if backend_era == Era::Modern && forward.era == Era::Legacy {
            self.remember_for_asking_again(forward.server, id, &bytes, &about);
        }
        let outgoing = Outgoing::Request { id, bytes: bytes.into(), about: Some(Box::new(about)) };
        outbox.send(outgoing).map_err(|problem| {
            let mut state = self.lock();
            if let Some(backend) = state.backends.get_mut(forward.server) {
                backend.waiting.remove(&id);
            }
            state.places.remove(&IdKey::of(forward.id));
            let message = format!("server {:?} was not sent the request: {problem}", forward.server);
            Refusal::of_server(forward.server, message)
        })
    }

    /// Notes who waits, before anything is sent: an answer can come at once.
    fn register(&self, forward: &Forward<'_>) -> Result<(u64, Outbox, Era, Option<String>), Refusal> {
        let mut state = self.lock();
        let level = state.client.log_level.clone();
        let id = state.next_id();
        let backend = state
            .backends
            .get_mut(forward.server)
            .ok_or_else(|| Refusal::of_server(forward.server, format!("server {:?} was removed", forward.server)))?;
        let Some(outbox) = backend.outbox.clone() else {
            return Err(Refusal::of_server(forward.server, not_connected(forward.server, &backend.phase)));
        };
        let call = Call {
            id: forward.id.get().into(),
            era: forward.era,
            progress: forward.meta.get(META_PROGRESS).map(|token| token.get().into()),
            method: forward.method.into(),
            log_level: forward.meta.text(META_LOG_LEVEL).as_deref().and_then(severity),
            again: None,
        };
        backend.calls += 1;
        backend.waiting.insert(id, Waiting::Client(Box::new(call)));
        let era = backend.era;
        state.places.insert(IdKey::of(forward.id), Place::Backend { server: forward.server.to_owned(), id });
        Ok((id, outbox, era, level))
    }

    fn remember_for_asking_again(&self, server: &str, id: u64, bytes: &[u8], about: &About) {
        let Ok(json_rpc::Message::Request { params, method, .. }) = json_rpc::Message::parse(bytes) else { return };
        let params = params.map_or("{}", RawValue::get).to_owned();
        let again = Again { method: method.into_owned(), params, about: Some(about.clone()) };
        if let Some(Waiting::Client(call)) = self.lock().waiting(server, id) {
            call.again = Some(again);
        }
    }

    /// Sends a request of the relay's own.
    pub(crate) fn own_request(&self, server: &str, outbox: &Outbox, own: Own, method: &str, params: &str) -> u64 {
        let id = {
            let mut state = self.lock();
            let id = state.next_id();
            if let Some(backend) = state.backends.get_mut(server) {
                backend.waiting.insert(id, Waiting::Own(own));
            }
            id
        };
        let bytes = json_rpc::request(&id.to_string(), method, params).into();
        let about = About { method: method.to_owned(), name: None, headers: Vec::new() };
        // A queue that is full or closed is noticed by the heartbeat, or by the end of the connection.
        let _ = outbox.send(Outgoing::Request { id, bytes, about: Some(Box::new(about)) });
        id
    }

    /// The answer of a backend. Gives the relay's own request that it answers, if it is one.
    pub(crate) async fn answered(&self, server: &str, id: u64, bytes: Bytes, outcome: Outcome<'_>) -> Option<Own> {
        let waiting = self.lock().take_waiting(server, id);
        if waiting.is_none() {
            tracing::debug!(server, id, "an answer that nobody waits for (any more)");
        }
        self.deliver(server, waiting?, bytes, outcome).await
    }

    async fn deliver(&self, server: &str, waiting: Waiting, bytes: Bytes, outcome: Outcome<'_>) -> Option<Own> {
        match waiting {
            Waiting::Client(call) => {
                if let Some(call) = self.asks_back(server, call, outcome).await {
                    self.send(finished(&call, &bytes, outcome)).await;
                }
            }
            Waiting::Parked(token) => self.answered_while_parked(&token, bytes),
            Waiting::Own(own) => return Some(own),
        }
        None
    }

    /// A request will not be answered. Gives the relay's own request, if it was one.
    pub(crate) async fn failed(&self, server: &str, id: u64, failure: &Failure) -> Option<Own> {
        let waiting = self.lock().take_waiting(server, id);
        self.give_up(server, waiting?, failure).await
    }

    /// Tells whoever waits that there will be no answer.
    pub(super) async fn give_up(&self, server: &str, waiting: Waiting, failure: &Failure) -> Option<Own> {
        let error = if failure.unsent {
            format!("server {server:?} is not connected ({failure}); the request was not sent")
        } else {
            format!(
                "server {server:?} gave no answer: {failure}. It is not known whether the request took effect; it was not \
                 repeated"
            )
        };
        let bytes = Bytes::from(Refusal::of_server(server, error).response("0"));
        match json_rpc::Message::parse(&bytes) {
            Ok(json_rpc::Message::Response { outcome, .. }) => {
                self.deliver(server, waiting, bytes.clone(), outcome).await
            }
            _ => None,
        }
    }

    /// The connection has ended: everything that waits for it is told, except the requests that can be sent again because the
    /// server said that it did not take them.
    pub(crate) async fn lost(&self, server: &str, failure: &Failure, kept: &[u64]) {
        let waiting: Vec<u64> = {
            let mut state = self.lock();
            let Some(backend) = state.backends.get_mut(server) else { return };
            backend.outbox = None;
            backend.log_level = None;
            backend.waiting.keys().copied().filter(|id| !kept.contains(id)).collect()
        };
        for id in waiting {
            self.failed(server, id, failure).await;
        }
        self.withdraw_questions_of(server).await;
    }

    /// The client does not want an answer any more.
    pub(crate) async fn cancel(&self, source: &[u8], params: &Params<'_>) {
        let Some(id) = params.get("requestId") else { return };
        let place = self.lock().places.remove(&IdKey::of(id));
        match place {
            Some(Place::Local(task)) => task.abort(),
            Some(Place::Gathering(gathering)) => self.drop_gathering(gathering).await,
            Some(Place::Backend { server, id: number }) => {
                let outbox = {
                    let mut state = self.lock();
                    let backend = state.backends.get_mut(&server);
                    backend.and_then(|backend| {
                        backend.waiting.remove(&number);
                        backend.outbox.clone()
                    })
                };
                let Some((outbox, mut edits)) = outbox.zip(Edits::of(source)) else { return };
                edits.replace(id, number.to_string());
                // If the queue is full the answer will come and find nobody.
                let _ = outbox.send(Outgoing::Streamless { bytes: edits.finish().into() });
                let _ = outbox.send(Outgoing::Abandon { id: number });
            }
            None if self.end_listen(&IdKey::of(id)) => self.sync_all(),
            None => {}
        }
    }

    /// Progress of a backend: to the request that it belongs to.
    pub(crate) async fn progress(&self, server: &str, source: &[u8], params: &Params<'_>) {
        let Some(token) = params.get(META_PROGRESS) else { return };
        let original = {
            let mut state = self.lock();
            match IdKey::of(token).number().and_then(|id| state.waiting(server, id)) {
                Some(Waiting::Client(call)) => call.progress.clone(),
                _ => None,
            }
        };
        if let Some((original, mut edits)) = original.zip(Edits::of(source)) {
            edits.replace(token, original);
            self.send(edits.finish()).await;
        }
    }

    /// Tells every backend that is ready.
    pub(crate) fn broadcast(&self, message: &[u8], era: Option<Era>) {
        let outboxes: Vec<Outbox> = {
            let state = self.lock();
            let addressed = state.backends.values().filter(|backend| era.is_none_or(|era| backend.era == era));
            addressed.filter_map(|backend| backend.outbox.clone()).collect()
        };
        let bytes = Bytes::copy_from_slice(message);
        for outbox in outboxes {
            let _ = outbox.send(Outgoing::Other { bytes: bytes.clone() });
        }
    }

    /// Has the backends' tasks look at what the client wants to hear of.
    pub(crate) fn sync_all(&self) {
        for backend in self.lock().backends.values() {
            // A full queue holds a command that does the same.
            let _ = backend.commands.try_send(Command::Sync);
        }
    }

    /// Whether a request of the client waits for this backend.
    pub(crate) fn has_calls(&self, server: &str) -> bool {
        let state = self.lock();
        let backend = state.backends.get(server);
        backend.is_some_and(|backend| backend.waiting.values().any(|w| !matches!(w, Waiting::Own(_))))
    }
}

impl State {
    pub(super) fn waiting(&mut self, server: &str, id: u64) -> Option<&mut Waiting> {
        self.backends.get_mut(server)?.waiting.get_mut(&id)
    }

    fn take_waiting(&mut self, server: &str, id: u64) -> Option<Waiting> {
        let waiting = self.backends.get_mut(server)?.waiting.remove(&id)?;
        self.forget_call(&waiting, id);
        Some(waiting)
    }

    pub(super) fn forget_call(&mut self, waiting: &Waiting, id: u64) {
        if let Waiting::Client(call) = waiting {
            self.forget_place(&call.id, id);
        }
    }

    /// Forgets where a request is, unless the client has used its id again since.
    pub(super) fn forget_place(&mut self, id: &str, number: u64) {
        let Ok(key) = serde_json::from_str::<&RawValue>(id).map(IdKey::of) else { return };
        if matches!(self.places.get(&key), Some(Place::Backend { id, .. }) if *id == number) {
            self.places.remove(&key);
        }
    }
}

pub(super) fn not_connected(server: &str, phase: &Phase) -> String {
    let not_sent = "the request was not sent";
    match phase {
        Phase::Down { reason, .. } => {
            format!("server {server:?} is not connected ({reason}); {not_sent}; the relay keeps trying to reconnect")
        }
        _ => format!("server {server:?} is being connected; {not_sent}; try again in a moment"),
    }
}

/// The request as the backend gets it.
fn rewritten(forward: &Forward<'_>, id: u64, backend: Era, hello: &Hello, level: Option<&str>) -> Vec<u8> {
    let Some(mut edits) = Edits::of(forward.source) else { return forward.source.to_vec() };
    edits.replace(forward.id, id.to_string());
    if let Some(token) = forward.meta.get(META_PROGRESS) {
        edits.replace(token, id.to_string());
    }
    if let Some((value, name)) = &forward.rename {
        edits.replace(value, text(name));
    }
    if backend == Era::Modern && forward.era == Era::Legacy {
        add_meta(&mut edits, forward, hello, level);
    }
    edits.finish()
}

/// What a modern server must be told with every request and a legacy client said once.
fn add_meta(edits: &mut Edits<'_>, forward: &Forward<'_>, hello: &Hello, level: Option<&str>) {
    match (forward.meta.object, forward.params.object) {
        (Some(meta), _) => {
            edits.set(meta, META_VERSION, &text(MODERN_VERSION));
            edits.set(meta, META_CLIENT, &hello.info);
            edits.set(meta, META_CAPABILITIES, &hello.capabilities);
            if let Some(level) = level {
                edits.set(meta, META_LOG_LEVEL, &text(level));
            }
        }
        (None, Some(params)) => _ = edits.set(params, "_meta", &modern_meta(hello, level)),
        (None, None) => {
            if let Ok(root) = serde_json::from_slice::<&RawValue>(forward.source) {
                edits.append(root, &format!(r#","params":{{"_meta":{}}}"#, modern_meta(hello, level)));
            }
        }
    }
}

/// `_meta` of a request to a modern server.
pub(crate) fn modern_meta(hello: &Hello, level: Option<&str>) -> String {
    let level = level.map(|level| format!(",{}:{}", text(META_LOG_LEVEL), text(level))).unwrap_or_default();
    format!(
        "{{{}:{},{}:{},{}:{}{level}}}",
        text(META_VERSION),
        text(MODERN_VERSION),
        text(META_CLIENT),
        hello.info,
        text(META_CAPABILITIES),
        hello.capabilities
    )
}

/// The answer as the client gets it: with its own id, and for a modern client with what that era requires of a result.
pub(super) fn finished(call: &Call, bytes: &[u8], outcome: Outcome<'_>) -> Vec<u8> {
    let Ok(json_rpc::Message::Response { id, .. }) = json_rpc::Message::parse(bytes) else { return bytes.to_vec() };
    let Some(mut edits) = Edits::of(bytes) else { return bytes.to_vec() };
    edits.replace(id, &*call.id);
    if let (Era::Modern, Outcome::Result(result)) = (call.era, outcome) {
        let given = Params::of(Some(result));
        if given.get("resultType").is_none() {
            edits.set(result, "resultType", "\"complete\"");
            if &*call.method == RESOURCES_READ {
                edits.set(result, "ttlMs", "0").set(result, "cacheScope", "\"private\"");
            }
        }
    }
    edits.finish()
}

/// The bytes of a cancellation.
pub(super) fn cancellation(id: &str, reason: &str) -> Vec<u8> {
    let params = format!(r#"{{"requestId":{id},"reason":{}}}"#, text(reason));
    json_rpc::notification(CANCELLED, Some(&params))
}
