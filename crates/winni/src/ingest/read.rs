//! Reading an exchange, before the record is asked where it belongs: what it means, which messages it resends, which blocks
//! it is made of. Several are read before the first of them is stored, so that a backend is asked once for all.

use std::sync::Arc;

use wire::assembled::Assembled;
use wire::spans::{Request, Spans};

use super::bodies::{MAX_WHOLE, WholeBody};
use super::history::{HistoryMessage, history};
use super::memory::Memory;
use super::placing;
use crate::content::manifest::BlockHash;
use crate::content::resent::{self, Earlier, Line, Shortened};
use crate::conversation::message::Message;
use crate::conversation::request::{Purpose, Reading, history_key};
use crate::conversation::threading::{self, Step};
use crate::conversation::{response, text};
use crate::mcp_over_http;
use crate::model::{BodySource, CapturedExchange, CapturedFrame};
use crate::store::{Error, Result};
use crate::tables::{Expected, Ingest};

/// An exchange that was read.
pub(crate) struct ReadExchange {
    pub(crate) exchange: CapturedExchange,
    pub(crate) epoch: i32,
    pub(crate) line: Line,
    /// The request's body, if it is small enough to be looked into.
    pub(crate) whole: Option<WholeBody>,
    /// The same body, for those that resend it.
    pub(crate) earlier: Option<Arc<Earlier>>,
    pub(crate) spans: Option<Arc<Spans>>,
    pub(crate) reading: Reading,
    /// Empty if it is too large to be looked into.
    pub(crate) response_body: Vec<u8>,
    pub(crate) answer: Option<Assembled>,
    /// MCP messages that it carried.
    pub(crate) within: Vec<CapturedFrame>,
    pub(crate) history: Vec<HistoryMessage>,
    pub(crate) steps: Vec<Step>,
    /// The session that its client named.
    pub(crate) named: Option<i64>,
    new_blocks: Vec<BlockHash>,
}

impl ReadExchange {
    /// Reads an exchange of this epoch, which `memory` is in.
    pub(crate) fn of(tables: &dyn Ingest, epoch: i32, exchange: CapturedExchange, memory: &mut Memory) -> Result<Self> {
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

        let spans = parsed.map(|parsed| Arc::new(parsed.spans));
        let whole = bytes.map(|bytes| WholeBody::new(bytes, spans.as_deref(), resent, &memory.key));
        let history = match (reading.purpose, &whole, &spans) {
            (Purpose::Turn, Some(whole), Some(spans)) => history(whole, spans, &mut memory.messages)?,
            _ => Vec::new(),
        };
        let steps = threading::steps(history.iter().map(|m| (m.role, m.digest)));
        let named = reading.session.as_deref().map(|name| tables.session(name, false)).transpose()?;
        let new_blocks = whole.as_ref().map(|w| memory.unknown_blocks(w)).unwrap_or_default();
        let earlier = whole.as_ref().zip(spans.as_ref()).and_then(|(w, s)| memory.remember_body(line, w, s));
        Ok(Self {
            exchange,
            epoch,
            line,
            whole,
            earlier,
            spans,
            reading,
            response_body,
            answer,
            within,
            history,
            steps,
            named,
            new_blocks,
        })
    }

    /// What storing it will ask for.
    pub(crate) fn expected(&self) -> Expected<'_> {
        Expected {
            session: self.named,
            agent: self.reading.agent.as_deref(),
            steps: placing::last_steps(&self.steps),
            blocks: &self.new_blocks,
        }
    }
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
