//! Listing conversations.

use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::snapshot::Snapshot;
use super::value::{given, text_key};
use crate::model::{Conversation, ConversationFilter, ConversationSource, ForkPoint, FrameSource, Sort, Stats};
use crate::reading::metadata_of;
use crate::store::Result;

const CONVERSATION: &str = "SELECT c.id, c.uuid, s.name, p.uuid, f.uuid, c.fork_turn,
        CASE WHEN c.source = 'captured' AND c.agent IS NULL AND c.parent IS NULL AND s.title IS NOT NULL
             THEN s.title ELSE c.title END,
        c.source, c.created_at, c.updated_at, c.tip, c.agent, c.metadata
     FROM conversation c
     JOIN session s ON s.tenant = c.tenant AND s.id = c.session
     LEFT JOIN conversation p ON p.tenant = c.tenant AND p.id = c.parent
     LEFT JOIN conversation f ON f.tenant = c.tenant AND f.id = c.fork_of
     WHERE c.tenant = $1";

/// What a filter lets through; $2 and $3 are its session and its source. What is not asked for is not in the condition, so
/// that the index that fits is used.
fn condition(filter: &ConversationFilter) -> String {
    let session = match &filter.session_id {
        Some(_) => "AND c.session = (SELECT id FROM session WHERE tenant = $1 AND key = $2)",
        None => "AND $2::bytea IS NULL",
    };
    let source = if filter.source.is_some() { "AND c.source = $3" } else { "AND $3::text IS NULL" };
    format!("{session} {source}")
}

pub(super) fn list(snapshot: &Snapshot<'_>, filter: &ConversationFilter) -> Result<Vec<Conversation>> {
    let order = match filter.sort {
        Sort::UpdatedAt => "c.updated_at",
        Sort::CreatedAt => "c.created_at",
    };
    let sql = format!("{CONVERSATION} {} ORDER BY {order} DESC, c.id DESC LIMIT $4 OFFSET $5", condition(filter));
    let limit = filter.limit.map(|l| i64::try_from(l).unwrap_or(i64::MAX));
    let offset = i64::try_from(filter.offset).unwrap_or(i64::MAX);
    let (session, source) = filters(filter);
    let rows = snapshot.connection.query(&sql, &[&snapshot.tenant, &session, &source, &limit, &offset])?;
    with_totals(snapshot, rows.iter().map(conversation_of).collect::<Result<_>>()?)
}

pub(super) fn total(snapshot: &Snapshot<'_>, filter: &ConversationFilter) -> Result<u64> {
    let sql = format!("SELECT count(*) FROM conversation c WHERE c.tenant = $1 {}", condition(filter));
    let (session, source) = filters(filter);
    let row = snapshot.connection.query_one(&sql, &[&snapshot.tenant, &session, &source])?;
    Ok(row.try_get::<_, i64>(0)? as u64)
}

fn filters(filter: &ConversationFilter) -> (Option<Vec<u8>>, Option<&'static str>) {
    (filter.session_id.as_deref().map(text_key), filter.source.map(ConversationSource::name))
}

pub(super) fn one(snapshot: &Snapshot<'_>, uuid: Uuid) -> Result<Option<Conversation>> {
    let rows = snapshot.connection.query(&format!("{CONVERSATION} AND c.uuid = $2"), &[&snapshot.tenant, &uuid])?;
    Ok(with_totals(snapshot, rows.iter().map(conversation_of).collect::<Result<_>>()?)?.pop())
}

fn conversation_of(row: &Row) -> Result<(i64, Conversation)> {
    let text = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<String>>(column)?.map(given));
    let fork_turn: Option<i64> = row.try_get(5)?;
    let mut metadata = metadata_of(text(12)?.as_deref());
    if let Some(agent) = text(11)? {
        metadata["agent_id"] = Value::String(agent);
    }
    let fork: Option<Uuid> = row.try_get(4)?;
    Ok((
        row.try_get(0)?,
        Conversation {
            id: row.try_get(1)?,
            session_id: text(2)?.unwrap_or_default(),
            parent_conversation_id: row.try_get(3)?,
            forked_from: fork.zip(fork_turn).map(|(id, turn)| ForkPoint { conversation_id: id, turn: turn as u64 }),
            title: text(6)?,
            source: row.try_get(7)?,
            created_at: row.try_get(8)?,
            updated_at: row.try_get(9)?,
            message_count: row.try_get::<_, i64>(10)? as u64,
            exchange_count: 0,
            models: Vec::new(),
            input_tokens: 0,
            output_tokens: 0,
            cost_usd: None,
            metadata,
        },
    ))
}

