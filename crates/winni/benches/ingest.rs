//! How fast exchanges become part of the record: `cargo bench -p winni`.
//!
//! Agent sessions whose histories grow to about 100 KB are stored in batches of 64, fsync included: on SQLite, or in the
//! database that `ICCM_BENCH_DATABASE` names. The
//! figure to compare is the ratio to hashing the same bytes with BLAKE3 in the same run, which is what no way of
//! storing each message once can do without.

#![expect(clippy::expect_used, reason = "a bench that cannot run says why and ends")]

mod captured;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{Batch, Item};
use winni::store::Store;

const SESSIONS: usize = 8;
const TURNS: usize = 60;
const BATCH: usize = 64;

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let exchanges = sessions();
    let bytes: u64 = exchanges.iter().map(|(request, response)| (request.len() + response.len()) as u64).sum();
    let hashing = time(|| {
        exchanges.iter().for_each(|(request, _)| {
            std::hint::black_box(blake3::hash(request));
        })
    });
    let url = std::env::var("ICCM_BENCH_DATABASE").unwrap_or_else(|_| "sqlite:".into());
    let folder = tempfile::tempdir().expect("a folder");
    let store = runtime.block_on(winni::open(&url, folder.path())).expect("a database");
    let count = exchanges.len();
    let storing = time(|| runtime.block_on(append(&*store, &exchanges)));
    let indexing = time(|| {
        runtime.block_on(async { while store.index_pending(256).await.expect("an index") > 0 {} });
    });
    let stats = runtime.block_on(store.stats()).expect("figures");
    println!(
        "{count} exchanges, {} MB, {} messages, stored {:.2} %",
        bytes / 1_000_000,
        stats.messages,
        stats.stored_bytes as f64 / stats.captured_bytes as f64 * 100.0
    );
    let per_second = |time: Duration, n: usize| n as f64 / time.as_secs_f64();
    println!("hashing  {:>9.1} exchanges/s", per_second(hashing, count));
    println!(
        "storing  {:>9.1} exchanges/s, {:.2} x hashing, {:.0} MB/s",
        per_second(storing, count),
        storing.as_secs_f64() / hashing.as_secs_f64(),
        bytes as f64 / 1e6 / storing.as_secs_f64()
    );
    println!("indexing {:>9.1} messages/s", per_second(indexing, stats.messages as usize));
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

async fn append(store: &dyn Store, exchanges: &[(Vec<u8>, Vec<u8>)]) {
    let recorder = Uuid::now_v7();
    let mut seq = 0;
    for batch in exchanges.chunks(BATCH) {
        let items = batch.iter().map(|bodies| {
            seq += 1;
            let (request, response) = bodies.clone();
            let exchange = captured::exchange(("content-type", "application/json"), request, response);
            (seq - 1, Item::Exchange(Box::new(exchange)))
        });
        store.append(Batch { recorder, items: items.collect() }).await.expect("stored");
    }
}

/// The bodies of all sessions' exchanges, turn by turn, as they would come in side by side.
fn sessions() -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut histories: Vec<Vec<Value>> = vec![Vec::new(); SESSIONS];
    let tools: Vec<Value> =
        (0..12).map(|n| json!({"name": format!("Tool{n}"), "description": text(n, 2000)})).collect();
    let mut exchanges = Vec::new();
    for turn in 0..TURNS {
        for (session, history) in histories.iter_mut().enumerate() {
            let seed = (session * TURNS + turn) as u64 * 7919;
            history.push(json!({"role": "user", "content": [{"type": "text", "text": text(seed, 1500)}]}));
            let user_id = format!("user_x_account__session_{session}");
            let request = json!({"model": "claude-sonnet-4-5", "messages": history, "tools": tools,
                "system": [{"type": "text", "text": text(1, 12_000)}], "metadata": {"user_id": user_id}, "stream": true});
            let answer = text(seed + 1, 600);
            exchanges.push((request.to_string().into_bytes(), streamed(&answer)));
            history.push(json!({"role": "assistant", "content": [{"type": "text", "text": answer}]}));
        }
    }
    exchanges
}

fn streamed(answer: &str) -> Vec<u8> {
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let mut events = vec![captured::message_start(), block];
    for piece in answer.as_bytes().chunks(20) {
        let text = String::from_utf8_lossy(piece);
        events.push(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}));
    }
    events.push(json!({"type": "content_block_stop", "index": 0}));
    events.push(json!({"type": "message_stop"}));
    captured::stream(&events)
}

/// Words that compress about as well as code and prose do.
fn text(seed: u64, length: usize) -> String {
    const WORDS: [&str; 16] = [
        "return", "the", "error", "match", "self", "of", "value", "let", "a", "stream", "in", "config", "to",
        "request", "fn", "is",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = String::with_capacity(length + 16);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        match state % 9 {
            0 => out.push_str(&format!("{:x} ", state >> 40)),
            _ => {
                out.push_str(WORDS[(state >> 32) as usize % WORDS.len()]);
                out.push(' ');
            }
        }
    }
    out
}
