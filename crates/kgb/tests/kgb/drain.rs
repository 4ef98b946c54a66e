//! What is in the spool gets into the store, once, whatever the store and the process do.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use kgb::drain::{Drain, DrainHandle};
use kgb::entry::{Begin, End, REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD};
use kgb::{Recorder, RecorderConfig};
use spool::{Options, Spool};
use tempfile::TempDir;
use tokio::sync::watch;
use uuid::Uuid;
use winni::model::*;
use winni::store::{Error, Result, Store, Watermark};

use crate::support::{Rig, noise, soon};

/// An item as the fake store keeps it.
#[derive(Clone, Debug, PartialEq)]
enum Kept {
    LifeBegin,
    LifeEnd { orderly: bool },
    Gap(u64),
    Frame(Vec<u8>),
    ConnectionEnd,
    Exchange { outcome: Outcome, request: Vec<u8>, response: Vec<u8>, chunks: Vec<u64> },
}

type Check = Box<dyn Fn(&Batch) -> Option<Error> + Send>;

/// A store in memory that fails as it is told.
#[derive(Default)]
struct Fake {
    items: Mutex<BTreeMap<(Uuid, u64), Kept>>,
    /// Every number in the order in which it was first stored.
    order: Mutex<Vec<u64>>,
    fail: Mutex<Option<Check>>,
    calls: watch::Sender<u64>,
    indexed: Mutex<u64>,
}

impl Fake {
    fn fail_when(&self, check: impl Fn(&Batch) -> Option<Error> + Send + 'static) {
        *self.fail.lock().unwrap() = Some(Box::new(check));
    }

    fn heal(&self) {
        *self.fail.lock().unwrap() = None;
    }

    fn wipe(&self) {
        self.items.lock().unwrap().clear();
    }

    fn of(&self, recorder: Uuid) -> BTreeMap<u64, Kept> {
        let items = self.items.lock().unwrap();
        items.iter().filter(|((id, _), _)| *id == recorder).map(|((_, seq), kept)| (*seq, kept.clone())).collect()
    }

    fn mark(&self, recorder: Uuid) -> Watermark {
        let stored: Vec<_> = self.of(recorder).into_keys().collect();
        let contiguous = stored.iter().zip(0..).take_while(|(seq, at)| **seq == *at).count() as u64;
        let beyond = stored.into_iter().filter(|seq| *seq >= contiguous).collect();
        Watermark { contiguous, beyond }
    }

    /// Waits until it was asked so many times more.
    async fn asked(&self, times: u64) {
        let mut calls = self.calls.subscribe();
        let target = *calls.borrow() + times;
        soon(calls.wait_for(|calls| *calls >= target)).await.unwrap();
    }
}

fn keep(item: &Item) -> std::io::Result<Kept> {
    let read = |body: &dyn BodySource| {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < body.size() {
            let more = body.read_at(bytes.len() as u64, 1000)?;
            assert!(!more.is_empty() && more.len() <= 1000);
            bytes.extend(more);
        }
        Ok::<_, std::io::Error>(bytes)
    };
    Ok(match item {
        Item::LifeBegin { .. } => Kept::LifeBegin,
        Item::LifeEnd { orderly, .. } => Kept::LifeEnd { orderly: *orderly },
        Item::Gap(gap) => Kept::Gap(gap.bytes),
        Item::Frame(frame) => Kept::Frame(read(&*frame.body)?),
        Item::ConnectionEnd(_) => Kept::ConnectionEnd,
        Item::Exchange(exchange) => Kept::Exchange {
            outcome: exchange.outcome,
            request: read(&*exchange.request_body)?,
            response: read(&*exchange.response_body)?,
            chunks: exchange.response_chunks.iter().map(|chunk| chunk.bytes).collect(),
        },
    })
}

fn unused<T>() -> Result<T> {
    Err(Error::Invalid("the fake does not do this".into()))
}

