//! Giving back what was kept: bodies byte for byte, conversations turn by turn. Written over [`crate::tables`], for every
//! backend.

pub(crate) mod blocks;
pub(crate) mod bodies;
pub(crate) mod content;
pub(crate) mod frames;

use serde_json::Value;

use crate::conversation::identity::message_uuid;
use crate::model::Turn;
use crate::store::{Error, Result};
use crate::tables::{Content, Lines, MessageRow};
pub(crate) use bodies::BodyReader;
pub(crate) use content::ContentReader;

/// Messages whose content is announced together.
const TOGETHER: usize = 256;

/// Forks of forks beyond this are a circle.
const MAX_FORKS: usize = 10_000;

/// A message for data that does not fit together.
pub(crate) fn damaged(what: impl Into<String>) -> Error {
    Error::Damaged(what.into())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Metadata from its column, where an empty object is absent.
pub(crate) fn metadata_of(stored: Option<&str>) -> Value {
    stored.and_then(|m| serde_json::from_str(m).ok()).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
}

impl MessageRow {
    pub(crate) fn uuid(&self) -> uuid::Uuid {
        message_uuid(self.created_at, self.conversation_uuid, self.turn)
    }

    fn into_turn(self, content: Value) -> Turn {
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

/// The turns of a conversation's whole line, in order, from the `offset`-th on. Turns have no gap, so that a page is a range
/// of them.
pub(crate) fn turns(tables: &dyn Lines, conversation: i64, offset: u64, limit: Option<u64>) -> Result<Vec<Turn>> {
    let end = limit.map_or(u64::MAX, |limit| offset.saturating_add(limit));
    let mut rows = Vec::new();
    let mut after = offset;
    for (part, last) in line(tables, conversation)? {
        let last = last.min(end);
        if last > after {
            rows.extend(tables.messages(part, after, last)?);
            after = last;
        }
    }
    said(tables, rows)
}

/// These messages with what they say.
pub(crate) fn said(tables: &dyn Content, rows: Vec<MessageRow>) -> Result<Vec<Turn>> {
    let mut reader = ContentReader::new(tables);
    let mut turns = Vec::with_capacity(rows.len());
    for rows in rows.chunks(TOGETHER) {
        reader.expect(rows.iter().map(|row| row.held))?;
        for row in rows {
            let content = reader.content(row.held)?;
            turns.push(row.clone().into_turn(content));
        }
    }
    Ok(turns)
}

/// The parts that make up a conversation's line: (conversation, last turn of it that belongs to the line), oldest first.
fn line(tables: &dyn Lines, conversation: i64) -> Result<Vec<(i64, u64)>> {
    let mut parts = vec![(conversation, u64::MAX)];
    let (mut at, mut last) = (conversation, u64::MAX);
    while let Some((of, turn)) = tables.fork_of(at)? {
        // A line that was summarised is named, not shared: the new one's turns begin at 1 again.
        if tables.first_turn(at)? == Some(1) {
            break;
        }
        if parts.len() > MAX_FORKS {
            return Err(damaged(format!("conversation {conversation} is a fork of itself")));
        }
        last = turn.min(last);
        parts.push((of, last));
        at = of;
    }
    parts.reverse();
    Ok(parts)
}
