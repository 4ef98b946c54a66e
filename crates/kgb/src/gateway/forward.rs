//! One exchange, from the request's head to the response's: [`exchange`] reads as the list of its steps.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use winni::model::Outcome;

use super::Shared;
use super::body::{Peeked, RecordedBody, ResponseBody};
use super::cause::{advice, explain, is_reset};
use super::client_io::ClientState;
use super::refuse::{Refusal, name_exchange};
use super::taps::{RequestBody, RequestTap, ResponseTap, Unread, discard};
use super::ways::{Named, Way};
use super::{Life, addressee, hop, own, strict};
use crate::entry::{REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD};
use crate::recorder::{Kept, NewExchange, Recording};
use crate::spy;

/// The client's connection is closed without (the rest of) an answer, as the upstream has closed ours.
#[derive(Debug, thiserror::Error)]
#[error("the exchange broke off; so does the client's connection")]
pub(crate) struct Hangup;

pub(crate) type Answer = Result<Response<ResponseBody>, Hangup>;

/// What the client asks for.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) target: PathAndQuery,
    /// Whom it is meant for instead of us; recorded in place of the target.
    pub(crate) somebody_else: Option<String>,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// hyper's memory of the case in which names were written; the upstream gets them likewise.
    pub(crate) extensions: http::Extensions,
}

/// Whom a request goes to, as the record names it.
#[derive(Clone, Copy, Default)]
pub(crate) struct To<'a> {
    pub(crate) upstream: &'a str,
    /// The MCP server's name, if it passes through the spy.
    pub(crate) server: Option<&'a str>,
}

impl Asked {
    /// Whether it goes to an MCP server through the gateway, which knows its upstreams as model APIs only: Streamable HTTP
    /// has headers of its own, and clients take both kinds of answers.
    fn looks_like_mcp(&self) -> bool {
        let path = self.target.path().trim_end_matches('/');
        let accepts = |media: &str| {
            let mut values = self.headers.get_all(ACCEPT).iter();
            values.any(|value| value.to_str().is_ok_and(|value| value.contains(media)))
        };
        path.ends_with("/mcp")
            || self.headers.keys().any(|name| name.as_str().starts_with("mcp-"))
            || (accepts("application/json") && accepts("text/event-stream"))
    }

    pub(crate) fn as_new<'a>(&'a self, to: To<'a>, body: Option<&'a Bytes>) -> NewExchange<'a> {
        NewExchange {
            method: self.method.as_str(),
            target: self.somebody_else.as_deref().unwrap_or(self.target.as_str()),
            version: self.version,
            headers: &self.headers,
            upstream: to.upstream,
            server: to.server,
            body: body.map(AsRef::as_ref),
            calls_tools: to.server.is_some() || self.looks_like_mcp(),
        }
    }
}

/// A request that is on record, ready to go on.
struct Begun {
    recording: Recording,
    body: RequestBody,
    /// What the upstream will have left of the body.
    unread: Unread,
}

/// Carries one exchange out.
pub(super) async fn exchange(
    gateway: Arc<Shared>,
    client: Arc<ClientState>,
    life: Life,
    request: Request<Incoming>,
) -> Answer {
    let is_plain = strict::check(request.version(), request.headers(), client.next_framing());
    let somebody_else = addressee::somebody_else(&request, client.here());
    if is_plain.is_ok()
        && somebody_else.is_none()
        && let Some(answer) = own::answer(&gateway.recorder, &request)
    {
        return Ok(answer);
    }
    let (mut asked, body) = read_head(request, somebody_else);
    let (forwarding, worker) = (gateway.forwarding(), life.worker);
    let way = forwarding.ways.find(&asked);
    if let Err(refusal) = is_plain {
        return hang_up_on(&gateway, &asked, way.to(), refusal).await;
    }
    let Way { upstream, uri, server } = match way {
        Ok(way) => way,
        Err(stray) => return spy::turn_away(&gateway, life, asked, stray).await,
    };
    if let Some(credential) = &upstream.credential {
        credential.put_into(&mut asked.headers);
    }
    if asked.somebody_else.is_none() && hop::wants_websocket(&asked) {
        let call = spy::Call { shared: gateway, client, life, asked, upstream, uri, server };
        return spy::carry(&forwarding, call).await;
    }
    let Begun { recording, body, unread } = match begin(&gateway, &asked, server.to(upstream), body).await {
        Ok(begun) => begun,
        Err(answer) => return answer,
    };
    let method = asked.method.clone();
    let uri = match forwardable(&asked, uri) {
        Ok(uri) => uri,
        Err(refusal) => {
            // Leaves what it holds of the client's body in `unread`.
            drop(body);
            return refuse(refusal, recording, &unread, &method).await;
        }
    };
    let outgoing = compose(asked, uri, &upstream.host, body);
    match forwarding.client(worker).request(outgoing).await {
        Ok(response) => deliver(response, recording, client, unread).await,
        Err(error) => failed(&error, &upstream.base, recording, &client, &unread, &method).await,
    }
}

