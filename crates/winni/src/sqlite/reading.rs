//! Reading what was said: the turns of a conversation's line, and the content of each.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::body_reader::BodyReader;
use super::error::damaged;
use super::history::history_key;
use super::lines::Source;
use super::stored::{self, HELD_COLUMNS, Held};
use crate::content::envelope::Envelope;
use crate::conversation::identity::{Role, message_uuid};
use crate::conversation::message::Message;
use crate::conversation::request::Api;
use crate::conversation::response;
use crate::conversation::text::{self, Block};
use crate::handed_in::Unpacker;
use crate::model::{Timestamp, Turn};
use crate::store::Result;

/// A message's row.
pub(super) struct MessageRow {
    pub(super) id: i64,
    pub(super) conversation_uuid: Uuid,
    pub(super) turn: u64,
    pub(super) role: Role,
    pub(super) complete: bool,
    pub(super) held: Held,
    pub(super) exchange_uuid: Option<Uuid>,
    pub(super) created_at: Timestamp,
    metadata: Option<String>,
}

/// What [`MessageRow::of`] reads, in its order.
pub(super) const MESSAGE_COLUMNS: &str = "m.id, c.uuid, m.turn, m.role, m.complete, m.exchange, m.element, \
     m.elements, m.content, x.uuid, m.created_at, m.metadata";

/// The first column after [`MESSAGE_COLUMNS`].
pub(super) const AFTER_MESSAGE: usize = 12;

impl MessageRow {
    pub(super) fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let role: usize = row.get(3)?;
        Ok(Self {
            id: row.get(0)?,
            conversation_uuid: Uuid::from_bytes(row.get(1)?),
            turn: row.get::<_, i64>(2)? as u64,
            role: Role::ALL.get(role).copied().unwrap_or(Role::User),
            complete: row.get(4)?,
            held: Held::of(row, 5)?,
            exchange_uuid: row.get::<_, Option<[u8; 16]>>(9)?.map(Uuid::from_bytes),
            created_at: Timestamp(row.get(10)?),
            metadata: row.get(11)?,
        })
    }

    pub(super) fn uuid(&self) -> Uuid {
        message_uuid(self.created_at, self.conversation_uuid, self.turn)
    }

    pub(super) fn into_turn(self, content: Value) -> Turn {
        Turn {
            id: self.uuid(),
            conversation_id: self.conversation_uuid,
            turn: self.turn,
            role: self.role.name().to_owned(),
            content,
            complete: self.complete,
            created_at: self.created_at,
            exchange_id: self.exchange_uuid,
            metadata: metadata_of(self.metadata.as_deref()),
        }
    }
}

/// Reads what messages say, keeping what several messages of one exchange need.
pub(super) struct ContentReader<'c> {
    connection: &'c Connection,
    tenant: i64,
    bodies: BodyReader<'c>,
    /// The exchange read last whose body is kept whole: its history's elements.
    last: Option<(i64, Vec<Value>)>,
    unpacker: Unpacker,
}

impl<'c> ContentReader<'c> {
    pub(super) fn new(connection: &'c Connection, tenant: i64) -> Self {
        Self {
            connection,
            tenant,
            bodies: BodyReader::new(connection, tenant),
            last: None,
            unpacker: Unpacker::default(),
        }
    }

