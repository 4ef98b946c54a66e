//! Messages that are handed in: kept in the same tables as captured ones, with content of their own.
//!
//! Guaranteed: turns are given out under the tenant's write lock, so they have neither gap nor double, whichever process
//! asks. Equal contents are kept once.

use std::collections::HashMap;

use uuid::Uuid;

use super::batch::{Batch, message_values};
use super::conversations;
use super::error::damaged;
use super::indexing;
use super::value::stored;
use crate::conversation::identity::message_uuid;
use crate::handed_in::{self, Accepted, AcceptedConversation, AcceptedDestination, AcceptedMessage};
use crate::model::{Conversation, StoredMessage, Timestamp};
use crate::store::Result;
use crate::tables::{Ingest, Packing};
use crate::writing::Stored;

/// A row of `stored_content` with its indexes, without its data, measured.
const CONTENT_ROW: u64 = 160;

pub(super) fn begin_conversation(batch: &Batch<'_>, new: &AcceptedConversation) -> Result<Conversation> {
    let (_, uuid) = begin(batch, new, Timestamp::now())?;
    conversations::one(&batch.reads, uuid)?.ok_or_else(|| damaged(format!("conversation {uuid} vanished")))
}

/// Stores the messages of one call. Whatever it refuses it refuses before it has changed anything, so that several calls may
/// share a transaction.
pub(super) fn store(batch: &Batch<'_>, key: &[u8; 32], Accepted { into, messages }: &Accepted) -> Result<Stored> {
    let found = match into {
        AcceptedDestination::New(_) => None,
        AcceptedDestination::Existing(uuid) => Some((find(batch, *uuid)?, *uuid)),
    };
    let tip = found.map_or(0, |((_, tip), _)| tip);
    for (message, turn) in messages.iter().zip(tip + 1..) {
        handed_in::check_turn(message.turn, turn)?;
    }
    let (conversation, uuid) = match (found, into) {
        (Some(((conversation, _), uuid)), _) => (conversation, uuid),
        (None, AcceptedDestination::New(new)) => {
            begin(batch, new, messages.first().map_or_else(Timestamp::now, |m| m.created_at))?
        }
        (None, AcceptedDestination::Existing(uuid)) => return Err(handed_in::unknown_conversation(*uuid)),
    };
    let stored = add(batch, key, (conversation, uuid), tip, messages)?;
    Ok((uuid, stored))
}

fn begin(batch: &Batch<'_>, new: &AcceptedConversation, at: Timestamp) -> Result<(i64, Uuid)> {
    let session = batch.session(&new.session, false)?;
    let uuid = Uuid::now_v7();
    let row = batch.sql()?.query_one(
        "INSERT INTO conversation (tenant, uuid, session, title, source, created_at, updated_at, tip, metadata)
         VALUES ($1, $2, $3, $4, $5, $6, $6, 0, $7) RETURNING id",
        &[
            &batch.tenant(),
            &uuid,
            &session,
            &new.title.as_deref().map(stored),
            &new.source.name(),
            &at,
            &new.metadata.as_deref().map(stored),
        ],
    )?;
    Ok((row.try_get(0)?, uuid))
}

/// The conversation with this id and its last turn, if messages may be added to it.
fn find(batch: &Batch<'_>, uuid: Uuid) -> Result<(i64, u64)> {
    let row = batch
        .sql()?
        .query_opt(
            "SELECT id, source, tip FROM conversation WHERE tenant = $1 AND uuid = $2",
            &[&batch.tenant(), &uuid],
        )?
        .ok_or_else(|| handed_in::unknown_conversation(uuid))?;
    handed_in::check_source(uuid, row.try_get(1)?)?;
    Ok((row.try_get(0)?, row.try_get::<_, i64>(2)? as u64))
}

