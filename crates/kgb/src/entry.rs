//! What the gateway writes into the spool: the payloads of its records, and the channels of an exchange's parts.
//!
//! The spool keeps bytes and knows nothing of exchanges; this module is the other half of its format, written down in
//! `docs/spool-format.md` under "Payload encodings". Every payload opens with a version byte; integers are
//! little-endian. A payload that does not decode is an error that names the field, never a guess.

mod message;

use spool::Channel;
use uuid::Uuid;
use winni::model::{ConnectionEnd, Durability, Gap, Outcome, Timestamp};

pub use message::{MESSAGE_BYTES, MessageBegin};

/// Version of all payloads below. Readers refuse any other.
const VERSION: u8 = 1;

/// Bytes of the request's body, in order.
pub const REQUEST_BODY: Channel = Channel(1);
/// The response's head, in the encoding of `wire::head`.
pub const RESPONSE_HEAD: Channel = Channel(2);
/// Bytes of the response's body, in order; each record is one chunk as it arrived.
pub const RESPONSE_BODY: Channel = Channel(3);
/// Trailer fields of the request, `Name: value` lines ended by CRLF.
pub const REQUEST_TRAILERS: Channel = Channel(4);
/// Trailer fields of the response, `Name: value` lines ended by CRLF.
pub const RESPONSE_TRAILERS: Channel = Channel(5);

/// Beside the number of a Begin's durability: the name of an MCP server follows the upstream.
const WITH_SERVER: u8 = 2;

/// Why a payload could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The payload is shorter than its fields.
    #[error("the payload ends before `{0}`")]
    Short(&'static str),
    /// The payload was written by another version of the format.
    #[error("the payload has version {0}, this iccm reads version {VERSION}; use the iccm that wrote it")]
    Version(u8),
    /// A field holds a value that the format does not know.
    #[error("the payload's field `{0}` has an unknown value")]
    Unknown(&'static str),
    /// A field that must be text is not UTF-8.
    #[error("the payload's field `{0}` is not UTF-8")]
    Text(&'static str),
}

/// How an exchange begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The exchange's id, as the client is told it.
    pub id: Uuid,
    /// When the request's head had been read.
    pub at: Timestamp,
    /// The level that holds for this exchange.
    pub durability: Durability,
    /// Base URL of the upstream; holds no credentials.
    pub upstream: String,
    /// The MCP server's name, if it passes through the spy.
    pub server: Option<String>,
    /// Keyed fingerprint of the client's credential.
    pub key_fingerprint: Option<String>,
    /// The request's head, in the encoding of `wire::head`, credentials replaced.
    pub head: Vec<u8>,
}

impl Begin {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let fingerprint = self.key_fingerprint.as_deref().unwrap_or_default();
        let mut out = Vec::with_capacity(32 + self.upstream.len() + fingerprint.len() + self.head.len());
        out.push(VERSION);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.push(durability_number(self.durability) | if self.server.is_some() { WITH_SERVER } else { 0 });
        put_short_text(&mut out, fingerprint);
        put_short_text(&mut out, &self.upstream);
        if let Some(server) = &self.server {
            put_short_text(&mut out, server);
        }
        out.extend_from_slice(&self.head);
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let mut fields = Fields::open(payload)?;
        let id = Uuid::from_bytes(fields.array("id")?);
        let at = fields.timestamp("at")?;
        let flags = fields.byte("durability")?;
        let durability = durability_of(flags & !WITH_SERVER)?;
        let fingerprint = fields.short_text("key_fingerprint")?;
        let upstream = fields.short_text("upstream")?;
        let has_server = flags & WITH_SERVER != 0;
        let server = has_server.then(|| fields.short_text("server")).transpose()?;
        Ok(Self {
            id,
            at,
            durability,
            upstream,
            server,
            key_fingerprint: (!fingerprint.is_empty()).then_some(fingerprint),
            head: fields.0.to_vec(),
        })
    }
}

/// How an exchange ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// When.
    pub at: Timestamp,
    /// Bytes of its bodies that passed without being recorded, because the spool could not take them.
    pub missing_bytes: u64,
}

