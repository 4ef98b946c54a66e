//! From a request to its answer, whatever carried it.
//!
//! Which protocol a request speaks is decided here, for each one: it says so itself (2026-07-28), or it speaks what its
//! connection or session agreed on (before). A request that names a version that nobody knows is refused with the
//! versions that there are.

mod params;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use http::StatusCode;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::call::{Call, Outbox, Outgoing};
use crate::message::{
    Answer, INTERNAL_ERROR, Id, METHOD_NOT_FOUND, RESOURCE_NOT_FOUND, Request, RpcError, UNSUPPORTED_VERSION,
    error_answer, result_answer,
};
use crate::service::{ResourceError, Service, ToolError, ToolOutput};
use crate::streamable_http::claims::Claims;
use crate::version::Version;
use crate::{About, Arguments};
use params::{Meta, Params};

/// How long a client may keep what changes only with the program.
const STATIC_TTL_MS: u64 = 300_000;

/// What a request brings along beside itself.
pub(crate) struct Origin {
    /// What the connection or session speaks.
    pub(crate) spoken: Version,
    /// What the HTTP headers say about the request.
    pub(crate) claims: Option<Claims>,
}

/// Answers requests for one service.
pub(crate) struct Dispatcher {
    service: Arc<dyn Service>,
    shutdown: CancellationToken,
}

/// How long, and by whom, a result may be kept (2026-07-28).
#[derive(Clone, Copy)]
enum Keep {
    /// It belongs to this request alone.
    No,
    /// It may change at any moment, and is not everybody's.
    Private,
    /// It changes with the program.
    Public,
}

impl Dispatcher {
    pub(crate) fn new(service: Arc<dyn Service>, shutdown: CancellationToken) -> Self {
        Self { service, shutdown }
    }

    pub(crate) fn about(&self) -> &About {
        self.service.about()
    }

    /// Whether a request begins a session: an `initialize` that does not claim to be of a version without.
    pub(crate) fn is_handshake(&self, request: &Request, claims: Option<&Claims>) -> bool {
        let says_so = || Params::read(request).and_then(|params| params.meta()).is_ok_and(|meta| meta.is_stateless());
        request.method == "initialize" && !claims.is_some_and(Claims::is_stateless) && !says_so()
    }

    /// Answers `initialize`, with the version that was agreed on.
    pub(crate) fn initialize(&self, request: &Request) -> (Version, Answer) {
        let asked = Params::read(request).and_then(|params| params.text("protocolVersion", params.protocol_version));
        let version = Version::negotiate(asked.as_deref().unwrap_or_default());
        let result = asked.map(|_| {
            let about = self.about();
            json!({
                "protocolVersion": version.name(),
                "capabilities": self.capabilities(),
                "serverInfo": server_info(about),
                "instructions": about.instructions,
            })
            .to_string()
        });
        (version, self.finished(&request.id, version, result))
    }

    /// Answers any other request into `outbox`, after what it has to tell on the way. Nothing, if it is cancelled.
    pub(crate) async fn answer(&self, request: Request, origin: Origin, cancelled: CancellationToken, outbox: Outbox) {
        let answering = AssertUnwindSafe(self.result(&request, &origin, &cancelled, &outbox)).catch_unwind();
        let Some(caught) = cancelled.run_until_cancelled(answering).await else {
            return;
        };
        let (version, result) = caught.unwrap_or_else(|_| {
            tracing::error!(method = request.method, "answering a request panicked; this is a defect of iccm");
            (origin.spoken, Err(RpcError::new(INTERNAL_ERROR, "internal error; the server's log says more")))
        });
        let answer = self.finished(&request.id, version, result);
        // Whoever is gone does not want it any more.
        let _gone = outbox.send(Outgoing::Answer(answer)).await;
    }

    fn finished(&self, id: &Id, version: Version, result: Result<String, RpcError>) -> Answer {
        match result {
            Ok(result) => Answer { text: result_answer(id, &result), status: StatusCode::OK },
            Err(error) => {
                let is_said = version.is_stateless() || error.code == UNSUPPORTED_VERSION;
                let status = if is_said { error.status } else { StatusCode::OK };
                Answer { text: error_answer(Some(id), &error), status }
            }
        }
    }

