//! Messages of connections in SQLite: storing them, and finding out whose they are.
//!
//! A message's session is the one that its client named; else that of the model's tool call which it serves, whichever of
//! the two is stored first; else that of its connection. An answer is its request's.

mod reading;

use std::io::BufReader;

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;
use wire::mcp::{Envelope, Kind};

use super::append::{count, since};
use super::bodies::{BodyWriter, MAX_WHOLE, short_digest};
use super::lines::Lines;
use super::memory::Memory;
use crate::conversation::text::{self, Block};
use crate::model::{BodySource, CapturedFrame, FrameForm, FrameSource};
use crate::store::{Error, Result};
pub(super) use reading::{Content, body, contents, list, tool_calls};

/// Rows of `frame` and `tool_use` with their indexes, without blobs, measured.
const FRAME_ROW: u64 = 130;
const TOOL_USE_ROW: u64 = 48;

/// Where a message stands.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) recorder: i64,
    pub(super) seq: u64,
    /// The exchange that it is part of.
    pub(super) exchange: Option<i64>,
}

/// Whose a message is.
#[derive(Clone, Default)]
struct Owner {
    session: Option<i64>,
    conversation: Option<i64>,
    tool_use: Option<String>,
}

pub(super) fn store(lines: Lines<'_>, place: Place, frame: &CapturedFrame, memory: &mut Memory) -> Result<()> {
    let server = memory.name(lines, &frame.server)?;
    let mut connection = ConnectionRow::of(lines, frame, server)?;
    let whole = if frame.body.size() <= MAX_WHOLE { Some(read_all(&*frame.body)?) } else { None };
    let envelope = envelope(frame, whole.as_deref());
    let owner = owner(lines, &connection, frame, envelope.as_ref())?;
    if connection.session.is_none() && owner.session.is_some() {
        connection.give(lines, owner.session)?;
    }
    let session = owner.session.or(connection.session);
    let mut writer = BodyWriter {
        connection: lines.connection,
        tenant: lines.tenant,
        key: &memory.key,
        packs: &mut memory.packs,
        raw: &mut memory.raw,
        session: session.unwrap_or(0),
        stored_bytes: 0,
    };
    let (at, chunks, digest) = match &whole {
        Some(bytes) if bytes.is_empty() => (None, None, short_digest(bytes)),
        Some(bytes) => (Some(writer.piece(bytes)?), None, short_digest(bytes)),
        None => {
            let (list, digest) = writer.keep_chunks(&*frame.body)?;
            (None, Some(list), digest)
        }
    };
    let stored = writer.stored_bytes + FRAME_ROW + chunks.as_ref().map_or(0, |list| list.len() as u64);
    let mut name = |text: Option<&str>| text.map(|text| memory.name(lines, text)).transpose();
    let (method, subject) = match &envelope {
        Some(envelope) => (name(envelope.method.as_deref())?, name(envelope.name.as_deref())?),
        None => (None, None),
    };
    let kind = envelope.as_ref().map_or(Kind::Other, |envelope| envelope.kind);
    lines
        .connection
        .prepare_cached(
            "INSERT INTO frame (tenant, uuid, recorder, seq, exchange, connection, session, conversation, direction, form,
                at, ended_us, outcome, durability, kind, method, rpc_id, subject, tool_use, is_error, bytes, pack,
                pack_offset, pack_length, chunks, digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22,
                ?23, ?24, ?25, ?26)",
        )?
        .execute(params![
            lines.tenant,
            frame.id.as_bytes(),
            place.recorder,
            place.seq as i64,
            place.exchange,
            connection.id,
            owner.session,
            owner.conversation,
            frame.direction as i64,
            frame.form.number(),
            frame.at.0,
            since(frame.at, frame.ended_at),
            frame.outcome as i64,
            frame.durability as i64,
            kind_number(kind),
            method,
            envelope.as_ref().and_then(|envelope| envelope.id.as_deref()),
            subject,
            owner.tool_use,
            kind == Kind::Error || envelope.as_ref().is_some_and(|envelope| envelope.is_tool_error),
            frame.body.size() as i64,
            at.map(|at| at.pack),
            at.map(|at| at.offset),
            at.map(|at| at.length),
            chunks,
            digest,
        ])?;
    // A message within an exchange has been counted with it.
    let captured = if place.exchange.is_some() { 0 } else { frame.body.size() };
    count(lines.connection, lines.tenant, captured, stored)
}

/// Remembers the tool calls of an answer, and gives their owner to messages that were there first. How many bytes that took.
pub(super) fn note_tool_uses(
    lines: Lines<'_>,
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
        let added = lines
            .connection
            .prepare_cached(
                "INSERT OR IGNORE INTO tool_use (tenant, id, session, conversation) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute(params![lines.tenant, id, session, conversation])?;
        stored += added as u64 * TOOL_USE_ROW;
        let owned = lines
            .connection
            .prepare_cached(
                "UPDATE frame SET session = coalesce(session, ?3), conversation = ?4
                 WHERE tenant = ?1 AND tool_use = ?2 AND conversation IS NULL",
            )?
            .execute(params![lines.tenant, id, session, conversation])?;
        if owned > 0 {
            lines
                .connection
                .prepare_cached(
                    "UPDATE connection SET session = ?3 WHERE tenant = ?1 AND session IS NULL
                     AND id IN (SELECT connection FROM frame WHERE tenant = ?1 AND tool_use = ?2)",
                )?
                .execute(params![lines.tenant, id, session])?;
        }
    }
    Ok(stored)
}