#[async_trait]
impl Store for Fake {
    async fn append(&self, batch: Batch) -> Result<Watermark> {
        self.calls.send_modify(|calls| *calls += 1);
        if let Some(error) = self.fail.lock().unwrap().as_ref().and_then(|check| check(&batch)) {
            return Err(error);
        }
        let kept: Vec<_> = batch
            .items
            .iter()
            .map(|(seq, item)| Ok((*seq, keep(item)?)))
            .collect::<std::io::Result<_>>()
            .map_err(Error::Source)?;
        for (seq, kept) in kept {
            let before = self.items.lock().unwrap().insert((batch.recorder, seq), kept.clone());
            match before {
                None => self.order.lock().unwrap().push(seq),
                Some(before) => assert_eq!(before, kept, "handed in again, and different"),
            }
        }
        Ok(self.mark(batch.recorder))
    }

    async fn watermark(&self, recorder: Uuid) -> Result<Watermark> {
        Ok(self.mark(recorder))
    }

    async fn index_pending(&self, _: usize) -> Result<usize> {
        *self.indexed.lock().unwrap() += 1;
        Ok(0)
    }

    async fn conversations(&self, _: ConversationFilter) -> Result<Vec<Conversation>> {
        unused()
    }
    async fn conversation(&self, _: Uuid) -> Result<Option<Conversation>> {
        unused()
    }
    async fn turns(&self, _: Uuid, _: u64, _: Option<u64>) -> Result<Vec<Turn>> {
        unused()
    }
    async fn exchanges(&self, _: ExchangeFilter) -> Result<Vec<Exchange>> {
        unused()
    }
    async fn exchange(&self, _: Uuid) -> Result<Option<Exchange>> {
        unused()
    }
    async fn part(&self, _: Uuid, _: Part, _: &mut (dyn Write + Send)) -> Result<Option<bool>> {
        unused()
    }
    async fn frames(&self, _: FrameFilter) -> Result<Vec<Frame>> {
        unused()
    }
    async fn frame_body(&self, _: Uuid, _: &mut (dyn Write + Send)) -> Result<Option<bool>> {
        unused()
    }
    async fn session_of_tool_use(&self, _: String) -> Result<Option<String>> {
        unused()
    }
    async fn tool_calls(&self, _: Vec<String>) -> Result<Vec<ToolCall>> {
        unused()
    }
    async fn search(&self, _: SearchQuery) -> Result<(Vec<SearchHit>, u64)> {
        unused()
    }
    async fn begin_conversation(&self, _: NewConversation) -> Result<Conversation> {
        unused()
    }
    async fn store_messages(&self, _: Destination, _: Vec<NewMessage>) -> Result<(Uuid, Vec<StoredMessage>)> {
        unused()
    }
    async fn conversations_total(&self, _: ConversationFilter) -> Result<u64> {
        unused()
    }
    async fn delete_conversation(&self, _: Uuid, _: bool) -> Result<Deletion> {
        unused()
    }
    async fn set_startup_context(&self, _: String, _: String, _: bool) -> Result<StartupContext> {
        unused()
    }
    async fn startup_context(&self, _: Option<String>) -> Result<Option<StartupContext>> {
        unused()
    }
    async fn startup_contexts(&self, _: bool) -> Result<Vec<StartupContext>> {
        unused()
    }
    async fn startup_context_versions(&self, _: String) -> Result<Vec<StartupContext>> {
        unused()
    }
    async fn delete_startup_context(&self, _: String, _: bool) -> Result<ContextDeletion> {
        unused()
    }
    async fn stats(&self) -> Result<Stats> {
        unused()
    }
    async fn event_cursor(&self) -> Result<EventCursor> {
        unused()
    }
    async fn events(&self, _: EventCursor, _: u64) -> Result<(Vec<Event>, EventCursor)> {
        unused()
    }
}

/// A recorder with a drain into a fake store.
struct Drained {
    data: TempDir,
    recorder: Arc<Recorder>,
    store: Arc<Fake>,
    drain: DrainHandle,
}

