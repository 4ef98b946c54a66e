//! What messages say, read from the bodies of the exchanges that brought them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::bodies::BodyReader;
use super::damaged;
use crate::content::envelope::Envelope;
use crate::content::manifest::BlockHash;
use crate::conversation::message::Message;
use crate::conversation::request::{Api, history_key};
use crate::conversation::response;
use crate::conversation::text::{self, Block};
use crate::handed_in::Unpacker;
use crate::store::Result;
use crate::tables::{Content, Held, Source};

/// Reads what messages say, keeping what several messages of one exchange need.
pub(crate) struct ContentReader<'t> {
    tables: &'t dyn Content,
    bodies: BodyReader<'t>,
    /// The exchange read last whose body is kept whole: its history's elements.
    last: Option<(i64, Vec<Value>)>,
    unpacker: Unpacker,
}

impl<'t> ContentReader<'t> {
    pub(crate) fn new(tables: &'t dyn Content) -> Self {
        Self { tables, bodies: BodyReader::new(tables), last: None, unpacker: Unpacker::default() }
    }

    /// Announces that these will be read.
    pub(crate) fn expect(&mut self, held: impl Iterator<Item = Held>) -> Result<()> {
        let (mut exchanges, mut contents, mut elements) = (Vec::new(), Vec::new(), Vec::new());
        for held in held {
            match held {
                Held::Exchange(exchange, source) => {
                    exchanges.push(exchange);
                    elements.extend((source != Source::RESPONSE).then_some((exchange, source)));
                }
                Held::Content(id) => contents.push(id),
            }
        }
        self.tables.expect_stored(&contents)?;
        self.tables.expect_content(&exchanges)?;
        let mut blocks: BTreeMap<i32, Vec<BlockHash>> = BTreeMap::new();
        for (exchange, source) in elements {
            let epoch = self.bodies.row(exchange)?.map_or(0, |row| row.epoch);
            let first = usize::try_from(source.first).unwrap_or(usize::MAX);
            for number in (first..).take(source.count as usize) {
                let element = self.bodies.history_ref(exchange, number)?;
                blocks.entry(epoch).or_default().extend(element.map(|e| e.hash));
            }
        }
        blocks.into_iter().try_for_each(|(epoch, hashes)| self.tables.expect_blocks(epoch, &hashes))
    }

    /// The message's content: a string, or content blocks.
    pub(crate) fn content(&mut self, held: Held) -> Result<Value> {
        let (exchange, source) = match held {
            Held::Exchange(exchange, source) => (exchange, source),
            Held::Content(id) => return self.unpacker.unpack(&self.tables.stored_content(id)?),
        };
        if source == Source::RESPONSE {
            return self.answer(exchange);
        }
        let first = usize::try_from(source.first).unwrap_or(usize::MAX);
        let mut message: Option<Message> = None;
        for number in (first..).take(source.count as usize) {
            let element = Message::of(self.element(exchange, number)?);
            match &mut message {
                Some(message) => message.join(element),
                None => message = Some(element),
            }
        }
        message.map(|m| m.content).ok_or_else(|| damaged(format!("exchange {exchange} lacks a message")))
    }

    fn element(&mut self, exchange: i64, number: usize) -> Result<Value> {
        if let Some(bytes) = self.bodies.history_element(exchange, number)? {
            // JSON that no Rust type can hold is still on record, byte for byte; there is just nothing to read in it.
            return Ok(serde_json::from_slice(&bytes).unwrap_or(Value::Null));
        }
        Ok(self.history(exchange)?.get(number).cloned().unwrap_or(Value::Null))
    }

    fn answer(&mut self, exchange: i64) -> Result<Value> {
        let Some((api, envelope)) = self.envelope(exchange)? else {
            return Ok(Value::Null);
        };
        let api = api.and_then(Api::of).unwrap_or(Api::Anthropic);
        let head = wire::head::ResponseHead::decode(&envelope.response_head)
            .map_err(|e| damaged(format!("the response head of exchange {exchange}: {e}")))?;
        let mut assembled = response::assemble(api, &head, &envelope.response_body);
        Ok(assembled.as_mut().and_then(|a| a.message.get_mut("content")).map(Value::take).unwrap_or_default())
    }

    fn envelope(&mut self, exchange: i64) -> Result<Option<(Option<i64>, Envelope)>> {
        let Some(row) = self.bodies.row(exchange)? else { return Ok(None) };
        Ok(self.bodies.envelope(&row)?.map(|envelope| (row.api, envelope)))
    }

    /// The history in a body that is kept whole.
    fn history(&mut self, exchange: i64) -> Result<&[Value]> {
        if self.last.as_ref().is_none_or(|(last, _)| *last != exchange) {
            let row = self.bodies.row(exchange)?.ok_or_else(|| damaged(format!("exchange {exchange} is missing")))?;
            let body = self.bodies.request_body(exchange, &row)?;
            let spans = wire::spans::find(&body).unwrap_or_default();
            let parse = |range: &std::ops::Range<usize>| {
                body.get(range.clone()).and_then(|b| serde_json::from_slice(b).ok()).unwrap_or(Value::Null)
            };
            let elements = spans.elements(history_key(&spans)).iter().map(parse).collect();
            self.last = Some((exchange, elements));
        }
        Ok(self.last.as_ref().map(|(_, elements)| elements.as_slice()).unwrap_or_default())
    }
}

/// Whether the conversation's last turn calls for a sub-agent with a prompt that is in `said`.
pub(crate) fn awaits_agent(tables: &dyn Content, conversation: i64, tip: u64, said: &str) -> Result<bool> {
    let Some(held) = tables.assistant_turn(conversation, tip)? else {
        return Ok(false);
    };
    let content = ContentReader::new(tables).content(held)?;
    Ok(text::blocks(&content).iter().any(|block| match block {
        Block::ToolUse { input, .. } => {
            let prompt = input.get("prompt").and_then(Value::as_str).map(text::without_reminders).unwrap_or_default();
            !prompt.is_empty() && said.contains(&prompt)
        }
        _ => false,
    }))
}
