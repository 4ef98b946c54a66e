//! Messages of connections: storing them, and finding out whose they are.
//!
//! A message's session is the one that its client named; else that of the model's tool call which it serves, whichever of
//! the two is stored first; else that of its connection. An answer is its request's.

use std::io::BufReader;

use wire::mcp::{Envelope, Kind};

use super::bodies::{MAX_WHOLE, short_digest};
use super::memory::Memory;
use super::read::read_all;
use crate::conversation::text::{self, Block};
use crate::model::{BodySource, CapturedFrame, FrameForm};
use crate::store::Result;
use crate::tables::{ConnectionRow, Ingest, NewFrame, Owner};

/// Where a message stands.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) recorder: i64,
    pub(crate) seq: u64,
    /// The exchange that it is part of.
    pub(crate) exchange: Option<i64>,
}

pub(crate) fn store(tables: &dyn Ingest, place: Place, frame: &CapturedFrame, memory: &mut Memory) -> Result<()> {
    let epoch = tables.epoch_of(frame.at)?;
    memory.enter(epoch);
    let server = memory.name(tables, &frame.server)?;
    let mut connection = connection_of(tables, frame, server)?;
    let whole = if frame.body.size() <= MAX_WHOLE { Some(read_all(&*frame.body)?) } else { None };
    let envelope = envelope(frame, whole.as_deref());
    let owner = owner(tables, &connection, frame, envelope.as_ref())?;
    if connection.session.is_none() && owner.session.is_some() {
        connection.session = owner.session;
        tables.give_connection(connection.id, owner.session)?;
    }
    let session = owner.session.or(connection.session);
    let mut writer = memory.body_writer(tables, session);
    let (at, chunks, digest) = match &whole {
        Some(bytes) if bytes.is_empty() => (None, None, short_digest(bytes)),
        Some(bytes) => (Some(writer.piece(bytes)?), None, short_digest(bytes)),
        None => {
            let (list, digest) = writer.keep_chunks(&*frame.body)?;
            (None, Some(list), digest)
        }
    };
    let stored = writer.stored_bytes + tables.row_sizes().frame + chunks.as_ref().map_or(0, |list| list.len() as u64);
    let mut name = |text: Option<&str>| text.map(|text| memory.name(tables, text)).transpose();
    let (method, subject) = match &envelope {
        Some(envelope) => (name(envelope.method.as_deref())?, name(envelope.name.as_deref())?),
        None => (None, None),
    };
    let kind = envelope.as_ref().map_or(Kind::Other, |envelope| envelope.kind);
    tables.insert_frame(&NewFrame {
        captured: frame,
        epoch,
        recorder: place.recorder,
        seq: place.seq,
        exchange: place.exchange,
        connection: connection.id,
        owner: &owner,
        kind: kind_number(kind),
        method,
        rpc_id: envelope.as_ref().and_then(|envelope| envelope.id.as_deref()),
        subject,
        is_error: kind == Kind::Error || envelope.as_ref().is_some_and(|envelope| envelope.is_tool_error),
        at,
        chunks: chunks.as_deref(),
        digest,
    })?;
    // A message within an exchange has been counted with it.
    let captured = if place.exchange.is_some() { 0 } else { frame.body.size() };
    tables.count(captured, stored)
}

/// Remembers the tool calls of an answer, and gives their owner to messages that were there first. How many bytes that took.
pub(crate) fn note_tool_uses(
    tables: &dyn Ingest,
    answer: &serde_json::Value,
    session: i64,
    conversation: i64,
) -> Result<u64> {
    let mut stored = 0;
    for block in answer.get("content").into_iter().flat_map(text::blocks) {
        let Block::ToolUse { id, .. } = block else { continue };
        if id.is_empty() {
            continue;
        }
        if tables.note_tool_use(id, session, conversation)? {
            stored += tables.row_sizes().tool_use;
        }
    }
    Ok(stored)
}

fn connection_of(tables: &dyn Ingest, frame: &CapturedFrame, server: i64) -> Result<ConnectionRow> {
    let named = frame.session_id.as_deref().map(|name| tables.session(name, false)).transpose()?;
    let Some(mut row) = tables.connection(frame.connection_id)? else {
        return Ok(ConnectionRow { id: tables.add_connection(frame, server, named)?, session: named });
    };
    if row.session.is_none() && named.is_some() {
        row.session = named;
        tables.give_connection(row.id, named)?;
    }
    Ok(row)
}

fn owner(
    tables: &dyn Ingest,
    connection: &ConnectionRow,
    frame: &CapturedFrame,
    envelope: Option<&Envelope>,
) -> Result<Owner> {
    let named = frame.session_id.as_deref().or_else(|| envelope?.session_id.as_deref());
    let named = named.map(|name| tables.session(name, false)).transpose()?;
    let mut owner = match envelope {
        Some(Envelope { kind: Kind::Result | Kind::Error, id: Some(id), .. }) => {
            tables.owner_of_request(connection.id, frame.direction as i64, id)?.unwrap_or_default()
        }
        Some(Envelope { tool_use_id: Some(tool_use), .. }) => owner_of_tool_use(tables, tool_use)?,
        _ => Owner::default(),
    };
    owner.session = named.or(owner.session);
    Ok(owner)
}

fn owner_of_tool_use(tables: &dyn Ingest, tool_use: &str) -> Result<Owner> {
    let (session, conversation) = tables.owner_of_tool_use(tool_use)?.unzip();
    Ok(Owner { session, conversation, tool_use: Some(tool_use.to_owned()) })
}

/// What the message says of itself. One that is too large to be held is read piece by piece.
fn envelope(frame: &CapturedFrame, whole: Option<&[u8]>) -> Option<Envelope> {
    if frame.form == FrameForm::Unframed {
        return None;
    }
    match whole {
        Some(bytes) => wire::mcp::read(bytes),
        None => wire::mcp::read(BufReader::with_capacity(PIECE, Pieces { source: &*frame.body, at: 0 })),
    }
}

const PIECE: usize = 256 * 1024;

struct Pieces<'b> {
    source: &'b dyn BodySource,
    at: u64,
}

impl std::io::Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let bytes = self.source.read_at(self.at, buffer.len())?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.at += count as u64;
        Ok(count)
    }
}

fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Request => 0,
        Kind::Notification => 1,
        Kind::Result => 2,
        Kind::Error => 3,
        Kind::Other => 4,
    }
}
