//! SQLite and PostgreSQL side by side: whatever is done, in whatever order, both answer the same.
//!
//! Weighted actions put the whole behaviour on a page. Each is done on both backends and its outcome compared, but for what
//! is each one's own: ids that are made up on the way (they are told by the order in which they appeared), the clock,
//! ranks, and how many bytes something takes. `PROPTEST_CASES` asks for more cases than the ordinary run's.

mod actions;

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::*;
use winni::store::Error;

use crate::agent::{Agent, assistant, says, stream, user};
use crate::frames::{call, frame, result};
use crate::lake::{Lake, message, postgres, sqlite, text};
use actions::{Action, Answer, action};

/// In the ordinary run; each takes about a second.
const CASES: u32 = 12;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES),
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn both_backends_answer_the_same(actions in proptest::collection::vec(action(), 1..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let mut ours = Side::new(Lake::open(sqlite()).await);
            let mut theirs = Side::new(Lake::open(postgres()).await);
            theirs.lake.recorder = ours.lake.recorder;
            let mut shared = Shared::default();
            for action in actions.iter().chain([&Action::ReadAll]) {
                let step = shared.step(action);
                let one = ours.act(action, &step).await;
                let other = theirs.act(action, &step).await;
                assert_eq!(one, other, "{action:?} of {actions:#?}");
            }
        });
    }
}

/// What both sides are given alike: histories that agents have had, ids, and times.
#[derive(Default)]
struct Shared {
    histories: Vec<Vec<Value>>,
    steps: i64,
    tool_uses: usize,
}

/// What is made up for one action.
#[derive(Default)]
struct Step {
    at: i64,
    id: Uuid,
    history: Vec<Value>,
    response: String,
    outcome: Option<Outcome>,
}

impl Shared {
    fn step(&mut self, action: &Action) -> Step {
        self.steps += 1;
        let mut step =
            Step { at: 1_795_343_812_000_000 + self.steps * 1_000_000, id: Uuid::now_v7(), ..Step::default() };
        let Action::Capture { line, keep, say, answer, .. } = action else { return step };
        if let Some(history) = self.histories.get(line % self.histories.len().max(1)) {
            // A rewind keeps whole turns; nothing kept is a new beginning.
            step.history = history[..(keep % (history.len() + 2)).min(history.len())].to_vec();
        }
        if step.history.last().is_none_or(|last| last["role"] != "user") {
            step.history.push(user(say));
        }
        let answered = match answer {
            Answer::Said(said) => {
                step.response = says(said);
                Some(assistant(said))
            }
            Answer::BrokeOff(said) => {
                step.response = stream(&[json!({"type":"text","text":said})], false);
                step.outcome = Some(Outcome::UpstreamAborted);
                None
            }
            Answer::Failed => {
                step.response = r#"{"type":"error","error":{"type":"overloaded_error","message":"x"}}"#.into();
                None
            }
            Answer::Tool(name) => {
                self.tool_uses += 1;
                let id = format!("toolu_{}", self.tool_uses);
                let block = json!({"type":"tool_use","id":id,"name":name,"input":{"prompt":say}});
                step.response = stream(std::slice::from_ref(&block), true);
                Some(json!({"role":"assistant","content":[block]}))
            }
        };
        let mut history = step.history.clone();
        history.extend(answered);
        self.histories.push(history);
        step
    }
}

/// One backend, and what has been seen of it.
struct Side {
    lake: Lake,
    /// In the order in which they were made.
    conversations: Vec<Uuid>,
    exchanges: Vec<Uuid>,
    /// The order in which ids appeared.
    seen: HashMap<Uuid, usize>,
    cursor: EventCursor,
}

impl Side {
    fn new(lake: Lake) -> Self {
        let (conversations, exchanges, seen) = Default::default();
        Self { lake, conversations, exchanges, seen, cursor: EventCursor::default() }
    }

    /// Does it, and gives what came of it in a form that is the same on both sides.
    async fn act(&mut self, action: &Action, step: &Step) -> Value {
        let outcome = match self.outcome(action, step).await {
            Ok(outcome) => json!({ "ok": outcome }),
            Err(error) => json!({ "error": error.to_string() }),
        };
        self.learn().await;
        self.told(outcome)
    }