    async fn result(
        &self,
        request: &Request,
        origin: &Origin,
        cancelled: &CancellationToken,
        outbox: &Outbox,
    ) -> (Version, Result<String, RpcError>) {
        let claimed = origin.claims.as_ref().is_some_and(Claims::is_stateless);
        let if_refused = if claimed { Version::V2026_07_28 } else { origin.spoken };
        let read = Params::read(request).and_then(|params| params.meta().map(|meta| (params, meta)));
        let (params, meta) = match read {
            Ok(read) => read,
            Err(error) if claimed => {
                return (if_refused, Err(RpcError { status: StatusCode::BAD_REQUEST, ..error }));
            }
            Err(error) => return (if_refused, Err(error)),
        };
        let version = match version_of(request, &params, &meta, origin) {
            Ok(version) => version,
            Err(error) => return (Version::V2026_07_28, Err(error)),
        };
        let progress = meta.progress_token().map(|token| (token.to_owned(), outbox.clone()));
        let call = Call::new(cancelled.clone(), progress).of_tool_use(meta.tool_use_id);
        let result = match request.method.as_str() {
            "subscriptions/listen" if version.is_stateless() => self.listen(&request.id, &params, outbox).await,
            _ => self.method(&request.method, version, &params, &call).await,
        };
        (version, result)
    }

    async fn method(
        &self,
        method: &str,
        version: Version,
        params: &Params<'_>,
        call: &Call,
    ) -> Result<String, RpcError> {
        let has_resources = !self.service.resource_templates().is_empty();
        let (json, keep) = match method {
            "ping" if !version.is_stateless() => ("{}".to_owned(), Keep::No),
            "server/discover" if version.is_stateless() => (self.discover(), Keep::Public),
            "tools/list" => (json!({"tools": self.service.tools()}).to_string(), Keep::Public),
            "tools/call" => (self.call_tool(params, call).await?, Keep::No),
            "resources/templates/list" if has_resources => {
                (json!({"resourceTemplates": self.service.resource_templates()}).to_string(), Keep::Public)
            }
            "resources/list" if has_resources => (self.list_resources(version, params).await?, Keep::Private),
            "resources/read" if has_resources => (self.read_resource(version, params).await?, Keep::Private),
            _ => return Err(RpcError::new(METHOD_NOT_FOUND, format!("unknown method: {method}"))),
        };
        Ok(if version.is_stateless() { self.sealed(json, keep) } else { json })
    }

    async fn call_tool(&self, params: &Params<'_>, call: &Call) -> Result<String, RpcError> {
        let name = params.text("name", params.name)?;
        let Some(tool) = self.service.tools().iter().find(|tool| tool.name == name) else {
            return Err(RpcError::invalid_params(format!("unknown tool: {name}")));
        };
        Ok(tool_result(match Arguments::parse(params.arguments, tool) {
            Ok(arguments) => self.service.call(tool.name, arguments, call).await,
            Err(error) => Err(error),
        }))
    }

    async fn list_resources(&self, version: Version, params: &Params<'_>) -> Result<String, RpcError> {
        let cursor = params.cursor.map(|raw| params.text("cursor", Some(raw))).transpose()?;
        let page = self.service.resources(cursor.as_deref()).await;
        page.map(|page| json!(page).to_string()).map_err(|error| resource_error(version, &error))
    }

