//! Storing one exchange: where it belongs, what it said, what it weighs.

use std::sync::Arc;

use serde_json::Value;
use wire::assembled::Assembled;

use super::bodies::Kept;
use super::frames;
use super::history::request_turns;
use super::memory::Memory;
use super::placing::{self, Context};
use super::read::ReadExchange;
use crate::content::envelope::Envelope;
use crate::conversation::request::{Purpose, Reading};
use crate::conversation::{project, response, text};
use crate::model::{CapturedExchange, Kind};
use crate::pricing;
use crate::store::Result;
use crate::tables::{Ingest, NewExchange, Source};

/// Makes an exchange that was read part of the record.
pub(crate) fn store(
    tables: &dyn Ingest,
    recorder: i64,
    seq: u64,
    read: ReadExchange,
    memory: &mut Memory,
) -> Result<()> {
    let ReadExchange { exchange, epoch, line, whole, earlier, spans, reading, response_body, .. } = read;
    let ReadExchange { answer, within, history, steps, named, .. } = read;
    memory.enter(epoch);
    let context = Context { tables, exchange: &exchange, reading: &reading, named, whole: whole.as_ref() };
    let mut placed = None;
    if !history.is_empty() {
        let place = placing::place(tables, epoch, named, reading.agent.as_deref(), &steps)?;
        let mut target = context.target(place, &history, spans.as_deref())?;
        let base = memory.base(tables, target.conversation)?;
        let mut turns = request_turns(&history, &steps, target.known);
        if let (Some(answer), Some(last)) = (&answer, steps.last()) {
            context.add_answer(&mut target, &mut turns, answer, steps.len() as u64, &last.chain)?;
        }
        placed = Some((target.conversation, turns, base));
    }
    let (conversation, turns, base) = match placed {
        Some((conversation, turns, base)) => (Some(conversation), turns, base),
        None => (None, Vec::new(), None),
    };
    let session = match (conversation, named) {
        (Some(conversation), None) => Some(tables.session_of(conversation)?),
        _ => named,
    };

    // What a body resends was looked at when it came first.
    if let (Some(session), Some(whole), Some(spans)) = (session, &whole, &spans)
        && whole.rests_on.is_none()
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
    let writer = memory.body_writer(tables, session);
    let kept = writer.keep(envelope, whole, &*exchange.request_body, &*exchange.response_body, base)?;
    match earlier {
        Some(earlier) if kept.manifest.is_some() => earlier.prove(),
        Some(_) => memory.earlier.remove(&line),
        None => {}
    }
    let row =
        RowContext { tables, epoch, recorder, seq, session, conversation, reading: &reading, answer: answer.as_ref() };
    let id = row.insert(&exchange, &kept, memory)?;
    if let Some(conversation) = conversation {
        tables.add_turns(conversation, id, &turns, exchange.started_at)?;
        memory.remember(conversation, id, &kept);
        for turn in &turns {
            let said = history.iter().rev().find(|m| m.source == turn.source).and_then(|m| m.content.clone());
            let answered = || answer.as_ref()?.message.get("content").cloned().map(Arc::new);
            let content = if turn.source == Source::RESPONSE { answered() } else { said };
            content.into_iter().for_each(|content| memory.fresh.put(id, turn.source, content));
        }
    }
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
