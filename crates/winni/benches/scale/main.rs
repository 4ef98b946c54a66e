//! How the data lake behaves as it grows: `cargo bench -p winni --bench scale`.
//!
//! Fills a database to 10,000, 100,000 and 1,000,000 messages and measures at each size: storing a message, reading a
//! conversation of 200 turns, searching, and taking in captured exchanges with full-text indexing. Words follow Zipf's
//! law, as they do in prose and code. Environment: `ICCM_BENCH_DATABASE` (a database URL, empty and expendable; a SQLite
//! file of its own if absent), `ICCM_BENCH_MESSAGES` (the largest size).

#![expect(clippy::expect_used, reason = "a bench that cannot run says why and ends")]

#[path = "../captured/mod.rs"]
mod captured;
mod corpus;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corpus::{Agents, Corpus};
use uuid::Uuid;
use winni::model::{Batch, CapturedExchange, Destination, Item, NewConversation, SearchQuery};
use winni::store::Store;

/// Turns of a conversation that is read whole.
const TURNS: u64 = 200;
/// Calls that a percentile is taken from.
const CALLS: usize = 200;
/// Exchanges (of two messages each) that are taken in at each size, in batches like the drain's.
const EXCHANGES: usize = 4_000;
const BATCH: usize = 256;

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = std::env::var("ICCM_BENCH_DATABASE").unwrap_or_else(|_| "sqlite:".into());
    let largest = std::env::var("ICCM_BENCH_MESSAGES").map_or(1_000_000, |n| n.parse().expect("a number"));
    let store = winni::open(&url, folder.path()).await.expect("a database");
    let mut lake =
        Lake { store: &*store, corpus: Corpus::new(7), conversations: Vec::new(), recorder: Uuid::now_v7(), seq: 0 };
    println!(
        "{:>9}  {:>21}  {:>21}  {:>21}  {:>10}  {:>10}",
        "messages", "store p50 / p95", "get 200 p50 / p95", "search p50 / p95", "taken in/s", "filled/s"
    );
    let mut worst = Vec::new();
    for size in [10_000, 100_000, 1_000_000].into_iter().filter(|s| *s <= largest) {
        let filled = lake.fill(size).await;
        let taken = lake.take_in().await;
        let stored = lake.store_calls().await;
        let read = lake.read_calls().await;
        let (searched, slowest) = lake.search_calls().await;
        println!("{size:>9}  {stored:>21}  {read:>21}  {searched:>21}  {taken:>10.0}  {filled:>10.0}");
        worst = slowest;
    }
    let erasing = lake.erase().await;
    println!("\nerasing a conversation of {TURNS} turns at the largest size: {:.1} s", erasing.as_secs_f64());
    println!("searches at the largest size, median of each:");
    worst
        .iter()
        .for_each(|(text, total, time)| println!("  {:>8.1} ms  {total:>8} found  {text}", time.as_secs_f64() * 1e3));
}

struct Lake<'s> {
    store: &'s dyn Store,
    corpus: Corpus,
    conversations: Vec<Uuid>,
    recorder: Uuid,
    seq: u64,
}

impl Lake<'_> {
    /// Stores and indexes messages until there are so many; messages a second.
    async fn fill(&mut self, size: u64) -> f64 {
        let before = self.store.stats().await.expect("figures").messages;
        let start = Instant::now();
        for _ in 0..(size - before) / TURNS {
            let session = format!("session {}", self.conversations.len() % 500);
            let new = NewConversation { session_id: Some(session), ..NewConversation::default() };
            let messages = (0..TURNS).map(|turn| self.corpus.message(turn)).collect();
            let (id, _) = self.store.store_messages(Destination::New(new), messages).await.expect("stored");
            self.conversations.push(id);
            while self.store.index_pending(1_000).await.expect("indexed") == 1_000 {}
        }
        while self.store.index_pending(1_000).await.expect("indexed") > 0 {}
        (size - before) as f64 / start.elapsed().as_secs_f64()
    }

    /// Stores captured exchanges as the drain does, and indexes them beside that; messages a second.
    async fn take_in(&mut self) -> f64 {
        let before = self.store.stats().await.expect("figures").messages;
        let mut agents = Agents::new();
        let exchanges: Vec<_> = (0..EXCHANGES).map(|_| agents.exchange(&mut self.corpus)).collect();
        let (store, stored) = (self.store, AtomicBool::new(false));
        let start = Instant::now();
        tokio::join!(
            async {
                self.append(exchanges).await;
                stored.store(true, Ordering::Release);
            },
            index_until(store, &stored)
        );
        let time = start.elapsed();
        let after = self.store.stats().await.expect("figures").messages;
        assert_eq!(after - before, 2 * EXCHANGES as u64);
        (after - before) as f64 / time.as_secs_f64()
    }

    async fn append(&mut self, exchanges: Vec<CapturedExchange>) {
        let mut exchanges = exchanges.into_iter().peekable();
        while exchanges.peek().is_some() {
            let mut items = Vec::with_capacity(BATCH);
            for exchange in exchanges.by_ref().take(BATCH) {
                items.push((self.seq, Item::Exchange(Box::new(exchange))));
                self.seq += 1;
            }
            self.store.append(Batch { recorder: self.recorder, items }).await.expect("stored");
        }
    }

    async fn store_calls(&mut self) -> String {
        let new = self.store.begin_conversation(NewConversation::default()).await.expect("begun").id;
        let mut times = Vec::new();
        for turn in 0..CALLS as u64 {
            let messages = vec![self.corpus.message(turn)];
            let start = Instant::now();
            self.store.store_messages(Destination::Existing(new), messages).await.expect("stored");
            times.push(start.elapsed());
        }
        percentiles(times)
    }

    async fn read_calls(&mut self) -> String {
        let mut times = Vec::new();
        for _ in 0..CALLS {
            let id = self.conversations[self.corpus.below(self.conversations.len())];
            let start = Instant::now();
            let turns = self.store.turns(id, 0, Some(TURNS)).await.expect("read");
            times.push(start.elapsed());
            assert_eq!(turns.len() as u64, TURNS);
        }
        percentiles(times)
    }

    async fn erase(&mut self) -> Duration {
        let id = self.conversations.pop().expect("a conversation");
        let start = Instant::now();
        self.store.delete_conversation(id, true).await.expect("erased");
        start.elapsed()
    }

    /// Searches of many kinds, each as often as any other; and what each of them took.
    async fn search_calls(&mut self) -> (String, Vec<(String, u64, Duration)>) {
        let queries = self.corpus.queries();
        let mut times = Vec::new();
        let mut each = Vec::new();
        for text in queries {
            let mut own = Vec::new();
            let mut found = 0;
            for _ in 0..10 {
                let query = SearchQuery { text: text.clone(), limit: 20, ..SearchQuery::default() };
                let start = Instant::now();
                found = self.store.search(query).await.expect("searched").1;
                own.push(start.elapsed());
            }
            own.sort();
            each.push((text, found, own[own.len() / 2]));
            times.extend(own);
        }
        (percentiles(times), each)
    }
}

/// Indexes what waits, until nothing does and nothing more comes.
async fn index_until(store: &dyn Store, stored: &AtomicBool) {
    loop {
        let last = stored.load(Ordering::Acquire);
        if store.index_pending(1_000).await.expect("indexed") == 0 {
            if last {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("{:.2} / {:.2} ms", at(0.5), at(0.95))
}