impl Drained {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut RecorderConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::on(data, Arc::default(), change).await
    }

    async fn on(data: TempDir, store: Arc<Fake>, change: impl FnOnce(&mut RecorderConfig)) -> Self {
        let mut config = RecorderConfig::new(data.path());
        config.segment_bytes = 16 << 10;
        change(&mut config);
        let root = config.spool_root();
        let recorder = Recorder::start(config).unwrap();
        let drain = Drain::spawn(store.clone(), root, recorder.clone());
        Self { data, recorder, store, drain }
    }

    fn id(&self) -> Uuid {
        self.recorder.spool().recorder().0
    }

    fn stored(&self) -> BTreeMap<u64, Kept> {
        self.store.of(self.id())
    }

    fn folders(&self) -> usize {
        std::fs::read_dir(self.data.path().join("spool")).unwrap().count()
    }
}

/// One exchange, as the gateway writes it.
fn write_exchange(spool: &Spool, n: u64, size: usize) -> Kept {
    let entry = spool.begin(&begin(), &[(REQUEST_BODY, &noise(n, size))]).unwrap();
    let response = noise(n + 1, 100);
    entry.append_all(&[(RESPONSE_HEAD, b"HTTP/1.1 200\r\nx: y\r\n"), (RESPONSE_BODY, &response)]).unwrap();
    entry.append(RESPONSE_BODY, b"data").unwrap();
    entry.finish(&[(RESPONSE_BODY, b"!")], &end(0)).unwrap();
    Kept::Exchange {
        outcome: Outcome::Complete,
        request: noise(n, size),
        response: [response.as_slice(), b"data!"].concat(),
        chunks: vec![100, 4, 1],
    }
}

fn begin() -> Vec<u8> {
    let begin = Begin {
        id: Uuid::now_v7(),
        at: Timestamp::now(),
        durability: Durability::Process,
        upstream: "http://up".into(),
        server: None,
        key_fingerprint: None,
        head: b"POST /v1/messages HTTP/1.1\r\nhost: h\r\n".to_vec(),
    };
    begin.encode()
}

fn end(missing_bytes: u64) -> Vec<u8> {
    let end = End { outcome: Outcome::Complete, at: Timestamp::now(), missing_bytes };
    end.encode()
}

#[tokio::test]
async fn what_passed_the_gateway_is_stored() {
    let rig = Rig::start().await;
    let store = Arc::new(Fake::default());
    let drain = Drain::spawn(store.clone(), rig.data.path().join("spool"), rig.recorder.clone());
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.head().await;
    client.chunk().await;
    upstream.send("2\r\nde\r\n0\r\n\r\n").await;
    client.chunks().await;
    soon(drain.caught_up()).await;
    let stored = store.of(rig.recorder.spool().recorder().0);
    let exchange = Kept::Exchange {
        outcome: Outcome::Complete,
        request: b"hello".to_vec(),
        response: b"abcde".to_vec(),
        chunks: vec![3, 2],
    };
    assert_eq!(stored, BTreeMap::from([(0, Kept::LifeBegin), (1, exchange)]));
    rig.shutdown.cancel();
    soon(rig.running).await.unwrap();
    rig.recorder.end_life().unwrap();
    assert!(soon(drain.shutdown(Duration::from_secs(10))).await);
    assert_eq!(store.of(rig.recorder.spool().recorder().0)[&2], Kept::LifeEnd { orderly: true });
    assert!(!rig.recorder.spool().dir().exists(), "everything is stored, so the folder is gone");
    assert!(*store.indexed.lock().unwrap() > 0);
}

