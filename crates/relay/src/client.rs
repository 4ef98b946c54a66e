//! The client's side: what comes from it, message by message, and who answers.
//!
//! Both eras are spoken on one connection; each request says which one it is of. What the relay can answer itself it answers
//! at once; requests for a backend are passed on and never wait here, so that no backend can hold up another.

pub(crate) mod streams;

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use wire::json_rpc::{self, IdKey, Message, batch, code, text};

use crate::catalog::param_headers::ParamHeader;
use crate::hub::{Call, Forward, Hello, Hub, Listen, PARKED, Refusal};
use crate::own_tools;
use crate::protocol::{
    CANCELLED, DISCOVER, Era, LEGACY_VERSIONS, LISTEN, LOG_LEVELS, ListKind, META_CAPABILITIES, META_CLIENT,
    META_PROGRESS, META_SERVER, META_VERSION, MODERN_VERSION, OWN_INFO, PROGRESS, Params, REMOVED, RESOURCES_READ,
    ROOTS_CHANGED, TOOLS_CALL,
};

/// What the relay can do whatever its backends can: they come and go, and capabilities are told once.
const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"listChanged":true,"subscribe":true},"completions":{},"logging":{}}"#;

const INSTRUCTIONS: &str = "Joins several MCP servers into one. Tools whose names begin with relay_ manage these servers: \
    add one with relay_add_server, and its tools can be called at once.";

/// How long capabilities may be taken as known, in milliseconds: they never change while the relay runs.
const DISCOVER_TTL_MS: u64 = 3_600_000;

/// What the client is talking to.
#[derive(Clone, Debug)]
pub(crate) struct Front {
    pub(crate) hub: Arc<Hub>,
}

/// A request, read as far as is needed to know who answers.
struct Incoming<'a> {
    source: &'a [u8],
    id: &'a RawValue,
    method: &'a str,
    params: Params<'a>,
    meta: Params<'a>,
    era: Era,
}

impl Front {
    /// Handles a line of the client.
    pub(crate) async fn line(&self, bytes: &[u8]) {
        match batch(bytes) {
            Some(messages) if messages.is_empty() => self.unreadable(&json_rpc::Malformed::Kind).await,
            Some(messages) => {
                for message in messages {
                    self.message(message.get().as_bytes()).await;
                }
            }
            None => self.message(bytes).await,
        }
    }

    async fn message(&self, bytes: &[u8]) {
        match Message::parse(bytes) {
            Ok(Message::Request { id, method, params }) => {
                let params = Params::of(params);
                let meta = params.inner("_meta");
                let era = if meta.get(META_VERSION).is_some() { Era::Modern } else { Era::Legacy };
                let incoming = Incoming { source: bytes, id, method: &method, params, meta, era };
                match self.request(&incoming).await {
                    Ok(()) => {}
                    // Whom it is for may be known in a moment.
                    Err(_) if self.hub.is_starting() => self.later(bytes, id),
                    Err(refusal) => self.hub.send(refusal.response(id.get())).await,
                }
            }
            Ok(Message::Notification { method, params }) => {
                self.notification(bytes, &method, &Params::of(params)).await;
            }
            Ok(Message::Response { id, outcome }) => self.hub.client_answered(bytes, id, outcome).await,
            Err(error) => self.unreadable(&error).await,
        }
    }

    /// Handles a request again when the servers of the start have been tried. Until then it can be cancelled.
    fn later(&self, bytes: &[u8], id: &RawValue) {
        let (front, bytes, key) = (self.clone(), bytes.to_vec(), IdKey::of(id));
        let begin = CancellationToken::new();
        let (may_begin, done) = (begin.clone(), key.clone());
        let waiting = self.hub.tasks.spawn(async move {
            // Not before it can be found.
            may_begin.cancelled().await;
            front.hub.everything_tried().await;
            front.hub.local_done(&done);
            front.message(&bytes).await;
        });
        self.hub.local(key, waiting.abort_handle());
        begin.cancel();
    }

