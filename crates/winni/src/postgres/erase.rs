//! Erasing a conversation, as far as it is PostgreSQL's: who inherits shared turns, and which rows go.

use tokio_postgres::Row;
use uuid::Uuid;

use super::batch::Batch;
use super::error::damaged;
use super::indexing;
use super::snapshot::location_of;
use crate::content::manifest::BlockHash;
use crate::erasing;
use crate::model::Deletion;
use crate::store::Result;
use crate::tables::{Erasing, FrameContent, FramesOf, Location};

/// Without `force` only a conversation without messages goes.
pub(super) fn conversation(batch: &Batch<'_>, uuid: Uuid, force: bool) -> Result<Deletion> {
    let tenant = batch.tenant();
    let Some(conversation) = batch.reads.conversation_row(uuid)? else {
        return Ok(Deletion::Unknown);
    };
    let connection = batch.sql()?;
    let turns: i64 = connection
        .query_one("SELECT tip FROM conversation WHERE tenant = $1 AND id = $2", &[&tenant, &conversation])?
        .try_get(0)?;
    if turns > 0 && !force {
        return Ok(Deletion::Kept { messages: turns as u64 });
    }
    bequeath(batch, conversation)?;
    let rows = connection.query(
        "SELECT id FROM exchange WHERE tenant = $1 AND conversation = $2 ORDER BY id",
        &[&tenant, &conversation],
    )?;
    let mut exchanges: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    // Those in which its tool calls went to MCP servers hold the same content once more.
    exchanges.extend(batch.exchanges_of_frames(conversation)?);
    erasing::free_manifests(batch, &exchanges)?;
    let mut packs = erasing::packs_of(batch, &exchanges)?;
    erasing::add_packs_of_frames(batch, conversation, &mut packs)?;
    batch.erase_frames(conversation)?;
    let messages = remove_rows(batch, conversation, &exchanges)?;
    erasing::rewrite_packs(batch, &packs)?;
    batch.sql()?.execute("UPDATE total SET erasures = erasures + 1 WHERE tenant = $1", &[&tenant])?;
    Ok(Deletion::Deleted { messages })
}

/// Gives the turns that forks share to the fork that shares most, and makes the others fork from that one.
fn bequeath(batch: &Batch<'_>, conversation: i64) -> Result<()> {
    let (connection, tenant) = (batch.sql()?, batch.tenant());
    let heir = connection.query_opt(
        "SELECT id, fork_turn FROM conversation WHERE tenant = $1 AND fork_of = $2 ORDER BY fork_turn DESC, id LIMIT 1",
        &[&tenant, &conversation],
    )?;
    if let Some(row) = heir {
        let (heir, shared): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
        if inherit(batch, conversation, heir, shared)? {
            connection.execute(
                "UPDATE conversation h SET fork_of = c.fork_of, fork_turn = c.fork_turn FROM conversation c
                 WHERE h.tenant = $1 AND h.id = $3 AND c.tenant = $1 AND c.id = $2",
                &[&tenant, &conversation, &heir],
            )?;
            connection.execute(
                "UPDATE conversation SET fork_of = $3 WHERE tenant = $1 AND fork_of = $2",
                &[&tenant, &conversation, &heir],
            )?;
        }
    }
    connection.execute(
        "UPDATE conversation SET fork_of = NULL, fork_turn = NULL WHERE tenant = $1 AND fork_of = $2",
        &[&tenant, &conversation],
    )?;
    connection.execute(
        "UPDATE conversation SET parent = NULL WHERE tenant = $1 AND parent = $2",
        &[&tenant, &conversation],
    )?;
    Ok(())
}

/// Moves the shared messages. Their content is found in the heir's own first request, which holds the whole history that
/// it shares: turn n is its n-th message. False if the heir shares nothing (it followed a summary).
fn inherit(batch: &Batch<'_>, conversation: i64, heir: i64, shared: i64) -> Result<bool> {
    let (connection, tenant) = (batch.sql()?, batch.tenant());
    let first = connection.query_opt(
        "SELECT exchange, turn FROM message WHERE tenant = $1 AND conversation = $2 ORDER BY turn LIMIT 1",
        &[&tenant, &heir],
    )?;
    let Some(first) = first else { return Ok(false) };
    let (exchange, turn): (Option<i64>, i64) = (first.try_get(0)?, first.try_get(1)?);
    if turn == 1 || exchange.is_none() {
        return Ok(false);
    }
    connection.execute(
        "UPDATE message SET conversation = $3, exchange = $5, element = turn - 1, elements = 1
         WHERE tenant = $1 AND conversation = $2 AND turn <= $4",
        &[&tenant, &conversation, &heir, &shared, &exchange],
    )?;
    // They are of another session now, perhaps, and one of them is the one that carries the title.
    let moved = connection.query(
        "SELECT id FROM message WHERE tenant = $1 AND conversation = $2 AND turn <= $3::bigint + 1",
        &[&tenant, &heir, &shared],
    )?;
    indexing::requeue(batch, &moved.iter().map(|row| row.get(0)).collect::<Vec<i64>>())?;
    Ok(true)
}

