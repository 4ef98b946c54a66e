//! Writing a batch: the questions and changes of `tables`, with few journeys to the server.
//!
//! What a batch adds is gathered and written with binary COPY at its end; what it asks of its own additions is answered
//! from memory. Whatever memory does not answer is asked with SQL, after what was gathered has been written, so that
//! memory can save journeys and never change an answer.
//!
//! A batch holds the lock on the tenant's row of `total` from its first statement to its commit: writers take turns,
//! whichever process they are in, and numbers become visible in their order.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet};

use tokio_postgres::types::Type;
use uuid::Uuid;

use super::connection::{Connection, Params, Value};
use super::error::damaged;
use super::indexing;
use super::places::{ELSEWHERE, IN_SESSION, LINE, Places};
use super::schema;
use super::snapshot::{LOCATE, Snapshot};
use super::value::{stored, text_key};
use crate::content::manifest::BlockHash;
use crate::content::pack::Piece;
use crate::conversation::identity::Chain;
use crate::conversation::threading::Known;
use crate::handed_in::AcceptedMessage;
use crate::model::{CapturedFrame, Timestamp};
use crate::store::{Result, Watermark};
use crate::tables::{
    ConnectionRow, Content, ContentRow, Expected, Held, Ingest, Location, NewExchange, NewFrame, NewLine, NewTurn,
    Owner, Packing, RowSizes,
};

/// What a writer may remember from one batch to the next; forgotten when a batch fails.
#[derive(Default)]
pub(super) struct Remembered {
    sessions: HashMap<String, i64>,
    recorders: HashMap<Uuid, i64>,
    /// Epochs that have partitions.
    epochs: HashSet<i32>,
}

const MAX_SESSIONS: usize = 10_000;

/// The numbers that come next, and totals.
#[derive(Clone, Copy)]
struct Counters {
    captured: i64,
    stored: i64,
    unrecorded: i64,
    next_exchange: i64,
    next_message: i64,
    next_pack: i64,
    next_frame: i64,
}

/// Rows that are to be written.
#[derive(Default)]
struct Pending {
    exchanges: Vec<Vec<Value>>,
    messages: Vec<Vec<Value>>,
    unindexed: Vec<Vec<Value>>,
    records: Vec<Vec<Value>>,
    blocks: Vec<Vec<Value>>,
    pieces: Vec<Vec<Value>>,
    /// Last turn and time of conversations that have got turns.
    tips: BTreeMap<i64, (i64, Timestamp)>,
}

/// One transaction that adds to the record.
pub(super) struct Batch<'c> {
    pub(super) reads: Snapshot<'c>,
    remembered: RefCell<&'c mut Remembered>,
    erasures: i64,
    counters: Cell<Counters>,
    pending: RefCell<Pending>,
    /// Every block that this transaction has added.
    blocks: RefCell<HashMap<(i32, BlockHash), Location>>,
    places: RefCell<Places>,
}

/// Locks the tenant and reads where its numbers are.
const LOCK: &str = "SELECT erasures, next_exchange, next_message, next_pack, next_frame FROM total WHERE tenant = $1 FOR NO KEY UPDATE";

impl<'c> Batch<'c> {
    /// Runs `work` in a transaction of the tenant's only writer.
    pub(super) fn run<T>(
        connection: &'c Connection,
        tenant: i64,
        remembered: &'c mut Remembered,
        work: impl FnOnce(&Batch<'c>) -> Result<T>,
    ) -> Result<T> {
        connection.transaction("BEGIN", || {
            let row = connection.query_one(LOCK, &[&tenant])?;
            let batch = Batch {
                reads: Snapshot::new(connection, tenant),
                remembered: RefCell::new(remembered),
                erasures: row.get(0),
                counters: Cell::new(Counters {
                    captured: 0,
                    stored: 0,
                    unrecorded: 0,
                    next_exchange: row.get(1),
                    next_message: row.get(2),
                    next_pack: row.get(3),
                    next_frame: row.get(4),
                }),
                pending: RefCell::default(),
                blocks: RefCell::default(),
                places: RefCell::default(),
            };
            let done = work(&batch)?;
            batch.finish()?;
            Ok(done)
        })
    }

    fn finish(&self) -> Result<()> {
        self.flush()?;
        let Counters { captured, stored, unrecorded, next_exchange, next_message, next_pack, next_frame } =
            self.counters.get();
        self.reads.connection.execute(
            "UPDATE total SET captured_bytes = captured_bytes + $2, stored_bytes = stored_bytes + $3,
                 unrecorded = unrecorded + $4, next_exchange = $5, next_message = $6, next_pack = $7,
                 next_frame = $8
             WHERE tenant = $1",
            &[&self.tenant(), &captured, &stored, &unrecorded, &next_exchange, &next_message, &next_pack, &next_frame],
        )?;
        Ok(())
    }

    pub(super) fn tenant(&self) -> i64 {
        self.reads.tenant
    }

    /// The connection, with everything written that was gathered: for questions that memory does not answer.
    pub(super) fn sql(&self) -> Result<&'c Connection> {
        self.flush()?;
        Ok(self.reads.connection)
    }

