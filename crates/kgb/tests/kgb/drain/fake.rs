//! What stands in for the store: it remembers what it was handed, and in which order.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio::sync::watch;
use uuid::Uuid;
use winni::model::*;
use winni::store::{Error, Result, Store, Watermark};

use crate::support::soon;

/// An item as the fake store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kept {
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
pub(super) struct Fake {
    items: Mutex<BTreeMap<(Uuid, u64), Kept>>,
    /// Every number in the order in which it was first stored.
    pub(super) order: Mutex<Vec<u64>>,
    fail: Mutex<Option<Check>>,
    calls: watch::Sender<u64>,
    pub(super) indexed: Mutex<u64>,
}

impl Fake {
    pub(super) fn fail_when(&self, check: impl Fn(&Batch) -> Option<Error> + Send + 'static) {
        *self.fail.lock().unwrap() = Some(Box::new(check));
    }

    pub(super) fn heal(&self) {
        *self.fail.lock().unwrap() = None;
    }

    pub(super) fn wipe(&self) {
        self.items.lock().unwrap().clear();
    }

    pub(super) fn of(&self, recorder: Uuid) -> BTreeMap<u64, Kept> {
        let items = self.items.lock().unwrap();
        items.iter().filter(|((id, _), _)| *id == recorder).map(|((_, seq), kept)| (*seq, kept.clone())).collect()
    }

    pub(super) fn mark(&self, recorder: Uuid) -> Watermark {
        let stored: Vec<_> = self.of(recorder).into_keys().collect();
        let contiguous = stored.iter().zip(0..).take_while(|(seq, at)| **seq == *at).count() as u64;
        let beyond = stored.into_iter().filter(|seq| *seq >= contiguous).collect();
        Watermark { contiguous, beyond }
    }

    /// Waits until it was asked so many times more.
    pub(super) async fn asked(&self, times: u64) {
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
