//! Erasing a conversation: its content goes, its places in the recorders' sequences stay.
//!
//! Who inherits turns that forks share, and which rows go, is said here; moving what must stay is [`crate::erasing`]'s.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::append::Writer;
use super::frames;
use super::indexing;
use super::stored;
use super::tables::Tables;
use crate::content::manifest::BlockHash;
use crate::erasing;
use crate::model::Deletion;
use crate::store::Result;
use crate::tables::{Erasing, FrameContent, FramesOf, Location};

/// Without `force` only a conversation without messages goes.
pub(super) fn conversation(writer: &mut Writer, uuid: Uuid, force: bool) -> Result<Deletion> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables = Tables { connection: &transaction, tenant };
    let Some(conversation) = tables.conversation_row(uuid)? else {
        return Ok(Deletion::Unknown);
    };
    let turns: i64 = transaction.query_row(
        "SELECT tip FROM conversation WHERE tenant = ?1 AND id = ?2",
        params![tenant, conversation],
        |row| row.get(0),
    )?;
    if turns > 0 && !force {
        return Ok(Deletion::Kept { messages: turns as u64 });
    }
    let erasure = Erasure { transaction: &transaction, tenant };
    erasure.bequeath(conversation)?;
    let exchanges = erasure.exchanges(conversation)?;
    erasing::free_manifests(&tables, &exchanges)?;
    let mut packs = erasing::packs_of(&tables, &exchanges)?;
    erasing::add_packs_of_frames(&tables, conversation, &mut packs)?;
    let messages = erasure.remove_rows(conversation, &exchanges)?;
    erasing::rewrite_packs(&tables, &packs)?;
    transaction.execute("UPDATE total SET erasures = erasures + 1 WHERE tenant = ?1", [tenant])?;
    transaction.commit()?;
    if messages == 0 {
        return Ok(Deletion::Deleted { messages });
    }
    // What a contentless index has deleted it only marks; merging it into one drops the words.
    writer.connection.execute_batch("INSERT INTO message_words (message_words) VALUES ('optimize')")?;
    writer.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(Deletion::Deleted { messages })
}

struct Erasure<'t> {
    transaction: &'t Transaction<'t>,
    tenant: i64,
}

impl Erasure<'_> {
    /// Gives the turns that forks share to the fork that shares most, and makes the others fork from that one.
    fn bequeath(&self, conversation: i64) -> Result<()> {
        let heir: Option<(i64, i64)> = self
            .transaction
            .query_row(
                "SELECT id, fork_turn FROM conversation WHERE tenant = ?1 AND fork_of = ?2 ORDER BY fork_turn DESC, id LIMIT 1",
                params![self.tenant, conversation],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        if let Some((heir, shared)) = heir
            && self.inherit(conversation, heir, shared)?
        {
            self.transaction.execute(
                "UPDATE conversation SET (fork_of, fork_turn) =
                     (SELECT fork_of, fork_turn FROM conversation WHERE tenant = ?1 AND id = ?2)
                 WHERE tenant = ?1 AND id = ?3",
                params![self.tenant, conversation, heir],
            )?;
            self.transaction.execute(
                "UPDATE conversation SET fork_of = ?3 WHERE tenant = ?1 AND fork_of = ?2",
                params![self.tenant, conversation, heir],
            )?;
        }
        self.transaction.execute(
            "UPDATE conversation SET fork_of = NULL, fork_turn = NULL WHERE tenant = ?1 AND fork_of = ?2",
            params![self.tenant, conversation],
        )?;
        self.transaction.execute(
            "UPDATE conversation SET parent = NULL WHERE tenant = ?1 AND parent = ?2",
            params![self.tenant, conversation],
        )?;
        Ok(())
    }

    /// Moves the shared messages. Their content is found in the heir's own first request, which holds the whole history
    /// that it shares: turn n is its n-th message. False if the heir shares nothing (it followed a summary).
    fn inherit(&self, conversation: i64, heir: i64, shared: i64) -> Result<bool> {
        let first: Option<(i64, i64)> = self
            .transaction
            .query_row(
                "SELECT exchange, turn FROM message WHERE tenant = ?1 AND conversation = ?2 ORDER BY turn LIMIT 1",
                params![self.tenant, heir],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let Some((exchange, turn)) = first else {
            return Ok(false);
        };
        if turn == 1 {
            return Ok(false);
        }
        self.transaction.execute(
            "UPDATE message SET conversation = ?3, exchange = ?5, element = turn - 1, elements = 1
             WHERE tenant = ?1 AND conversation = ?2 AND turn <= ?4",
            params![self.tenant, conversation, heir, shared, exchange],
        )?;
        // They are of another session now, perhaps, and one of them is the one that carries the title.
        let mut query = self
            .transaction
            .prepare("SELECT id FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn <= ?3 + 1")?;
        let moved: Vec<i64> = query
            .query_map(params![self.tenant, heir, shared], |row| row.get(0))?
            .collect::<std::result::Result<_, _>>()?;
        moved.into_iter().try_for_each(|message| indexing::requeue(self.transaction, self.tenant, message))?;
        Ok(true)
    }

    fn exchanges(&self, conversation: i64) -> Result<Vec<i64>> {
        let mut query = self.transaction.prepare("SELECT id FROM exchange WHERE tenant = ?1 AND conversation = ?2")?;
        let rows = query.query_map(params![self.tenant, conversation], |row| row.get(0))?;
        let mut exchanges = rows.collect::<std::result::Result<Vec<i64>, _>>()?;
        // Those in which its tool calls went to MCP servers hold the same content once more.
        exchanges.extend(frames::exchanges_of(self.transaction, self.tenant, conversation)?);
        Ok(exchanges)
    }

    fn remove_rows(&self, conversation: i64, exchanges: &[i64]) -> Result<u64> {
        let t = self.transaction;
        let on_conversation = params![self.tenant, conversation];
        t.execute(
            "DELETE FROM message_words WHERE rowid IN (SELECT id FROM message WHERE tenant = ?1 AND conversation = ?2
                AND id NOT IN (SELECT message FROM message_unindexed WHERE tenant = ?1))",
            on_conversation,
        )?;
        t.execute(
            "DELETE FROM message_unindexed WHERE tenant = ?1 AND message IN
                (SELECT id FROM message WHERE tenant = ?1 AND conversation = ?2)",
            on_conversation,
        )?;
        frames::erase(t, self.tenant, conversation)?;
        stored::remove_contents(t, self.tenant, conversation)?;
        let messages = t.execute("DELETE FROM message WHERE tenant = ?1 AND conversation = ?2", on_conversation)?;
        t.execute("DELETE FROM conversation WHERE tenant = ?1 AND id = ?2", on_conversation)?;
        let mut erase = t.prepare(
            "UPDATE exchange SET erased = 1, conversation = NULL, pack = NULL, pack_offset = NULL, pack_length = NULL,
                 request_form = 0, request_data = NULL, request_base = NULL, response_form = 0, response_data = NULL,
                 digests = NULL
             WHERE tenant = ?1 AND id = ?2",
        )?;
        for exchange in exchanges {
            erase.execute(params![self.tenant, exchange])?;
        }
        Ok(messages as u64)
    }
}

