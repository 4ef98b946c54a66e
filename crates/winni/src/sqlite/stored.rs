//! Messages that are handed in: kept in the same tables as captured ones, with content of their own.
//!
//! Guaranteed: turns are given out under the file's write lock, so they have neither gap nor double, whichever process
//! asks. Equal contents are kept once.

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use uuid::Uuid;

use super::append::Writer;
use super::conversations;
use super::error::damaged;
use super::indexing;
use super::tables::Tables;
use crate::conversation::identity::message_uuid;
use crate::handed_in::{self, Accepted, AcceptedConversation, AcceptedDestination, AcceptedMessage};
use crate::model::{Conversation, NewConversation, StoredMessage, Timestamp};
use crate::store::Result;
use crate::tables::{Ingest, Packing};
use crate::writing::{Stored, Writes};

/// A row of `stored_content` with its index, without its data, measured.
const CONTENT_ROW: u64 = 40;

pub(super) fn begin_conversation(writer: &mut Writer, new: NewConversation) -> Result<Conversation> {
    let new = handed_in::conversation(new)?;
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (_, uuid) = begin(Tables { connection: &transaction, tenant }, &new, Timestamp::now())?;
    let conversation = conversations::one(&transaction, tenant, uuid)?;
    transaction.commit()?;
    conversation.ok_or_else(|| damaged(format!("conversation {uuid} vanished")))
}

impl Writes for Writer {
    fn store(&mut self, calls: Vec<Accepted>) -> Result<Vec<Result<Stored>>> {
        self.check_file()?;
        let (tenant, key) = (self.tenant, self.block_key());
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            let savepoint = transaction.savepoint()?;
            let result = store_one(Tables { connection: &savepoint, tenant }, key, call);
            if result.is_ok() {
                savepoint.commit()?;
            }
            results.push(result);
        }
        transaction.commit()?;
        Ok(results)
    }
}

fn store_one(tables: Tables<'_>, key: [u8; 32], Accepted { into, messages }: Accepted) -> Result<Stored> {
    let (conversation, uuid) = match into {
        AcceptedDestination::New(new) => {
            begin(tables, &new, messages.first().map_or_else(Timestamp::now, |m| m.created_at))?
        }
        AcceptedDestination::Existing(uuid) => (find(tables, uuid)?, uuid),
    };
    let stored = Adding { tables, key, conversation, uuid }.add(messages)?;
    Ok((uuid, stored))
}

fn begin(tables: Tables<'_>, new: &AcceptedConversation, at: Timestamp) -> Result<(i64, Uuid)> {
    let session = tables.session(&new.session, false)?;
    let uuid = Uuid::now_v7();
    tables
        .connection
        .prepare_cached(
            "INSERT INTO conversation (tenant, uuid, session, title, source, created_at, updated_at, tip, metadata)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, 0, ?7)",
        )?
        .execute(params![tables.tenant, uuid.as_bytes(), session, new.title, new.source.name(), at.0, new.metadata])?;
    Ok((tables.connection.last_insert_rowid(), uuid))
}

