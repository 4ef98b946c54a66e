//! Listing conversations.

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::Value;
use uuid::Uuid;

use super::indexing::TITLE;

use crate::model::{Conversation, ConversationFilter, ConversationSource, ForkPoint, Sort, Timestamp};
use crate::reading::metadata_of;
use crate::store::Result;

pub(super) fn list(connection: &Connection, tenant: i64, filter: &ConversationFilter) -> Result<Vec<Conversation>> {
    let order = match filter.sort {
        Sort::UpdatedAt => "c.updated_at",
        Sort::CreatedAt => "c.created_at",
    };
    let sql = format!("{} {} ORDER BY {order} DESC, c.id DESC LIMIT ?4 OFFSET ?5", select(), condition(filter));
    let limit = filter.limit.map_or(-1, |l| i64::try_from(l).unwrap_or(i64::MAX));
    let offset = i64::try_from(filter.offset).unwrap_or(i64::MAX);
    let source = filter.source.map(ConversationSource::name);
    let mut query = connection.prepare_cached(&sql)?;
    let rows = query.query_map(params![tenant, filter.session_id, source, limit, offset], conversation_of)?;
    let mut found: Vec<(i64, Conversation)> = rows.collect::<std::result::Result<_, _>>()?;
    for (id, conversation) in &mut found {
        add_totals(connection, tenant, *id, conversation)?;
    }
    Ok(found.into_iter().map(|(_, c)| c).collect())
}

pub(super) fn total(connection: &Connection, tenant: i64, filter: &ConversationFilter) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM conversation c WHERE c.tenant = ?1 {}", condition(filter));
    let mut query = connection.prepare_cached(&sql)?;
    let source = filter.source.map(ConversationSource::name);
    let total: i64 = query.query_row(params![tenant, filter.session_id, source], |row| row.get(0))?;
    Ok(total as u64)
}

pub(super) fn one(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<Option<Conversation>> {
    let mut query = connection.prepare_cached(&format!("{} AND c.uuid = ?2", select()))?;
    let found = query.query_row(params![tenant, uuid.as_bytes()], conversation_of).optional()?;
    let Some((id, mut conversation)) = found else {
        return Ok(None);
    };
    add_totals(connection, tenant, id, &mut conversation)?;
    Ok(Some(conversation))
}

/// How conversations are read.
fn select() -> String {
    format!(
        "SELECT c.id, c.uuid, s.name, p.uuid, f.uuid, c.fork_turn,
            {TITLE}, c.source, c.created_at, c.updated_at, c.tip, c.agent, c.metadata
     FROM conversation c
     JOIN session s ON s.id = c.session
     LEFT JOIN conversation p ON p.id = c.parent
     LEFT JOIN conversation f ON f.id = c.fork_of
     WHERE c.tenant = ?1"
    )
}

/// What a filter lets through; ?2 and ?3 are its session and its source. What is not asked for is not in the condition, so
/// that the index that fits is used.
fn condition(filter: &ConversationFilter) -> String {
    let session = match &filter.session_id {
        Some(_) => "AND c.session = (SELECT id FROM session WHERE tenant = ?1 AND name = ?2)",
        None => "AND ?2 IS NULL",
    };
    let source = if filter.source.is_some() { "AND c.source = ?3" } else { "AND ?3 IS NULL" };
    format!("{session} {source}")
}

fn conversation_of(row: &Row<'_>) -> rusqlite::Result<(i64, Conversation)> {
    let uuid = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<[u8; 16]>>(column)?.map(Uuid::from_bytes));
    let fork_turn: Option<i64> = row.get(5)?;
    let agent: Option<String> = row.get(11)?;
    let stored: Option<String> = row.get(12)?;
    let mut metadata = metadata_of(stored.as_deref());
    if let Some(agent) = agent {
        metadata["agent_id"] = Value::String(agent);
    }
    Ok((
        row.get(0)?,
        Conversation {
            id: Uuid::from_bytes(row.get(1)?),
            session_id: row.get(2)?,
            parent_conversation_id: uuid(3)?,
            forked_from: uuid(4)?.zip(fork_turn).map(|(id, turn)| ForkPoint { conversation_id: id, turn: turn as u64 }),
            title: row.get(6)?,
            source: row.get(7)?,
            created_at: Timestamp(row.get(8)?),
            updated_at: Timestamp(row.get(9)?),
            message_count: row.get::<_, i64>(10)? as u64,
            exchange_count: 0,
            models: Vec::new(),
            input_tokens: 0,
            output_tokens: 0,
            cost_usd: None,
            metadata,
        },
    ))
}

fn add_totals(connection: &Connection, tenant: i64, id: i64, conversation: &mut Conversation) -> Result<()> {
    let mut query = connection.prepare_cached(
        "SELECT n.text, count(*), sum(x.input_tokens), sum(x.output_tokens), sum(x.cost_nano),
                sum(x.output_tokens IS NOT NULL AND x.cost_nano IS NULL)
         FROM exchange x LEFT JOIN name n ON n.id = x.model
         WHERE x.tenant = ?1 AND x.conversation = ?2 GROUP BY x.model ORDER BY min(x.id)",
    )?;
    let mut rows = query.query(params![tenant, id])?;
    let (mut cost, mut unpriced, mut answered) = (0i64, false, false);
    while let Some(row) = rows.next()? {
        let sum = |column| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.unwrap_or(0));
        conversation.models.extend(row.get::<_, Option<String>>(0)?);
        conversation.exchange_count += sum(1)? as u64;
        conversation.input_tokens += sum(2)? as u64;
        conversation.output_tokens += sum(3)? as u64;
        answered |= row.get::<_, Option<i64>>(4)?.is_some();
        cost += sum(4)?;
        unpriced |= sum(5)? > 0;
    }
    conversation.cost_usd = (answered && !unpriced).then_some(cost as f64 / 1e9);
    Ok(())
}