    fn counted(&self, change: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        change(&mut counters);
        self.counters.set(counters);
    }

    pub(super) fn next_message(&self) -> i64 {
        let next = self.counters.get().next_message;
        self.counted(|c| c.next_message += 1);
        next
    }

    pub(super) fn next_frame(&self) -> i64 {
        let next = self.counters.get().next_frame;
        self.counted(|c| c.next_frame += 1);
        next
    }

    /// Gathers rows of messages with their numbers; all of them wait for the index.
    pub(super) fn add_messages(&self, rows: Vec<(i64, Vec<Value>)>) {
        let mut pending = self.pending.borrow_mut();
        for (message, row) in rows {
            pending.messages.push(row);
            pending.unindexed.push(vec![Box::new(self.tenant()), Box::new(message)]);
        }
    }

    /// Writes what was gathered.
    fn flush(&self) -> Result<()> {
        let Pending { exchanges, messages, unindexed, records, blocks, pieces, tips } = self.pending.take();
        let connection = self.reads.connection;
        connection.copy(COPY_PIECES, &PIECE_TYPES, &pieces)?;
        connection.copy(COPY_BLOCKS, &BLOCK_TYPES, &blocks)?;
        connection.copy(COPY_EXCHANGES, &EXCHANGE_TYPES, &exchanges)?;
        connection.copy(COPY_MESSAGES, &MESSAGE_TYPES, &messages)?;
        connection.copy(COPY_UNINDEXED, &UNINDEXED_TYPES, &unindexed)?;
        connection.copy(COPY_RECORDS, &RECORD_TYPES, &records)?;
        if tips.is_empty() {
            return Ok(());
        }
        let conversations: Vec<i64> = tips.keys().copied().collect();
        let (tips, times): (Vec<i64>, Vec<Timestamp>) = tips.into_values().unzip();
        connection.execute(
            "UPDATE conversation c SET tip = n.tip, updated_at = greatest(c.updated_at, n.at)
             FROM unnest($2::bigint[], $3::bigint[], $4::timestamptz[]) AS n (id, tip, at)
             WHERE c.tenant = $1 AND c.id = n.id",
            &[&self.tenant(), &conversations, &tips, &times],
        )?;
        Ok(())
    }
}