    async fn outcome(&mut self, action: &Action, step: &Step) -> Result<Value, Error> {
        match action {
            Action::Capture { session, agent, twice, .. } => self.capture(session, *agent, *twice, step).await,
            Action::Frame { connection, to_server, tool_use } => {
                let (id, tool_use) = (*tool_use as u64, format!("toolu_{tool_use}"));
                let (direction, body) = match to_server {
                    true => (Direction::ToServer, call(id, &tool_use)),
                    false => (Direction::ToClient, result(id, &tool_use)),
                };
                let mut frame = frame(Uuid::from_u128(u128::from(*connection)), direction, step.at, body);
                frame.id = step.id;
                self.lake.keep_frame(frame).await;
                Ok(Value::Null)
            }
            Action::Gap(exchanges) => {
                self.lake.gap(*exchanges).await;
                Ok(Value::Null)
            }
            Action::Begin { session, title } => {
                let new = NewConversation {
                    session_id: Some(session.clone()),
                    metadata: title.as_ref().map_or(Value::Null, |title| json!({"title": title})),
                    ..NewConversation::default()
                };
                Ok(json!(self.lake.store.begin_conversation(new).await?))
            }
            Action::Store { conversation, texts, wish } => {
                let into = Destination::Existing(self.conversation(*conversation));
                let said = |(n, text): (usize, &String)| NewMessage {
                    created_at: Some(Timestamp(step.at + n as i64)),
                    turn: wish.map(|wish| wish + n as u64),
                    ..message(Role::ALL[n % Role::ALL.len()], text)
                };
                Ok(json!(self.lake.store.store_messages(into, texts.iter().enumerate().map(said).collect()).await?))
            }
            Action::Index => {
                self.lake.index().await;
                Ok(Value::Null)
            }
            Action::Erase { conversation, force } => {
                let id = self.conversation(*conversation);
                Ok(json!(format!("{:?}", self.lake.store.delete_conversation(id, *force).await?)))
            }
            Action::SetContext { name, content, active } => {
                Ok(json!(self.lake.store.set_startup_context(name.clone(), content.clone(), *active).await?))
            }
            Action::DeleteContext { name, force } => {
                Ok(json!(format!("{:?}", self.lake.store.delete_startup_context(name.clone(), *force).await?)))
            }
            Action::Search { query, page } => self.search(query, *page).await,
            Action::List { session, created, page: (limit, offset) } => {
                let sort = if *created { Sort::CreatedAt } else { Sort::UpdatedAt };
                let (limit, offset) = (Some(*limit), *offset);
                let filter = ConversationFilter { session_id: session.clone(), sort, limit, offset, source: None };
                let total = self.lake.store.conversations_total(filter.clone()).await?;
                Ok(json!([total, self.lake.store.conversations(filter).await?]))
            }
            Action::Turns { conversation, page: (limit, offset) } => {
                let id = self.conversation(*conversation);
                Ok(json!(self.lake.store.turns(id, *offset, Some(*limit)).await?))
            }
            Action::Follow(limit) => {
                let (events, cursor) = self.lake.store.events(self.cursor, *limit).await?;
                self.cursor = cursor;
                Ok(json!(events))
            }
            Action::ReadAll => self.everything().await,
        }
    }

    async fn capture(&mut self, session: &str, agent: bool, twice: bool, step: &Step) -> Result<Value, Error> {
        let place = self.lake.seq;
        for _ in 0..=usize::from(twice) {
            let mut asking = Agent::new("");
            (asking.session, asking.agent) = (session_of(session), agent.then_some("agent-1"));
            asking.clock = step.at;
            let body = Agent::body(&step.history);
            let outcome = step.outcome.unwrap_or(Outcome::Complete);
            let mut exchange = asking.exchange(&body, step.response.as_bytes(), outcome);
            exchange.id = step.id;
            if step.response.starts_with('{')
                && let Some(head) = &mut exchange.response_head
            {
                head.status = 529;
            }
            self.lake.seq = place;
            self.lake.record(exchange).await;
        }
        self.exchanges.push(step.id);
        Ok(json!(self.lake.store.watermark(self.lake.recorder).await?.contiguous))
    }

