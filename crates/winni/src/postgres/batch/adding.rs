//! What a batch adds.

use uuid::Uuid;

use super::super::connection::Value;
use super::super::error::damaged;
use super::super::places::LINE;
use super::super::value::{stored, text_key};
use super::super::{indexing, schema};
use super::Batch;
use super::lookups::read_watermark;
use super::rows::exchange_values;
use crate::content::manifest::BlockHash;
use crate::content::pack::Piece;
use crate::conversation::identity::Chain;
use crate::conversation::threading::Known;
use crate::model::Timestamp;
use crate::store::{Result, Watermark};
use crate::tables::{Expected, Ingest, Location, NewExchange, NewLine, NewTurn, Packing, RowSizes};

/// Names of sessions that are remembered.
const MAX_SESSIONS: usize = 10_000;

impl Packing for Batch<'_> {
    fn row_sizes(&self) -> RowSizes {
        RowSizes { record: 90, exchange: 600, message: 330, block: 160, piece: 120, frame: 500, tool_use: 160 }
    }

    fn next_pack(&self, _epoch: i32) -> Result<i64> {
        let next = self.counters.get().next_pack;
        self.counted(|c| c.next_pack += 1);
        Ok(next)
    }

    fn insert_piece(&self, epoch: i32, pack: i64, piece: Piece) -> Result<()> {
        let Piece { number, offset, data } = piece;
        let row: Vec<Value> = vec![
            Box::new(self.tenant()),
            Box::new(epoch),
            Box::new(pack),
            Box::new(number as i64),
            Box::new(offset as i64),
            Box::new(data),
        ];
        self.pending.borrow_mut().pieces.push(row);
        Ok(())
    }

    fn put_block(&self, epoch: i32, hash: &BlockHash, at: Location) -> Result<()> {
        let row: Vec<Value> = vec![
            Box::new(self.tenant()),
            Box::new(epoch),
            Box::new(hash.to_vec()),
            Box::new(at.pack),
            Box::new(at.offset as i64),
            Box::new(at.length as i64),
        ];
        self.pending.borrow_mut().blocks.push(row);
        self.blocks.borrow_mut().insert((epoch, *hash), at);
        Ok(())
    }
}