/// The conversation with this id, if messages may be added to it.
fn find(tables: Tables<'_>, uuid: Uuid) -> Result<i64> {
    let found: Option<(i64, String)> = tables
        .connection
        .prepare_cached("SELECT id, source FROM conversation WHERE tenant = ?1 AND uuid = ?2")?
        .query_row(params![tables.tenant, uuid.as_bytes()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let (id, source) = found.ok_or_else(|| handed_in::unknown_conversation(uuid))?;
    handed_in::check_source(uuid, &source)?;
    Ok(id)
}

/// Adds messages to one conversation, under the write lock.
struct Adding<'t> {
    tables: Tables<'t>,
    key: [u8; 32],
    conversation: i64,
    uuid: Uuid,
}

impl Adding<'_> {
    fn add(&self, messages: Vec<AcceptedMessage>) -> Result<Vec<StoredMessage>> {
        let Tables { connection, tenant } = self.tables;
        let tip: i64 = connection
            .prepare_cached("SELECT tip FROM conversation WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![tenant, self.conversation], |row| row.get(0))?;
        let mut turn = tip as u64;
        let mut newest = None;
        let mut opening = None;
        let (mut captured, mut kept) = (0, 0);
        let mut stored = Vec::with_capacity(messages.len());
        for message in messages {
            turn += 1;
            handed_in::check_turn(message.turn, turn)?;
            captured += message.content.len() as u64;
            kept += self.insert(turn, &message)?;
            newest = newest.max(Some(message.created_at));
            opening = opening.or(message.title);
            let id = message_uuid(message.created_at, self.uuid, turn);
            stored.push(StoredMessage { id, turn, created_at: message.created_at });
        }
        let Some(newest) = newest else { return Ok(stored) };
        self.name(opening.as_deref(), tip)?;
        connection
            .prepare_cached(
                "UPDATE conversation SET tip = ?3, updated_at = max(updated_at, ?4) WHERE tenant = ?1 AND id = ?2",
            )?
            .execute(params![tenant, self.conversation, turn as i64, newest.0])?;
        self.tables.count(captured, kept)?;
        Ok(stored)
    }

    /// Gives the conversation a title if it has none. `tip` is its last turn before the new ones.
    fn name(&self, title: Option<&str>, tip: i64) -> Result<()> {
        let Tables { connection, tenant } = self.tables;
        let Some(title) = title else { return Ok(()) };
        let named = connection
            .prepare_cached("UPDATE conversation SET title = ?3 WHERE tenant = ?1 AND id = ?2 AND title IS NULL")?
            .execute(params![tenant, self.conversation, title])?;
        if named == 0 || tip == 0 {
            return Ok(());
        }
        // The first message is indexed with the title.
        let first = connection
            .prepare_cached("SELECT id FROM message WHERE tenant = ?1 AND conversation = ?2 ORDER BY turn LIMIT 1")?
            .query_row(params![tenant, self.conversation], |row| row.get(0))?;
        indexing::requeue(connection, tenant, first)
    }

    /// Bytes that the message takes.
    fn insert(&self, turn: u64, message: &AcceptedMessage) -> Result<u64> {
        let Tables { connection, tenant } = self.tables;
        let (content, data) = self.keep(message)?;
        connection
            .prepare_cached(
                "INSERT INTO message (tenant, conversation, turn, role, complete, element, elements, created_at, content,
                     metadata)
                 VALUES (?1, ?2, ?3, ?4, 1, 0, 0, ?5, ?6, ?7)",
            )?
            .execute(params![
                tenant,
                self.conversation,
                turn as i64,
                message.role as i64,
                message.created_at.0,
                content,
                message.metadata
            ])?;
        connection
            .prepare_cached("INSERT INTO message_unindexed (tenant, message) VALUES (?1, ?2)")?
            .execute(params![tenant, connection.last_insert_rowid()])?;
        Ok(data + self.tables.row_sizes().message + message.metadata.as_ref().map_or(0, |m| m.len() as u64))
    }

    /// The row that holds the content, and how many bytes it has taken.
    fn keep(&self, message: &AcceptedMessage) -> Result<(i64, u64)> {
        let Tables { connection, tenant } = self.tables;
        let hash = blake3::keyed_hash(&self.key, &message.content);
        let hash = &hash.as_bytes()[..16];
        let known: Option<i64> = connection
            .prepare_cached("SELECT id FROM stored_content WHERE tenant = ?1 AND hash = ?2")?
            .query_row(params![tenant, hash], |row| row.get(0))
            .optional()?;
        if let Some(id) = known {
            return Ok((id, 0));
        }
        connection
            .prepare_cached("INSERT INTO stored_content (tenant, hash, data) VALUES (?1, ?2, ?3)")?
            .execute(params![tenant, hash, message.packed])?;
        Ok((connection.last_insert_rowid(), message.packed.len() as u64 + CONTENT_ROW))
    }
}

/// Removes the contents of a conversation's messages that no other message has; to be called before its messages go.
pub(super) fn remove_contents(connection: &Connection, tenant: i64, conversation: i64) -> Result<()> {
    connection.execute(
        "DELETE FROM stored_content WHERE tenant = ?1
           AND id IN (SELECT content FROM message WHERE tenant = ?1 AND conversation = ?2 AND content IS NOT NULL)
           AND NOT EXISTS (SELECT 1 FROM message o WHERE o.tenant = ?1 AND o.content = stored_content.id
                           AND o.conversation <> ?2)",
        params![tenant, conversation],
    )?;
    Ok(())
}
