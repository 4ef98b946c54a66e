//! HTTP responses that we make ourselves.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use serde_json::json;

/// A response's body: whole, or a stream of events.
pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

pub(crate) fn empty(status: StatusCode) -> Response<Body> {
    with_body(status, Full::new(Bytes::new()).boxed_unsync())
}

pub(crate) fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = with_body(status, Full::new(text.into()).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A refusal in the protocol's own shape, without an id: the request was not looked at.
pub(crate) fn refused(status: StatusCode, code: i64, message: &str) -> Response<Body> {
    let error = json!({"jsonrpc": "2.0", "id": null, "error": {"code": code, "message": message}});
    json_text(status, error.to_string())
}

pub(crate) fn not_allowed(methods: &'static str) -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(methods));
    response
}

pub(crate) fn with_body(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}