/// Adds what the conversations' exchanges come to, with one question for all of them.
fn with_totals(snapshot: &Snapshot<'_>, mut found: Vec<(i64, Conversation)>) -> Result<Vec<Conversation>> {
    let ids: Vec<i64> = found.iter().map(|(id, _)| *id).collect();
    let rows = snapshot.connection.query(
        "SELECT x.conversation, n.text, count(*), sum(x.input_tokens)::bigint, sum(x.output_tokens)::bigint,
                sum(x.cost_nano)::bigint, count(*) FILTER (WHERE x.output_tokens IS NOT NULL AND x.cost_nano IS NULL)
         FROM exchange x LEFT JOIN name n ON n.tenant = x.tenant AND n.id = x.model
         WHERE x.tenant = $1 AND x.conversation = ANY($2) GROUP BY x.conversation, x.model, n.text
         ORDER BY x.conversation, min(x.id)",
        &[&snapshot.tenant, &ids],
    )?;
    let mut totals: std::collections::HashMap<i64, Totals> = std::collections::HashMap::new();
    for row in &rows {
        totals.entry(row.try_get(0)?).or_default().add(row)?;
    }
    for (id, conversation) in &mut found {
        if let Some(totals) = totals.remove(id) {
            totals.put(conversation);
        }
    }
    Ok(found.into_iter().map(|(_, conversation)| conversation).collect())
}

#[derive(Default)]
struct Totals {
    models: Vec<String>,
    exchanges: u64,
    input: u64,
    output: u64,
    cost_nano: i64,
    has_cost: bool,
    lacks_cost: bool,
}

impl Totals {
    fn add(&mut self, row: &Row) -> Result<()> {
        let sum = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<i64>>(column)?.unwrap_or(0));
        self.models.extend(row.try_get::<_, Option<String>>(1)?.map(given));
        self.exchanges += sum(2)? as u64;
        self.input += sum(3)? as u64;
        self.output += sum(4)? as u64;
        self.has_cost |= row.try_get::<_, Option<i64>>(5)?.is_some();
        self.cost_nano += sum(5)?;
        self.lacks_cost |= sum(6)? > 0;
        Ok(())
    }

    fn put(self, conversation: &mut Conversation) {
        conversation.models = self.models;
        conversation.exchange_count = self.exchanges;
        conversation.input_tokens = self.input;
        conversation.output_tokens = self.output;
        conversation.cost_usd = (self.has_cost && !self.lacks_cost).then_some(self.cost_nano as f64 / 1e9);
    }
}

pub(super) fn stats(snapshot: &Snapshot<'_>) -> Result<Stats> {
    let row = snapshot.connection.query_one(
        "SELECT (SELECT count(*) FROM conversation WHERE tenant = $1), (SELECT count(*) FROM message WHERE tenant = $1),
                (SELECT count(*) FROM exchange WHERE tenant = $1), captured_bytes, stored_bytes, unrecorded,
                (SELECT count(*) FROM frame f JOIN connection k ON k.tenant = f.tenant AND k.id = f.connection
                 WHERE f.tenant = $1 AND k.source <> $2 AND NOT (k.source = $3 AND k.id IN (
                     SELECT sent.connection FROM connection relay
                     JOIN frame sent ON sent.tenant = relay.tenant AND sent.connection = relay.id
                     JOIN frame seen ON seen.tenant = sent.tenant AND seen.tool_use_key = sent.tool_use_key
                         AND seen.rpc_key = sent.rpc_key
                     JOIN connection spy ON spy.tenant = seen.tenant AND spy.id = seen.connection
                     WHERE relay.tenant = $1 AND relay.source = $3 AND spy.source IN ($4, $5))))
         FROM total WHERE tenant = $1",
        &[
            &snapshot.tenant,
            &(FrameSource::Gateway as i16),
            &(FrameSource::Relay as i16),
            &(FrameSource::Spy as i16),
            &(FrameSource::SpyHttp as i16),
        ],
    )?;
    let count = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, i64>(column)? as u64);
    let (captured, stored) = (count(3)?, count(4)?);
    Ok(Stats {
        conversations: count(0)?,
        messages: count(1)?,
        exchanges: count(2)?,
        mcp_frames: count(6)?,
        captured_bytes: captured,
        stored_bytes: stored,
        ratio: if stored > 0 { captured as f64 / stored as f64 } else { 0.0 },
        unrecorded: count(5)?,
    })
}
