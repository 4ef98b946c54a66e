//! What a batch asks: of its own additions from memory, of the rest with SQL.

use std::borrow::Cow;
use std::collections::HashSet;

use uuid::Uuid;

use super::super::connection::{Connection, Params};
use super::super::error::damaged;
use super::super::places::{ELSEWHERE, IN_SESSION, Places};
use super::super::snapshot::{LOCATE, Snapshot};
use super::super::value::stored;
use super::Batch;
use crate::content::manifest::BlockHash;
use crate::conversation::identity::Chain;
use crate::store::{Result, Watermark};
use crate::tables::{Content, ContentRow, Expected, Held, Location};

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

/// Steps to be looked for, as the queries take them.
#[derive(Default)]
struct Asking<'e> {
    /// Whose histories they are.
    sessions: Vec<i64>,
    agents: Vec<Option<Cow<'e, str>>>,
    /// Steps of those: which one's, and which.
    places: Vec<i64>,
    turns: Vec<i64>,
    chains: Vec<&'e [u8]>,
    /// Steps that other sessions may hold.
    not_in: Vec<Option<i64>>,
    elsewhere: Vec<&'e [u8]>,
}

impl<'e> Asking<'e> {
    /// Leaves out what is known.
    fn add(&mut self, expected: &'e Expected<'e>, known: &mut Places) {
        let Expected { session, agent, ref steps, .. } = *expected;
        let before = self.places.len();
        let place = self.sessions.len() as i64 + 1;
        for (turn, chain) in steps {
            if !known.ask(session, agent, chain) {
                continue;
            }
            if session.is_some() {
                self.places.push(place);
                self.turns.push(*turn as i64);
                self.chains.push(chain);
            }
            if agent.is_none() {
                self.not_in.push(session);
                self.elsewhere.push(chain);
            }
        }
        if let Some(session) = session.filter(|_| self.places.len() > before) {
            self.sessions.push(session);
            self.agents.push(agent.map(stored));
        }
    }
}

impl Batch<'_> {
    /// Asks at once for what will be asked for one by one.
    pub(super) fn look_ahead(&self, epoch: i32, expected: &[Expected<'_>]) -> Result<()> {
        let (added, mut wanted) = (self.blocks.borrow(), HashSet::new());
        let blocks = expected.iter().flat_map(|e| e.blocks).filter(|hash| !added.contains_key(&(epoch, **hash)));
        let blocks: Vec<BlockHash> = blocks.filter(|hash| wanted.insert(**hash)).copied().collect();
        let hashes: Vec<&[u8]> = blocks.iter().map(|h| &h[..]).collect();
        let mut places = self.places.borrow_mut();
        let mut asking = Asking::default();
        expected.iter().for_each(|expected| asking.add(expected, &mut places));
        let Asking { sessions, agents, places: whose, turns, chains, not_in, elsewhere } = asking;
        let tenant = self.tenant();
        let located: Params<'_> = &[&tenant, &epoch, &hashes];
        let inside: Params<'_> = &[&tenant, &sessions, &agents, &whose, &turns, &chains];
        let outside: Params<'_> = &[&tenant, &not_in, &elsewhere];
        let mut queries = Vec::with_capacity(3);
        queries.extend((!blocks.is_empty()).then_some((LOCATE, located)));
        queries.extend((!chains.is_empty()).then_some((IN_SESSION, inside)));
        queries.extend((!elsewhere.is_empty()).then_some((ELSEWHERE, outside)));
        if queries.is_empty() {
            return Ok(());
        }
        let mut found = self.reads.connection.query_all(&queries)?.into_iter();
        if !blocks.is_empty() {
            self.reads.add_located(epoch, &blocks, &found.next().unwrap_or_default())?;
        }
        found.try_for_each(|rows| places.add_found(&rows))
    }

    /// Asks for a step that was not announced.
    pub(super) fn look_for(&self, session: Option<i64>, agent: Option<&str>, turn: u64, chain: &Chain) -> Result<()> {
        self.look_ahead(0, &[Expected { session, agent, steps: vec![(turn, *chain)], blocks: &[] }])
    }
}

/// What is stored of a recorder.
pub(in super::super) fn watermark(snapshot: &Snapshot<'_>, recorder: Uuid) -> Result<Watermark> {
    let (connection, tenant) = (snapshot.connection, snapshot.tenant);
    let row = connection.query_opt("SELECT id FROM recorder WHERE tenant = $1 AND uuid = $2", &[&tenant, &recorder])?;
    row.map_or_else(|| Ok(Watermark::default()), |row| read_watermark(connection, tenant, row.try_get(0)?))
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