/// A connection's row.
struct ConnectionRow {
    id: i64,
    session: Option<i64>,
}

impl ConnectionRow {
    fn of(lines: Lines<'_>, frame: &CapturedFrame, server: i64) -> Result<Self> {
        let found = lines
            .connection
            .prepare_cached("SELECT id, session FROM connection WHERE tenant = ?1 AND uuid = ?2")?
            .query_row(params![lines.tenant, frame.connection_id.as_bytes()], |row| {
                Ok(Self { id: row.get(0)?, session: row.get(1)? })
            })
            .optional()?;
        let named = frame.session_id.as_deref().map(|name| lines.session(name, false)).transpose()?;
        if let Some(mut row) = found {
            if row.session.is_none() && named.is_some() {
                row.give(lines, named)?;
            }
            return Ok(row);
        }
        lines
            .connection
            .prepare_cached(
                "INSERT INTO connection (tenant, uuid, server, source, session) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?
            .execute(params![lines.tenant, frame.connection_id.as_bytes(), server, frame.source as i64, named])?;
        Ok(Self { id: lines.connection.last_insert_rowid(), session: named })
    }

    fn give(&mut self, lines: Lines<'_>, session: Option<i64>) -> Result<()> {
        self.session = session;
        lines
            .connection
            .prepare_cached("UPDATE connection SET session = ?3 WHERE tenant = ?1 AND id = ?2")?
            .execute(params![lines.tenant, self.id, session])?;
        Ok(())
    }
}

fn owner(
    lines: Lines<'_>,
    connection: &ConnectionRow,
    frame: &CapturedFrame,
    envelope: Option<&Envelope>,
) -> Result<Owner> {
    let named = frame.session_id.as_deref().or_else(|| envelope?.session_id.as_deref());
    let named = named.map(|name| lines.session(name, false)).transpose()?;
    let mut owner = match envelope {
        Some(Envelope { kind: Kind::Result | Kind::Error, id: Some(id), .. }) => {
            owner_of_request(lines, connection.id, frame.direction as i64, id)?.unwrap_or_default()
        }
        Some(Envelope { tool_use_id: Some(tool_use), .. }) => owner_of_tool_use(lines, tool_use)?,
        _ => Owner::default(),
    };
    owner.session = named.or(owner.session);
    Ok(owner)
}

/// The newest request of the other side with this id.
fn owner_of_request(lines: Lines<'_>, connection: i64, direction: i64, id: &str) -> Result<Option<Owner>> {
    let mut query = lines.connection.prepare_cached(
        "SELECT session, conversation, tool_use FROM frame
         WHERE tenant = ?1 AND connection = ?2 AND rpc_id = ?3 AND direction <> ?4 AND kind = 0 ORDER BY id DESC LIMIT 1",
    )?;
    let found = query.query_row(params![lines.tenant, connection, id, direction], |row| {
        Ok(Owner { session: row.get(0)?, conversation: row.get(1)?, tool_use: row.get(2)? })
    });
    Ok(found.optional()?)
}

fn owner_of_tool_use(lines: Lines<'_>, tool_use: &str) -> Result<Owner> {
    let mut query =
        lines.connection.prepare_cached("SELECT session, conversation FROM tool_use WHERE tenant = ?1 AND id = ?2")?;
    let found = query.query_row(params![lines.tenant, tool_use], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let (session, conversation) = found.unwrap_or_default();
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

fn read_all(source: &dyn BodySource) -> Result<Vec<u8>> {
    let size = usize::try_from(source.size()).unwrap_or(usize::MAX);
    let bytes = super::exchange::read_all(source)?;
    if bytes.len() == size { Ok(bytes) } else { Err(Error::Source(std::io::ErrorKind::UnexpectedEof.into())) }
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

/// The exchanges that hold messages of a conversation's tool calls.
pub(super) fn exchanges_of(connection: &Connection, tenant: i64, conversation: i64) -> Result<Vec<i64>> {
    let mut query = connection.prepare_cached(
        "SELECT DISTINCT exchange FROM frame WHERE tenant = ?1 AND conversation = ?2 AND exchange IS NOT NULL",
    )?;
    let rows = query.query_map(params![tenant, conversation], |row| row.get(0))?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}

/// How many messages of MCP there are.
pub(super) fn mcp_frames(connection: &Connection, tenant: i64) -> Result<u64> {
    let count: i64 = connection.query_row(
        "SELECT count(*) FROM frame f JOIN connection k ON k.id = f.connection WHERE f.tenant = ?1 AND k.source <> ?2",
        params![tenant, FrameSource::Gateway as i64],
        |row| row.get(0),
    )?;
    Ok(count as u64)
}

/// Takes the content of the messages that served a conversation's tool calls.
pub(super) fn erase(connection: &Connection, tenant: i64, conversation: i64) -> Result<()> {
    connection.execute(
        "UPDATE frame SET conversation = NULL, pack = NULL, pack_offset = NULL, pack_length = NULL, chunks = NULL,
             digest = NULL
         WHERE tenant = ?1 AND conversation = ?2",
        params![tenant, conversation],
    )?;
    connection
        .execute("DELETE FROM tool_use WHERE tenant = ?1 AND conversation = ?2", params![tenant, conversation])?;
    Ok(())
}

/// The row of a message.
pub(super) fn row_of(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT id FROM frame WHERE tenant = ?1 AND uuid = ?2")?
        .query_row(params![tenant, uuid.as_bytes()], |row| row.get(0))
        .optional()?)
}