/// Refuses a request of which nobody can say where it ends: its body is not read.
async fn hang_up_on(gateway: &Shared, asked: &Asked, to: To<'_>, refusal: Refusal) -> Answer {
    let answer = match gateway.recorder.begin(&asked.as_new(to, None)) {
        Ok(recording) => refusal.answer(recording, &asked.method).await,
        Err(_) => Some(refusal.unrecorded()),
    };
    let mut answer = answer.ok_or(Hangup)?;
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(answer)
}

/// Puts the request's head on record, with as much of its body as is there. `Err`: it may not go on.
async fn begin(gateway: &Shared, asked: &Asked, to: To<'_>, mut body: Incoming) -> Result<Begun, Answer> {
    let size = body.size_hint().exact();
    let peeked = Peeked::look(&mut body).await;
    let recording = match gateway.recorder.begin(&asked.as_new(to, peeked.data())) {
        Ok(recording) => recording,
        Err(error) => {
            discard(body).await;
            return Err(Ok(Refusal::not_recordable(&error.to_string()).unrecorded()));
        }
    };
    if peeked.last && settle_request(&recording).await.is_err() {
        recording.finish(&[], Outcome::Refused);
        return Err(Err(Hangup));
    }
    let unread = Unread::default();
    let tap = RequestTap { running: recording.running().clone(), unread: unread.clone() };
    let body = RecordedBody::new(body, size, peeked, tap);
    Ok(Begun { recording, body, unread })
}

fn read_head(request: Request<Incoming>, somebody_else: Option<String>) -> (Asked, Incoming) {
    let (parts, body) = request.into_parts();
    // A target without a path is `*` or an authority; both are refused below, recorded as they came.
    let target = parts.uri.into_parts().path_and_query;
    let asked = Asked {
        method: parts.method,
        target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
        somebody_else,
        version: parts.version,
        headers: parts.headers,
        extensions: parts.extensions,
    };
    (asked, body)
}

/// What to ask the upstream for; or why a request is not passed on, because it would mean something else there than its
/// sender meant.
fn forwardable(asked: &Asked, uri: Option<http::Uri>) -> Result<http::Uri, Refusal> {
    let not_implemented = |message: String| Err(Refusal::not_forwardable(StatusCode::NOT_IMPLEMENTED, message));
    if asked.somebody_else.is_some() {
        let message = "iccm is no forward proxy: set it as the base URL of your client, not as its HTTP proxy.";
        return not_implemented(message.into());
    }
    if asked.target.as_str() == "*" {
        let message = "iccm cannot forward a request for the server as a whole (`*`); ask for a path.";
        return not_implemented(message.into());
    }
    if let Some(protocol) = hop::upgrade(&asked.headers) {
        return not_implemented(format!(
            "iccm records HTTP and WebSockets (HTTP/1.1) and does not upgrade to `{protocol}`; use one of those."
        ));
    }
    let cannot =
        || Refusal::not_forwardable(StatusCode::BAD_REQUEST, "iccm cannot forward this target; check its path.");
    uri.ok_or_else(cannot)
}