    async fn read_resource(&self, version: Version, params: &Params<'_>) -> Result<String, RpcError> {
        let uri = params.text("uri", params.uri)?;
        let content = self.service.read_resource(&uri).await.map_err(|error| resource_error(version, &error))?;
        let (uri, text) = (Value::from(uri), Value::from(content.text));
        Ok(format!(r#"{{"contents":[{{"uri":{uri},"mimeType":"{}","text":{text}}}]}}"#, content.mime_type))
    }

    /// Stays open until the client or the server ends it. Our lists never change while the program runs, so that no
    /// notification type is agreed to, and none comes.
    async fn listen(&self, id: &Id, params: &Params<'_>, outbox: &Outbox) -> Result<String, RpcError> {
        if params.notifications.is_some_and(|filter| !filter.get().starts_with('{')) {
            return Err(RpcError::invalid_params("`notifications` must be an object"));
        }
        let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{}}}"#, id.json());
        let acknowledged = format!(
            r#"{{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{{{meta},"notifications":{{}}}}}}"#
        );
        let _gone = outbox.send(Outgoing::Notification(acknowledged)).await;
        self.shutdown.cancelled().await;
        Ok(format!(r#"{{"resultType":"complete",{meta}}}"#))
    }

    fn discover(&self) -> String {
        let about = self.about();
        json!({
            "supportedVersions": Version::ALL.map(Version::name),
            "capabilities": self.capabilities(),
            "serverInfo": server_info(about),
            "instructions": about.instructions,
        })
        .to_string()
    }

    fn capabilities(&self) -> Value {
        if self.service.resource_templates().is_empty() {
            json!({"tools": {}})
        } else {
            json!({"tools": {}, "resources": {}})
        }
    }

    /// Adds to a result, a JSON object, what every result has since 2026-07-28.
    fn sealed(&self, mut json: String, keep: Keep) -> String {
        json.pop();
        if json.len() > 1 {
            json.push(',');
        }
        let kept = match keep {
            Keep::No => String::new(),
            Keep::Private => r#""ttlMs":0,"cacheScope":"private","#.to_owned(),
            Keep::Public => format!(r#""ttlMs":{STATIC_TTL_MS},"cacheScope":"public","#),
        };
        let info = server_info(self.about());
        json.push_str(&format!(
            r#"{kept}"resultType":"complete","_meta":{{"io.modelcontextprotocol/serverInfo":{info}}}}}"#
        ));
        json
    }
}

/// What a request speaks: what it says itself, checked against what its headers claim, else what was agreed on.
fn version_of(request: &Request, params: &Params<'_>, meta: &Meta, origin: &Origin) -> Result<Version, RpcError> {
    let claims = origin.claims.as_ref();
    let Some(said) = &meta.version else {
        return match claims.map(Claims::version) {
            Some(Some(Ok(version))) if version.is_stateless() => Err(RpcError::malformed_meta(
                "params._meta must have \"io.modelcontextprotocol/protocolVersion\" in every request",
            )),
            Some(Some(Ok(version))) => Ok(version),
            Some(Some(Err(unknown))) => Err(unsupported(&unknown)),
            Some(None) | None => Ok(origin.spoken),
        };
    };
    let version = Version::parse(said);
    if version.is_some_and(|version| !version.is_stateless()) {
        return Ok(version.unwrap_or(origin.spoken));
    }
    if let Some(claims) = claims {
        claims.check_version(said)?;
    }
    let Some(version) = version else {
        return Err(unsupported(said));
    };
    if !meta.has_capabilities {
        return Err(RpcError::malformed_meta(
            "params._meta must have \"io.modelcontextprotocol/clientCapabilities\", an object, in every request",
        ));
    }
    if let Some(claims) = claims {
        claims.check_method(&request.method, || match request.method.as_str() {
            "tools/call" | "prompts/get" => params.text("name", params.name).ok(),
            "resources/read" => params.text("uri", params.uri).ok(),
            _ => None,
        })?;
    }
    Ok(version)
}

pub(crate) fn unsupported(requested: &str) -> RpcError {
    let data = json!({"supported": Version::ALL.map(Version::name), "requested": requested});
    RpcError { data: Some(data), ..RpcError::new(UNSUPPORTED_VERSION, "Unsupported protocol version") }
}

fn server_info(about: &About) -> Value {
    json!({"name": about.name, "title": about.title, "version": about.version})
}

fn tool_result(outcome: Result<ToolOutput, ToolError>) -> String {
    match outcome {
        Ok(ToolOutput { text, structured }) => {
            let structured = structured.as_deref().map_or(text.as_str(), RawValue::get);
            let text = Value::from(text.as_str());
            format!(
                r#"{{"content":[{{"type":"text","text":{text}}}],"structuredContent":{structured},"isError":false}}"#
            )
        }
        Err(error) => json!({"content": [{"type": "text", "text": error.to_string()}], "isError": true}).to_string(),
    }
}

fn resource_error(version: Version, error: &ResourceError) -> RpcError {
    match error {
        ResourceError::NotFound(uri) => {
            let not_found = RpcError::invalid_params(error.to_string());
            let code = if version.is_stateless() { not_found.code } else { RESOURCE_NOT_FOUND };
            RpcError { code, data: Some(json!({"uri": uri})), ..not_found }
        }
        ResourceError::Invalid(why) => RpcError::invalid_params(why.as_str()),
        ResourceError::Failed(why) => RpcError::new(INTERNAL_ERROR, why.as_str()),
    }
}
