//! One model, asked until there is an answer or no point in going on.
//!
//! Guaranteed: the model's time is over when it is over, whatever the provider does, and what came until then is kept; every
//! error names the model, its provider and what to do.
//!
//! Retried is only what certainly produced no answer: a provider that was not reached, or that answered with one of
//! [`RETRIED`]. Never retried is an answer that broke off, or a connection that broke after the request was sent: it may
//! have been thought about, and paid for.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::gateway::{Exchange, Gateway, post};
use crate::keys::Secret;
use crate::models::Model;
use crate::providers::{Question, Reader, Reading, error_text};

/// Statuses that say that nothing was answered and that later may be better.
const RETRIED: [u16; 6] = [408, 429, 500, 502, 503, 529];
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// So much of an error's body is read.
const ERROR_BODY_BYTES: usize = 64 << 10;
/// So much of an error's sentence is repeated.
const ERROR_CHARACTERS: usize = 500;

/// What became of a question.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What came, whole or not.
    pub(crate) reading: Reading,
    /// Why this is no success.
    pub(crate) error: Option<String>,
    /// Requests that were sent.
    pub(crate) attempts: u32,
    /// Under which ids they are on record.
    pub(crate) exchange_ids: Vec<String>,
}

/// How far an answer is.
pub(crate) trait Listener: Sync {
    /// So many bytes of the answer have come.
    fn has_come(&self, bytes: u64);
    /// Another attempt will be made.
    fn tries_again(&self, why: &str, pause: Duration);
}

/// Everything that asking takes.
pub(crate) struct Asking<'a> {
    pub(crate) gateway: &'a dyn Gateway,
    pub(crate) question: Question<'a>,
    pub(crate) key: Option<Secret>,
    pub(crate) listener: &'a dyn Listener,
    pub(crate) cancelled: &'a CancellationToken,
}

/// Why an attempt came to nothing.
struct Failure {
    what: String,
    /// Whether to try again, and when the provider said so how long to wait.
    again: Option<Option<Duration>>,
}

impl Failure {
    fn last(what: String) -> Self {
        Self { what, again: None }
    }
}

/// What an attempt leaves behind wherever it is broken off.
#[derive(Default)]
struct UnderWay {
    reader: Option<Reader>,
    attempts: u32,
    exchange_ids: Vec<String>,
}

