//! The MCP messages within an HTTP exchange with a Streamable HTTP server.
//!
//! A request's body holds one message, or a batch (2025-03-26 only); a response's holds the same, or an event stream with a
//! message in each event, whose time is that of the chunk that brought its end.

use uuid::Uuid;

use crate::conversation::response;
use crate::model::{CapturedExchange, CapturedFrame, Direction, FrameForm, FrameSource, Timestamp};

/// All messages of an exchange, the request's first; none if it was not with an MCP server. Bodies that are not at hand are
/// empty.
pub(crate) fn frames(exchange: &CapturedExchange, request: &[u8], response: &[u8]) -> Vec<CapturedFrame> {
    let Some(server) = &exchange.server else { return Vec::new() };
    let connection_id = connection(exchange, server);
    let session_id = exchange.request_head.headers.get("x-claude-code-session-id");
    let session_id = session_id.filter(|named| !named.is_empty()).map(str::to_owned);
    let asked = wire::mcp::split(request).into_iter();
    let asked = asked.map(|bytes| (Direction::ToServer, exchange.started_at, bytes.to_vec()));
    let answered = answers(exchange, response).into_iter().map(|(at, bytes)| (Direction::ToClient, at, bytes));
    let all = asked.chain(answered).filter(|(_, _, bytes)| wire::mcp::read(bytes.as_slice()).is_some());
    let frame = |(number, (direction, at, bytes)): (usize, (_, _, Vec<u8>))| CapturedFrame {
        id: id(exchange.id, number, at),
        connection_id,
        at,
        ended_at: Some(at),
        durability: exchange.durability,
        outcome: exchange.outcome,
        direction,
        source: FrameSource::SpyHttp,
        form: FrameForm::Text,
        server: server.clone(),
        session_id: session_id.clone(),
        body: Box::new(bytes),
    };
    all.enumerate().map(frame).collect()
}

/// What the messages of one MCP session share: the session's id, from request or response; without one, the exchange's.
fn connection(exchange: &CapturedExchange, server: &str) -> Uuid {
    const HEADER: &str = "mcp-session-id";
    let answered = exchange.response_head.as_ref().and_then(|head| head.headers.get(HEADER));
    match exchange.request_head.headers.get(HEADER).or(answered) {
        Some(session) => hashed(&[server.as_bytes(), b"\0", session.as_bytes()], Timestamp(0)),
        None => exchange.id,
    }
}

fn answers(exchange: &CapturedExchange, body: &[u8]) -> Vec<(Timestamp, Vec<u8>)> {
    let Some(head) = &exchange.response_head else { return Vec::new() };
    let last = exchange.ended_at.unwrap_or(exchange.started_at);
    if !response::is_event_stream(head) {
        let body = response::decoded(head, body);
        return wire::mcp::split(&body).into_iter().map(|bytes| (last, bytes.to_vec())).collect();
    }
    let mut parser = wire::sse::Parser::new();
    let mut found = Vec::new();
    let mut feed = |bytes: &[u8], at| found.extend(parser.feed(bytes).map(|event| (at, event.data.into_bytes())));
    if head.headers.get("content-encoding").is_some() {
        feed(&response::decoded(head, body), last);
    } else {
        let mut rest = body;
        for chunk in &exchange.response_chunks {
            let (bytes, behind) = rest.split_at(rest.len().min(usize::try_from(chunk.bytes).unwrap_or(usize::MAX)));
            let after_us = i64::try_from(chunk.after_us).unwrap_or(i64::MAX);
            feed(bytes, Timestamp(exchange.started_at.0.saturating_add(after_us)));
            rest = behind;
        }
        feed(rest, last);
    }
    found.into_iter().flat_map(|(at, data)| split_owned(at, &data)).collect()
}

fn split_owned(at: Timestamp, data: &[u8]) -> Vec<(Timestamp, Vec<u8>)> {
    wire::mcp::split(data).into_iter().map(|bytes| (at, bytes.to_vec())).collect()
}

/// A message's id follows from its place, so that storing it again gives the same.
fn id(exchange: Uuid, number: usize, at: Timestamp) -> Uuid {
    hashed(&[exchange.as_bytes(), &(number as u64).to_le_bytes()], at)
}

fn hashed(parts: &[&[u8]], at: Timestamp) -> Uuid {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut random = [0; 10];
    random.copy_from_slice(&hasher.finalize().as_bytes()[..10]);
    uuid::Builder::from_unix_timestamp_millis((at.0 / 1000).max(0) as u64, &random).into_uuid()
}
