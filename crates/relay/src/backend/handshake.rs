//! Getting to know a server: which era it speaks, and what it can do.
//!
//! `server/discover` is asked first, as the specification recommends. A server that answers with an error is a legacy one
//! and is sent `initialize`. One that is silent may be either, or only slow to start: then both questions are open, and
//! whichever is answered decides. What was found is remembered for the next connection.

use std::time::Duration;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::time::Instant;
use wire::json_rpc::{self, IdKey, Message, Outcome, code, items, string, text};

use crate::hub::{Hello, modern_meta};
use crate::link::http_peer::Peer;
use crate::link::{About, Event, Failure, Link, Outgoing};
use crate::protocol::{Capabilities, DISCOVER, Era, LEGACY_VERSIONS, META_SERVER, MODERN_VERSION, Params};

/// A server that has not answered by then is asked in the legacy way, too.
const SILENCE: Duration = Duration::from_secs(2);

// No other request has such an id: those of the hub begin at 1 and never reach it. JavaScript knows no larger integers.
const DISCOVER_ID: u64 = (1 << 53) - 2;
const INITIALIZE_ID: u64 = (1 << 53) - 1;

/// What an earlier connection taught.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Known {
    era: Option<Era>,
}

/// What a server said of itself.
#[derive(Debug)]
pub(super) struct Introduced {
    pub(super) era: Era,
    pub(super) capabilities: Capabilities,
    /// Its `serverInfo`, as it wrote it.
    pub(super) description: Option<String>,
    pub(super) instructions: Option<String>,
}

/// Introduces the relay, as the client that it stands for, and learns what the server is.
pub(super) async fn shake_hands(
    link: &mut Link,
    peer: Option<&Peer>,
    hello: &Hello,
    known: &mut Known,
) -> Result<Introduced, Failure> {
    let asked_before = known.era;
    let mut handshake = Handshake { link, peer, hello, initialize_sent: false, discover_refused: None };
    let result = handshake.run(asked_before != Some(Era::Legacy)).await;
    known.era = match &result {
        Ok(introduced) => Some(introduced.era),
        // Some servers end at the first message that they do not know; the next attempt begins with one that they do.
        Err(_) if asked_before.is_none() => Some(Era::Legacy),
        Err(_) => None,
    };
    result
}

struct Handshake<'a> {
    link: &'a mut Link,
    peer: Option<&'a Peer>,
    hello: &'a Hello,
    initialize_sent: bool,
    discover_refused: Option<String>,
}