#[tokio::test]
async fn items_are_stored_in_the_order_of_their_ends_and_segments_released() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool().clone();
    let long = spool.begin(&begin(), &[]).unwrap();
    for n in 0..200 {
        write_exchange(&spool, n, 1000);
    }
    soon(drained.drain.caught_up()).await;
    assert_eq!(spool.first_segment(), 0, "an exchange that is running keeps its segment");
    assert_eq!(drained.stored().len(), 201);
    long.finish(&[], &end(0)).unwrap();
    write_exchange(&spool, 1000, 10);
    soon(drained.drain.caught_up()).await;
    let order = drained.store.order.lock().unwrap().clone();
    let expected: Vec<_> = [0].into_iter().chain(2..=201).chain([1, 202]).collect();
    assert_eq!(order, expected);
    soon(async {
        // A segment counts until its file is gone, a moment after its release.
        while spool.first_segment() < spool.written().segment || spool.pending_bytes() > 16 << 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = drained.drain.status();
    assert_eq!((status.pending_records, status.pending_bytes, status.last_error), (0, 0, None));
    assert_eq!(status.stored_records, 203);
}

#[tokio::test]
async fn a_store_that_is_away_for_a_while_gets_everything_afterwards() {
    let drained = Drained::start().await;
    drained.store.fail_when(|_| Some(Error::Unavailable("locked".into())));
    let spool = drained.recorder.spool();
    let expected: Vec<_> = (0..300).map(|n| write_exchange(spool, n, 2000)).collect();
    drained.store.asked(3).await;
    let status = drained.drain.status();
    assert!(status.pending_records > 0 && status.pending_records <= 64, "memory holds one batch: {status:?}");
    assert!(status.pending_bytes > 300 * 2000);
    assert!(status.last_error.unwrap().contains("locked"));
    drained.store.heal();
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    for (n, exchange) in expected.iter().enumerate() {
        assert_eq!(stored[&(n as u64 + 1)], *exchange);
    }
    assert_eq!(stored.len(), 301);
}

#[tokio::test]
async fn a_store_that_was_deleted_gets_again_what_the_spool_still_holds() {
    let drained = Drained::with(|config| config.segment_bytes = 64 << 20).await;
    let spool = drained.recorder.spool();
    for n in 0..100 {
        write_exchange(spool, n, 100);
    }
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored().len(), 101);

    // Without an error: it is noticed with the next batch.
    drained.store.wipe();
    write_exchange(spool, 100, 100);
    soon(async {
        while drained.stored().len() < 102 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // With an error: it is noticed before the next batch.
    drained.store.fail_when(|_| Some(Error::Unavailable("gone".into())));
    write_exchange(spool, 101, 100);
    drained.store.asked(1).await;
    drained.store.wipe();
    drained.store.heal();
    soon(async {
        while drained.stored().len() < 103 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(drained.store.mark(drained.id()).contiguous, 103);
}

#[tokio::test]
async fn an_item_that_the_store_refuses_is_put_aside_and_blocks_no_other() {
    let drained = Drained::start().await;
    drained.store.fail_when(|batch| {
        let refused = batch.items.iter().any(|(seq, _)| *seq == 7);
        refused.then(|| Error::Invalid("not this one".into()))
    });
    let spool = drained.recorder.spool().clone();
    let marker = noise(6, 50);
    for n in 0..20 {
        write_exchange(&spool, n, 50);
    }
    soon(async {
        while drained.drain.status().quarantined_records == 0 {
            write_exchange(&spool, 99, 10);
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    assert!(!stored.contains_key(&7));
    assert!((0..21).filter(|seq| *seq != 7).all(|seq| stored.contains_key(&seq)));
    let file = drained.data.path().join(format!("quarantine/{}-7.records", drained.id()));
    let bytes = std::fs::read(file).unwrap();
    assert!(bytes.windows(50).any(|window| window == marker), "its bytes are kept");
    assert!(bytes.starts_with(b"begin mono_ns="));
    drained.recorder.end_life().unwrap();
    assert!(soon(drained.drain.shutdown(Duration::from_secs(10))).await);
    assert!(!spool.dir().exists());
}

#[tokio::test]
async fn a_store_that_refuses_everything_empties_nothing_into_the_quarantine() {
    let drained = Drained::start().await;
    drained.store.fail_when(|_| Some(Error::Damaged("malformed disk image".into())));
    let spool = drained.recorder.spool().clone();
    for n in 0..300 {
        write_exchange(&spool, n, 50);
    }
    drained.store.asked(140).await;
    let status = drained.drain.status();
    assert!(status.pending_records <= 128, "{status:?}");
    assert_eq!(status.quarantined_records, 0);
    drained.store.heal();
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored().len(), 301);
    assert!(!drained.data.path().join("quarantine").exists());
}

#[tokio::test]
async fn what_a_dead_recorder_left_is_adopted_and_its_folder_removed() {
    let data = tempfile::tempdir().unwrap();
    let root = data.path().join("spool");
    let dead = Spool::create(&root, Options::default(), &life()).unwrap();
    let id = dead.recorder().0;
    let whole = write_exchange(&dead, 1, 5000);
    let entry = dead.begin(&begin(), &[(REQUEST_BODY, b"half")]).unwrap();
    // Dies: neither entry nor life is ended, as after `kill -9`.
    let copy = copy_of(dead.dir());
    drop((entry, dead));
    restore(&copy, &root.join(id.to_string()));

    let drained = Drained::on(data, Arc::default(), |_| {}).await;
    soon(drained.drain.caught_up()).await;
    let stored = drained.store.of(id);
    let half = Kept::Exchange {
        outcome: Outcome::RecorderCrashed,
        request: b"half".to_vec(),
        response: Vec::new(),
        chunks: Vec::new(),
    };
    let expected = [(0, Kept::LifeBegin), (1, whole), (2, half), (3, Kept::LifeEnd { orderly: false })];
    assert_eq!(stored, BTreeMap::from(expected));
    assert_eq!(drained.folders(), 1, "only its own folder is left");
}

#[tokio::test]
async fn what_is_not_drained_at_the_end_waits_for_the_next_start() {
    let first = Drained::start().await;
    let id = first.id();
    let some = write_exchange(first.recorder.spool(), 1, 100);
    soon(first.drain.caught_up()).await;
    first.store.fail_when(|_| Some(Error::Unavailable("locked".into())));
    let more = write_exchange(first.recorder.spool(), 2, 100);
    first.recorder.end_life().unwrap();
    assert!(!soon(first.drain.shutdown(Duration::from_millis(100))).await);
    assert!(first.recorder.spool().dir().exists());
    first.store.heal();
    drop(first.recorder);

    let second = Drained::on(first.data, first.store, |_| {}).await;
    soon(second.drain.caught_up()).await;
    let expected = [(0, Kept::LifeBegin), (1, some), (2, more), (3, Kept::LifeEnd { orderly: true })];
    assert_eq!(second.store.of(id), BTreeMap::from(expected));
    assert_eq!(second.folders(), 1);
}

#[tokio::test]
async fn a_record_with_a_hole_is_not_told_as_complete() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool();
    spool.begin(&begin(), &[]).unwrap().finish(&[], &end(7)).unwrap();
    drop(spool.begin(&begin(), &[]).unwrap());
    soon(drained.drain.caught_up()).await;
    for seq in [1, 2] {
        assert!(matches!(drained.stored()[&seq], Kept::Exchange { outcome: Outcome::RecorderCrashed, .. }));
    }
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_put_aside() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool();
    spool.begin(b"\x63 not a begin", &[]).unwrap().finish(&[], &end(0)).unwrap();
    let fine = write_exchange(spool, 1, 10);
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored()[&2], fine);
    assert_eq!(drained.drain.status().quarantined_records, 1);
    assert!(drained.data.path().join(format!("quarantine/{}-1.records", drained.id())).exists());
}

#[tokio::test]
async fn large_bodies_are_read_piece_by_piece() {
    let drained = Drained::with(|config| config.segment_bytes = 1 << 20).await;
    let body = noise(9, 20 << 20);
    let entry = drained.recorder.spool().begin(&begin(), &[]).unwrap();
    // Larger than a record, and in many segments.
    entry.append(RESPONSE_BODY, &body).unwrap();
    for part in body.chunks(60_000) {
        entry.append(REQUEST_BODY, part).unwrap();
    }
    entry.finish(&[], &end(0)).unwrap();
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    let Kept::Exchange { request, response, chunks, .. } = &stored[&1] else { panic!("{:?}", stored.keys()) };
    assert!(*request == body && *response == body);
    assert_eq!(*chunks, [20 << 20]);
}

fn life() -> Vec<u8> {
    kgb::entry::Life { at: Timestamp::now(), about: "test".into() }.encode()
}

type Copy = Vec<(std::ffi::OsString, Vec<u8>)>;

fn copy_of(dir: &Path) -> Copy {
    let files = crate::support::files(dir);
    files.into_iter().map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes)).collect()
}

fn restore(copy: &Copy, dir: &Path) {
    for (name, bytes) in copy {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