impl End {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(18);
        out.push(VERSION);
        out.push(outcome_number(self.outcome));
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.extend_from_slice(&self.missing_bytes.to_le_bytes());
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let mut fields = Fields::open(payload)?;
        let number = fields.byte("outcome")?;
        Ok(Self {
            outcome: outcome_of(number).ok_or(EntryError::Unknown("outcome"))?,
            at: fields.timestamp("at")?,
            missing_bytes: fields.number("missing_bytes")?,
        })
    }
}

/// An item that is one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Traffic passed unrecorded.
    Gap(Gap),
    /// A connection whose messages are on record has ended.
    Closed(ConnectionEnd),
}

impl Note {
    const GAP: u8 = 1;

    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let gap = match self {
            Self::Gap(gap) => gap,
            Self::Closed(closed) => return message::encode_closed(closed),
        };
        let mut out = Vec::with_capacity(34);
        out.extend_from_slice(&[VERSION, Self::GAP]);
        out.extend_from_slice(&gap.from.0.to_le_bytes());
        out.extend_from_slice(&gap.until.0.to_le_bytes());
        out.extend_from_slice(&gap.exchanges.to_le_bytes());
        out.extend_from_slice(&gap.bytes.to_le_bytes());
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let mut fields = Fields::open(payload)?;
        match fields.byte("kind")? {
            Self::GAP => Ok(Self::Gap(Gap {
                from: fields.timestamp("from")?,
                until: fields.timestamp("until")?,
                exchanges: fields.number("exchanges")?,
                bytes: fields.number("bytes")?,
            })),
            message::CLOSED => message::decode_closed(&mut fields),
            _ => Err(EntryError::Unknown("kind")),
        }
    }
}

/// A recorder's begin or end: when, and (for a begin) version and host, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// When.
    pub at: Timestamp,
    /// Free text.
    pub about: String,
}

impl Life {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(9 + self.about.len());
        out.push(VERSION);
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.extend_from_slice(self.about.as_bytes());
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let mut fields = Fields::open(payload)?;
        let at = fields.timestamp("at")?;
        let about = std::str::from_utf8(fields.0).map_err(|_| EntryError::Text("about"))?;
        Ok(Self { at, about: about.to_owned() })
    }
}

fn durability_of(number: u8) -> Result<Durability, EntryError> {
    match number {
        0 => Ok(Durability::Process),
        1 => Ok(Durability::Power),
        _ => Err(EntryError::Unknown("durability")),
    }
}

fn durability_number(durability: Durability) -> u8 {
    match durability {
        Durability::Process => 0,
        Durability::Power => 1,
    }
}

/// The stored number of an outcome is its position in `Outcome::ALL`; all of them fit a byte.
fn outcome_number(outcome: Outcome) -> u8 {
    let position = Outcome::ALL.iter().position(|known| *known == outcome);
    position.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

fn outcome_of(number: u8) -> Option<Outcome> {
    Outcome::ALL.get(usize::from(number)).copied()
}

/// Length in two bytes, then the text. Longer texts are cut at a character's end: only an upstream's base URL comes
/// here, and the configuration bounds that.
fn put_short_text(out: &mut Vec<u8>, text: &str) {
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    let length = u16::try_from(end).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&text.as_bytes()[..end]);
}

/// A payload's fields, taken one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn open(payload: &'a [u8]) -> Result<Self, EntryError> {
        let mut fields = Self(payload);
        match fields.byte("version")? {
            VERSION => Ok(fields),
            other => Err(EntryError::Version(other)),
        }
    }

    fn take(&mut self, bytes: usize, field: &'static str) -> Result<&'a [u8], EntryError> {
        let (taken, rest) = self.0.split_at_checked(bytes).ok_or(EntryError::Short(field))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], EntryError> {
        let taken = self.take(N, field)?;
        taken.try_into().map_err(|_| EntryError::Short(field))
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, EntryError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    fn number(&mut self, field: &'static str) -> Result<u64, EntryError> {
        self.array(field).map(u64::from_le_bytes)
    }

    fn timestamp(&mut self, field: &'static str) -> Result<Timestamp, EntryError> {
        self.array(field).map(i64::from_le_bytes).map(Timestamp)
    }

    fn short_text(&mut self, field: &'static str) -> Result<String, EntryError> {
        let length = self.array(field).map(u16::from_le_bytes)?;
        let text = self.take(usize::from(length), field)?;
        let text = std::str::from_utf8(text).map_err(|_| EntryError::Text(field))?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests;