impl Content for Batch<'_> {
    fn content_row(&self, exchange: i64) -> Result<Option<ContentRow>> {
        self.flush()?;
        self.reads.content_row(exchange)
    }

    fn locate(&self, epoch: i32, hash: &BlockHash) -> Result<Option<Location>> {
        match self.blocks.borrow().get(&(epoch, *hash)) {
            Some(&added) => Ok(Some(added)),
            None => self.reads.locate(epoch, hash),
        }
    }

    fn pieces(&self, epoch: i32, pack: i64, take: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        self.flush()?;
        self.reads.pieces(epoch, pack, take)
    }

    fn stored_content(&self, id: i64) -> Result<Vec<u8>> {
        self.reads.stored_content(id)
    }

    fn assistant_turn(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        self.flush()?;
        self.reads.assistant_turn(conversation, turn)
    }

    fn assistant_before(&self, conversation: i64, turn: u64) -> Result<Option<Held>> {
        self.flush()?;
        self.reads.assistant_before(conversation, turn)
    }

    fn expect_content(&self, exchanges: &[i64]) -> Result<()> {
        self.flush()?;
        self.reads.expect_content(exchanges)
    }

    fn expect_blocks(&self, epoch: i32, hashes: &[BlockHash]) -> Result<()> {
        self.reads.expect_blocks(epoch, hashes)
    }
}

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

    fn expect(&self, expected: &Expected<'_>) -> Result<()> {
        let Expected { epoch, session, agent, steps, blocks } = *expected;
        let added = self.blocks.borrow();
        let blocks: Vec<BlockHash> = blocks.iter().filter(|h| !added.contains_key(&(epoch, **h))).copied().collect();
        let hashes: Vec<&[u8]> = blocks.iter().map(|h| &h[..]).collect();
        let (turns, chains) = Places::steps(steps);
        let agent_text = agent.map(stored);
        let tenant = self.tenant();
        let located: Params<'_> = &[&tenant, &epoch, &hashes];
        let inside: Params<'_> = &[&tenant, &session, &agent_text, &turns, &chains];
        let elsewhere: Params<'_> = &[&tenant, &session, &chains];
        let mut queries = Vec::with_capacity(3);
        queries.extend((!blocks.is_empty()).then_some((LOCATE, located)));
        queries.extend((session.is_some() && !steps.is_empty()).then_some((IN_SESSION, inside)));
        queries.extend((agent.is_none() && !steps.is_empty()).then_some((ELSEWHERE, elsewhere)));
        if queries.is_empty() {
            return Ok(());
        }
        let mut found = self.reads.connection.query_all(&queries)?.into_iter();
        if !blocks.is_empty() {
            self.reads.add_located(epoch, &blocks, &found.next().unwrap_or_default())?;
        }
        let mut places = self.places.borrow_mut();
        places.expected(session, agent, steps);
        found.try_for_each(|rows| places.add_found(&rows))
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
        if !self.places.borrow().is_expected(Some(session), agent, chain) {
            self.expect(&alone(Some(session), agent, &[(turn, *chain)]))?;
        }
        Ok(self.places.borrow().in_session(session, agent, turn, chain))
    }

    fn known_elsewhere(&self, session: Option<i64>, chain: &Chain) -> Result<Vec<Known>> {
        if !self.places.borrow().is_expected(session, None, chain) {
            self.expect(&alone(session, None, &[(0, *chain)]))?;
        }
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
        let row = self.sql()?.query_opt(
            "SELECT id FROM exchange WHERE tenant = $1 AND request_form = 2 AND conversation IN
                 ($2, (SELECT fork_of FROM conversation WHERE tenant = $1 AND id = $2))
             ORDER BY id DESC LIMIT 1",
            &[&self.tenant(), &conversation],
        )?;
        Ok(row.map(|row| row.get(0)))
    }

    fn insert_exchange(&self, new: &NewExchange<'_>) -> Result<i64> {
        let id = self.counters.get().next_exchange;
        self.counted(|c| c.next_exchange += 1);
        self.pending.borrow_mut().exchanges.push(exchange_values(self.tenant(), id, new));
        Ok(id)
    }

    fn connection(&self, uuid: Uuid) -> Result<Option<ConnectionRow>> {
        self.find_connection(uuid)
    }

    fn add_connection(&self, frame: &CapturedFrame, server: i64, session: Option<i64>) -> Result<i64> {
        self.insert_connection(frame, server, session)
    }

    fn give_connection(&self, connection: i64, session: Option<i64>) -> Result<()> {
        self.set_connection_session(connection, session)
    }

    fn owner_of_request(&self, connection: i64, direction: i64, id: &str) -> Result<Option<Owner>> {
        self.find_request(connection, direction, id)
    }

    fn owner_of_tool_use(&self, tool_use: &str) -> Result<Option<(i64, i64)>> {
        self.find_tool_use(tool_use)
    }

    fn note_tool_use(&self, id: &str, session: i64, conversation: i64) -> Result<bool> {
        self.add_tool_use(id, session, conversation)
    }

    fn insert_frame(&self, new: &NewFrame<'_>) -> Result<()> {
        self.add_frame(new)
    }
}

