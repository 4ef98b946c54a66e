//! The three paths that are the gateway's own: `/health`, `/ready` and `/metrics`. They are not recorded.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use hyper::Response;

use super::answer::ResponseBody;
use crate::recorder::Recorder;

/// The answer, if the request asks for one of the gateway's own paths.
pub(super) fn answer<B>(recorder: &Recorder, request: &Request<B>) -> Option<Response<ResponseBody>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return None;
    }
    match request.uri().path() {
        "/health" => Some(health()),
        "/ready" => Some(ready(recorder)),
        "/metrics" => Some(text(StatusCode::OK, "text/plain; version=0.0.4", recorder.render_metrics())),
        _ => None,
    }
}

/// The process lives.
fn health() -> Response<ResponseBody> {
    json(StatusCode::OK, &serde_json::json!({"status": "healthy", "version": env!("CARGO_PKG_VERSION")}))
}

/// Exchanges are being recorded.
fn ready(recorder: &Recorder) -> Response<ResponseBody> {
    match recorder.readiness() {
        Ok(()) => json(StatusCode::OK, &serde_json::json!({"status": "ready"})),
        Err(reason) => json(
            StatusCode::SERVICE_UNAVAILABLE,
            &serde_json::json!({"status": "not ready", "reason": format!("cannot record: {reason}")}),
        ),
    }
}

fn json(status: StatusCode, value: &serde_json::Value) -> Response<ResponseBody> {
    text(status, "application/json", value.to_string())
}

fn text(status: StatusCode, content_type: &'static str, body: String) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Full::new(Bytes::from(body))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
