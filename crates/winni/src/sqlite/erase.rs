//! Erasing a conversation: its content goes, its places in the recorders' sequences stay.
//!
//! Blocks are shared between conversations, packs between the conversations of a session, manifests stand on earlier
//! ones, and forks hold no copy of the turns they share. So what must stay is moved first: what others share of the
//! messages goes to a fork, manifests that stand on erased ones are written in full, and packs that hold both erased
//! and living bytes are written anew with the living ones.

use std::collections::{BTreeSet, HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use uuid::Uuid;

use super::append::Writer;
use super::blocks::{BlockReader, EPOCH, Location, OpenPacks, insert_block};
use super::bodies::Form;
use super::body_reader::BodyReader;
use super::frames;
use super::indexing;
use super::reading::row_of;
use super::stored;
use crate::content::manifest::BlockHash;
use crate::model::Deletion;
use crate::store::Result;

/// Without `force` only a conversation without messages goes.
pub(super) fn conversation(writer: &mut Writer, uuid: Uuid, force: bool) -> Result<Deletion> {
    writer.check_file()?;
    let tenant = writer.tenant;
    let transaction = writer.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let Some(conversation) = row_of(&transaction, tenant, uuid)? else {
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
    erasure.free_manifests(&exchanges)?;
    let mut packs = erasure.packs_of(&exchanges)?;
    packs.extend(erasure.packs_of_frames(conversation)?);
    let messages = erasure.remove_rows(conversation, &exchanges)?;
    erasure.rewrite_packs(&packs)?;
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

    /// Writes in full the manifests of other exchanges that stand on one of these.
    fn free_manifests(&self, exchanges: &[i64]) -> Result<()> {
        let going: HashSet<i64> = exchanges.iter().copied().collect();
        let mut reader = BodyReader::new(self.transaction, self.tenant);
        for &exchange in exchanges {
            let mut query =
                self.transaction.prepare_cached("SELECT id FROM exchange WHERE tenant = ?1 AND request_base = ?2")?;
            let dependents: Vec<i64> = query
                .query_map(params![self.tenant, exchange], |row| row.get(0))?
                .collect::<std::result::Result<_, _>>()?;
            for dependent in dependents.into_iter().filter(|d| !going.contains(d)) {
                let Some((manifest, _)) = reader.manifest(dependent)? else {
                    continue;
                };
                self.transaction.execute(
                    "UPDATE exchange SET request_data = ?3, request_base = NULL WHERE tenant = ?1 AND id = ?2",
                    params![self.tenant, dependent, manifest.encode(None)],
                )?;
            }
        }
        Ok(())
    }

    /// The packs that hold bytes of these exchanges.
    fn packs_of(&self, exchanges: &[i64]) -> Result<BTreeSet<i64>> {
        let mut bodies = BodyReader::new(self.transaction, self.tenant);
        let mut packs = BTreeSet::new();
        for &exchange in exchanges {
            let (envelope, hashes) = self.content_of(&mut bodies, exchange)?;
            packs.extend(envelope.map(|at| at.pack));
            for hash in hashes {
                packs.extend(bodies.blocks.locate(&hash)?.map(|at| at.pack));
            }
        }
        Ok(packs)
    }

    /// The packs that hold bytes of the messages which served its tool calls.
    fn packs_of_frames(&self, conversation: i64) -> Result<BTreeSet<i64>> {
        let blocks = BlockReader::new(self.transaction, self.tenant);
        let mut packs = BTreeSet::new();
        for content in frames::contents(self.transaction, self.tenant, Some(conversation))? {
            packs.extend(content.at.map(|at| at.pack));
            for hash in content.blocks {
                packs.extend(blocks.locate(&hash)?.map(|at| at.pack));
            }
        }
        Ok(packs)
    }

    /// Where an exchange's envelope is, and the blocks that its bodies need.
    fn content_of(&self, bodies: &mut BodyReader<'_>, exchange: i64) -> Result<(Option<Location>, Vec<BlockHash>)> {
        let Some(row) = bodies.row(exchange)? else {
            return Ok((None, Vec::new()));
        };
        let mut hashes: Vec<BlockHash> =
            row.chunk_lists().flat_map(|list| list.chunks_exact(16)).filter_map(|h| h.try_into().ok()).collect();
        if let Some((manifest, _)) = bodies.manifest(exchange)? {
            hashes.extend(manifest.blocks());
        }
        Ok((row.envelope_location(), hashes))
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

    /// Moves what is alive in these packs to new ones and deletes them. Blocks are alive if any exchange's body needs
    /// them; to know that, every manifest is read once.
    fn rewrite_packs(&self, packs: &BTreeSet<i64>) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        let mut bodies = BodyReader::new(self.transaction, self.tenant);
        let mut alive = HashSet::new();
        let mut envelopes: Vec<(i64, Location)> = Vec::new();
        for exchange in self.living_exchanges()? {
            let (envelope, hashes) = self.content_of(&mut bodies, exchange)?;
            alive.extend(hashes);
            envelopes.extend(envelope.filter(|at| packs.contains(&at.pack)).map(|at| (exchange, at)));
        }
        let mut frames = frames::contents(self.transaction, self.tenant, None)?;
        alive.extend(frames.iter().flat_map(|frame| frame.blocks.iter().copied()));
        frames.retain(|frame| frame.at.is_some_and(|at| packs.contains(&at.pack)));
        let blocks = self.blocks_in(packs)?;
        let mut moving =
            Moving { erasure: self, reader: BlockReader::new(self.transaction, self.tenant), packs: OpenPacks::new() };
        let mut moved: HashMap<BlockHash, Location> = HashMap::new();
        for (hash, at) in blocks {
            if alive.contains(&hash) {
                moved.insert(hash, moving.relocate(at)?);
            } else {
                self.transaction.execute(
                    "DELETE FROM block WHERE tenant = ?1 AND epoch = ?2 AND hash = ?3",
                    params![self.tenant, EPOCH, hash],
                )?;
            }
        }
        for (exchange, at) in envelopes {
            let at = moving.relocate(at)?;
            self.transaction.execute(
                "UPDATE exchange SET pack = ?3, pack_offset = ?4, pack_length = ?5 WHERE tenant = ?1 AND id = ?2",
                params![self.tenant, exchange, at.pack, at.offset, at.length],
            )?;
        }
        for frames::Content { row, at, .. } in frames {
            let Some(at) = at.map(|at| moving.relocate(at)).transpose()? else { continue };
            self.transaction.execute(
                "UPDATE frame SET pack = ?3, pack_offset = ?4, pack_length = ?5 WHERE tenant = ?1 AND id = ?2",
                params![self.tenant, row, at.pack, at.offset, at.length],
            )?;
        }
        for (hash, at) in moved {
            insert_block(self.transaction, self.tenant, &hash, at)?;
        }
        for pack in packs {
            self.transaction.execute(
                "DELETE FROM pack_piece WHERE tenant = ?1 AND epoch = ?2 AND pack = ?3",
                params![self.tenant, EPOCH, pack],
            )?;
        }
        Ok(())
    }

    fn living_exchanges(&self) -> Result<Vec<i64>> {
        let mut query =
            self.transaction.prepare("SELECT id FROM exchange WHERE tenant = ?1 AND erased = 0 ORDER BY id")?;
        let rows = query.query_map([self.tenant], |row| row.get(0))?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    /// In the order in which they stand, which is the order in which they compress well.
    fn blocks_in(&self, packs: &BTreeSet<i64>) -> Result<Vec<(BlockHash, Location)>> {
        let mut query = self.transaction.prepare(
            "SELECT hash, pack, offset, length FROM block WHERE tenant = ?1 AND epoch = ?2 ORDER BY pack, offset",
        )?;
        let rows = query.query_map(params![self.tenant, EPOCH], |row| {
            Ok((row.get(0)?, Location { pack: row.get(1)?, offset: row.get(2)?, length: row.get(3)? }))
        })?;
        let all: Vec<(BlockHash, Location)> = rows.collect::<std::result::Result<_, _>>()?;
        Ok(all.into_iter().filter(|(_, at)| packs.contains(&at.pack)).collect())
    }
}

struct Moving<'e> {
    erasure: &'e Erasure<'e>,
    reader: BlockReader<'e>,
    packs: OpenPacks,
}

impl Moving<'_> {
    fn relocate(&mut self, at: Location) -> Result<Location> {
        let bytes = self.reader.bytes(at)?;
        let connection: &Connection = self.erasure.transaction;
        Ok(self.packs.append(connection, self.erasure.tenant, 0, &bytes)?.0)
    }
}

const _: () = assert!(Form::Empty as i64 == 0, "erased exchanges have the form 0");
