//! Rows on their way to the database: how they are copied, and in which order their values stand.

use tokio_postgres::types::Type;

use super::super::connection::{Copy, Value};
use crate::handed_in::AcceptedMessage;
use crate::model::Timestamp;
use crate::tables::NewExchange;

pub(super) const PIECES: Copy = Copy {
    sql: "COPY pack_piece (tenant, epoch, pack, piece, at, data) FROM STDIN (FORMAT binary)",
    types: &[Type::INT8, Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::BYTEA],
};

pub(super) const BLOCKS: Copy = Copy {
    sql: "COPY block (tenant, epoch, hash, pack, at, length) FROM STDIN (FORMAT binary)",
    types: &[Type::INT8, Type::INT4, Type::BYTEA, Type::INT8, Type::INT8, Type::INT8],
};

pub(super) const MESSAGES: Copy = Copy {
    sql: "COPY message (tenant, id, conversation, turn, role, complete, chain, exchange, element, \
     elements, created_at, content, metadata) FROM STDIN (FORMAT binary)",
    types: &[
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::BOOL,
        Type::BYTEA,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::TEXT,
    ],
};

pub(super) const UNINDEXED: Copy = Copy {
    sql: "COPY message_unindexed (tenant, message) FROM STDIN (FORMAT binary)",
    types: &[Type::INT8, Type::INT8],
};

pub(super) const RECORDS: Copy = Copy {
    sql: "COPY record (tenant, recorder, seq, kind, detail) FROM STDIN (FORMAT binary)",
    types: &[Type::INT8, Type::INT8, Type::INT8, Type::INT2, Type::BYTEA],
};

pub(super) const EXCHANGES: Copy = Copy {
    sql: "COPY exchange (tenant, epoch, id, uuid, recorder, seq, session, conversation, kind, api, \
     started_at, first_byte_us, ended_us, method, path, status, outcome, durability, upstream, model, streaming, \
     request_bytes, response_bytes, input_tokens, output_tokens, cache_read, cache_write, cost_nano, fingerprint, pack, \
     pack_offset, pack_length, request_form, request_data, request_base, response_form, response_data, digests) \
     FROM STDIN (FORMAT binary)",
    types: &[
        Type::INT8,
        Type::INT4,
        Type::INT8,
        Type::UUID,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::INT2,
        Type::TIMESTAMPTZ,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT4,
        Type::INT2,
        Type::INT2,
        Type::INT8,
        Type::INT8,
        Type::BOOL,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT8,
        Type::INT2,
        Type::BYTEA,
        Type::INT8,
        Type::INT2,
        Type::BYTEA,
        Type::BYTEA,
    ],
};

/// A message that was handed in, in the order of [`MESSAGES`].
pub(in super::super) fn message_values(
    tenant: i64,
    id: i64,
    conversation: i64,
    turn: u64,
    message: &AcceptedMessage,
    content: i64,
    metadata: Option<String>,
) -> Vec<Value> {
    vec![
        Box::new(tenant),
        Box::new(id),
        Box::new(conversation),
        Box::new(turn as i64),
        Box::new(message.role as i16),
        Box::new(true),
        Box::new(None::<Vec<u8>>),
        Box::new(None::<i64>),
        Box::new(0i64),
        Box::new(0i64),
        Box::new(message.created_at),
        Box::new(Some(content)),
        Box::new(metadata),
    ]
}

/// In the order of [`EXCHANGES`].
pub(super) fn exchange_values(tenant: i64, id: i64, new: &NewExchange<'_>) -> Vec<Value> {
    let captured = new.captured;
    let start = captured.started_at;
    let since = |t: Option<Timestamp>| t.map(|t| t.0 - start.0);
    let tokens = |n: Option<u64>| Box::new(n.map(|n| n as i64));
    vec![
        Box::new(tenant),
        Box::new(new.epoch),
        Box::new(id),
        Box::new(captured.id),
        Box::new(new.recorder),
        Box::new(new.seq as i64),
        Box::new(new.session),
        Box::new(new.conversation),
        Box::new(new.kind as i16),
        Box::new(new.api.map(|a| a as i16)),
        Box::new(start),
        Box::new(since(captured.first_byte_at)),
        Box::new(since(captured.ended_at)),
        Box::new(new.method),
        Box::new(new.path),
        Box::new(captured.response_head.as_ref().map(|h| i32::from(h.status))),
        Box::new(captured.outcome as i16),
        Box::new(captured.durability as i16),
        Box::new(new.upstream),
        Box::new(new.model),
        Box::new(new.streaming),
        Box::new(captured.request_body.size() as i64),
        Box::new(captured.response_body.size() as i64),
        tokens(new.input_tokens),
        tokens(new.output_tokens),
        tokens(new.cache_read),
        tokens(new.cache_write),
        Box::new(new.cost_nano),
        Box::new(new.fingerprint),
        Box::new(new.envelope.pack),
        Box::new(new.envelope.offset as i64),
        Box::new(new.envelope.length as i64),
        Box::new(new.request_form as i16),
        Box::new(new.request_data.map(<[u8]>::to_vec)),
        Box::new(new.request_base),
        Box::new(new.response_form as i16),
        Box::new(new.response_data.map(<[u8]>::to_vec)),
        Box::new(new.digests.to_vec()),
    ]
}
