//! Storing one exchange: what it means, where it belongs, what it said.

use std::sync::Arc;

use rusqlite::{Connection, params};
use serde_json::Value;
use wire::assembled::Assembled;
use wire::spans::Request;

use super::append::{count, since};
use super::bodies::{BodyWriter, Kept, MAX_WHOLE, WholeBody};
use super::frames;
use super::history::{history, history_key, request_turns};
use super::lines::{Lines, MESSAGE_ROW, Source};
use super::memory::Memory;
use super::placing::Context;
use crate::content::envelope::Envelope;
use crate::content::resent::{self, Shortened};
use crate::conversation::message::Message;
use crate::conversation::request::{Purpose, Reading};
use crate::conversation::{project, response, text, threading};
use crate::mcp_over_http;
use crate::model::{BodySource, CapturedExchange, Kind};
use crate::pricing;
use crate::store::{Error, Result};

/// A row of `exchange` with its indexes, without its blobs, measured.
const EXCHANGE_ROW: u64 = 150;

pub(super) fn store(
    connection: &Connection,
    tenant: i64,
    recorder: i64,
    seq: u64,
    exchange: CapturedExchange,
    memory: &mut Memory,
) -> Result<()> {
    let lines = Lines { connection, tenant };
    let bytes = match exchange.request_body.size() {
        size if size <= MAX_WHOLE => Some(read_all(&*exchange.request_body)?),
        _ => None,
    };
    let line = resent::line(&exchange.request_head, bytes.as_deref().unwrap_or_default());
    let earlier = memory.earlier.get(&line);
    let shortened = bytes.as_deref().zip(earlier).and_then(|(body, earlier)| Shortened::of(body, earlier));
    let (parsed, resent) = match shortened.as_ref().and_then(Shortened::parse) {
        Some((parsed, resent)) => (Some(parsed), Some(resent)),
        None => (bytes.as_deref().and_then(wire::spans::parse), None),
    };
    let last_words = parsed.as_ref().zip(bytes.as_deref()).map(|(p, b)| last_words(p, b)).unwrap_or_default();
    let reading = Reading::of(&exchange.request_head, parsed.as_ref(), &last_words);
    let response_body = match exchange.response_body.size() {
        size if size <= MAX_WHOLE => read_all(&*exchange.response_body)?,
        _ => Vec::new(),
    };
    let answer = answer(&exchange, &reading, &response_body);
    let within = mcp_over_http::frames(&exchange, bytes.as_deref().unwrap_or_default(), &response_body);

    let spans = parsed.map(|p| p.spans);
    let whole = bytes.map(|bytes| WholeBody::new(bytes, spans.as_ref(), resent.as_ref(), &memory.key));
    let history = match (reading.purpose, &whole, &spans) {
        (Purpose::Turn, Some(whole), Some(spans)) => history(whole, spans, &mut memory.messages)?,
        _ => Vec::new(),
    };
    let steps = threading::steps(history.iter().map(|m| (m.role, m.digest)));

    let named = reading.session.as_deref().map(|name| lines.session(name, false)).transpose()?;
    let mut target = None;
    if !history.is_empty() {
        let place = lines.place(named, reading.agent.as_deref(), &steps)?;
        let context = Context { lines, exchange: &exchange, reading: &reading, named, whole: whole.as_ref() };
        target = Some(context.target(place, &history, spans.as_ref())?);
    }
    let mut turns = Vec::new();
    let mut first_base = None;
    if let Some(target) = &mut target {
        first_base = memory.base(connection, tenant, target.conversation)?;
        turns = request_turns(&history, &steps, target.known);
        if let (Some(answer), Some(last)) = (&answer, steps.last()) {
            let context = Context { lines, exchange: &exchange, reading: &reading, named, whole: whole.as_ref() };
            context.add_answer(target, &mut turns, answer, steps.len() as u64, &last.chain)?;
        }
    }
    let session = match (&target, named) {
        (Some(target), None) => Some(lines.session_of(target.conversation)?),
        _ => named,
    };

    // What a body resends was looked at when it came first.
    if let (Some(session), Some(whole), Some(spans), None) = (session, &whole, &spans, &resent)
        && let Some(folder) = project::folder(&whole.bytes, spans)
    {
        lines.set_project(session, &folder)?;
    }

    let envelope = Envelope {
        request_head: exchange.request_head.encode(),
        request_body: Vec::new(),
        response_head: exchange.response_head.as_ref().map(|h| h.encode()).unwrap_or_default(),
        response_body,
        chunks: exchange.response_chunks.clone(),
    };
    let head_bytes = (envelope.request_head.len() + envelope.response_head.len()) as u64;
    let writer = BodyWriter {
        connection,
        tenant,
        key: &memory.key,
        packs: &mut memory.packs,
        raw: &mut memory.raw,
        session: session.unwrap_or(0),
        stored_bytes: 0,
    };
    let mut kept = writer.keep(envelope, whole, &*exchange.request_body, &*exchange.response_body, first_base)?;
    let conversation = target.as_ref().map(|t| t.conversation);
    let row = RowContext { lines, recorder, seq, session, conversation, reading: &reading, answer: answer.as_ref() };
    let id = row.insert(&exchange, &kept, memory)?;
    if let Some(target) = &target {
        lines.add(target.conversation, id, &turns, exchange.started_at)?;
        memory.remember(target.conversation, id, &kept);
        for turn in &turns {
            let said = history.iter().rev().find(|m| m.source == turn.source).and_then(|m| m.content.clone());
            let answered = || answer.as_ref()?.message.get("content").cloned().map(Arc::new);
            let content = if turn.source == Source::RESPONSE { answered() } else { said };
            content.into_iter().for_each(|content| memory.fresh.put(id, turn.source, content));
        }
    }
    memory.remember_body(line, spans, &mut kept);
    let mut stored = kept.stored_bytes + EXCHANGE_ROW + turns.len() as u64 * MESSAGE_ROW;
    if let (Some(answer), Some(session), Some(conversation)) = (&answer, session, conversation) {
        stored += frames::note_tool_uses(lines, &answer.message, session, conversation)?;
    }
    if let Some(session) = session {
        note_side_call(lines, session, &exchange, &reading, answer.as_ref())?;
    }
    let place = frames::Place { recorder, seq, exchange: Some(id) };
    within.iter().try_for_each(|frame| frames::store(lines, place, frame, memory))?;
    let captured = head_bytes + exchange.request_body.size() + exchange.response_body.size();
    count(connection, tenant, captured, stored)
}

