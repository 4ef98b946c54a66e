//! Adding to the record: the questions and changes of [`crate::tables`], in SQLite's SQL. A transaction holds the file's
//! write lock, so it is the only writer.

use rusqlite::{OptionalExtension, Row, params};
use uuid::Uuid;

use super::indexing;
use super::tables::{EPOCH, Tables};
use crate::conversation::identity::Chain;
use crate::conversation::threading::Known;
use crate::model::Timestamp;
use crate::store::{Result, Watermark};
use crate::tables::{Ingest, NewExchange, NewLine, NewTurn};

fn known_of(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        conversation: row.get(0)?,
        turn: row.get::<_, i64>(1)? as u64,
        tip: row.get::<_, i64>(2)? as u64,
        tip_complete: row.get::<_, Option<bool>>(3)?.unwrap_or(true),
        local: row.get(4)?,
    })
}

impl Ingest for Tables<'_> {
    fn epoch_of(&self, _at: Timestamp) -> Result<i32> {
        Ok(EPOCH)
    }

    fn erasures(&self) -> Result<i64> {
        Ok(self
            .connection
            .prepare_cached("SELECT erasures FROM total WHERE tenant = ?1")?
            .query_row([self.tenant], |row| row.get(0))?)
    }

    fn recorder(&self, uuid: Uuid) -> Result<i64> {
        if let Some(row) = self.find_recorder(uuid)? {
            return Ok(row);
        }
        self.connection
            .execute("INSERT INTO recorder (tenant, uuid) VALUES (?1, ?2)", params![self.tenant, uuid.as_bytes()])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn held(&self, recorder: i64, seqs: &[u64]) -> Result<Vec<u64>> {
        let mut query =
            self.connection.prepare_cached("SELECT 1 FROM record WHERE tenant = ?1 AND recorder = ?2 AND seq = ?3")?;
        let mut held = Vec::new();
        for &seq in seqs {
            if query.exists(params![self.tenant, recorder, seq as i64])? {
                held.push(seq);
            }
        }
        Ok(held)
    }

    fn begin_life(&self, recorder: i64, at: Timestamp, about: &str) -> Result<()> {
        self.connection.execute(
            "UPDATE recorder SET begun_at = ?3, about = ?4 WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, recorder, at.0, about],
        )?;
        Ok(())
    }

    fn end_life(&self, recorder: i64, at: Option<Timestamp>, orderly: bool) -> Result<()> {
        self.connection.execute(
            "UPDATE recorder SET ended_at = ?3, orderly = ?4 WHERE tenant = ?1 AND id = ?2",
            params![self.tenant, recorder, at.map(|t| t.0), orderly],
        )?;
        Ok(())
    }

    fn add_record(&self, recorder: i64, seq: u64, kind: i64, detail: Option<&[u8]>) -> Result<()> {
        self.connection
            .prepare_cached("INSERT INTO record (tenant, recorder, seq, kind, detail) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.tenant, recorder, seq as i64, kind, detail])?;
        Ok(())
    }

    fn advance(&self, recorder: i64) -> Result<Watermark> {
        let watermark = self.read_watermark(recorder)?;
        self.connection
            .prepare_cached("UPDATE recorder SET contiguous = ?3 WHERE tenant = ?1 AND id = ?2")?
            .execute(params![self.tenant, recorder, watermark.contiguous as i64])?;
        Ok(watermark)
    }

    fn count(&self, captured: u64, stored: u64) -> Result<()> {
        self.connection
            .prepare_cached(
                "UPDATE total SET captured_bytes = captured_bytes + ?2, stored_bytes = stored_bytes + ?3
                 WHERE tenant = ?1",
            )?
            .execute(params![self.tenant, captured as i64, stored as i64])?;
        Ok(())
    }

    fn count_unrecorded(&self, exchanges: u64) -> Result<()> {
        self.connection.execute(
            "UPDATE total SET unrecorded = unrecorded + ?2 WHERE tenant = ?1",
            params![self.tenant, exchanges as i64],
        )?;
        Ok(())
    }

    fn session(&self, name: &str, derived: bool) -> Result<i64> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM session WHERE tenant = ?1 AND name = ?2")?
            .query_row(params![self.tenant, name], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.connection
            .prepare_cached("INSERT INTO session (tenant, name, derived) VALUES (?1, ?2, ?3)")?
            .execute(params![self.tenant, name, derived])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn known_in_session(&self, session: i64, agent: Option<&str>, turn: u64, chain: &Chain) -> Result<Vec<Known>> {
        let mut query = self.connection.prepare_cached(
            "SELECT m.conversation, m.turn, c.tip, t.complete, 1
             FROM conversation c CROSS JOIN message m LEFT JOIN message t
                  ON t.tenant = c.tenant AND t.conversation = c.id AND t.turn = c.tip
             WHERE c.tenant = ?1 AND c.session = ?2 AND c.agent IS ?3
               AND m.tenant = ?1 AND m.conversation = c.id AND m.turn = ?4 AND m.chain = ?5",
        )?;
        let rows = query.query_map(params![self.tenant, session, agent, turn as i64, chain], known_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn known_elsewhere(&self, session: Option<i64>, chain: &Chain) -> Result<Vec<Known>> {
        let mut query = self.connection.prepare_cached(
            "SELECT m.conversation, m.turn, c.tip, t.complete, ?3 IS NULL AND s.derived
             FROM message m INDEXED BY message_by_chain CROSS JOIN conversation c CROSS JOIN session s LEFT JOIN message t
                  ON t.tenant = c.tenant AND t.conversation = c.id AND t.turn = c.tip
             WHERE m.tenant = ?1 AND m.chain = ?2 AND c.id = m.conversation AND s.id = c.session
               AND c.agent IS NULL AND c.session IS NOT ?3
             ORDER BY m.id DESC LIMIT 16",
        )?;
        let rows = query.query_map(params![self.tenant, chain, session], known_of)?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn create_line(&self, new: &NewLine) -> Result<i64> {
        let uuid = Uuid::now_v7();
        self.connection
            .prepare_cached(
                "INSERT INTO conversation
                 (tenant, uuid, session, agent, parent, fork_of, fork_turn, title, source, created_at, updated_at, tip)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 'captured', ?9, ?9, ?10)",
            )?
            .execute(params![
                self.tenant,
                uuid.as_bytes(),
                new.session,
                new.agent,
                new.parent,
                new.fork.map(|f| f.0),
                new.fork.map(|f| f.1 as i64),
                new.title,
                new.at.0,
                new.fork.map_or(0, |f| f.1 as i64),
            ])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn add_turns(&self, conversation: i64, exchange: i64, turns: &[NewTurn], at: Timestamp) -> Result<()> {
        let Some(first) = turns.first() else { return Ok(()) };
        self.make_way(conversation, first.turn)?;
        let mut insert = self.connection.prepare_cached(
            "INSERT INTO message (tenant, conversation, turn, role, complete, chain, exchange, element, elements, created_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?;
        let mut queue =
            self.connection.prepare_cached("INSERT INTO message_unindexed (tenant, message) VALUES (?1, ?2)")?;
        for turn in turns {
            insert.execute(params![
                self.tenant,
                conversation,
                turn.turn as i64,
                turn.role as i64,
                turn.complete,
                turn.chain,
                exchange,
                turn.source.first,
                turn.source.count,
                at.0,
            ])?;
            queue.execute(params![self.tenant, self.connection.last_insert_rowid()])?;
        }
        let tip = first.turn + turns.len() as u64 - 1;
        self.connection
            .prepare_cached(
                "UPDATE conversation SET tip = ?3, updated_at = max(updated_at, ?4) WHERE tenant = ?1 AND id = ?2",
            )?
            .execute(params![self.tenant, conversation, tip as i64, at.0])?;
        Ok(())
    }

    fn turn(&self, conversation: i64, turn: u64) -> Result<Option<(Chain, bool)>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT chain, complete FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn = ?3",
            )?
            .query_row(params![self.tenant, conversation, turn as i64], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }

    fn session_of(&self, conversation: i64) -> Result<i64> {
        Ok(self
            .connection
            .prepare_cached("SELECT session FROM conversation WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, conversation], |row| row.get(0))?)
    }

    fn main_lines(&self, session: i64, limit: u64) -> Result<Vec<(i64, u64)>> {
        let mut query = self.connection.prepare_cached(
            "SELECT id, tip FROM conversation WHERE tenant = ?1 AND session = ?2 AND agent IS NULL AND source = 'captured'
             ORDER BY updated_at DESC, id DESC LIMIT ?3",
        )?;
        let rows = query.query_map(params![self.tenant, session, limit as i64], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)? as u64))
        })?;
        Ok(rows.collect::<std::result::Result<_, _>>()?)
    }

    fn of_agent(&self, session: i64, agent: &str) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT id FROM conversation WHERE tenant = ?1 AND session = ?2 AND agent = ?3 ORDER BY id DESC LIMIT 1",
            )?
            .query_row(params![self.tenant, session, agent], |row| row.get(0))
            .optional()?)
    }

    fn set_session_title(&self, session: i64, title: &str) -> Result<()> {
        let changed = self
            .connection
            .prepare_cached("UPDATE session SET title = ?3 WHERE tenant = ?1 AND id = ?2 AND title IS NOT ?3")?
            .execute(params![self.tenant, session, title])?;
        if changed > 0 {
            indexing::requeue_titles(self.connection, self.tenant, session)?;
        }
        Ok(())
    }

    fn set_project(&self, session: i64, folder: &str) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE session SET project = ?3 WHERE tenant = ?1 AND id = ?2 AND project IS NULL")?
            .execute(params![self.tenant, session, folder])?;
        Ok(())
    }

    fn set_summary_at(&self, session: i64, at: Option<Timestamp>) -> Result<()> {
        self.connection
            .prepare_cached("UPDATE session SET summary_at = ?3 WHERE tenant = ?1 AND id = ?2")?
            .execute(params![self.tenant, session, at.map(|t| t.0)])?;
        Ok(())
    }

    fn summary_at(&self, session: i64) -> Result<Option<Timestamp>> {
        Ok(self
            .connection
            .prepare_cached("SELECT summary_at FROM session WHERE tenant = ?1 AND id = ?2")?
            .query_row(params![self.tenant, session], |row| Ok(row.get::<_, Option<i64>>(0)?.map(Timestamp)))?)
    }

    fn name(&self, text: &str) -> Result<i64> {
        let found = self
            .connection
            .prepare_cached("SELECT id FROM name WHERE tenant = ?1 AND text = ?2")?
            .query_row(params![self.tenant, text], |row| row.get(0))
            .optional()?;
        if let Some(id) = found {
            return Ok(id);
        }
        self.connection
            .prepare_cached("INSERT INTO name (tenant, text) VALUES (?1, ?2)")?
            .execute(params![self.tenant, text])?;
        Ok(self.connection.last_insert_rowid())
    }

    fn newest_manifest(&self, conversation: i64) -> Result<Option<i64>> {
        Ok(self
            .connection
            .prepare_cached(
                "SELECT max(id) FROM exchange WHERE tenant = ?1 AND request_form = 2 AND conversation IN
                 (?2, (SELECT fork_of FROM conversation WHERE tenant = ?1 AND id = ?2))",
            )?
            .query_row(params![self.tenant, conversation], |row| row.get(0))?)
    }

    fn insert_exchange(&self, new: &NewExchange<'_>) -> Result<i64> {
        let captured = new.captured;
        let start = captured.started_at;
        let since = |t: Option<Timestamp>| t.map(|t| t.0 - start.0);
        let tokens = |n: Option<u64>| n.map(|n| n as i64);
        self.connection
            .prepare_cached(
                "INSERT INTO exchange (tenant, uuid, recorder, seq, session, conversation, kind, api, started_at,
                    first_byte_us, ended_us, method, path, status, outcome, durability, upstream, model, streaming,
                    request_bytes, response_bytes, input_tokens, output_tokens, cache_read, cache_write, cost_nano,
                    fingerprint, pack, pack_offset, pack_length, request_form, request_data, request_base,
                    response_form, response_data, digests)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21,
                    ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29, ?30, ?31, ?32, ?33, ?34, ?35, ?36)",
            )?
            .execute(params![
                self.tenant,
                captured.id.as_bytes(),
                new.recorder,
                new.seq as i64,
                new.session,
                new.conversation,
                new.kind,
                new.api,
                start.0,
                since(captured.first_byte_at),
                since(captured.ended_at),
                new.method,
                new.path,
                captured.response_head.as_ref().map(|h| h.status),
                captured.outcome as i64,
                captured.durability as i64,
                new.upstream,
                new.model,
                new.streaming,
                captured.request_body.size() as i64,
                captured.response_body.size() as i64,
                tokens(new.input_tokens),
                tokens(new.output_tokens),
                tokens(new.cache_read),
                tokens(new.cache_write),
                new.cost_nano,
                new.fingerprint,
                new.envelope.pack,
                new.envelope.offset,
                new.envelope.length,
                new.request_form as i64,
                new.request_data,
                new.request_base,
                new.response_form as i64,
                new.response_data,
                new.digests,
            ])?;
        Ok(self.connection.last_insert_rowid())
    }
}

impl Tables<'_> {
    /// Removes a conversation's turns from one on. Nearly always there are none.
    fn make_way(&self, conversation: i64, turn: u64) -> Result<()> {
        let from = params![self.tenant, conversation, turn as i64];
        let gives_way = self
            .connection
            .prepare_cached("SELECT 1 FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3")?
            .exists(from)?;
        if !gives_way {
            return Ok(());
        }
        // What gives way leaves the index too: nobody could erase its words from there later.
        self.connection
            .prepare_cached(
                "DELETE FROM message_words WHERE rowid IN (SELECT id FROM message
                 WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3
                   AND id NOT IN (SELECT message FROM message_unindexed WHERE tenant = ?1))",
            )?
            .execute(from)?;
        self.connection
            .prepare_cached("DELETE FROM message WHERE tenant = ?1 AND conversation = ?2 AND turn >= ?3")?
            .execute(from)?;
        Ok(())
    }
}