    /// The message's content: a string, or content blocks.
    pub(super) fn content(&mut self, held: Held) -> Result<Value> {
        let (exchange, source) = match held {
            Held::Exchange(exchange, source) => (exchange, source),
            Held::Content(id) => return stored::content(self.connection, self.tenant, id, &mut self.unpacker),
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
        let Some(envelope) = self.envelope(exchange)? else {
            return Ok(Value::Null);
        };
        let api: Option<i64> = self
            .connection
            .prepare_cached("SELECT api FROM exchange WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, exchange], |row| row.get(0))?;
        let api = match api {
            Some(1) => Api::OpenAiChat,
            Some(2) => Api::OpenAiResponses,
            _ => Api::Anthropic,
        };
        let head = wire::head::ResponseHead::decode(&envelope.response_head)
            .map_err(|e| damaged(format!("the response head of exchange {exchange}: {e}")))?;
        let mut assembled = response::assemble(api, &head, &envelope.response_body);
        Ok(assembled.as_mut().and_then(|a| a.message.get_mut("content")).map(Value::take).unwrap_or_default())
    }

    fn envelope(&mut self, exchange: i64) -> Result<Option<Envelope>> {
        match self.bodies.row(exchange)? {
            Some(row) => self.bodies.envelope(&row),
            None => Ok(None),
        }
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
pub(super) fn awaits_agent(
    connection: &Connection,
    tenant: i64,
    conversation: i64,
    tip: u64,
    said: &str,
) -> Result<bool> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {HELD_COLUMNS} FROM message m
             WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn = ?3 AND m.role = 1",
        ))?
        .query_row(params![tenant, conversation, tip as i64], |row| Held::of(row, 0))
        .optional()?;
    let Some(held) = found else {
        return Ok(false);
    };
    let content = ContentReader::new(connection, tenant).content(held)?;
    Ok(text::blocks(&content).iter().any(|block| match block {
        Block::ToolUse { input, .. } => {
            let prompt = input.get("prompt").and_then(Value::as_str).map(text::without_reminders).unwrap_or_default();
            !prompt.is_empty() && said.contains(&prompt)
        }
        _ => false,
    }))
}

/// The parts that make up a conversation's line: (conversation, last turn of it that belongs to the line), oldest first.
pub(super) fn line(connection: &Connection, tenant: i64, conversation: i64) -> Result<Vec<(i64, u64)>> {
    let mut parts = vec![(conversation, u64::MAX)];
    let mut query =
        connection.prepare_cached("SELECT fork_of, fork_turn FROM conversation WHERE tenant = ?1 AND id = ?2")?;
    let mut at = conversation;
    loop {
        let fork: Option<(Option<i64>, Option<i64>)> =
            query.query_row(params![tenant, at], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let Some((Some(of), Some(turn))) = fork else { break };
        // A line that was summarised is named, not shared: the new one's turns begin at 1 again.
        if !shares_turns(connection, tenant, at)? {
            break;
        }
        parts.push((of, turn as u64));
        at = of;
    }
    parts.reverse();
    Ok(parts)
}

fn shares_turns(connection: &Connection, tenant: i64, conversation: i64) -> Result<bool> {
    let first: Option<i64> = connection
        .prepare_cached("SELECT min(turn) FROM message WHERE tenant = ?1 AND conversation = ?2")?
        .query_row(params![tenant, conversation], |row| row.get(0))?;
    Ok(first != Some(1))
}

pub(super) fn turns(
    connection: &Connection,
    tenant: i64,
    uuid: Uuid,
    offset: u64,
    limit: Option<u64>,
) -> Result<Vec<Turn>> {
    let Some(conversation) = row_of(connection, tenant, uuid)? else {
        return Ok(Vec::new());
    };
    let mut query = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message m
         JOIN conversation c ON c.id = m.conversation LEFT JOIN exchange x ON x.id = m.exchange
         WHERE m.tenant = ?1 AND m.conversation = ?2 AND m.turn > ?3 AND m.turn <= ?4 ORDER BY m.turn"
    ))?;
    // Turns have no gap, so that a page is a range of them.
    let end = limit.map_or(u64::MAX, |limit| offset.saturating_add(limit));
    let mut reader = ContentReader::new(connection, tenant);
    let mut turns = Vec::new();
    let mut after = offset;
    for (part, last) in line(connection, tenant, conversation)? {
        let last = last.min(end);
        let [from, to] = [after, last].map(|turn| i64::try_from(turn).unwrap_or(i64::MAX));
        for row in query.query_map(params![tenant, part, from, to], MessageRow::of)? {
            let row = row?;
            let content = reader.content(row.held)?;
            turns.push(row.into_turn(content));
        }
        after = after.max(last);
    }
    Ok(turns)
}

pub(super) fn row_of(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<Option<i64>> {
    Ok(connection
        .prepare_cached("SELECT id FROM conversation WHERE tenant = ?1 AND uuid = ?2")?
        .query_row(params![tenant, uuid.as_bytes()], |row| row.get(0))
        .optional()?)
}

/// Metadata from its column, where an empty object is absent.
pub(super) fn metadata_of(stored: Option<&str>) -> Value {
    stored.and_then(|m| serde_json::from_str(m).ok()).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}