    /// Which of several equal messages stands for all of them is the backend's to choose; so only what is said counts.
    async fn search(&self, query: &str, page: Option<(u64, u64)>) -> Result<Value, Error> {
        let (limit, offset) = page.unwrap_or((1000, 0));
        let query = SearchQuery { text: query.into(), limit, offset, ..SearchQuery::default() };
        let (hits, total) = self.lake.store.search(query).await?;
        let mut said: Vec<_> = hits.iter().map(|hit| (hit.role.clone(), text(&hit.content))).collect();
        said.sort();
        Ok(match page {
            None => json!([total, said]),
            Some(_) => json!([total, said.len()]),
        })
    }

    async fn everything(&mut self) -> Result<Value, Error> {
        let store = self.lake.store.clone();
        let mut all = vec![json!(store.conversations(ConversationFilter::default()).await?)];
        for id in self.conversations.clone() {
            all.push(json!([store.conversation(id).await?, store.turns(id, 0, None).await?]));
        }
        all.push(json!(store.exchanges(ExchangeFilter::default()).await?));
        for id in &self.exchanges {
            for part in [Part::RequestHead, Part::RequestBody, Part::ResponseHead, Part::ResponseBody] {
                let mut bytes = Vec::new();
                let there = store.part(*id, part, &mut bytes).await?;
                all.push(json!([there, String::from_utf8_lossy(&bytes)]));
            }
        }
        for frame in store.frames(FrameFilter::default()).await? {
            let mut bytes = Vec::new();
            let there = store.frame_body(frame.id, &mut bytes).await?;
            all.push(json!([frame, there, String::from_utf8_lossy(&bytes)]));
        }
        all.push(json!(store.tool_calls((0..6).map(|n| format!("toolu_{n}")).collect()).await?));
        for context in store.startup_contexts(true).await? {
            all.push(json!([context, store.startup_context_versions(context.name.clone()).await?]));
        }
        all.push(json!(store.startup_context(None).await?));
        all.push(json!(store.stats().await?));
        self.lake.index().await;
        for word in actions::WORDS {
            all.push(self.search(word, None).await?);
        }
        Ok(json!(all))
    }

    /// The conversation that was made so manieth; one that there never was, if there is none yet.
    fn conversation(&self, number: usize) -> Uuid {
        let known = self.conversations.get(number % self.conversations.len().max(1));
        known.copied().unwrap_or(Uuid::from_u128(7))
    }

    /// Ids are given out in order.
    async fn learn(&mut self) {
        let known = self.lake.conversations().await;
        self.conversations
            .extend(known.iter().map(|c| c.id).filter(|id| !self.conversations.contains(id)).collect::<Vec<_>>());
    }

    /// Without what is this backend's own.
    fn told(&mut self, value: Value) -> Value {
        match value {
            Value::Array(values) => values.into_iter().map(|value| self.told(value)).collect(),
            Value::Object(fields) => {
                let own = ["updated_at", "stored_bytes", "ratio"];
                // The clock's, unless a message says when it was said.
                let is_clocks = |name: &str| name == "created_at" && !fields.contains_key("turn");
                let fields = fields.iter().filter(|(name, _)| !own.contains(&name.as_str()) && !is_clocks(name));
                let fields: Vec<_> = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
                fields.into_iter().map(|(name, value)| (name, self.told(value))).collect()
            }
            Value::String(text) => Value::String(self.without_ids(&text)),
            other => other,
        }
    }

    /// An id becomes the number of its first appearance.
    fn without_ids(&mut self, text: &str) -> String {
        if let Ok(id) = text.parse::<Uuid>() {
            let next = self.seen.len();
            return format!("id {}", self.seen.entry(id).or_insert(next));
        }
        let words = text.split(' ').map(|word| match word.trim_matches([',', ';', '.', ':']).parse::<Uuid>() {
            Ok(_) => "id",
            Err(_) => word,
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

fn session_of(name: &str) -> &'static str {
    actions::SESSIONS.into_iter().find(|session| *session == name).unwrap_or_default()
}