fn remove_rows(batch: &Batch<'_>, conversation: i64, exchanges: &[i64]) -> Result<u64> {
    let (connection, tenant) = (batch.sql()?, batch.tenant());
    connection.execute(
        "DELETE FROM stored_content s WHERE s.tenant = $1
           AND s.id IN (SELECT content FROM message WHERE tenant = $1 AND conversation = $2 AND content IS NOT NULL)
           AND NOT EXISTS (SELECT FROM message o WHERE o.tenant = $1 AND o.content = s.id AND o.conversation <> $2)",
        &[&tenant, &conversation],
    )?;
    let gone = connection
        .query("DELETE FROM message WHERE tenant = $1 AND conversation = $2 RETURNING id", &[&tenant, &conversation])?;
    let gone: Vec<i64> = gone.iter().map(|row| row.get(0)).collect();
    indexing::forget(batch, &gone)?;
    connection.execute("DELETE FROM conversation WHERE tenant = $1 AND id = $2", &[&tenant, &conversation])?;
    connection.execute(
        "UPDATE exchange SET erased = true, conversation = NULL, pack = NULL, pack_offset = NULL, pack_length = NULL,
             request_form = 0, request_data = NULL, request_base = NULL, response_form = 0, response_data = NULL,
             digests = NULL
         WHERE tenant = $1 AND id = ANY($2)",
        &[&tenant, &exchanges],
    )?;
    Ok(gone.len() as u64)
}

impl Erasing for Batch<'_> {
    fn dependents(&self, exchange: i64) -> Result<Vec<i64>> {
        let rows = self.sql()?.query(
            "SELECT id FROM exchange WHERE tenant = $1 AND request_base = $2 ORDER BY id",
            &[&self.tenant(), &exchange],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn set_manifest(&self, exchange: i64, data: &[u8]) -> Result<()> {
        self.sql()?.execute(
            "UPDATE exchange SET request_data = $3, request_base = NULL WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &exchange, &data],
        )?;
        Ok(())
    }

    fn living_exchanges(&self, epoch: i32) -> Result<Vec<i64>> {
        let rows = self.sql()?.query(
            "SELECT id FROM exchange WHERE tenant = $1 AND epoch = $2 AND NOT erased ORDER BY id",
            &[&self.tenant(), &epoch],
        )?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn blocks_in(&self, epoch: i32, packs: &[i64]) -> Result<Vec<(BlockHash, Location)>> {
        let rows = self.sql()?.query(
            "SELECT hash, pack, at, length FROM block WHERE tenant = $1 AND epoch = $2 AND pack = ANY($3) ORDER BY pack, at",
            &[&self.tenant(), &epoch, &packs],
        )?;
        rows.iter().map(|row| Ok((hash_of(row)?, location_of(row, 1)?))).collect()
    }

    fn move_envelope(&self, exchange: i64, at: Location) -> Result<()> {
        self.sql()?.execute(
            "UPDATE exchange SET pack = $3, pack_offset = $4, pack_length = $5 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &exchange, &at.pack, &(at.offset as i64), &(at.length as i64)],
        )?;
        Ok(())
    }

    fn frame_contents(&self, of: FramesOf) -> Result<Vec<FrameContent>> {
        self.contents_of_frames(of)
    }

    fn move_frame(&self, row: i64, at: Location) -> Result<()> {
        self.relocate_frame(row, at)
    }

    fn delete_packs(&self, epoch: i32, packs: &[i64], _blocks: &[BlockHash]) -> Result<()> {
        let connection = self.sql()?;
        for table in ["block", "pack_piece"] {
            let sql = format!("DELETE FROM {table} WHERE tenant = $1 AND epoch = $2 AND pack = ANY($3)");
            connection.execute(&sql, &[&self.tenant(), &epoch, &packs])?;
        }
        Ok(())
    }
}

fn hash_of(row: &Row) -> Result<BlockHash> {
    row.try_get::<_, &[u8]>(0)?.try_into().map_err(|_| damaged("a block's name is not 16 bytes"))
}