fn add(
    batch: &Batch<'_>,
    key: &[u8; 32],
    (conversation, uuid): (i64, Uuid),
    tip: u64,
    messages: &[AcceptedMessage],
) -> Result<Vec<StoredMessage>> {
    let Some(newest) = messages.iter().map(|m| m.created_at).max() else { return Ok(Vec::new()) };
    let (contents, mut kept) = keep_contents(batch, key, messages)?;
    let mut turn = tip;
    let mut stored_messages = Vec::with_capacity(messages.len());
    let mut rows = Vec::with_capacity(messages.len());
    for (message, content) in messages.iter().zip(contents) {
        turn += 1;
        let id = batch.next_message();
        let metadata = message.metadata.as_deref().map(|m| stored(m).into_owned());
        kept += batch.row_sizes().message + metadata.as_ref().map_or(0, |m| m.len() as u64);
        rows.push((id, message_values(batch.tenant(), id, conversation, turn, message, content, metadata)));
        let id = message_uuid(message.created_at, uuid, turn);
        stored_messages.push(StoredMessage { id, turn, created_at: message.created_at });
    }
    batch.add_messages(rows);
    name(batch, conversation, messages.iter().find_map(|m| m.title.as_deref()), tip)?;
    batch.sql()?.execute(
        "UPDATE conversation SET tip = $3, updated_at = greatest(updated_at, $4) WHERE tenant = $1 AND id = $2",
        &[&batch.tenant(), &conversation, &(turn as i64), &newest],
    )?;
    batch.count(messages.iter().map(|m| m.content.len() as u64).sum(), kept)?;
    Ok(stored_messages)
}

/// Gives the conversation a title if it has none. `tip` is its last turn before the new ones.
fn name(batch: &Batch<'_>, conversation: i64, title: Option<&str>, tip: u64) -> Result<()> {
    let Some(title) = title.map(stored) else { return Ok(()) };
    let named = batch.sql()?.execute(
        "UPDATE conversation SET title = $3 WHERE tenant = $1 AND id = $2 AND title IS NULL",
        &[&batch.tenant(), &conversation, &title],
    )?;
    if named == 0 || tip == 0 {
        return Ok(());
    }
    // The first message is indexed with the title.
    let first = batch.sql()?.query_one(
        "SELECT id FROM message WHERE tenant = $1 AND conversation = $2 ORDER BY turn LIMIT 1",
        &[&batch.tenant(), &conversation],
    )?;
    indexing::requeue(batch, &[first.try_get(0)?])
}

/// The rows that hold the messages' contents, and how many bytes new ones have taken.
fn keep_contents(batch: &Batch<'_>, key: &[u8; 32], messages: &[AcceptedMessage]) -> Result<(Vec<i64>, u64)> {
    let hash = |m: &AcceptedMessage| blake3::keyed_hash(key, &m.content).as_bytes()[..16].to_vec();
    let hashes: Vec<Vec<u8>> = messages.iter().map(hash).collect();
    let rows = batch.sql()?.query(
        "SELECT hash, id FROM stored_content WHERE tenant = $1 AND hash = ANY($2)",
        &[&batch.tenant(), &hashes],
    )?;
    let mut known: HashMap<Vec<u8>, i64> = HashMap::new();
    for row in &rows {
        known.insert(row.try_get(0)?, row.try_get(1)?);
    }
    let mut adding: HashMap<&[u8], &[u8]> = HashMap::new();
    for (message, hash) in messages.iter().zip(&hashes).filter(|(_, hash)| !known.contains_key(*hash)) {
        adding.insert(hash, &message.packed);
    }
    let taken = adding.values().map(|data| data.len() as u64 + CONTENT_ROW).sum();
    if !adding.is_empty() {
        let (new_hashes, contents): (Vec<&[u8]>, Vec<&[u8]>) = adding.into_iter().unzip();
        let rows = batch.sql()?.query(
            "INSERT INTO stored_content (tenant, hash, data)
             SELECT $1, n.hash, n.data FROM unnest($2::bytea[], $3::bytea[]) AS n (hash, data) RETURNING hash, id",
            &[&batch.tenant(), &new_hashes, &contents],
        )?;
        for row in &rows {
            known.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    let id = |hash: &Vec<u8>| known.get(hash).copied().ok_or_else(|| damaged("a stored content vanished"));
    Ok((hashes.iter().map(id).collect::<Result<_>>()?, taken))
}
