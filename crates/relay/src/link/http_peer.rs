//! The server at the other end of HTTP: what is known of it and of our session with it, and one request to it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use url::Url;

use super::connector::{Connector, cause};
use super::{About, Failure, Seen, header_value};
use crate::protocol::MODERN_VERSION;

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");

/// A goodbye is not worth waiting for.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is known of the server and the session, and how to ask it.
#[derive(Debug)]
pub(crate) struct Peer {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: Url,
    headers: HeaderMap,
    session: Mutex<Option<HeaderValue>>,
    version: Mutex<Option<HeaderValue>>,
    seen: Seen,
}

/// What is posted, and what HTTP says of it.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) bytes: Bytes,
    pub(crate) about: Option<Box<About>>,
}

impl Peer {
    pub(super) fn new(connector: &Connector, url: &Url, headers: &HeaderMap, seen: Seen) -> Self {
        Self {
            client: connector.http_client(),
            url: url.clone(),
            headers: headers.clone(),
            session: Mutex::default(),
            version: Mutex::default(),
            seen,
        }
    }

    /// The version that requests say they speak from now on.
    pub(crate) fn set_version(&self, version: Option<&str>) {
        let value = version.and_then(|version| HeaderValue::from_str(version).ok());
        *self.version.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }

    pub(super) fn is_modern(&self) -> bool {
        let version = self.version.lock().unwrap_or_else(PoisonError::into_inner);
        version.as_ref().is_some_and(|version| version == MODERN_VERSION)
    }

    pub(super) fn has_session(&self) -> bool {
        self.session().is_some()
    }

    fn session(&self) -> Option<HeaderValue> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn remember_session(&self, response: &Response<Incoming>) {
        if let Some(session) = response.headers().get(SESSION) {
            *self.session.lock().unwrap_or_else(PoisonError::into_inner) = Some(session.clone());
        }
    }

    pub(super) async fn send(&self, posted: &Posted) -> Result<Response<Incoming>, Failure> {
        let mut extra = HeaderMap::new();
        extra.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        extra.insert(http::header::ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        if let Some(about) = &posted.about {
            extra.insert(METHOD, header_value(&about.method));
            if let Some(name) = &about.name {
                extra.insert(NAME, header_value(name));
            }
            extra.extend(about.headers.iter().cloned());
        }
        self.seen.sent(&posted.bytes);
        self.ask(Method::POST, extra, posted.bytes.clone()).await
    }

    /// Opens (or, with the id of the last event, resumes) a stream with GET.
    pub(super) async fn stream(&self, last_event: &str) -> Result<Response<Incoming>, Failure> {
        let mut extra = HeaderMap::new();
        extra.insert(http::header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        if let (false, Ok(id)) = (last_event.is_empty(), HeaderValue::from_str(last_event)) {
            extra.insert(LAST_EVENT, id);
        }
        self.ask(Method::GET, extra, Bytes::new()).await
    }

    /// Says goodbye to a session, if there is one.
    pub(super) async fn end_session(&self) {
        if self.has_session() {
            let goodbye = self.ask(Method::DELETE, HeaderMap::new(), Bytes::new());
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
    }

    async fn ask(&self, method: Method, extra: HeaderMap, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() =
            self.url.as_str().parse().map_err(|_| Failure::lasting(format!("{} is no URL for HTTP", self.url)))?;
        let headers = request.headers_mut();
        headers.extend(extra);
        let known = [(SESSION, self.session()), (VERSION, self.version.lock().ok().and_then(|v| v.clone()))];
        headers.extend(known.into_iter().filter_map(|(name, value)| Some((name, value?))));
        headers.extend(self.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        self.client.request(request).await.map_err(|error| Failure {
            unsent: error.is_connect(),
            ..Failure::passing(format!("HTTP: {}", cause(&error)))
        })
    }
}
