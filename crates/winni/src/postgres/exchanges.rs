//! Listing exchanges, and what has happened lately.

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::error::damaged;
use super::snapshot::{MESSAGE_COLUMNS, MESSAGES, Snapshot, message_of};
use super::value::{given, text_key};
use crate::model::{Durability, Event, EventCursor, Exchange, ExchangeFilter, Kind, Outcome, Timestamp};
use crate::reading;
use crate::store::Result;
use crate::tables::MessageRow;

const EXCHANGE: &str = "SELECT x.id, x.uuid, r.uuid, x.seq, s.name, c.uuid, x.kind, x.started_at, x.first_byte_us,
        x.ended_us, method.text, path.text, x.status, x.outcome, x.durability, upstream.text, model.text, x.streaming,
        x.request_bytes, x.response_bytes, x.input_tokens, x.output_tokens, x.cache_read, x.cache_write, x.cost_nano,
        fingerprint.text
     FROM exchange x
     JOIN recorder r ON r.tenant = x.tenant AND r.id = x.recorder
     LEFT JOIN session s ON s.tenant = x.tenant AND s.id = x.session
     LEFT JOIN conversation c ON c.tenant = x.tenant AND c.id = x.conversation
     JOIN name method ON method.tenant = x.tenant AND method.id = x.method
     JOIN name path ON path.tenant = x.tenant AND path.id = x.path
     JOIN name upstream ON upstream.tenant = x.tenant AND upstream.id = x.upstream
     LEFT JOIN name model ON model.tenant = x.tenant AND model.id = x.model
     LEFT JOIN name fingerprint ON fingerprint.tenant = x.tenant AND fingerprint.id = x.fingerprint
     WHERE x.tenant = $1";

pub(super) fn list(snapshot: &Snapshot<'_>, filter: &ExchangeFilter) -> Result<Vec<Exchange>> {
    // A condition for each filter that is given, so that each finds its index.
    let mut sql = EXCHANGE.to_owned();
    let mut params: Vec<&(dyn ToSql + Sync)> = vec![&snapshot.tenant];
    let session = filter.session_id.as_deref().map(text_key);
    if let Some(conversation) = &filter.conversation_id {
        params.push(conversation);
        sql += &format!(
            " AND x.conversation = (SELECT id FROM conversation WHERE tenant = $1 AND uuid = ${})",
            params.len()
        );
    }
    if let Some(session) = &session {
        params.push(session);
        sql += &format!(" AND x.session = (SELECT id FROM session WHERE tenant = $1 AND key = ${})", params.len());
    }
    if let Some(recorder) = &filter.recorder {
        params.push(recorder);
        sql += &format!(" AND x.recorder = (SELECT id FROM recorder WHERE tenant = $1 AND uuid = ${})", params.len());
    }
    sql += " ORDER BY x.started_at, x.id";
    let rows = snapshot.connection.query(&sql, &params)?;
    rows.iter().map(exchange_of).collect()
}

pub(super) fn one(snapshot: &Snapshot<'_>, uuid: Uuid) -> Result<Option<Exchange>> {
    let row = snapshot.connection.query_opt(&format!("{EXCHANGE} AND x.uuid = $2"), &[&snapshot.tenant, &uuid])?;
    row.as_ref().map(exchange_of).transpose()
}

fn exchange_of(row: &Row) -> Result<Exchange> {
    let count =
        |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<i64>>(column)?.map(|n| n as u64));
    let text = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<String>>(column)?.map(given));
    let number = |column: usize| Ok::<_, tokio_postgres::Error>(row.try_get::<_, i16>(column)? as usize);
    let started_at: Timestamp = row.try_get(7)?;
    let after = |column: usize| {
        Ok::<_, tokio_postgres::Error>(row.try_get::<_, Option<i64>>(column)?.map(|us| Timestamp(started_at.0 + us)))
    };
    let kind = [Kind::Message, Kind::Side, Kind::Other].get(number(6)?).copied();
    let outcome = Outcome::ALL.get(number(13)?).copied();
    Ok(Exchange {
        id: row.try_get(1)?,
        recorder: row.try_get(2)?,
        seq: row.try_get::<_, i64>(3)? as u64,
        session_id: text(4)?,
        conversation_id: row.try_get(5)?,
        kind: kind.ok_or_else(|| damaged("an exchange is of an unknown kind"))?,
        started_at,
        first_byte_at: after(8)?,
        ended_at: after(9)?,
        method: text(10)?.unwrap_or_default(),
        path: text(11)?.unwrap_or_default(),
        status: row.try_get::<_, Option<i32>>(12)?.map(|status| status as u16),
        outcome: outcome.ok_or_else(|| damaged("an exchange has an unknown outcome"))?,
        durability: match number(14)? == Durability::Power as usize {
            true => Durability::Power,
            false => Durability::Process,
        },
        upstream: text(15)?.unwrap_or_default(),
        model: text(16)?,
        streaming: row.try_get(17)?,
        request_bytes: row.try_get::<_, i64>(18)? as u64,
        response_bytes: row.try_get::<_, i64>(19)? as u64,
        input_tokens: count(20)?,
        output_tokens: count(21)?,
        cache_read_tokens: count(22)?,
        cache_write_tokens: count(23)?,
        cost_usd: row.try_get::<_, Option<i64>>(24)?.map(|nano| nano as f64 / 1e9),
        key_fingerprint: text(25)?,
    })
}

pub(super) fn cursor(snapshot: &Snapshot<'_>) -> Result<EventCursor> {
    let row = snapshot
        .connection
        .query_one("SELECT next_exchange - 1, next_message - 1 FROM total WHERE tenant = $1", &[&snapshot.tenant])?;
    Ok(EventCursor { exchange: row.try_get(0)?, message: row.try_get(1)? })
}

pub(super) fn events(snapshot: &Snapshot<'_>, after: EventCursor, limit: u64) -> Result<(Vec<Event>, EventCursor)> {
    let mut cursor = after;
    let mut events = Vec::new();
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("{EXCHANGE} AND x.id > $2 ORDER BY x.id LIMIT $3");
    for row in snapshot.connection.query(&sql, &[&snapshot.tenant, &after.exchange, &limit])? {
        cursor.exchange = row.try_get(0)?;
        let exchange = exchange_of(&row)?;
        events.push((exchange.started_at, Event::Exchange(Box::new(exchange))));
    }
    let sql =
        format!("SELECT {MESSAGE_COLUMNS} FROM {MESSAGES} WHERE m.tenant = $1 AND m.id > $2 ORDER BY m.id LIMIT $3");
    let rows = snapshot.connection.query(&sql, &[&snapshot.tenant, &after.message, &limit])?;
    let messages = rows.iter().map(message_of).collect::<Result<Vec<MessageRow>>>()?;
    cursor.message = messages.last().map_or(cursor.message, |m| m.id);
    for turn in reading::said(snapshot, messages)? {
        events.push((turn.created_at, Event::Message(Box::new(turn))));
    }
    events.sort_by_key(|(at, _)| *at);
    Ok((events.into_iter().map(|(_, event)| event).collect(), cursor))
}
