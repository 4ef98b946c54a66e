//! What a client gets: the upstream's answer, one of the gateway's own, or its connection closed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::Response;
use hyper::body::Incoming;
use uuid::Uuid;
use winni::model::Outcome;

use super::body::{Broken, Peeked, RecordedBody};
use super::client_io::ClientState;
use super::hop;
use super::taps::{ResponseTap, Unread};
use crate::entry::{RESPONSE_BODY, RESPONSE_HEAD};
use crate::recorder::{Kept, Recording};

/// Names the exchange in every response.
const EXCHANGE_ID: HeaderName = HeaderName::from_static("x-iccm-exchange-id");

/// The client's connection is closed without (the rest of) an answer, as the upstream has closed ours.
#[derive(Debug, thiserror::Error)]
#[error("the exchange broke off; so does the client's connection")]
pub(crate) struct Hangup;

pub(crate) type Answer = Result<Response<ResponseBody>, Hangup>;

/// What the gateway answers with: an upstream's body, or one of its own.
pub(crate) enum ResponseBody {
    /// The upstream's.
    Forwarded(RecordedBody<ResponseTap>),
    /// The gateway's own.
    Own(Full<Bytes>),
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Forwarded(body) => Pin::new(body).poll_frame(cx),
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(|never| match never {}),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Forwarded(body) => body.is_end_stream(),
            Self::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Forwarded(body) => body.size_hint(),
            Self::Own(body) => body.size_hint(),
        }
    }
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

/// The value of `x-iccm-exchange-id`.
fn exchange_id(id: Uuid) -> HeaderValue {
    // Hex digits and dashes always are a header value.
    HeaderValue::from_str(&id.to_string()).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Adds the exchange's id to a response's headers: the only thing that the gateway adds.
pub(crate) fn name_exchange(headers: &mut HeaderMap, id: Uuid) {
    headers.insert(EXCHANGE_ID, exchange_id(id));
}