    async fn unreadable(&self, error: &json_rpc::Malformed) {
        let code = match error {
            json_rpc::Malformed::Json(e) if e.is_syntax() || e.is_eof() => code::PARSE_ERROR,
            _ => code::INVALID_REQUEST,
        };
        self.hub.send(json_rpc::error("null", code, &error.to_string(), None)).await;
    }

    async fn request(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        if let Some(error) = self.wrong_version(incoming) {
            self.hub.send(error).await;
            return Ok(());
        }
        if incoming.era == Era::Modern {
            self.introduce_modern(incoming)?;
            if REMOVED.contains(&incoming.method) {
                return Err(not_found(incoming.method));
            }
        }
        match incoming.method {
            "initialize" => self.initialize(incoming).await,
            DISCOVER => self.answer(incoming, &discover_result(&self.hub)).await,
            "ping" => self.answer(incoming, "{}").await,
            LISTEN => self.hub.listen(Listen::of(incoming.id, &incoming.params)).await,
            "logging/setLevel" => self.set_level(incoming).await?,
            "resources/subscribe" => self.subscribe(incoming, true).await?,
            "resources/unsubscribe" => self.subscribe(incoming, false).await?,
            TOOLS_CALL => self.named(incoming, ListKind::Tools).await?,
            "prompts/get" => self.named(incoming, ListKind::Prompts).await?,
            RESOURCES_READ => self.read(incoming).await?,
            "completion/complete" => self.complete(incoming)?,
            method => match ListKind::of_method(method) {
                Some(kind) => self.list(incoming, kind)?,
                None => return Err(not_found(method)),
            },
        }
        Ok(())
    }

    async fn notification(&self, source: &[u8], method: &str, params: &Params<'_>) {
        match method {
            CANCELLED => self.hub.cancel(source, params).await,
            PROGRESS => self.hub.client_progress(source, params),
            "notifications/initialized" => {}
            ROOTS_CHANGED => self.hub.broadcast(source, Some(Era::Legacy)),
            _ => self.hub.broadcast(source, None),
        }
    }

    async fn answer(&self, incoming: &Incoming<'_>, result: &str) {
        self.hub.send(json_rpc::result(incoming.id.get(), result)).await;
    }

