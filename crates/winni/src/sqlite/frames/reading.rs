//! Reading messages of connections.

use std::io::Write;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::row_of;
use crate::content::manifest::BlockHash;
use crate::model::{Direction, Durability, Frame, FrameFilter, FrameForm, FrameSource, Outcome, Timestamp, ToolCall};
use crate::sqlite::blocks::{BlockReader, Location, hex};
use crate::sqlite::bodies::MAX_WHOLE;
use crate::sqlite::error::damaged;
use crate::store::{Error, Result};

const FRAME: &str = "SELECT f.id, f.uuid, k.uuid, r.uuid, f.seq, s.name, c.uuid, server.text, k.source, f.direction, f.at,
        f.ended_us, f.form, f.outcome, f.durability, f.bytes, method.text, f.rpc_id, subject.text, f.tool_use, f.is_error,
        f.connection
     FROM frame f
     JOIN connection k ON k.id = f.connection
     JOIN recorder r ON r.id = f.recorder
     JOIN name server ON server.id = k.server
     LEFT JOIN session s ON s.id = coalesce(f.session, k.session)
     LEFT JOIN conversation c ON c.id = f.conversation
     LEFT JOIN name method ON method.id = f.method
     LEFT JOIN name subject ON subject.id = f.subject
     WHERE f.tenant = ?1";

/// A row, and what only the database knows of it.
struct Found {
    row: i64,
    connection: i64,
    frame: Frame,
}

pub(in crate::sqlite) fn list(connection: &Connection, tenant: i64, filter: &FrameFilter) -> Result<Vec<Frame>> {
    let sql = format!(
        "{FRAME}
         AND (?2 IS NULL OR s.name = ?2)
         AND (?3 IS NULL OR k.uuid = ?3)
         ORDER BY f.id LIMIT ?4 OFFSET ?5"
    );
    let limit = filter.limit.map_or(-1, |limit| limit as i64);
    let by_connection = filter.connection_id.map(Uuid::into_bytes);
    let mut query = connection.prepare_cached(&sql)?;
    let rows =
        query.query_map(params![tenant, filter.session_id, by_connection, limit, filter.offset as i64], found_of)?;
    Ok(rows.map(|row| row.map(|found| found.frame)).collect::<std::result::Result<_, _>>()?)
}

fn found_of(row: &Row<'_>) -> rusqlite::Result<Found> {
    let unknown = |column| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Integer,
            "a number without a name".into(),
        )
    };
    let at: i64 = row.get(10)?;
    let frame = Frame {
        id: Uuid::from_bytes(row.get(1)?),
        connection_id: Uuid::from_bytes(row.get(2)?),
        recorder: Uuid::from_bytes(row.get(3)?),
        seq: row.get::<_, i64>(4)? as u64,
        session_id: row.get(5)?,
        conversation_id: row.get::<_, Option<[u8; 16]>>(6)?.map(Uuid::from_bytes),
        server: row.get(7)?,
        source: FrameSource::of(row.get(8)?).ok_or_else(|| unknown(8))?,
        direction: Direction::of(row.get(9)?).ok_or_else(|| unknown(9))?,
        at: Timestamp(at),
        ended_at: row.get::<_, Option<i64>>(11)?.map(|us| Timestamp(at + us)),
        form: FrameForm::of(row.get(12)?).ok_or_else(|| unknown(12))?,
        outcome: Outcome::ALL.get(row.get::<_, usize>(13)?).copied().ok_or_else(|| unknown(13))?,
        durability: if row.get::<_, i64>(14)? == Durability::Power as i64 {
            Durability::Power
        } else {
            Durability::Process
        },
        bytes: row.get::<_, i64>(15)? as u64,
        method: row.get(16)?,
        rpc_id: row.get(17)?,
        name: row.get(18)?,
        tool_use_id: row.get(19)?,
        is_error: row.get(20)?,
    };
    Ok(Found { row: row.get(0)?, connection: row.get(21)?, frame })
}

/// Writes a message's exact bytes, checked against the digest taken at capture. `None`: there is no such message;
/// `Some(false)`: it was erased.
pub(in crate::sqlite) fn body(
    connection: &Connection,
    tenant: i64,
    uuid: Uuid,
    sink: &mut dyn Write,
) -> Result<Option<bool>> {
    match row_of(connection, tenant, uuid)? {
        Some(row) => write_body(connection, tenant, row, sink).map(Some),
        None => Ok(None),
    }
}

