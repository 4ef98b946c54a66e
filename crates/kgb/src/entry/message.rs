//! The payloads of messages: what passes on a connection that an HTTP exchange has opened (WebSocket), or that a relay
//! reports, message by message.

use spool::Channel;
use uuid::Uuid;
use winni::model::{ConnectionEnd, Direction, Durability, FrameForm, FrameSource, Timestamp};

use super::{
    EntryError, Fields, Note, VERSION, durability_number, durability_of, outcome_number, outcome_of, put_short_text,
};

/// The first byte of a message's Begin, where an exchange's has its version.
pub(super) const MESSAGE: u8 = 2;

/// Bytes of a message's payload, in order.
pub const MESSAGE_BYTES: Channel = Channel(6);

/// How a message begins. Its end is an [`End`](super::End), as an exchange's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageBegin {
    /// The message's id.
    pub id: Uuid,
    /// The exchange that opened the connection; for what a relay reports, an id that the connection's messages share.
    pub connection: Uuid,
    /// When its first byte had been read.
    pub at: Timestamp,
    /// The level that holds for it.
    pub durability: Durability,
    /// Which way it goes.
    pub direction: Direction,
    /// Where it was seen.
    pub source: FrameSource,
    /// What it is.
    pub form: FrameForm,
    /// The name of the server that it goes to or comes from.
    pub server: String,
    /// The session, if the client named one when it connected.
    pub session: Option<String>,
}

impl MessageBegin {
    /// The payload.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.server.len());
        out.push(MESSAGE);
        out.extend_from_slice(self.id.as_bytes());
        out.extend_from_slice(self.connection.as_bytes());
        out.extend_from_slice(&self.at.0.to_le_bytes());
        out.push(durability_number(self.durability));
        out.extend_from_slice(&[self.direction as u8, self.source as u8, self.form.number()]);
        put_short_text(&mut out, &self.server);
        put_short_text(&mut out, self.session.as_deref().unwrap_or_default());
        out
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Result<Self, EntryError> {
        let mut fields = Fields(payload);
        match fields.byte("version")? {
            MESSAGE => {}
            other => return Err(EntryError::Version(other)),
        }
        let id = Uuid::from_bytes(fields.array("id")?);
        let connection = Uuid::from_bytes(fields.array("connection")?);
        let at = fields.timestamp("at")?;
        let durability = durability_of(fields.byte("durability")?)?;
        let direction = Direction::of(fields.byte("direction")?).ok_or(EntryError::Unknown("direction"))?;
        let source = FrameSource::of(fields.byte("source")?).ok_or(EntryError::Unknown("source"))?;
        let form = FrameForm::of(fields.byte("form")?).ok_or(EntryError::Unknown("form"))?;
        let server = fields.short_text("server")?;
        let session = Some(fields.short_text("session")?).filter(|session| !session.is_empty());
        Ok(Self { id, connection, at, durability, direction, source, form, server, session })
    }

    /// Whether the payload of a Begin is a message's.
    pub fn is_one(payload: &[u8]) -> bool {
        payload.first() == Some(&MESSAGE)
    }
}

/// What the note of a connection's end says behind version and kind.
pub(super) fn encode_closed(closed: &ConnectionEnd) -> Vec<u8> {
    let mut out = vec![VERSION, CLOSED];
    out.extend_from_slice(closed.connection_id.as_bytes());
    out.extend_from_slice(&closed.at.0.to_le_bytes());
    out.push(outcome_number(closed.outcome));
    for said in [&closed.by_client, &closed.by_server] {
        let (code, reason) = said.as_ref().map_or((0, ""), |(code, reason)| (*code, reason.as_str()));
        out.extend_from_slice(&code.to_le_bytes());
        put_short_text(&mut out, reason);
    }
    out
}

/// The kind of such a note.
pub(super) const CLOSED: u8 = 2;

pub(super) fn decode_closed(fields: &mut Fields<'_>) -> Result<Note, EntryError> {
    let connection_id = Uuid::from_bytes(fields.array("connection")?);
    let at = fields.timestamp("at")?;
    let outcome = outcome_of(fields.byte("outcome")?).ok_or(EntryError::Unknown("outcome"))?;
    let mut said = |field| {
        let code = fields.array(field).map(u16::from_le_bytes)?;
        let reason = fields.short_text(field)?;
        Ok::<_, EntryError>((code != 0).then_some((code, reason)))
    };
    let (by_client, by_server) = (said("by_client")?, said("by_server")?);
    Ok(Note::Closed(ConnectionEnd { connection_id, at, outcome, by_client, by_server }))
}
