//! Storing one exchange: what it means, where it belongs, what it said.

use std::sync::Arc;

use serde_json::Value;
use wire::assembled::Assembled;
use wire::spans::Request;

use super::bodies::{BodyWriter, Kept, MAX_WHOLE, WholeBody};
use super::frames;
use super::history::{history, request_turns};
use super::memory::Memory;
use super::placing::{self, Context};
use crate::content::envelope::Envelope;
use crate::content::resent::{self, Shortened};
use crate::conversation::message::Message;
use crate::conversation::request::{Purpose, Reading};
use crate::conversation::{project, response, text, threading};
use crate::mcp_over_http;
use crate::model::{BodySource, CapturedExchange, Kind};
use crate::pricing;
use crate::reading::content::history_key;
use crate::store::{Error, Result};
use crate::tables::{Expected, Ingest, NewExchange, Source};

pub(crate) fn store(
    tables: &dyn Ingest,
    recorder: i64,
    seq: u64,
    exchange: CapturedExchange,
    memory: &mut Memory,
) -> Result<()> {
    let epoch = tables.epoch_of(exchange.started_at)?;
    memory.enter(epoch);
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

    let named = reading.session.as_deref().map(|name| tables.session(name, false)).transpose()?;
    let new_blocks = whole.as_ref().map(|w| memory.unknown_blocks(w)).unwrap_or_default();
    tables.expect(&Expected {
        epoch,
        session: named,
        agent: reading.agent.as_deref(),
        steps: &placing::last_steps(&steps),
        blocks: &new_blocks,
    })?;
    let mut target = None;
    if !history.is_empty() {
        let place = placing::place(tables, epoch, named, reading.agent.as_deref(), &steps)?;
        let context = Context { tables, exchange: &exchange, reading: &reading, named, whole: whole.as_ref() };
        target = Some(context.target(place, &history, spans.as_ref())?);
    }
    let mut turns = Vec::new();
    let mut first_base = None;
    if let Some(target) = &mut target {
        first_base = memory.base(tables, target.conversation)?;
        turns = request_turns(&history, &steps, target.known);
        if let (Some(answer), Some(last)) = (&answer, steps.last()) {
            let context = Context { tables, exchange: &exchange, reading: &reading, named, whole: whole.as_ref() };
            context.add_answer(target, &mut turns, answer, steps.len() as u64, &last.chain)?;
        }
    }
    let session = match (&target, named) {
        (Some(target), None) => Some(tables.session_of(target.conversation)?),
        _ => named,
    };

    // What a body resends was looked at when it came first.
    if let (Some(session), Some(whole), Some(spans), None) = (session, &whole, &spans, &resent)
        && let Some(folder) = project::folder(&whole.bytes, spans)
    {
        tables.set_project(session, &folder)?;
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
        tables,
        epoch,
        key: &memory.key,
        packs: &mut memory.packs,
        raw: &mut memory.raw,
        session: session.unwrap_or(0),
        stored_bytes: 0,
    };
    let mut kept = writer.keep(envelope, whole, &*exchange.request_body, &*exchange.response_body, first_base)?;
    let conversation = target.as_ref().map(|t| t.conversation);
    let row =
        RowContext { tables, epoch, recorder, seq, session, conversation, reading: &reading, answer: answer.as_ref() };
    let id = row.insert(&exchange, &kept, memory)?;
    if let Some(target) = &target {
        tables.add_turns(target.conversation, id, &turns, exchange.started_at)?;
        memory.remember(target.conversation, id, &kept);
        for turn in &turns {
            let said = history.iter().rev().find(|m| m.source == turn.source).and_then(|m| m.content.clone());
            let answered = || answer.as_ref()?.message.get("content").cloned().map(Arc::new);
            let content = if turn.source == Source::RESPONSE { answered() } else { said };
            content.into_iter().for_each(|content| memory.fresh.put(id, turn.source, content));
        }
    }
    memory.remember_body(line, spans, &mut kept);
    let sizes = tables.row_sizes();
    let mut stored = kept.stored_bytes + sizes.exchange + turns.len() as u64 * sizes.message;
    if let (Some(answer), Some(session), Some(conversation)) = (&answer, session, conversation) {
        stored += frames::note_tool_uses(tables, &answer.message, session, conversation)?;
    }
    if let Some(session) = session {
        note_side_call(tables, session, &exchange, &reading, answer.as_ref())?;
    }
    let place = frames::Place { recorder, seq, exchange: Some(id) };
    within.iter().try_for_each(|frame| frames::store(tables, place, frame, memory))?;
    let captured = head_bytes + exchange.request_body.size() + exchange.response_body.size();
    tables.count(captured, stored)
}

