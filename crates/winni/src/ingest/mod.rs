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

use std::collections::HashSet;

use crate::model::{Batch, Gap, Item};
use crate::store::{Result, Watermark};
use crate::tables::Ingest;
use memory::Memory;

/// Stores a batch within a transaction. If this fails, or the transaction, what `memory` has learnt from it must be forgotten.
pub(crate) fn append(tables: &dyn Ingest, batch: Batch, memory: &mut Memory) -> Result<Watermark> {
    memory.heed_erasures(tables)?;
    let recorder = tables.recorder(batch.recorder)?;
    let seqs: Vec<u64> = batch.items.iter().map(|(seq, _)| *seq).collect();
    let mut held: HashSet<u64> = tables.held(recorder, &seqs)?.into_iter().collect();
    for (seq, item) in batch.items {
        if held.insert(seq) {
            store_item(tables, recorder, seq, item, memory)?;
        }
    }
    tables.advance(recorder)
}

fn store_item(tables: &dyn Ingest, recorder: i64, seq: u64, item: Item, memory: &mut Memory) -> Result<()> {
    let mut detail = None;
    let kind = match item {
        Item::LifeBegin { at, about } => {
            tables.begin_life(recorder, at, &about)?;
            0
        }
        Item::Exchange(exchange) => {
            exchange::store(tables, recorder, seq, *exchange, memory)?;
            1
        }
        Item::Gap(gap) => {
            detail = Some(gap_detail(&gap));
            tables.count_unrecorded(gap.exchanges)?;
            2
        }
        Item::Frame(frame) => {
            frames::store(tables, frames::Place { recorder, seq, exchange: None }, &frame, memory)?;
            4
        }
        Item::ConnectionEnd(end) => {
            detail = Some(serde_json::json!(end).to_string().into_bytes());
            5
        }
        Item::LifeEnd { at, orderly } => {
            tables.end_life(recorder, at, orderly)?;
            3
        }
    };
    tables.add_record(recorder, seq, kind, detail.as_deref())?;
    tables.count(0, tables.row_sizes().record)
}

fn gap_detail(gap: &Gap) -> Vec<u8> {
    let Gap { from, until, exchanges, bytes } = gap;
    serde_json::json!({"from": from, "until": until, "exchanges": exchanges, "bytes": bytes}).to_string().into_bytes()
}