impl Asking<'_> {
    /// Asks.
    pub(crate) async fn ask(self) -> Outcome {
        let mut under_way = UnderWay::default();
        let model = self.question.model;
        let deadline = Instant::now() + model.timeout;
        let asked = tokio::select! {
            biased;
            () = self.cancelled.cancelled() => Err("it was cancelled".to_owned()),
            asked = tokio::time::timeout_at(deadline, self.attempts(deadline, &mut under_way)) => match asked {
                Ok(asked) => asked.map_err(|failure| failure.what),
                Err(_) => Err(format!(
                    "no whole answer within {} s; raise timeout_seconds in models.toml, or try again later",
                    model.timeout.as_secs()
                )),
            },
        };
        let reading = under_way.reader.map(Reader::finish).unwrap_or_default();
        let error = asked.and_then(|()| judged(&reading, model)).err();
        let error = error.map(|error| self.named(&error));
        Outcome { reading, error, attempts: under_way.attempts, exchange_ids: under_way.exchange_ids }
    }

    async fn attempts(&self, deadline: Instant, under_way: &mut UnderWay) -> Result<(), Failure> {
        let model = self.question.model;
        if let Some(base_url) = &model.provider.base_url {
            self.gateway.route(&model.provider.prefix, base_url).map_err(|problem| {
                Failure::last(format!("the gateway cannot forward to its base_url: {problem}; mend it in models.toml"))
            })?;
        }
        let request = model.provider.api.request(&self.question);
        let path = format!("/{}{}", model.provider.prefix, request.path);
        let body = Bytes::from(request.body.to_string());
        let headers = self.headers(request.headers).map_err(Failure::last)?;
        loop {
            under_way.attempts += 1;
            let failure = match self.attempt(&path, headers.clone(), body.clone(), under_way).await {
                Ok(()) => return Ok(()),
                Err(failure) => failure,
            };
            let retries_left = under_way.attempts <= model.retries;
            let Some(wish) = failure.again.filter(|_| retries_left) else {
                return Err(failure);
            };
            let pause = wish.unwrap_or_else(|| backoff(under_way.attempts));
            if Instant::now() + pause >= deadline {
                let seconds = pause.as_secs();
                let what =
                    format!("{}; the next attempt would be in {seconds} s, after its time is over", failure.what);
                return Err(Failure::last(what));
            }
            self.listener.tries_again(&self.named(&failure.what), pause);
            tokio::time::sleep(pause).await;
        }
    }

    fn headers(&self, further: &[(&'static str, &'static str)]) -> Result<HeaderMap, String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
        headers
            .insert(header::USER_AGENT, HeaderValue::from_static(concat!("iccm-fiedler/", env!("CARGO_PKG_VERSION"))));
        for (name, value) in further {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        if let Some(key) = &self.key {
            let (name, before) = self.question.model.provider.api.key_header();
            headers.insert(HeaderName::from_static(name), key.header(before)?);
        }
        Ok(headers)
    }

    async fn attempt(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
        under_way: &mut UnderWay,
    ) -> Result<(), Failure> {
        let Exchange { mut response, connection: _connection } =
            post(self.gateway, path, headers, body).await.map_err(Failure::last)?;
        let id = response.headers().get("x-iccm-exchange-id").and_then(|id| id.to_str().ok());
        under_way.exchange_ids.extend(id.map(str::to_owned));
        if response.status() != StatusCode::OK {
            return Err(self.refused(&mut response).await);
        }
        let reader = under_way.reader.insert(Reader::new(self.question.model.provider.api, response.headers()));
        let mut come = 0;
        while let Some(frame) = response.body_mut().frame().await {
            let frame = frame.map_err(|error| {
                Failure::last(format!("the answer broke off after {come} bytes ({}); ask again", cause(&error)))
            })?;
            if let Some(data) = frame.data_ref() {
                reader.push(data);
                come += data.len() as u64;
                self.listener.has_come(come);
            }
        }
        Ok(())
    }

    /// What an error's status means, and what to do about it.
    async fn refused(&self, response: &mut http::Response<Incoming>) -> Failure {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let (ours, wish) = (header("x-iccm-error"), retry_after(response.headers()));
        let said = sentence(&beginning(response.body_mut()).await);
        let (model, provider) = (&self.question.model, &self.question.model.provider);
        match (ours.as_deref(), status) {
            (Some("upstream_unreachable"), _) => {
                let what = format!("it cannot be reached: {said}; check the network and the provider's base URL");
                return Failure { what, again: Some(None) };
            }
            (Some(outcome), _) => return Failure::last(format!("the gateway says {outcome}: {said}")),
            _ => {}
        }
        let remedy = match status {
            401 | 403 => match &self.key {
                Some(_) => format!(
                    "its key was not accepted; set another one with fiedler_set_key, provider {}",
                    provider.name
                ),
                None => format!("it wants a key; set one with fiedler_set_key, provider {}", provider.name),
            },
            402 => "the account has no credit; top it up".to_owned(),
            404 => format!("it does not know `{}`; correct api_name in models.toml", model.api_name),
            413 => "the prompt is too long; send less".to_owned(),
            429 => "too many requests or the quota is used up; ask again later".to_owned(),
            400..=499 => "it refused the request; correct what it names".to_owned(),
            _ => "its fault; ask again later".to_owned(),
        };
        let again = RETRIED.contains(&status).then_some(wish);
        Failure { what: format!("HTTP {status}: {remedy}: {said}"), again }
    }

    /// An error with the names of model and provider, and without the key, whoever repeated it.
    fn named(&self, error: &str) -> String {
        let model = self.question.model;
        let text = format!("{} ({}): {error}", model.id, model.provider.name);
        self.key.as_ref().map_or(text.clone(), |key| key.removed_from(&text))
    }
}

/// Whether an answer that ended is one.
fn judged(reading: &Reading, model: &Model) -> Result<(), String> {
    if let Some(error) = &reading.error {
        return Err(format!("it broke off with an error: {}; ask again later", shortened(error)));
    }
    if let Some(refusal) = &reading.refusal {
        return Err(format!("it would not answer: {}; ask in other words, or another model", shortened(refusal)));
    }
    if !reading.is_complete {
        return Err("the answer ended before its end; ask again".to_owned());
    }
    if reading.text.trim().is_empty() {
        return Err(match reading.is_cut_at_limit() {
            true => format!(
                "it used all {} tokens before it said anything; raise max_output in models.toml",
                model.max_output
            ),
            false => "the answer is empty; ask again, or in other words".to_owned(),
        });
    }
    Ok(())
}

async fn beginning(body: &mut Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BODY_BYTES
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
    }
    bytes
}

/// What an error's body says, in one line.
fn sentence(body: &[u8]) -> String {
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(error) => error_text(&error),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    if said.trim().is_empty() { "it gave no reason".to_owned() } else { shortened(&said) }
}

fn shortened(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ERROR_CHARACTERS) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn cause(error: &hyper::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// Doubles from attempt to attempt; half of it is chance, so that those who failed together do not come back together.
fn backoff(attempts: u32) -> Duration {
    let longest = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16)).min(LONGEST_PAUSE);
    longest.mul_f64(0.5 + 0.5 * chance())
}

/// From 0 to 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness nobody is harmed: the pause is then the longest.
    match getrandom::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 1.0,
    }
}

/// How long the provider asks to wait: seconds, or a date (RFC 9110, 10.2.3), or milliseconds as OpenAI has them.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let milliseconds = text("retry-after-ms").and_then(|text| text.parse().ok()).map(Duration::from_millis);
    milliseconds.or_else(|| {
        let text = text("retry-after")?;
        if let Ok(seconds) = text.parse::<f64>() {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
        Some(Duration::try_from(at.duration_since(jiff::Timestamp::now())).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests;