pub(super) fn read_all(source: &dyn BodySource) -> Result<Vec<u8>> {
    let size = usize::try_from(source.size()).unwrap_or(usize::MAX);
    let mut bytes = match size {
        0 => Vec::new(),
        _ => source.read_at(0, size).map_err(Error::Source)?,
    };
    while bytes.len() < size {
        let more = source.read_at(bytes.len() as u64, size - bytes.len()).map_err(Error::Source)?;
        if more.is_empty() {
            return Err(Error::Source(std::io::ErrorKind::UnexpectedEof.into()));
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes)
}

fn last_words(parsed: &Request<'_>, body: &[u8]) -> String {
    let elements = parsed.spans.elements(history_key(&parsed.spans));
    let last = elements.last().and_then(|range| body.get(range.clone()));
    let message = last.and_then(|bytes| serde_json::from_slice(bytes).ok()).map(Message::of);
    message.map(|m| text::words(&m.content)).unwrap_or_default()
}

/// The model's answer; `None` where the exchange has none.
fn answer(exchange: &CapturedExchange, reading: &Reading, body: &[u8]) -> Option<Assembled> {
    response::assemble(reading.api?, exchange.response_head.as_ref()?, body)
}

fn note_side_call(
    lines: Lines<'_>,
    session: i64,
    exchange: &CapturedExchange,
    reading: &Reading,
    answer: Option<&Assembled>,
) -> Result<()> {
    let Some(answer) = answer.filter(|a| a.complete && a.error.is_none()) else {
        return Ok(());
    };
    match reading.purpose {
        Purpose::Compaction => lines.set_summary_at(session, Some(exchange.started_at)),
        Purpose::Title => {
            let said = answer.message.get("content").map(text::words).unwrap_or_default();
            let title =
                serde_json::from_str::<Value>(&said).ok().and_then(|v| Some(v.get("title")?.as_str()?.to_owned()));
            title.map_or(Ok(()), |title| lines.set_session_title(session, &title))
        }
        _ => Ok(()),
    }
}

/// What goes into the exchange's row beside the exchange itself.
struct RowContext<'a> {
    lines: Lines<'a>,
    recorder: i64,
    seq: u64,
    session: Option<i64>,
    conversation: Option<i64>,
    reading: &'a Reading,
    answer: Option<&'a Assembled>,
}

impl RowContext<'_> {
    fn insert(&self, exchange: &CapturedExchange, kept: &Kept, memory: &mut Memory) -> Result<i64> {
        let mut name = |text: &str| memory.name(self.lines, text);
        let usage = self.answer.map(|a| a.usage).unwrap_or_default();
        let model = self.answer.and_then(|a| a.model.as_deref()).or(self.reading.model.as_deref());
        let cost = model.and_then(|m| pricing::cost_nano(m, &usage));
        let kind = match self.reading.purpose {
            Purpose::Turn => Kind::Message,
            Purpose::Title | Purpose::Compaction | Purpose::Side => Kind::Side,
            Purpose::Other => Kind::Other,
        };
        let start = exchange.started_at;
        self.lines
            .connection
            .prepare_cached(
                "INSERT INTO exchange (tenant, uuid, recorder, seq, session, conversation, kind, api, started_at,
                    first_byte_us, ended_us, method, path, status, outcome, durability, upstream, model, streaming,
                    request_bytes, response_bytes, input_tokens, output_tokens, cache_read, cache_write, cost_nano,
                    fingerprint, pack, pack_offset, pack_length, request_form, request_data, request_base,
                    response_form, response_data, digests)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                    ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)",
            )?
            .execute(params![
                self.lines.tenant,
                exchange.id.as_bytes(),
                self.recorder,
                self.seq as i64,
                self.session,
                self.conversation,
                kind as i64,
                self.reading.api.map(|a| a as i64),
                start.0,
                since(start, exchange.first_byte_at),
                since(start, exchange.ended_at),
                name(&exchange.request_head.method)?,
                name(&exchange.request_head.target)?,
                exchange.response_head.as_ref().map(|h| h.status),
                exchange.outcome as i64,
                exchange.durability as i64,
                name(&exchange.upstream)?,
                model.map(&mut name).transpose()?,
                exchange.response_head.as_ref().is_some_and(response::is_stream),
                exchange.request_body.size() as i64,
                exchange.response_body.size() as i64,
                usage.input_tokens.map(|t| t as i64),
                usage.output_tokens.map(|t| t as i64),
                usage.cache_read_tokens.map(|t| t as i64),
                usage.cache_write_tokens.map(|t| t as i64),
                cost,
                exchange.key_fingerprint.as_deref().map(&mut name).transpose()?,
                kept.envelope.pack,
                kept.envelope.offset,
                kept.envelope.length,
                kept.request_form as i64,
                kept.request_data,
                kept.request_base,
                kept.response_form as i64,
                kept.response_data,
                kept.digests,
            ])?;
        Ok(self.lines.connection.last_insert_rowid())
    }
}