    fn wrong_version(&self, incoming: &Incoming<'_>) -> Option<Vec<u8>> {
        let version = incoming.meta.text(META_VERSION)?;
        if version == MODERN_VERSION {
            return None;
        }
        let data = format!(r#"{{"supported":{},"requested":{}}}"#, supported_versions(), text(&version));
        let message = "Unsupported protocol version";
        Some(json_rpc::error(incoming.id.get(), code::UNSUPPORTED_PROTOCOL_VERSION, message, Some(&data)))
    }

    /// Every modern request introduces its client; the first one starts the backends.
    fn introduce_modern(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        let capabilities = incoming
            .meta
            .get(META_CAPABILITIES)
            .ok_or_else(|| Refusal::invalid(format!("_meta must have {META_CAPABILITIES}")))?;
        let info = incoming.meta.get(META_CLIENT).map_or(OWN_INFO, RawValue::get);
        self.introduce(Hello { capabilities: capabilities.get().into(), info: info.into() });
        Ok(())
    }

    fn introduce(&self, hello: Hello) {
        if !self.hub.introduce(hello) {
            return;
        }
        self.hub.start();
        let hub = self.hub.clone();
        self.hub.tasks.spawn(async move {
            if hub.names().is_empty() {
                return hub.settle();
            }
            let wait = tokio::time::sleep(hub.startup_wait());
            if hub.stop.run_until_cancelled(wait).await.is_some() {
                hub.settle();
            }
        });
    }

    async fn initialize(&self, incoming: &Incoming<'_>) {
        let params = &incoming.params;
        let capabilities = params.get("capabilities").map_or("{}", RawValue::get);
        let info = params.get("clientInfo").map_or(OWN_INFO, RawValue::get);
        let asked = params.text("protocolVersion").unwrap_or_default();
        let version = LEGACY_VERSIONS.into_iter().find(|known| *known == asked).unwrap_or(LEGACY_VERSIONS[0]);
        let result = format!(
            r#"{{"protocolVersion":"{version}","capabilities":{CAPABILITIES},"serverInfo":{OWN_INFO},"instructions":{}}}"#,
            text(&instructions(&self.hub))
        );
        self.answer(incoming, &result).await;
        self.hub.initialized();
        self.introduce(Hello { capabilities: capabilities.into(), info: info.into() });
    }

    async fn set_level(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        let level = incoming.params.text("level").unwrap_or_default();
        if !LOG_LEVELS.contains(&&*level) {
            return Err(Refusal::invalid(format!("level must be one of {}", LOG_LEVELS.join(", "))));
        }
        self.hub.set_log_level(&level);
        self.answer(incoming, "{}").await;
        Ok(())
    }

    /// A list may wait for the servers of the start, and a client may change its mind meanwhile.
    fn list(&self, incoming: &Incoming<'_>, kind: ListKind) -> Result<(), Refusal> {
        if incoming.params.has("cursor") {
            return Err(Refusal::invalid("unknown cursor: the relay's lists have one page"));
        }
        let (front, era, id) = (self.clone(), incoming.era, incoming.id.get().to_owned());
        self.locally(incoming.id, async move {
            let result = front.hub.list(kind, era).await;
            json_rpc::result(&id, &result)
        });
        Ok(())
    }

    /// Answers with what a task finds out. The task can be cancelled by the client.
    fn locally(&self, id: &RawValue, task: impl Future<Output = Vec<u8>> + Send + 'static) {
        let (hub, key) = (self.hub.clone(), IdKey::of(id));
        let begin = CancellationToken::new();
        let (may_begin, done) = (begin.clone(), key.clone());
        let running = self.hub.tasks.spawn(async move {
            // Not before it can be found.
            may_begin.cancelled().await;
            let answer = task.await;
            hub.local_done(&done);
            hub.send(answer).await;
        });
        self.hub.local(key, running.abort_handle());
        begin.cancel();
    }

    /// `tools/call` and `prompts/get`.
    async fn named(&self, incoming: &Incoming<'_>, kind: ListKind) -> Result<(), Refusal> {
        if self.comes_back(incoming).await {
            return Ok(());
        }
        let value = incoming.params.get("name").ok_or_else(|| Refusal::invalid("name must be given"))?;
        let name = json_rpc::string(value).ok_or_else(|| Refusal::invalid("name must be a text"))?;
        let route = self.hub.route(kind, &name)?;
        let arguments = incoming.params.get("arguments");
        let Some(server) = &route.server else {
            let arguments = arguments.map_or("{}", RawValue::get).to_owned();
            self.own_tool(incoming, route.name, arguments);
            return Ok(());
        };
        let headers = route.headers.iter().filter_map(|header: &ParamHeader| header.of(arguments)).collect();
        let rename = (route.name != name).then(|| (value, route.name.clone()));
        self.forward(incoming, server, Some(route.name.clone()), rename, headers)
    }

    fn own_tool(&self, incoming: &Incoming<'_>, name: String, arguments: String) {
        let (hub, era, id) = (self.hub.clone(), incoming.era, incoming.id.get().to_owned());
        self.locally(incoming.id, async move {
            let result = own_tools::call(&hub, &name, &arguments).await;
            json_rpc::result(&id, &result.json(era))
        });
    }

    async fn read(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        if self.comes_back(incoming).await {
            return Ok(());
        }
        let (uri, server) = self.resource(incoming)?;
        self.forward(incoming, &server, Some(uri), None, Vec::new())
    }

    fn resource(&self, incoming: &Incoming<'_>) -> Result<(String, String), Refusal> {
        let uri = incoming.params.text("uri").ok_or_else(|| Refusal::invalid("uri must be a text"))?.into_owned();
        let server = self.hub.resource(&uri).ok_or_else(|| Refusal::invalid(format!("Resource not found: {uri}")))?;
        Ok((uri, server))
    }

    /// The backends' tasks subscribe, now and after every reconnect.
    async fn subscribe(&self, incoming: &Incoming<'_>, wanted: bool) -> Result<(), Refusal> {
        let (uri, _) = self.resource(incoming)?;
        self.hub.subscribe(&uri, wanted);
        self.hub.sync_all();
        self.answer(incoming, "{}").await;
        Ok(())
    }

    fn complete(&self, incoming: &Incoming<'_>) -> Result<(), Refusal> {
        let reference = incoming.params.inner("ref");
        if let Some(value) = reference.get("name") {
            let name = json_rpc::string(value).ok_or_else(|| Refusal::invalid("ref.name must be a text"))?;
            let route = self.hub.route(ListKind::Prompts, &name)?;
            let rename = (route.name != name).then(|| (value, route.name.clone()));
            let server = route.server.unwrap_or_default();
            return self.forward(incoming, &server, None, rename, Vec::new());
        }
        let uri = reference.text("uri").ok_or_else(|| Refusal::invalid("ref must have a name or a uri"))?;
        let server = self.hub.template(&uri).or_else(|| self.hub.resource(&uri));
        let server = server.ok_or_else(|| Refusal::invalid(format!("Resource not found: {uri}")))?;
        self.forward(incoming, &server, None, None, Vec::new())
    }

    fn forward<'a>(
        &self,
        incoming: &Incoming<'a>,
        server: &str,
        name: Option<String>,
        rename: Option<(&'a RawValue, String)>,
        headers: Vec<(http::HeaderName, http::HeaderValue)>,
    ) -> Result<(), Refusal> {
        self.hub.forward(&Forward {
            source: incoming.source,
            id: incoming.id,
            method: incoming.method,
            params: &incoming.params,
            meta: &incoming.meta,
            era: incoming.era,
            server,
            name,
            rename,
            headers,
        })
    }

    /// A request that answers what a parked call asked for.
    async fn comes_back(&self, incoming: &Incoming<'_>) -> bool {
        let Some(token) = incoming.params.text("requestState").filter(|token| token.starts_with(PARKED)) else {
            return false;
        };
        let progress = incoming.meta.get(META_PROGRESS).map(|token| token.get().into());
        let call = Call::returning(incoming.id, incoming.era, incoming.method, progress);
        if let Some(answer) = self.hub.come_back(&token, call, &incoming.params) {
            self.hub.send(answer).await;
        }
        true
    }
}

fn not_found(method: &str) -> Refusal {
    Refusal { code: code::METHOD_NOT_FOUND, message: format!("Method not found: {method}"), server: None }
}

fn supported_versions() -> String {
    let legacy: Vec<String> = LEGACY_VERSIONS.iter().map(|version| text(version)).collect();
    format!("[{},{}]", text(MODERN_VERSION), legacy.join(","))
}

fn discover_result(hub: &Hub) -> String {
    format!(
        r#"{{"resultType":"complete","supportedVersions":{},"capabilities":{CAPABILITIES},"instructions":{},"ttlMs":{DISCOVER_TTL_MS},"cacheScope":"private","_meta":{{"{META_SERVER}":{OWN_INFO}}}}}"#,
        supported_versions(),
        text(&instructions(hub))
    )
}

/// The relay's own, and those of the servers that have introduced themselves by now.
fn instructions(hub: &Hub) -> String {
    let mut all = INSTRUCTIONS.to_owned();
    for (server, text) in hub.instructions() {
        all.push_str(&format!("\n\n{server}: {text}"));
    }
    all
}