impl Erasing for Tables<'_> {
    fn dependents(&self, exchange: i64) -> Result<Vec<i64>> {
        let mut query =
            self.connection.prepare_cached("SELECT id FROM exchange WHERE tenant = ?1 AND request_base = ?2")?;
        let rows = query.query_map(params![self.tenant, exchange], |row| row.get(0))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn set_manifest(&self, exchange: i64, data: &[u8]) -> Result<()> {
        self.connection.execute(
            "UPDATE exchange SET request_data = ?3, request_base = NULL WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, exchange, data],
        )?;
        Ok(())
    }

    fn living_exchanges(&self, epoch: i32) -> Result<Vec<i64>> {
        let mut query = self
            .connection
            .prepare("SELECT id FROM exchange WHERE tenant = ?1 AND epoch = ?2 AND erased = 0 ORDER BY id")?;
        let rows = query.query_map(params![self.tenant, epoch], |row| row.get(0))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn blocks_in(&self, epoch: i32, packs: &[i64]) -> Result<Vec<(BlockHash, Location)>> {
        let mut query = self.connection.prepare(
            "SELECT hash, pack, offset, length FROM block WHERE tenant = ?1 AND epoch = ?2 ORDER BY pack, offset",
        )?;
        let rows = query.query_map(params![self.tenant, epoch], |row| {
            Ok((row.get(0)?, Location { pack: row.get(1)?, offset: row.get(2)?, length: row.get(3)? }))
        })?;
        let all: Vec<(BlockHash, Location)> = rows.collect::<std::result::Result<_, _>>()?;
        Ok(all.into_iter().filter(|(_, at)| packs.contains(&at.pack)).collect())
    }

    fn move_envelope(&self, exchange: i64, at: Location) -> Result<()> {
        self.connection.execute(
            "UPDATE exchange SET pack = ?3, pack_offset = ?4, pack_length = ?5 WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, exchange, at.pack, at.offset, at.length],
        )?;
        Ok(())
    }

    fn frame_contents(&self, of: FramesOf) -> Result<Vec<FrameContent>> {
        self.contents_of_frames(of)
    }

    fn move_frame(&self, row: i64, at: Location) -> Result<()> {
        self.connection.execute(
            "UPDATE frame SET pack = ?3, pack_offset = ?4, pack_length = ?5 WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, row, at.pack, at.offset, at.length],
        )?;
        Ok(())
    }

    fn delete_packs(&self, epoch: i32, packs: &[i64], blocks: &[BlockHash]) -> Result<()> {
        let mut delete = self.connection.prepare("DELETE FROM block WHERE tenant = ?1 AND epoch = ?2 AND hash = ?3")?;
        for hash in blocks {
            delete.execute(params![self.tenant, epoch, hash])?;
        }
        let mut delete =
            self.connection.prepare("DELETE FROM pack_piece WHERE tenant = ?1 AND epoch = ?2 AND pack = ?3")?;
        for pack in packs {
            delete.execute(params![self.tenant, epoch, pack])?;
        }
        Ok(())
    }
}
