//! What a batch asks: of its own additions from memory, of the rest with SQL.

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

impl Batch<'_> {
    /// Asks at once for what will be asked for one by one.
    pub(super) fn look_ahead(&self, expected: &Expected<'_>) -> Result<()> {
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
}

/// Steps that were not announced.
pub(super) fn alone<'a>(session: Option<i64>, agent: Option<&'a str>, steps: &'a [(u64, Chain)]) -> Expected<'a> {
    Expected { epoch: 0, session, agent, steps, blocks: &[] }
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
