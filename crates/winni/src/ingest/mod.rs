//! Making what was captured part of the record: every item once, threaded into conversations, its bodies kept so that they
//! are proved to come back. Written over [`crate::tables`], for every backend.

pub(crate) mod bodies;
mod exchange;
mod frames;
pub(crate) mod fresh;
mod history;
pub(crate) mod memory;
pub(crate) mod packs;
mod placing;
mod read;

use std::collections::HashSet;

use crate::model::{Batch, CapturedExchange, Gap, Item};
use crate::store::{Result, Watermark};
use crate::tables::Ingest;
use bodies::MAX_WHOLE;
use memory::Memory;
use read::ReadExchange;

/// Stores a batch within a transaction. If this fails, or the transaction, what `memory` has learnt from it must be forgotten.
pub(crate) fn append(tables: &dyn Ingest, batch: Batch, memory: &mut Memory) -> Result<Watermark> {
    memory.heed_erasures(tables)?;
    let recorder = tables.recorder(batch.recorder)?;
    let seqs: Vec<u64> = batch.items.iter().map(|(seq, _)| *seq).collect();
    let mut held: HashSet<u64> = tables.held(recorder, &seqs)?.into_iter().collect();
    let mut window = Window { recorder, epoch: 0, bytes: 0, read: Vec::new() };
    for (seq, item) in batch.items {
        if held.insert(seq) {
            window.take(tables, seq, item, memory)?;
        }
    }
    window.store(tables, memory)?;
    tables.advance(recorder)
}

/// Exchanges in a row that were read and are not stored yet.
struct Window {
    recorder: i64,
    /// All of them are of this one.
    epoch: i32,
    /// Of the bodies that are held in memory.
    bytes: u64,
    read: Vec<(u64, ReadExchange)>,
}

/// Exchanges, and bytes of their bodies, that wait to be stored together.
const WINDOW: usize = 64;
const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

impl Window {
    /// Stores an item, or has it wait for others to be stored with.
    fn take(&mut self, tables: &dyn Ingest, seq: u64, item: Item, memory: &mut Memory) -> Result<()> {
        if let Item::Exchange(exchange) = item {
            return self.read(tables, seq, *exchange, memory);
        }
        self.store(tables, memory)?;
        let recorder = self.recorder;
        let mut detail = None;
        let kind = match item {
            Item::LifeBegin { at, about } => {
                tables.begin_life(recorder, at, &about)?;
                0
            }
            Item::Exchange(_) => 1,
            Item::Gap(gap) => {
                detail = Some(gap_detail(&gap));
                tables.count_unrecorded(gap.exchanges)?;
                2
            }
            Item::LifeEnd { at, orderly } => {
                tables.end_life(recorder, at, orderly)?;
                3
            }
            Item::Frame(frame) => {
                frames::store(tables, frames::Place { recorder, seq, exchange: None }, &frame, memory)?;
                4
            }
            Item::ConnectionEnd(end) => {
                detail = Some(serde_json::json!(end).to_string().into_bytes());
                5
            }
        };
        add_record(tables, recorder, seq, kind, detail.as_deref())
    }

    fn read(&mut self, tables: &dyn Ingest, seq: u64, exchange: CapturedExchange, memory: &mut Memory) -> Result<()> {
        let epoch = tables.epoch_of(exchange.started_at)?;
        let sizes = [exchange.request_body.size(), exchange.response_body.size()];
        let bytes: u64 = sizes.into_iter().filter(|size| *size <= MAX_WHOLE).sum();
        if epoch != self.epoch || self.read.len() >= WINDOW || self.bytes + bytes > WINDOW_BYTES {
            self.store(tables, memory)?;
        }
        self.epoch = epoch;
        memory.enter(epoch);
        self.bytes += bytes;
        self.read.push((seq, ReadExchange::of(tables, epoch, exchange, memory)?));
        Ok(())
    }

    /// Stores what waits.
    fn store(&mut self, tables: &dyn Ingest, memory: &mut Memory) -> Result<()> {
        let read = std::mem::take(&mut self.read);
        self.bytes = 0;
        if read.is_empty() {
            return Ok(());
        }
        let expected: Vec<_> = read.iter().map(|(_, read)| read.expected()).collect();
        tables.expect(self.epoch, &expected)?;
        for (seq, read) in read {
            exchange::store(tables, self.recorder, seq, read, memory)?;
            add_record(tables, self.recorder, seq, 1, None)?;
        }
        Ok(())
    }
}

fn add_record(tables: &dyn Ingest, recorder: i64, seq: u64, kind: i64, detail: Option<&[u8]>) -> Result<()> {
    tables.add_record(recorder, seq, kind, detail)?;
    tables.count(0, tables.row_sizes().record)
}

fn gap_detail(gap: &Gap) -> Vec<u8> {
    let Gap { from, until, exchanges, bytes } = gap;
    serde_json::json!({"from": from, "until": until, "exchanges": exchanges, "bytes": bytes}).to_string().into_bytes()
}