impl Batch<'_> {
    /// Removes the conversation's turns from `first` on, and their words.
    fn give_way(&self, conversation: i64, first: u64) -> Result<()> {
        self.sql()?.execute(
            "WITH gone AS (DELETE FROM message WHERE tenant = $1 AND conversation = $2 AND turn >= $3 RETURNING id),
                  words AS (DELETE FROM message_words WHERE tenant = $1 AND message IN (SELECT id FROM gone))
             DELETE FROM message_unindexed WHERE tenant = $1 AND message IN (SELECT id FROM gone)",
            &[&self.tenant(), &conversation, &(first as i64)],
        )?;
        self.places.borrow_mut().give_way(conversation, first);
        Ok(())
    }
}

fn alone<'a>(session: Option<i64>, agent: Option<&'a str>, steps: &'a [(u64, Chain)]) -> Expected<'a> {
    Expected { epoch: 0, session, agent, steps, blocks: &[] }
}

pub(super) fn read_watermark(connection: &Connection, tenant: i64, recorder: i64) -> Result<Watermark> {
    let rows = connection.query(
        "SELECT r.contiguous, seq FROM recorder r
         LEFT JOIN record ON record.tenant = r.tenant AND record.recorder = r.id AND record.seq >= r.contiguous
         WHERE r.tenant = $1 AND r.id = $2 ORDER BY seq",
        &[&tenant, &recorder],
    )?;
    let first = rows.first().ok_or_else(|| damaged(format!("recorder {recorder} is missing")))?;
    let mut watermark = Watermark { contiguous: first.try_get::<_, i64>(0)? as u64, beyond: Vec::new() };
    for row in &rows {
        match row.try_get::<_, Option<i64>>(1)?.map(|seq| seq as u64) {
            Some(seq) if seq == watermark.contiguous => watermark.contiguous += 1,
            Some(seq) => watermark.beyond.push(seq),
            None => {}
        }
    }
    Ok(watermark)
}

const COPY_PIECES: &str = "COPY pack_piece (tenant, epoch, pack, piece, at, data) FROM STDIN (FORMAT binary)";
const PIECE_TYPES: [Type; 6] = [Type::INT8, Type::INT4, Type::INT8, Type::INT8, Type::INT8, Type::BYTEA];

const COPY_BLOCKS: &str = "COPY block (tenant, epoch, hash, pack, at, length) FROM STDIN (FORMAT binary)";
const BLOCK_TYPES: [Type; 6] = [Type::INT8, Type::INT4, Type::BYTEA, Type::INT8, Type::INT8, Type::INT8];

const COPY_MESSAGES: &str = "COPY message (tenant, id, conversation, turn, role, complete, chain, exchange, element, \
     elements, created_at, content, metadata) FROM STDIN (FORMAT binary)";
const MESSAGE_TYPES: [Type; 13] = [
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
];

const COPY_UNINDEXED: &str = "COPY message_unindexed (tenant, message) FROM STDIN (FORMAT binary)";
const UNINDEXED_TYPES: [Type; 2] = [Type::INT8, Type::INT8];

const COPY_RECORDS: &str = "COPY record (tenant, recorder, seq, kind, detail) FROM STDIN (FORMAT binary)";
const RECORD_TYPES: [Type; 5] = [Type::INT8, Type::INT8, Type::INT8, Type::INT2, Type::BYTEA];

const COPY_EXCHANGES: &str = "COPY exchange (tenant, epoch, id, uuid, recorder, seq, session, conversation, kind, api, \
     started_at, first_byte_us, ended_us, method, path, status, outcome, durability, upstream, model, streaming, \
     request_bytes, response_bytes, input_tokens, output_tokens, cache_read, cache_write, cost_nano, fingerprint, pack, \
     pack_offset, pack_length, request_form, request_data, request_base, response_form, response_data, digests) \
     FROM STDIN (FORMAT binary)";
const EXCHANGE_TYPES: [Type; 38] = [
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
];

/// A message that was handed in, in the order of [`COPY_MESSAGES`].
pub(super) fn message_values(
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

/// In the order of [`COPY_EXCHANGES`].
fn exchange_values(tenant: i64, id: i64, new: &NewExchange<'_>) -> Vec<Value> {
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