pub(crate) fn read_all(source: &dyn BodySource) -> Result<Vec<u8>> {
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
    tables: &dyn Ingest,
    session: i64,
    exchange: &CapturedExchange,
    reading: &Reading,
    answer: Option<&Assembled>,
) -> Result<()> {
    let Some(answer) = answer.filter(|a| a.complete && a.error.is_none()) else {
        return Ok(());
    };
    match reading.purpose {
        Purpose::Compaction => tables.set_summary_at(session, Some(exchange.started_at)),
        Purpose::Title => {
            let said = answer.message.get("content").map(text::words).unwrap_or_default();
            let title =
                serde_json::from_str::<Value>(&said).ok().and_then(|v| Some(v.get("title")?.as_str()?.to_owned()));
            title.map_or(Ok(()), |title| tables.set_session_title(session, &title))
        }
        _ => Ok(()),
    }
}

/// What goes into the exchange's row beside the exchange itself.
struct RowContext<'a> {
    tables: &'a dyn Ingest,
    epoch: i32,
    recorder: i64,
    seq: u64,
    session: Option<i64>,
    conversation: Option<i64>,
    reading: &'a Reading,
    answer: Option<&'a Assembled>,
}

impl RowContext<'_> {
    fn insert(&self, exchange: &CapturedExchange, kept: &Kept, memory: &mut Memory) -> Result<i64> {
        let mut name = |text: &str| memory.name(self.tables, text);
        let usage = self.answer.map(|a| a.usage).unwrap_or_default();
        let model = self.answer.and_then(|a| a.model.as_deref()).or(self.reading.model.as_deref());
        let cost = model.and_then(|m| pricing::cost_nano(m, &usage));
        let kind = match self.reading.purpose {
            Purpose::Turn => Kind::Message,
            Purpose::Title | Purpose::Compaction | Purpose::Side => Kind::Side,
            Purpose::Other => Kind::Other,
        };
        let new = NewExchange {
            captured: exchange,
            epoch: self.epoch,
            recorder: self.recorder,
            seq: self.seq,
            session: self.session,
            conversation: self.conversation,
            kind: kind as i64,
            api: self.reading.api.map(|a| a as i64),
            method: name(&exchange.request_head.method)?,
            path: name(&exchange.request_head.target)?,
            upstream: name(&exchange.upstream)?,
            model: model.map(&mut name).transpose()?,
            fingerprint: exchange.key_fingerprint.as_deref().map(&mut name).transpose()?,
            streaming: exchange.response_head.as_ref().is_some_and(response::is_stream),
            input_tokens: usage.input_tokens,
            output_tokens: usage.output_tokens,
            cache_read: usage.cache_read_tokens,
            cache_write: usage.cache_write_tokens,
            cost_nano: cost,
            envelope: kept.envelope,
            request_form: kept.request_form,
            request_data: kept.request_data.as_deref(),
            request_base: kept.request_base,
            response_form: kept.response_form,
            response_data: kept.response_data.as_deref(),
            digests: &kept.digests,
        };
        self.tables.insert_exchange(&new)
    }
}
