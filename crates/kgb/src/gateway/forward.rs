//! One exchange, from the request's head to the response's: [`exchange`] reads as the list of its steps.

use std::sync::Arc;

use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::client::legacy;
use winni::model::Outcome;

use super::answer::{Answer, Hangup, deliver};
use super::asked::{Asked, To};
use super::body::{Peeked, RecordedBody};
use super::cause::{advice, explain, is_reset};
use super::client_io::ClientState;
use super::life::Life;
use super::refuse::{Refusal, refuse};
use super::shared::Shared;
use super::taps::{RequestBody, RequestTap, Unread, discard, settle_request};
use super::ways::{Named, Way};
use super::{addressee, hop, own, strict, websocket};
use crate::recorder::Recording;

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
        Err(stray) => return websocket::turn_away(&gateway, life, asked, stray).await,
    };
    if let Some(credential) = &upstream.credential {
        credential.put_into(&mut asked.headers);
    }
    if asked.somebody_else.is_none() && hop::wants_websocket(&asked) {
        let call = websocket::Call { shared: gateway, client, life, asked, upstream, uri, server };
        return websocket::carry(&forwarding, call).await;
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
