//! Messages of connections: their bytes, and what became of models' tool calls.

use std::io::Write;

use serde_json::Value;

use super::blocks::BlockReader;
use super::{damaged, hex};
use crate::ingest::bodies::MAX_WHOLE;
use crate::model::{FrameSource, ToolCall};
use crate::store::{Error, Result};
use crate::tables::{FoundFrame, Frames};

/// Writes a message's exact bytes, checked against the digest taken at capture. False if it was erased.
pub(crate) fn body(tables: &dyn Frames, row: i64, sink: &mut dyn Write) -> Result<bool> {
    let content = tables.frame_content(row)?;
    let Some(digest) = &content.digest else { return Ok(false) };
    let mut blocks = BlockReader::new(tables);
    let mut hasher = blake3::Hasher::new();
    let mut write = |bytes: &[u8]| {
        hasher.update(bytes);
        sink.write_all(bytes).map_err(Error::Output)
    };
    if let Some(at) = content.at {
        write(&blocks.bytes(content.epoch, at)?)?;
    }
    for hash in content.blocks() {
        write(&blocks.block(content.epoch, &hash)?)?;
    }
    let found = hasher.finalize();
    let found = &found.as_bytes()[..16];
    if digest != found {
        let message = format!("message {row} has digest {}, recorded was {}", hex(found), hex(digest));
        return Err(damaged(message));
    }
    Ok(true)
}

/// What became of these tool calls of models, in the order of the asking.
///
/// A request that a relay has put on record on its way to a spy, and that spy again, is one call: the spy's, which is
/// nearer to the server.
pub(crate) fn tool_calls(tables: &dyn Frames, ids: &[String]) -> Result<Vec<ToolCall>> {
    let mut calls = Vec::new();
    for id in ids {
        let asked = tables.asked(id)?;
        for request in asked.iter().filter(|request| !asked.iter().any(|other| is_copy(request, other))).cloned() {
            let answer = tables.answered(&request)?;
            calls.push((request.row, call(tables, id, request, answer)?));
        }
    }
    // By time: several recorders are stored in any order.
    calls.sort_by_key(|(row, call)| (call.asked_at, *row));
    Ok(calls.into_iter().map(|(_, call)| call).collect())
}

/// Whether this request of a relay is the one that a spy saw. The relay gives each of its requests an id that it uses once,
/// so that the same id for the same tool call is the same request.
fn is_copy(request: &FoundFrame, other: &FoundFrame) -> bool {
    let (request, other) = (&request.frame, &other.frame);
    request.source == FrameSource::Relay
        && matches!(other.source, FrameSource::Spy | FrameSource::SpyHttp)
        && request.rpc_id == other.rpc_id
}

fn call(tables: &dyn Frames, id: &str, request: FoundFrame, answer: Option<FoundFrame>) -> Result<ToolCall> {
    let mut asked = json(tables, &request)?;
    let mut answered = answer.as_ref().map(|answer| json(tables, answer)).transpose()?.unwrap_or_default();
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
fn json(tables: &dyn Frames, found: &FoundFrame) -> Result<Value> {
    if found.frame.bytes > MAX_WHOLE {
        return Ok(Value::Null);
    }
    let mut bytes = Vec::new();
    body(tables, found.row, &mut bytes)?;
    Ok(serde_json::from_slice(&bytes).unwrap_or_default())
}