impl Ingest for Batch<'_> {
    fn epoch_of(&self, at: Timestamp) -> Result<i32> {
        let epoch = schema::epoch_of(at);
        if !self.remembered.borrow().epochs.contains(&epoch) {
            schema::make_partition(self.reads.connection, epoch)?;
            self.remembered.borrow_mut().epochs.insert(epoch);
        }
        Ok(epoch)
    }

    fn erasures(&self) -> Result<i64> {
        Ok(self.erasures)
    }

    fn recorder(&self, uuid: Uuid) -> Result<i64> {
        if let Some(&id) = self.remembered.borrow().recorders.get(&uuid) {
            return Ok(id);
        }
        let row = self.reads.connection.query_one(
            "WITH added AS (INSERT INTO recorder (tenant, uuid) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING id)
             SELECT id FROM added UNION ALL SELECT id FROM recorder WHERE tenant = $1 AND uuid = $2 LIMIT 1",
            &[&self.tenant(), &uuid],
        )?;
        let id = row.try_get(0)?;
        self.remembered.borrow_mut().recorders.insert(uuid, id);
        Ok(id)
    }

    fn held(&self, recorder: i64, seqs: &[u64]) -> Result<Vec<u64>> {
        let seqs: Vec<i64> = seqs.iter().map(|&seq| seq as i64).collect();
        let rows = self.sql()?.query(
            "SELECT seq FROM record WHERE tenant = $1 AND recorder = $2 AND seq = ANY($3)",
            &[&self.tenant(), &recorder, &seqs],
        )?;
        rows.iter().map(|row| Ok(row.try_get::<_, i64>(0)? as u64)).collect()
    }

    fn begin_life(&self, recorder: i64, at: Timestamp, about: &str) -> Result<()> {
        self.reads.connection.execute(
            "UPDATE recorder SET begun_at = $3, about = $4 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &recorder, &at, &stored(about)],
        )?;
        Ok(())
    }

    fn end_life(&self, recorder: i64, at: Option<Timestamp>, orderly: bool) -> Result<()> {
        self.reads.connection.execute(
            "UPDATE recorder SET ended_at = $3, orderly = $4 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &recorder, &at, &orderly],
        )?;
        Ok(())
    }

    fn add_record(&self, recorder: i64, seq: u64, kind: i64, detail: Option<&[u8]>) -> Result<()> {
        let row: Vec<Value> = vec![
            Box::new(self.tenant()),
            Box::new(recorder),
            Box::new(seq as i64),
            Box::new(kind as i16),
            Box::new(detail.map(<[u8]>::to_vec)),
        ];
        self.pending.borrow_mut().records.push(row);
        Ok(())
    }

    fn advance(&self, recorder: i64) -> Result<Watermark> {
        let watermark = read_watermark(self.sql()?, self.tenant(), recorder)?;
        self.reads.connection.execute(
            "UPDATE recorder SET contiguous = $3 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &recorder, &(watermark.contiguous as i64)],
        )?;
        Ok(watermark)
    }

    fn count(&self, captured: u64, stored: u64) -> Result<()> {
        self.counted(|c| {
            c.captured += captured as i64;
            c.stored += stored as i64;
        });
        Ok(())
    }

    fn count_unrecorded(&self, exchanges: u64) -> Result<()> {
        self.counted(|c| c.unrecorded += exchanges as i64);
        Ok(())
    }

    fn expect(&self, epoch: i32, expected: &[Expected<'_>]) -> Result<()> {
        self.look_ahead(epoch, expected)
    }

    fn session(&self, name: &str, derived: bool) -> Result<i64> {
        if let Some(&id) = self.remembered.borrow().sessions.get(name) {
            return Ok(id);
        }
        let row = self.reads.connection.query_one(
            "WITH added AS (INSERT INTO session (tenant, key, name, derived) VALUES ($1, $2, $3, $4)
                 ON CONFLICT DO NOTHING RETURNING id)
             SELECT id FROM added UNION ALL SELECT id FROM session WHERE tenant = $1 AND key = $2 LIMIT 1",
            &[&self.tenant(), &text_key(name), &stored(name), &derived],
        )?;
        let id = row.try_get(0)?;
        let mut remembered = self.remembered.borrow_mut();
        if remembered.sessions.len() >= MAX_SESSIONS {
            remembered.sessions.clear();
        }
        remembered.sessions.insert(name.to_owned(), id);
        Ok(id)
    }

    fn known_in_session(&self, session: i64, agent: Option<&str>, turn: u64, chain: &Chain) -> Result<Vec<Known>> {
        self.look_for(Some(session), agent, turn, chain)?;
        Ok(self.places.borrow().in_session(session, agent, turn, chain))
    }

    fn known_elsewhere(&self, session: Option<i64>, chain: &Chain) -> Result<Vec<Known>> {
        self.look_for(session, None, 0, chain)?;
        Ok(self.places.borrow().elsewhere(session, chain))
    }

    fn create_line(&self, new: &NewLine) -> Result<i64> {
        let tip = new.fork.map_or(0, |f| f.1 as i64);
        let row = self.reads.connection.query_one(
            "INSERT INTO conversation
             (tenant, uuid, session, agent, parent, fork_of, fork_turn, title, source, created_at, updated_at, tip)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'captured', $9, $9, $10)
             RETURNING id, (SELECT derived FROM session WHERE tenant = $1 AND id = $3)",
            &[
                &self.tenant(),
                &Uuid::now_v7(),
                &new.session,
                &new.agent.as_deref().map(stored),
                &new.parent,
                &new.fork.map(|f| f.0),
                &new.fork.map(|f| f.1 as i64),
                &new.title.as_deref().map(stored),
                &new.at,
                &tip,
            ],
        )?;
        let id = row.try_get(0)?;
        self.places.borrow_mut().add_line(id, new, row.try_get(1)?);
        Ok(id)
    }

    fn add_turns(&self, conversation: i64, exchange: i64, turns: &[NewTurn], at: Timestamp) -> Result<()> {
        let Some(first) = turns.first() else { return Ok(()) };
        if self.places.borrow().tip(conversation).is_none() {
            let rows = self.sql()?.query(LINE, &[&self.tenant(), &conversation])?;
            self.places.borrow_mut().add_lines(&rows)?;
        }
        if self.places.borrow().tip(conversation).is_none_or(|tip| tip >= first.turn) {
            self.give_way(conversation, first.turn)?;
        }
        let tip = first.turn + turns.len() as u64 - 1;
        for turn in turns {
            let message = self.next_message();
            let row: Vec<Value> = vec![
                Box::new(self.tenant()),
                Box::new(message),
                Box::new(conversation),
                Box::new(turn.turn as i64),
                Box::new(turn.role as i16),
                Box::new(turn.complete),
                Box::new(Some(turn.chain.to_vec())),
                Box::new(Some(exchange)),
                Box::new(turn.source.first),
                Box::new(turn.source.count),
                Box::new(at),
                Box::new(None::<i64>),
                Box::new(None::<String>),
            ];
            self.add_messages(vec![(message, row)]);
            self.places.borrow_mut().add_turn(conversation, message, turn);
        }
        let mut pending = self.pending.borrow_mut();
        let newest = pending.tips.get(&conversation).map_or(at, |(_, before)| at.max(*before));
        pending.tips.insert(conversation, (tip as i64, newest));
        Ok(())
    }

    fn turn(&self, conversation: i64, turn: u64) -> Result<Option<(Chain, bool)>> {
        let row = self.sql()?.query_opt(
            "SELECT chain, complete FROM message WHERE tenant = $1 AND conversation = $2 AND turn = $3",
            &[&self.tenant(), &conversation, &(turn as i64)],
        )?;
        row.map(|row| {
            let chain: &[u8] = row.try_get(0)?;
            Ok((chain.try_into().map_err(|_| damaged("a chain is not 16 bytes"))?, row.try_get(1)?))
        })
        .transpose()
    }

    fn session_of(&self, conversation: i64) -> Result<i64> {
        if let Some(session) = self.places.borrow().session_of(conversation) {
            return Ok(session);
        }
        let row = self.reads.connection.query_one(
            "SELECT session FROM conversation WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &conversation],
        )?;
        Ok(row.try_get(0)?)
    }

    fn main_lines(&self, session: i64, limit: u64) -> Result<Vec<(i64, u64)>> {
        let rows = self.sql()?.query(
            "SELECT id, tip FROM conversation
             WHERE tenant = $1 AND session = $2 AND agent IS NULL AND source = 'captured'
             ORDER BY updated_at DESC, id DESC LIMIT $3",
            &[&self.tenant(), &session, &(limit as i64)],
        )?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)? as u64))).collect()
    }

    fn of_agent(&self, session: i64, agent: &str) -> Result<Option<i64>> {
        let row = self.reads.connection.query_opt(
            "SELECT id FROM conversation WHERE tenant = $1 AND session = $2 AND agent = $3 ORDER BY id DESC LIMIT 1",
            &[&self.tenant(), &session, &stored(agent)],
        )?;
        Ok(row.map(|row| row.get(0)))
    }

    fn set_session_title(&self, session: i64, title: &str) -> Result<()> {
        let changed = self.reads.connection.execute(
            "UPDATE session SET title = $3 WHERE tenant = $1 AND id = $2 AND title IS DISTINCT FROM $3",
            &[&self.tenant(), &session, &stored(title)],
        )?;
        if changed > 0 {
            indexing::requeue_titles(self, session)?;
        }
        Ok(())
    }

    fn set_project(&self, session: i64, folder: &str) -> Result<()> {
        self.reads.connection.execute(
            "UPDATE session SET project = $3 WHERE tenant = $1 AND id = $2 AND project IS NULL",
            &[&self.tenant(), &session, &stored(folder)],
        )?;
        Ok(())
    }

    fn set_summary_at(&self, session: i64, at: Option<Timestamp>) -> Result<()> {
        self.reads.connection.execute(
            "UPDATE session SET summary_at = $3 WHERE tenant = $1 AND id = $2",
            &[&self.tenant(), &session, &at],
        )?;
        Ok(())
    }

    fn summary_at(&self, session: i64) -> Result<Option<Timestamp>> {
        let row = self
            .reads
            .connection
            .query_one("SELECT summary_at FROM session WHERE tenant = $1 AND id = $2", &[&self.tenant(), &session])?;
        Ok(row.try_get(0)?)
    }

    fn name(&self, text: &str) -> Result<i64> {
        let row = self.reads.connection.query_one(
            "WITH added AS (INSERT INTO name (tenant, key, text) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING id)
             SELECT id FROM added UNION ALL SELECT id FROM name WHERE tenant = $1 AND key = $2 LIMIT 1",
            &[&self.tenant(), &text_key(text), &stored(text)],
        )?;
        Ok(row.try_get(0)?)
    }

    fn newest_manifest(&self, conversation: i64) -> Result<Option<i64>> {
        let row = self.sql()?.query_one(
            "SELECT max(x.id) FROM (SELECT $2 UNION ALL SELECT fork_of FROM conversation WHERE tenant = $1 AND id = $2) w (id)
             CROSS JOIN LATERAL (SELECT id FROM exchange
                 WHERE tenant = $1 AND conversation = w.id AND request_form = 2 OFFSET 0) x",
            &[&self.tenant(), &conversation],
        )?;
        Ok(row.try_get(0)?)
    }

    fn insert_exchange(&self, new: &NewExchange<'_>) -> Result<i64> {
        let id = self.counters.get().next_exchange;
        self.counted(|c| c.next_exchange += 1);
        self.pending.borrow_mut().exchanges.push(exchange_values(self.tenant(), id, new));
        Ok(id)
    }
}

impl Batch<'_> {
    /// Removes the conversation's turns from `first` on, and their words.
    fn give_way(&self, conversation: i64, first: u64) -> Result<()> {
        let gone = self.sql()?.query(
            "DELETE FROM message WHERE tenant = $1 AND conversation = $2 AND turn >= $3 RETURNING id",
            &[&self.tenant(), &conversation, &(first as i64)],
        )?;
        indexing::forget(self, &gone.iter().map(|row| row.get(0)).collect::<Vec<i64>>())?;
        self.places.borrow_mut().give_way(conversation, first);
        Ok(())
    }
}