fn write_body(connection: &Connection, tenant: i64, row: i64, sink: &mut dyn Write) -> Result<bool> {
    let (at, chunks, digest): (Option<Location>, Option<Vec<u8>>, Option<Vec<u8>>) = connection
        .prepare_cached(
            "SELECT pack, pack_offset, pack_length, chunks, digest FROM frame WHERE tenant = ?1 AND id = ?2",
        )?
        .query_row(params![tenant, row], |row| {
            let at = match row.get(0)? {
                Some(pack) => Some(Location { pack, offset: row.get(1)?, length: row.get(2)? }),
                None => None,
            };
            Ok((at, row.get(3)?, row.get(4)?))
        })?;
    let Some(digest) = digest else { return Ok(false) };
    let mut blocks = BlockReader::new(connection, tenant);
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        sink.write_all(bytes).map_err(Error::Output)
    };
    if let Some(at) = at {
        write(&blocks.bytes(at)?)?;
    }
    for hash in chunks.as_deref().unwrap_or_default().chunks_exact(16) {
        let hash = hash.try_into().map_err(|_| damaged("a list of chunks cannot be read"))?;
        write(&blocks.block(&hash)?)?;
    }
    let found = hasher.finalize();
    let found = &found.as_bytes()[..16];
    if digest != found {
        let message = format!("message {row} has digest {}, recorded was {}", hex(found), hex(&digest));
        return Err(damaged(message));
    }
    Ok(true)
}

/// What became of these tool calls of models, in the order of the asking.
pub(in crate::sqlite) fn tool_calls(connection: &Connection, tenant: i64, ids: &[String]) -> Result<Vec<ToolCall>> {
    let asked = format!("{FRAME} AND f.tool_use = ?2 AND f.kind = 0 ORDER BY f.id");
    let answered = format!(
        "{FRAME} AND f.connection = ?2 AND f.rpc_id = ?3 AND f.direction <> ?4 AND f.kind IN (2, 3) AND f.id > ?5
         ORDER BY f.id LIMIT 1"
    );
    let (mut asked, mut answered) = (connection.prepare_cached(&asked)?, connection.prepare_cached(&answered)?);
    let mut calls = Vec::new();
    for id in ids {
        let requests = asked.query_map(params![tenant, id], found_of)?.collect::<std::result::Result<Vec<_>, _>>()?;
        for request in requests {
            let key =
                params![tenant, request.connection, request.frame.rpc_id, request.frame.direction as i64, request.row];
            let answer = answered.query_row(key, found_of).optional()?;
            calls.push((request.row, call(connection, tenant, id, request, answer)?));
        }
    }
    calls.sort_by_key(|(row, _)| *row);
    Ok(calls.into_iter().map(|(_, call)| call).collect())
}

fn call(connection: &Connection, tenant: i64, id: &str, request: Found, answer: Option<Found>) -> Result<ToolCall> {
    let mut asked = json(connection, tenant, &request)?;
    let mut answered = answer.as_ref().map(|answer| json(connection, tenant, answer)).transpose()?.unwrap_or_default();
    let answer = answer.map(|answer| answer.frame);
    let asked_at = request.frame.at;
    let arguments = asked.pointer_mut("/params/arguments").map(Value::take).unwrap_or_default();
    let result = ["result", "error"].iter().find_map(|field| answered.get_mut(*field).map(Value::take));
    Ok(ToolCall {
        tool_use_id: id.to_owned(),
        server: request.frame.server,
        source: request.frame.source,
        tool: request.frame.name,
        request_id: request.frame.id,
        asked_at,
        response_id: answer.as_ref().map(|answer| answer.id),
        answered_at: answer.as_ref().map(|answer| answer.ended_at.unwrap_or(answer.at)),
        duration_ms: answer.as_ref().map(|a| (a.ended_at.unwrap_or(a.at).0 - asked_at.0) as f64 / 1000.0),
        is_error: answer.as_ref().is_some_and(|answer| answer.is_error),
        arguments,
        result: result.unwrap_or_default(),
        result_bytes: answer.as_ref().map(|answer| answer.bytes),
    })
}

/// The message as JSON; null if it is too large for that, erased, or no JSON.
fn json(connection: &Connection, tenant: i64, found: &Found) -> Result<Value> {
    if found.frame.bytes > MAX_WHOLE {
        return Ok(Value::Null);
    }
    let mut bytes = Vec::new();
    write_body(connection, tenant, found.row, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Where a message's bytes are.
pub(in crate::sqlite) struct Content {
    pub(in crate::sqlite) row: i64,
    pub(in crate::sqlite) at: Option<Location>,
    /// The blocks of one that is kept in chunks.
    pub(in crate::sqlite) blocks: Vec<BlockHash>,
}

/// The contents of all messages that are not erased; of one conversation's tool calls, or of all.
pub(in crate::sqlite) fn contents(
    connection: &Connection,
    tenant: i64,
    conversation: Option<i64>,
) -> Result<Vec<Content>> {
    let mut query = connection.prepare(
        "SELECT id, pack, pack_offset, pack_length, chunks FROM frame
         WHERE tenant = ?1 AND (?2 IS NULL OR conversation = ?2) AND (pack IS NOT NULL OR chunks IS NOT NULL) ORDER BY id",
    )?;
    let rows = query.query_map(params![tenant, conversation], |row| {
        let at = match row.get(1)? {
            Some(pack) => Some(Location { pack, offset: row.get(2)?, length: row.get(3)? }),
            None => None,
        };
        let list: Option<Vec<u8>> = row.get(4)?;
        let hashes = list.as_deref().unwrap_or_default().chunks_exact(16);
        Ok(Content { row: row.get(0)?, at, blocks: hashes.filter_map(|hash| hash.try_into().ok()).collect() })
    })?;
    Ok(rows.collect::<std::result::Result<_, _>>()?)
}
