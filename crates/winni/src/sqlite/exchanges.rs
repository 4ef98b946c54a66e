//! Listing exchanges, and what has happened lately.

use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::tables::{MESSAGE_COLUMNS, Tables, message_of};
use crate::model::{Durability, Event, EventCursor, Exchange, ExchangeFilter, Kind, Outcome, Timestamp};
use crate::reading;
use crate::store::Result;
use crate::tables::MessageRow;

const EXCHANGE: &str = "SELECT x.id, x.uuid, r.uuid, x.seq, s.name, c.uuid, x.kind, x.started_at, x.first_byte_us,
        x.ended_us, method.text, path.text, x.status, x.outcome, x.durability, upstream.text, model.text, x.streaming,
        x.request_bytes, x.response_bytes, x.input_tokens, x.output_tokens, x.cache_read, x.cache_write, x.cost_nano,
        fingerprint.text
     FROM exchange x
     JOIN recorder r ON r.id = x.recorder
     LEFT JOIN session s ON s.id = x.session
     LEFT JOIN conversation c ON c.id = x.conversation
     JOIN name method ON method.id = x.method
     JOIN name path ON path.id = x.path
     JOIN name upstream ON upstream.id = x.upstream
     LEFT JOIN name model ON model.id = x.model
     LEFT JOIN name fingerprint ON fingerprint.id = x.fingerprint
     WHERE x.tenant = ?1";

pub(super) fn list(connection: &Connection, tenant: i64, filter: &ExchangeFilter) -> Result<Vec<Exchange>> {
    let sql = format!(
        "{EXCHANGE}
         AND (?2 IS NULL OR x.conversation = (SELECT id FROM conversation WHERE tenant = ?1 AND uuid = ?2))
         AND (?3 IS NULL OR x.session = (SELECT id FROM session WHERE tenant = ?1 AND name = ?3))
         AND (?4 IS NULL OR x.recorder = (SELECT id FROM recorder WHERE tenant = ?1 AND uuid = ?4))
         ORDER BY x.started_at, x.id"
    );
    let mut query = connection.prepare_cached(&sql)?;
    let conversation = filter.conversation_id.map(Uuid::into_bytes);
    let recorder = filter.recorder.map(Uuid::into_bytes);
    let rows = query.query_map(params![tenant, conversation, filter.session_id, recorder], exchange_of)?;
    Ok(rows.map(|row| row.map(|(_, exchange)| exchange)).collect::<std::result::Result<_, _>>()?)
}

pub(super) fn one(connection: &Connection, tenant: i64, uuid: Uuid) -> Result<Option<Exchange>> {
    let mut query = connection.prepare_cached(&format!("{EXCHANGE} AND x.uuid = ?2"))?;
    Ok(query.query_row(params![tenant, uuid.as_bytes()], exchange_of).optional()?.map(|(_, exchange)| exchange))
}

fn exchange_of(row: &Row<'_>) -> rusqlite::Result<(i64, Exchange)> {
    let count = |column: usize| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|n| n as u64));
    let started_at: i64 = row.get(7)?;
    let after = |column: usize| {
        Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|us| Timestamp(started_at + us)))
    };
    let kind = [Kind::Message, Kind::Side, Kind::Other].get(row.get::<_, usize>(6)?).copied();
    let outcome = Outcome::ALL.get(row.get::<_, usize>(13)?).copied();
    let exchange = Exchange {
        id: Uuid::from_bytes(row.get(1)?),
        recorder: Uuid::from_bytes(row.get(2)?),
        seq: row.get::<_, i64>(3)? as u64,
        session_id: row.get(4)?,
        conversation_id: row.get::<_, Option<[u8; 16]>>(5)?.map(Uuid::from_bytes),
        kind: kind.ok_or_else(|| unknown(6))?,
        started_at: Timestamp(started_at),
        first_byte_at: after(8)?,
        ended_at: after(9)?,
        method: row.get(10)?,
        path: row.get(11)?,
        status: row.get(12)?,
        outcome: outcome.ok_or_else(|| unknown(13))?,
        durability: if row.get::<_, i64>(14)? == Durability::Power as i64 {
            Durability::Power
        } else {
            Durability::Process
        },
        upstream: row.get(15)?,
        model: row.get(16)?,
        streaming: row.get(17)?,
        request_bytes: row.get::<_, i64>(18)? as u64,
        response_bytes: row.get::<_, i64>(19)? as u64,
        input_tokens: count(20)?,
        output_tokens: count(21)?,
        cache_read_tokens: count(22)?,
        cache_write_tokens: count(23)?,
        cost_usd: row.get::<_, Option<i64>>(24)?.map(|nano| nano as f64 / 1e9),
        key_fingerprint: row.get(25)?,
    };
    Ok((row.get(0)?, exchange))
}

fn unknown(column: usize) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Integer, "a number without a name".into())
}

pub(super) fn cursor(connection: &Connection, tenant: i64) -> Result<EventCursor> {
    let newest = |table: &str| {
        connection.query_row(&format!("SELECT coalesce(max(id), 0) FROM {table} WHERE tenant = ?1"), [tenant], |row| {
            row.get(0)
        })
    };
    Ok(EventCursor { exchange: newest("exchange")?, message: newest("message")? })
}

pub(super) fn events(
    connection: &Connection,
    tenant: i64,
    after: EventCursor,
    limit: u64,
) -> Result<(Vec<Event>, EventCursor)> {
    let mut cursor = after;
    let mut events = Vec::new();
    let mut query = connection.prepare_cached(&format!("{EXCHANGE} AND x.id > ?2 ORDER BY x.id LIMIT ?3"))?;
    for row in query.query_map(params![tenant, after.exchange, limit as i64], exchange_of)? {
        let (id, exchange) = row?;
        cursor.exchange = id;
        events.push((exchange.started_at, Event::Exchange(Box::new(exchange))));
    }
    let mut query = connection.prepare_cached(&format!(
        "SELECT {MESSAGE_COLUMNS} FROM message m
         JOIN conversation c ON c.id = m.conversation LEFT JOIN exchange x ON x.id = m.exchange
         WHERE m.tenant = ?1 AND m.id > ?2 ORDER BY m.id LIMIT ?3"
    ))?;
    let rows = query.query_map(params![tenant, after.message, limit as i64], message_of)?;
    let messages: Vec<MessageRow> = rows.collect::<std::result::Result<_, _>>()?;
    cursor.message = messages.last().map_or(cursor.message, |m| m.id);
    for turn in reading::said(&Tables { connection, tenant }, messages)? {
        events.push((turn.created_at, Event::Message(Box::new(turn))));
    }
    events.sort_by_key(|(at, _)| *at);
    Ok((events.into_iter().map(|(_, event)| event).collect(), cursor))
}
