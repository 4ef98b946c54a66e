//! The HTTP part of a WebSocket: asked of the server first, and passed on to the client as it was answered.

use std::sync::Arc;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body_util::{Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::Executor;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response};
use tokio::sync::OwnedSemaphorePermit;
use winni::model::{FrameSource, Outcome};

use super::pump;
use super::socket::{ServerIo, keep_alive, socket};
use crate::entry::RESPONSE_HEAD;
use crate::gateway::answer::{Answer, Hangup, ResponseBody, deliver, name_exchange};
use crate::gateway::asked::Asked;
use crate::gateway::cause::{advice, explain, is_reset};
use crate::gateway::client_io::ClientState;
use crate::gateway::hop;
use crate::gateway::life::Life;
use crate::gateway::refuse::{Refusal, refuse};
use crate::gateway::route::Upstream;
use crate::gateway::shared::{Forwarding, Shared};
use crate::gateway::taps::{Unread, settle_request};
use crate::gateway::ways::Server;
use crate::recorder::{Kept, MessageLog, Recording};

/// The subprotocol of MCP.
const MCP: &str = "mcp";
/// More than any server sends.
const MAX_HEADERS: usize = 256;

/// A request for a WebSocket.
pub(crate) struct Call<'f> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Arc<ClientState>,
    pub(crate) life: Life,
    pub(crate) asked: Asked,
    pub(crate) upstream: &'f Upstream,
    pub(crate) uri: Option<Uri>,
    pub(crate) server: Server,
}

/// Carries a WebSocket out: answers its handshake; what follows goes on by itself.
pub(crate) async fn carry(forwarding: &Forwarding, mut call: Call<'_>) -> Answer {
    let recording = match call.shared.recorder.begin(&call.asked.as_new(call.server.to(call.upstream), None)) {
        Ok(recording) => recording,
        Err(error) => return Ok(Refusal::not_recordable(&error.to_string()).unrecorded()),
    };
    if settle_request(&recording).await.is_err() {
        recording.finish(&[], Outcome::Refused);
        return Err(Hangup);
    }
    let (Some(uri), Some(client_io)) = (call.uri.take(), call.asked.extensions.remove::<OnUpgrade>()) else {
        let refusal = Refusal::not_forwardable(StatusCode::BAD_REQUEST, "iccm cannot forward this target; check it.");
        return refuse(refusal, recording, &Unread::default(), &Method::GET).await;
    };
    let Ok(place) = call.shared.sockets.clone().try_acquire_owned() else {
        let message = "iccm carries as many WebSockets as it can already; close some, or use another iccm.";
        let refusal = Refusal::not_forwardable(StatusCode::SERVICE_UNAVAILABLE, message);
        return refuse(refusal, recording, &Unread::default(), &Method::GET).await;
    };
    let io = match forwarding.client(call.life.worker).connect(uri.clone()).await {
        Ok(io) => io,
        Err(error) => {
            let refusal = unreachable(&call, &*error, &recording);
            return refuse(refusal, recording, &Unread::default(), &Method::GET).await;
        }
    };
    keep_alive(socket(&io), call.shared.peer_silence);
    let response = match ask(&call, io, &uri).await {
        Ok(response) => response,
        Err(error) => return broke_off(&call, &error, recording),
    };
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return deliver(response, recording, call.client, Unread::default()).await;
    }
    switch(call, response, recording, client_io, place).await
}

fn unreachable(call: &Call<'_>, error: &(dyn std::error::Error + 'static), recording: &Recording) -> Refusal {
    let (why, advice, upstream) = (explain(error), advice(error), &call.upstream.base);
    tracing::warn!(exchange = %recording.id(), upstream, %why, "cannot reach the server. {advice}");
    Refusal::unreachable(upstream, &why, advice)
}

/// A direct connection would have been closed without a word, so this one is too.
fn broke_off(call: &Call<'_>, error: &hyper::Error, recording: Recording) -> Answer {
    tracing::warn!(exchange = %recording.id(), upstream = call.upstream.base, %error, "the server closed without an answer");
    if is_reset(error) {
        call.client.reset_on_close();
    }
    recording.finish(&[], Outcome::UpstreamAborted);
    Err(Hangup)
}

/// Asks the server for the WebSocket.
async fn ask(call: &Call<'_>, io: ServerIo, uri: &Uri) -> Result<Response<Incoming>, hyper::Error> {
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .max_headers(MAX_HEADERS)
        .handshake::<_, Empty<Bytes>>(io)
        .await?;
    call.life.execute(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection with a server ended early");
        }
    });
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = uri.path_and_query().map_or_else(|| Uri::from_static("/"), |target| target.clone().into());
    *request.headers_mut() = hop::websocket_request(call.asked.headers.clone(), &call.upstream.host);
    *request.extensions_mut() = call.asked.extensions.clone();
    sender.send_request(request).await
}

/// The server has switched: so does the client's connection, when that is on record.
async fn switch(
    call: Call<'_>,
    mut response: Response<Incoming>,
    recording: Recording,
    client_io: OnUpgrade,
    place: OwnedSemaphorePermit,
) -> Answer {
    let server_io = hyper::upgrade::on(&mut response);
    let (mut parts, _) = response.into_parts();
    let recorder = call.shared.recorder.clone();
    let head = recorder.response_head(parts.status, parts.version, &parts.headers);
    let id = recording.id();
    if recording.finish(&[(RESPONSE_HEAD, &head)], Outcome::Complete) == Kept::MustNotPass {
        return Err(Hangup);
    }
    if recorder.needs_sync() {
        recorder.sync(recorder.spool().written()).await.map_err(|_| Hangup)?;
    }
    answer_mcp(&call.asked.headers, &mut parts.headers);
    parts.version = Version::HTTP_11;
    if call.server.source == FrameSource::Gateway {
        name_exchange(&mut parts.headers, id);
    }
    let Server { name, source, session } = call.server;
    let log = MessageLog::new(recorder, id, source, name, session);
    let (client, shutdown, silence) = (call.client, call.life.shutdown.clone(), call.shared.peer_silence);
    call.life.execute(async move {
        pump::run((client_io, server_io), client, log, silence, shutdown).await;
        drop(place);
    });
    Ok(Response::from_parts(parts, ResponseBody::Own(Full::new(Bytes::new()))))
}

/// The subprotocol `mcp` is answered when it was offered, whether the server does so or not.
fn answer_mcp(request: &HeaderMap, response: &mut HeaderMap) {
    if !response.contains_key(SEC_WEBSOCKET_PROTOCOL) && offered_protocols(request).any(|offered| offered == MCP) {
        response.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MCP));
    }
}

/// The subprotocols that a client offers, `mcp` first.
pub(super) fn offered_protocols(request: &HeaderMap) -> impl Iterator<Item = &str> {
    let mcp = hop::tokens(request, &SEC_WEBSOCKET_PROTOCOL).filter(|offered| *offered == MCP);
    mcp.chain(hop::tokens(request, &SEC_WEBSOCKET_PROTOCOL).filter(|offered| *offered != MCP))
}
