//! What the gateway itself has to refuse, said in the shape of the API.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use http_body_util::{BodyExt, Full};
use hyper::Response;
use hyper::body::Incoming;
use winni::model::Outcome;

use super::answer::{Answer, Hangup, ResponseBody, name_exchange};
use super::taps::Unread;
use crate::entry::{REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD};
use crate::recorder::{Kept, Recording};

/// Names the outcome in a response that no upstream has given.
const ERROR: HeaderName = HeaderName::from_static("x-iccm-error");

/// A refusal: what the client is told.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) outcome: Outcome,
    /// What, why, and what to do.
    pub(crate) message: String,
}

impl Refusal {
    /// The upstream could not be reached.
    pub(crate) fn unreachable(upstream: &str, why: &str, advice: &str) -> Self {
        Self {
            status: StatusCode::BAD_GATEWAY,
            outcome: Outcome::UpstreamUnreachable,
            message: format!("iccm could not reach the upstream {upstream}: {why}. {advice}"),
        }
    }

    /// The request cannot be forwarded.
    pub(crate) fn not_forwardable(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, outcome: Outcome::Refused, message: message.into() }
    }

    /// The request cannot be recorded, and policy forbids to let it pass.
    pub(crate) fn not_recordable(why: &str) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            outcome: Outcome::Refused,
            message: format!(
                "iccm refused this request because it cannot be recorded: {why}. Make room on the disk that holds its \
                 data folder, or allow unrecorded traffic with --when-spool-full pass-unrecorded."
            ),
        }
    }

    /// The answer, for an exchange that is not on record.
    pub(crate) fn unrecorded(self) -> Response<ResponseBody> {
        let (head, body) = self.head_and_body();
        response(self.status, head, body)
    }

    /// Ends the exchange with this refusal and gives the answer. `None`: not even that may pass unrecorded.
    pub(crate) async fn answer(self, recording: Recording, method: &Method) -> Option<Response<ResponseBody>> {
        let (mut headers, body) = self.head_and_body();
        let head = recording.running().recorder().response_head(self.status, Version::HTTP_11, &headers);
        name_exchange(&mut headers, recording.id());
        let sent: &[u8] = if *method == Method::HEAD { &[] } else { &body };
        let running = recording.running().clone();
        let kept = recording.finish(&[(RESPONSE_HEAD, &head), (RESPONSE_BODY, sent)], self.outcome);
        if kept == Kept::MustNotPass {
            return Some(response(self.status, headers, body));
        }
        if running.needs_sync() && running.recorder().sync(running.written()).await.is_err() {
            return None;
        }
        Some(response(self.status, headers, body))
    }

    fn head_and_body(&self) -> (HeaderMap, Bytes) {
        let error = serde_json::json!({
            "type": "error",
            "error": {"type": "api_error", "message": self.message},
        });
        let body = Bytes::from(error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(ERROR, HeaderValue::from_static(self.outcome.name()));
        (headers, body)
    }
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

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Full::new(body)));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}