/// The request is whole already: nothing of it may go on before it is as durable as it has to be.
pub(crate) async fn settle_request(recording: &Recording) -> Result<(), spool::Error> {
    let running = recording.running();
    running.request_whole();
    if running.needs_sync() {
        running.recorder().sync(running.written()).await?;
    }
    Ok(())
}

fn compose(mut asked: Asked, uri: http::Uri, host: &http::HeaderValue, body: RequestBody) -> Request<RequestBody> {
    if asked.version == Version::HTTP_2 {
        hop::from_http2(&mut asked.headers, !body.is_end_stream());
    }
    let mut request = Request::new(body);
    *request.method_mut() = asked.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = hop::end_to_end(asked.headers, Some(host));
    *request.extensions_mut() = asked.extensions;
    request
}

/// The upstream has answered.
pub(crate) async fn deliver(
    response: Response<Incoming>,
    recording: Recording,
    client: Arc<ClientState>,
    unread: Unread,
) -> Answer {
    let (mut parts, mut body) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        tracing::warn!(exchange = %recording.id(), "the upstream switched protocols unasked; the connection is closed");
        recording.finish(&[], Outcome::UpstreamAborted);
        return Err(Hangup);
    }
    let running = recording.running().clone();
    let head = running.recorder().response_head(parts.status, parts.version, &parts.headers);
    parts.version = Version::HTTP_11;
    parts.headers = hop::end_to_end(parts.headers, None);
    name_exchange(&mut parts.headers, recording.id());

    let size = body.size_hint().exact();
    let peeked = Peeked::look(&mut body).await;
    let mut tap = ResponseTap { recording: Some(recording), client, unread };
    let data = peeked.data().map(|bytes| (RESPONSE_BODY, bytes.as_ref()));
    let kept = tap.head([Some((RESPONSE_HEAD, head.as_slice())), data], peeked.last);
    if kept == Kept::MustNotPass {
        return Err(Hangup);
    }
    if peeked.last && running.needs_sync() {
        running.recorder().sync(running.written()).await.map_err(|_| Hangup)?;
    }
    let body = RecordedBody::new(body, size, peeked, tap);
    Ok(Response::from_parts(parts, ResponseBody::Forwarded(body)))
}

/// No answer came.
async fn failed(
    error: &legacy::Error,
    upstream: &str,
    recording: Recording,
    client: &ClientState,
    unread: &Unread,
    method: &Method,
) -> Answer {
    if recording.is_request_broken() {
        recording.finish(&[], Outcome::ClientAborted);
        return Err(Hangup);
    }
    if recording.is_cut() {
        recording.finish(&[], Outcome::Refused);
        return Err(Hangup);
    }
    let why = explain(error);
    if error.is_connect() {
        tracing::warn!(exchange = %recording.id(), upstream, %why, "cannot reach the upstream. {}", advice(error));
        return refuse(Refusal::unreachable(upstream, &why, advice(error)), recording, unread, method).await;
    }
    // A direct connection would have been closed without a word, so this one is too.
    tracing::warn!(exchange = %recording.id(), upstream, %why, "the upstream closed without an answer");
    if is_reset(error) {
        client.reset_on_close();
    }
    recording.finish(&[], Outcome::UpstreamAborted);
    Err(Hangup)
}

/// Answers in place of the upstream, when the request has been read and recorded to its end.
pub(crate) async fn refuse(refusal: Refusal, recording: Recording, unread: &Unread, method: &Method) -> Answer {
    if let Some(rest) = unread.take()
        && !keep_rest(rest, &recording).await
    {
        recording.finish(&[], Outcome::ClientAborted);
        return Err(Hangup);
    }
    refusal.answer(recording, method).await.ok_or(Hangup)
}

/// Whether the rest of the request came.
async fn keep_rest(mut rest: Incoming, recording: &Recording) -> bool {
    while let Some(frame) = rest.frame().await {
        let Ok(frame) = frame else { return false };
        if let Some(data) = frame.data_ref() {
            recording.running().keep(&[(REQUEST_BODY, data)]);
        }
    }
    true
}
