//! One exchange, from the request's head to the response's: [`exchange`] reads as the list of its steps.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use winni::model::Outcome;

use super::Shared;
use super::body::{Peeked, RecordedBody, ResponseBody};
use super::client_io::ClientState;
use super::refuse::{Refusal, name_exchange};
use super::taps::{RequestBody, RequestTap, ResponseTap, Unread, discard};
use super::upstream::{explain, is_reset};
use super::{hop, own};
use crate::entry::{REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD};
use crate::recorder::{Kept, NewExchange, Recording};

/// The client's connection is closed without (the rest of) an answer, as the upstream has closed ours.
#[derive(Debug, thiserror::Error)]
#[error("the exchange broke off; so does the client's connection")]
pub(super) struct Hangup;

type Answer = Result<Response<ResponseBody>, Hangup>;

/// What the client asks for.
struct Asked {
    method: Method,
    target: PathAndQuery,
    version: Version,
    headers: HeaderMap,
    /// hyper's memory of the case in which names were written; the upstream gets them likewise.
    extensions: http::Extensions,
}

/// Carries one exchange out.
pub(super) async fn exchange(gateway: Arc<Shared>, client: Arc<ClientState>, request: Request<Incoming>) -> Answer {
    if let Some(answer) = own::answer(&gateway.recorder, &request) {
        return Ok(answer);
    }
    let (asked, mut body) = read_head(request);
    let size = body.size_hint().exact();
    let peeked = Peeked::look(&mut body).await;
    let (upstream, rest) = gateway.routes.find(asked.target.as_str());

    let new = NewExchange {
        method: asked.method.as_str(),
        target: asked.target.as_str(),
        version: asked.version,
        headers: &asked.headers,
        upstream: &upstream.base,
        body: peeked.data().map(|bytes| bytes.as_ref()),
    };
    let recording = match gateway.recorder.begin(&new) {
        Ok(recording) => recording,
        Err(error) => {
            discard(body).await;
            return Ok(Refusal::not_recordable(&error.to_string()).unrecorded());
        }
    };

    let unread = Unread::default();
    let tap = RequestTap { running: recording.running().clone(), unread: unread.clone() };
    if peeked.last && settle_request(&recording).await.is_err() {
        recording.finish(&[], Outcome::Refused);
        return Err(Hangup);
    }
    let body = RecordedBody::new(body, size, peeked, tap);
    let refusal = match not_forwardable(&asked) {
        Some(refusal) => Err((refusal, body)),
        None => match upstream.uri(&asked.target, rest) {
            Some(uri) => Ok((uri, body)),
            None => Err((Refusal::not_forwardable(StatusCode::BAD_REQUEST, "iccm cannot forward this target."), body)),
        },
    };
    let method = asked.method.clone();
    let (uri, body) = match refusal {
        Ok(forwardable) => forwardable,
        Err((refusal, body)) => {
            drop(body);
            return refuse(refusal, recording, &unread, &method).await;
        }
    };

    let outgoing = compose(asked, uri, &upstream.host, body);
    match gateway.client.request(outgoing).await {
        Ok(response) => deliver(response, recording, client, unread).await,
        Err(error) => failed(&error, &upstream.base, recording, &client, &unread, &method).await,
    }
}

fn read_head(request: Request<Incoming>) -> (Asked, Incoming) {
    let (parts, body) = request.into_parts();
    // A target without a path is `*` or an authority; both are refused below, recorded as they came.
    let target = parts.uri.path_and_query().cloned();
    let asked = Asked {
        method: parts.method,
        target: target.unwrap_or_else(|| PathAndQuery::from_static("/")),
        version: parts.version,
        headers: parts.headers,
        extensions: parts.extensions,
    };
    (asked, body)
}

/// Requests that would mean something else at the upstream than their sender meant.
fn not_forwardable(asked: &Asked) -> Option<Refusal> {
    if asked.method == Method::CONNECT {
        let message = "iccm is no forward proxy: set it as the base URL of your client, not as its HTTP proxy.";
        return Some(Refusal::not_forwardable(StatusCode::NOT_IMPLEMENTED, message));
    }
    if asked.target.as_str() == "*" {
        let message = "iccm cannot forward a request for the server as a whole (`*`); ask for a path.";
        return Some(Refusal::not_forwardable(StatusCode::NOT_IMPLEMENTED, message));
    }
    let protocol = hop::upgrade(&asked.headers)?;
    let message = format!("iccm records HTTP exchanges only and does not upgrade to `{protocol}` yet; use plain HTTP.");
    Some(Refusal::not_forwardable(StatusCode::NOT_IMPLEMENTED, message))
}

/// The request is whole already: nothing of it may go on before it is as durable as it has to be.
async fn settle_request(recording: &Recording) -> Result<(), spool::Error> {
    let running = recording.running();
    running.request_whole();
    if running.needs_sync() {
        running.recorder().sync(running.written()).await?;
    }
    Ok(())
}

fn compose(asked: Asked, uri: http::Uri, host: &http::HeaderValue, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.method_mut() = asked.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = hop::end_to_end(asked.headers, Some(host));
    *request.extensions_mut() = asked.extensions;
    request
}

/// The upstream has answered.
async fn deliver(
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
        tracing::warn!(exchange = %recording.id(), upstream, %why, "cannot reach the upstream; check network and --upstream");
        return refuse(Refusal::unreachable(upstream, &why), recording, unread, method).await;
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
async fn refuse(refusal: Refusal, recording: Recording, unread: &Unread, method: &Method) -> Answer {
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