impl Handshake<'_> {
    async fn run(&mut self, discover: bool) -> Result<Introduced, Failure> {
        if discover {
            self.send_discover()?;
        } else {
            self.send_initialize()?;
        }
        let silence = Instant::now() + SILENCE;
        loop {
            let event = tokio::select! {
                event = self.link.event() => event,
                () = tokio::time::sleep_until(silence), if !self.initialize_sent && self.peer.is_none() => {
                    self.send_initialize()?;
                    continue;
                }
            };
            match event {
                Event::Lost(failure) | Event::Failed { failure, is_lost: true, .. } => return Err(failure),
                Event::Failed { id: DISCOVER_ID, failure, .. } => self.refused(failure.reason)?,
                Event::Failed { failure, .. } => return Err(failure),
                Event::Expired { .. } => return Err(Failure::passing("the server forgets sessions at once")),
                Event::Message { bytes, .. } => {
                    if let Some(introduced) = self.message(&bytes)? {
                        return Ok(introduced);
                    }
                }
            }
        }
    }

    fn message(&mut self, bytes: &Bytes) -> Result<Option<Introduced>, Failure> {
        match Message::parse(bytes) {
            Ok(Message::Response { id, outcome }) => match (IdKey::of(id).number(), outcome) {
                (Some(DISCOVER_ID), Outcome::Result(result)) => self.discovered(result),
                (Some(DISCOVER_ID), Outcome::Error(error)) => self.discover_failed(error).map(|()| None),
                (Some(INITIALIZE_ID), Outcome::Result(result)) => self.initialized(result).map(Some),
                (Some(INITIALIZE_ID), Outcome::Error(error)) => self.initialize_failed(error).map(|()| None),
                // An error without an id can only mean what was sent.
                (None, Outcome::Error(error)) if !self.initialize_sent => self.discover_failed(error).map(|()| None),
                _ => Ok(None),
            },
            Ok(Message::Request { id, method, .. }) => {
                let answer = if method == "ping" {
                    json_rpc::result(id.get(), "{}")
                } else {
                    json_rpc::error(id.get(), code::METHOD_NOT_FOUND, "not before the introduction", None)
                };
                self.put(Outgoing::Other { bytes: answer.into() })?;
                Ok(None)
            }
            // What a server prints instead of a message is no message.
            Ok(Message::Notification { .. }) | Err(_) => Ok(None),
        }
    }

    fn put(&self, outgoing: Outgoing) -> Result<(), Failure> {
        self.link.outbox.send(outgoing).map_err(Failure::passing)
    }

    fn request(&self, id: u64, method: &str, params: &str) -> Result<(), Failure> {
        let bytes = json_rpc::request(&id.to_string(), method, params).into();
        let about = About { method: method.to_owned(), name: None, headers: Vec::new() };
        self.put(Outgoing::Request { id, bytes, about: Some(Box::new(about)) })
    }

    fn send_discover(&self) -> Result<(), Failure> {
        if let Some(peer) = self.peer {
            peer.set_version(Some(MODERN_VERSION));
        }
        self.request(DISCOVER_ID, DISCOVER, &format!(r#"{{"_meta":{}}}"#, modern_meta(self.hello, None)))
    }

    fn send_initialize(&mut self) -> Result<(), Failure> {
        self.initialize_sent = true;
        if let Some(peer) = self.peer {
            peer.set_version(None);
        }
        let params = format!(
            r#"{{"protocolVersion":"{}","capabilities":{},"clientInfo":{}}}"#,
            LEGACY_VERSIONS[0], self.hello.capabilities, self.hello.info
        );
        self.request(INITIALIZE_ID, "initialize", &params)
    }

    /// It does not know `server/discover`.
    fn refused(&mut self, reason: String) -> Result<(), Failure> {
        self.discover_refused = Some(reason);
        if self.initialize_sent { Ok(()) } else { self.send_initialize() }
    }

    fn discover_failed(&mut self, error: &RawValue) -> Result<(), Failure> {
        let error = Params::of(Some(error));
        let is_version = error.get("code").is_some_and(|c| c.get() == code::UNSUPPORTED_PROTOCOL_VERSION.to_string());
        if is_version {
            let supported = error.inner("data").get("supported").and_then(items).unwrap_or_default();
            let versions: Vec<_> = supported.into_iter().filter_map(string).collect();
            if !versions.iter().any(|version| LEGACY_VERSIONS.contains(&&**version)) {
                let versions = versions.join(", ");
                return Err(Failure::lasting(format!(
                    "it speaks only versions of MCP that are unknown here: {versions}"
                )));
            }
        }
        self.refused(error.text("message").unwrap_or_default().into_owned())
    }

    fn initialize_failed(&mut self, error: &RawValue) -> Result<(), Failure> {
        let said = Params::of(Some(error)).text("message").unwrap_or_default().into_owned();
        match &self.discover_refused {
            // The other question is still open: a modern server that is slow to start.
            None if self.peer.is_none() => Ok(()),
            _ => Err(Failure::lasting(format!("it refuses to be initialized: {said}"))),
        }
    }

    fn discovered(&mut self, result: &RawValue) -> Result<Option<Introduced>, Failure> {
        let result = Params::of(Some(result));
        let supported = result.get("supportedVersions").and_then(items).unwrap_or_default();
        if !supported.into_iter().filter_map(string).any(|version| version == MODERN_VERSION) {
            self.refused("it does not speak 2026-07-28".to_owned())?;
            return Ok(None);
        }
        Ok(Some(Introduced {
            era: Era::Modern,
            capabilities: Capabilities::of(result.get("capabilities")),
            description: result.inner("_meta").get(META_SERVER).map(|info| info.get().to_owned()),
            instructions: result.text("instructions").map(std::borrow::Cow::into_owned),
        }))
    }

    fn initialized(&mut self, result: &RawValue) -> Result<Introduced, Failure> {
        let result = Params::of(Some(result));
        let version = result.text("protocolVersion").unwrap_or_default();
        if !LEGACY_VERSIONS.contains(&&*version) {
            tracing::info!(%version, "a server answers with an unknown version; it is taken as it is");
        }
        if let Some(peer) = self.peer {
            peer.set_version(Some(&version));
        }
        self.put(Outgoing::InOrder { bytes: json_rpc::notification("notifications/initialized", None).into() })?;
        self.put(Outgoing::OpenStream)?;
        Ok(Introduced {
            era: Era::Legacy,
            capabilities: Capabilities::of(result.get("capabilities")),
            description: result.get("serverInfo").map(|info| info.get().to_owned()),
            instructions: result.text("instructions").map(std::borrow::Cow::into_owned),
        })
    }
}

/// Parameters of a request that has none but what a modern server wants with each.
pub(super) fn plain_params(era: Era, hello: &Hello, more: &str) -> String {
    match era {
        Era::Legacy => format!("{{{more}}}"),
        Era::Modern => {
            let comma = if more.is_empty() { "" } else { "," };
            format!(r#"{{"_meta":{}{comma}{more}}}"#, modern_meta(hello, None))
        }
    }
}

/// A member with a text, for [`plain_params`].
pub(super) fn member(name: &str, value: &str) -> String {
    format!("{}:{}", text(name), text(value))
}
