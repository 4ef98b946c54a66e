use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use uuid::Uuid;
use wire::head::{Headers, RequestHead, ResponseHead};

use super::*;
use crate::model::{CapturedExchange, ChunkTiming, Durability, Item, Kind, Outcome, Timestamp};

/// A store in a folder of its own, and a recorder that hands items to it.
struct Lake {
    folder: tempfile::TempDir,
    store: SqliteStore,
    recorder: Uuid,
    seq: u64,
}

impl Lake {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("iccm.db")).await.unwrap();
        Self { folder, store, recorder: Uuid::now_v7(), seq: 0 }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("iccm.db")
    }

    async fn record(&mut self, exchange: CapturedExchange) -> Uuid {
        let id = exchange.id;
        let items = vec![(self.seq, Item::Exchange(Box::new(exchange)))];
        self.seq += 1;
        self.store.append(Batch { recorder: self.recorder, items }).await.unwrap();
        id
    }

    async fn part(&self, id: Uuid, part: Part) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert_eq!(self.store.part(id, part, &mut bytes).await.unwrap(), Some(true));
        bytes
    }

    async fn conversations(&self) -> Vec<Conversation> {
        let mut found = self.store.conversations(ConversationFilter::default()).await.unwrap();
        found.sort_by_key(|c| c.id);
        found
    }

    async fn said(&self, conversation: Uuid) -> Vec<(u64, String, String)> {
        let turns = self.store.turns(conversation, 0, None).await.unwrap();
        turns.into_iter().map(|t| (t.turn, t.role, crate::conversation::text::words(&t.content))).collect()
    }
}

/// An agent whose requests look like Claude Code's.
struct Agent {
    session: &'static str,
    agent: Option<&'static str>,
    parent_agent: Option<&'static str>,
    /// So that exchanges have times in order.
    clock: i64,
}

impl Agent {
    fn new(session: &'static str) -> Self {
        Self { session, agent: None, parent_agent: None, clock: 1_795_343_812_000_000 }
    }

    fn body(messages: &[Value]) -> Value {
        let mut messages = messages.to_vec();
        if let Some(last) = messages.last_mut()
            && let Some(text) = last["content"].as_str().map(str::to_owned)
        {
            last["content"] = json!([{"type":"text","text":text,"cache_control":{"type":"ephemeral"}}]);
        }
        json!({"model":"claude-sonnet-4-5","messages":messages,"system":[{"type":"text","text":"be good"}],
               "tools":[{"name":"Bash","input_schema":{"type":"object"}}],"max_tokens":32000,"stream":true})
    }

    fn ask(&mut self, messages: &[Value], answer: &str) -> CapturedExchange {
        self.exchange(&Self::body(messages), answer.as_bytes(), Outcome::Complete)
    }

    fn exchange(&mut self, body: &Value, response: &[u8], outcome: Outcome) -> CapturedExchange {
        self.clock += 1_000_000;
        let mut headers = vec![("User-Agent", "claude-cli/2.1.330"), ("X-Claude-Code-Session-Id", self.session)];
        headers.extend(self.agent.map(|a| ("x-claude-code-agent-id", a)));
        headers.extend(self.parent_agent.map(|a| ("x-claude-code-parent-agent-id", a)));
        headers.retain(|(_, value)| !value.is_empty());
        exchange_at(
            Timestamp(self.clock),
            "/v1/messages?beta=true",
            &headers,
            body.to_string().into_bytes(),
            response,
            outcome,
        )
    }
}

fn exchange_at(
    at: Timestamp,
    target: &str,
    headers: &[(&str, &str)],
    request: Vec<u8>,
    response: &[u8],
    outcome: Outcome,
) -> CapturedExchange {
    let own = |h: &[(&str, &str)]| Headers(h.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect());
    let sse = response.starts_with(b"event:");
    let content_type = if sse { "text/event-stream; charset=utf-8" } else { "application/json" };
    CapturedExchange {
        id: Uuid::now_v7(),
        started_at: at,
        first_byte_at: Some(Timestamp(at.0 + 1500)),
        ended_at: Some(Timestamp(at.0 + 9000)),
        durability: Durability::Process,
        outcome,
        upstream: "http://127.0.0.1:1".into(),
        key_fingerprint: Some("0123456789abcdef".into()),
        request_head: RequestHead {
            method: "POST".into(),
            target: target.into(),
            version: "HTTP/1.1".into(),
            headers: own(headers),
        },
        request_body: Box::new(request),
        response_head: Some(ResponseHead {
            status: 200,
            version: "HTTP/1.1".into(),
            headers: own(&[("content-type", content_type)]),
        }),
        response_body: Box::new(response.to_vec()),
        response_chunks: vec![ChunkTiming { after_us: 1500, bytes: response.len() as u64 }],
    }
}

fn stream(blocks: &[Value], end: bool) -> String {
    let mut events = vec![json!({"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",
        "model":"claude-sonnet-4-5-20250929","content":[],"usage":{"input_tokens":10,"output_tokens":1}}})];
    for (index, block) in blocks.iter().enumerate() {
        events.push(json!({"type":"content_block_start","index":index,"content_block":block}));
        if end || index + 1 < blocks.len() {
            events.push(json!({"type":"content_block_stop","index":index}));
        }
    }
    if end {
        events.push(json!({"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":20}}));
        events.push(json!({"type":"message_stop"}));
    }
    events.iter().map(|e| format!("event: {}\ndata: {e}\n\n", e["type"].as_str().unwrap())).collect()
}

fn says(text: &str) -> String {
    stream(&[json!({"type":"text","text":text})], true)
}

fn user(text: &str) -> Value {
    json!({"role":"user","content":text})
}

fn assistant(text: &str) -> Value {
    json!({"role":"assistant","content":[{"type":"text","text":text}]})
}

fn turn(turn: u64, role: &str, text: &str) -> (u64, String, String) {
    (turn, role.to_owned(), text.to_owned())
}

#[tokio::test]
async fn a_growing_session_is_one_conversation_and_every_body_comes_back() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s1");
    let mut history = Vec::new();
    let mut expected = Vec::new();
    for n in 0..40 {
        history.push(user(&format!("question {n}")));
        let exchange = agent.ask(&history, &says(&format!("answer {n}")));
        let body = exchange.request_body.read_at(0, usize::MAX).unwrap();
        let response = exchange.response_body.read_at(0, usize::MAX).unwrap();
        expected.push((lake.record(exchange).await, body, response));
        history.push(assistant(&format!("answer {n}")));
    }
    for (id, body, response) in expected {
        assert_eq!(lake.part(id, Part::RequestBody).await, body);
        assert_eq!(lake.part(id, Part::ResponseBody).await, response);
        assert!(lake.part(id, Part::RequestHead).await.starts_with(b"User-Agent: claude-cli/2.1.330\n"));
    }
    let conversations = lake.conversations().await;
    assert_eq!(conversations.len(), 1);
    let conversation = &conversations[0];
    assert_eq!(conversation.session_id, "s1");
    assert_eq!(conversation.message_count, 80);
    assert_eq!(conversation.exchange_count, 40);
    assert_eq!(conversation.models, ["claude-sonnet-4-5-20250929"]);
    assert_eq!((conversation.input_tokens, conversation.output_tokens), (400, 800));
    assert_eq!(conversation.title.as_deref(), Some("question 0"));
    assert!((conversation.cost_usd.unwrap() - 40.0 * (10.0 * 3.0 + 20.0 * 15.0) / 1e6).abs() < 1e-9);
    let said = lake.said(conversation.id).await;
    assert_eq!(said[0], turn(1, "user", "question 0"));
    assert_eq!(said[79], turn(80, "assistant", "answer 39"));
    assert_eq!(lake.store.stats().await.unwrap().messages, 80);
}

#[tokio::test]
async fn a_batch_handed_in_again_adds_nothing() {
    let lake = Lake::new().await;
    let batch = |agent: &mut Agent| {
        let mut items = vec![(0, Item::LifeBegin { at: Timestamp(1), about: "test".into() })];
        items.push((2, Item::Exchange(Box::new(agent.ask(&[user("b")], &says("c"))))));
        items.push((1, Item::Exchange(Box::new(agent.ask(&[user("a")], &says("c"))))));
        items.push((4, Item::LifeEnd { at: None, orderly: true }));
        Batch { recorder: lake.recorder, items }
    };
    let mut agent = Agent::new("s");
    for _ in 0..3 {
        let watermark = lake.store.append(batch(&mut agent)).await.unwrap();
        assert_eq!(watermark, Watermark { contiguous: 3, beyond: vec![4] });
    }
    assert_eq!(lake.store.watermark(lake.recorder).await.unwrap(), Watermark { contiguous: 3, beyond: vec![4] });
    assert_eq!(lake.store.stats().await.unwrap().exchanges, 2);
}

#[tokio::test]
async fn a_retry_adds_no_turn_and_a_broken_answer_gives_way_to_the_whole_one() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let half = stream(&[json!({"type":"text","text":"half an"})], false);
    let body = Agent::body(&[user("q")]);
    lake.record(agent.exchange(&body, half.as_bytes(), Outcome::UpstreamAborted)).await;
    let conversation = lake.conversations().await[0].id;
    let turns = lake.store.turns(conversation, 0, None).await.unwrap();
    assert_eq!(turns.len(), 2);
    assert!(!turns[1].complete);
    lake.record(agent.exchange(&body, says("the answer").as_bytes(), Outcome::Complete)).await;
    lake.record(agent.exchange(&body, half.as_bytes(), Outcome::ClientAborted)).await;
    assert_eq!(lake.conversations().await.len(), 1);
    assert_eq!(lake.said(conversation).await, [turn(1, "user", "q"), turn(2, "assistant", "the answer")]);
}

#[tokio::test]
async fn an_answer_that_gave_way_leaves_no_words_in_the_index() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let half = stream(&[json!({"type":"text","text":"half an"})], false);
    let body = Agent::body(&[user("q")]);
    lake.record(agent.exchange(&body, half.as_bytes(), Outcome::UpstreamAborted)).await;
    while lake.store.index_pending(100).await.unwrap() > 0 {}
    lake.record(agent.exchange(&body, says("the answer").as_bytes(), Outcome::Complete)).await;
    while lake.store.index_pending(100).await.unwrap() > 0 {}
    let connection = Connection::open(lake.path()).unwrap();
    let indexed: i64 =
        connection.query_row("SELECT count(*) FROM message_words_docsize", [], |row| row.get(0)).unwrap();
    assert_eq!(indexed, 2, "the question and the whole answer");
}

#[tokio::test]
async fn an_interrupted_answer_is_replaced_by_what_the_client_kept_of_it() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let half = stream(&[json!({"type":"text","text":"I will"})], false);
    lake.record(agent.exchange(&Agent::body(&[user("q")]), half.as_bytes(), Outcome::ClientAborted)).await;
    lake.record(agent.ask(&[user("q"), user("[interrupted]"), user("do that")], &says("done"))).await;
    let conversations = lake.conversations().await;
    assert_eq!(conversations.len(), 1);
    let said = lake.said(conversations[0].id).await;
    let texts: Vec<&str> = said.iter().map(|t| t.2.as_str()).collect();
    assert_eq!(texts, ["q", "[interrupted]", "do that", "done"]);
}

#[tokio::test]
async fn a_rewind_is_a_fork_that_shares_its_beginning() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("a")], &says("b"))).await;
    lake.record(agent.ask(&[user("a"), assistant("b"), user("c")], &says("d"))).await;
    lake.record(agent.ask(&[user("a"), assistant("b"), user("other")], &says("e"))).await;
    let conversations = lake.conversations().await;
    assert_eq!(conversations.len(), 2);
    let fork = conversations[1].forked_from.clone().unwrap();
    assert_eq!((fork.conversation_id, fork.turn), (conversations[0].id, 2));
    assert_eq!(conversations[1].message_count, 4);
    let said = lake.said(conversations[1].id).await;
    assert_eq!(
        said,
        [turn(1, "user", "a"), turn(2, "assistant", "b"), turn(3, "user", "other"), turn(4, "assistant", "e")]
    );
    assert_eq!(lake.said(conversations[0].id).await.len(), 4);
    assert_eq!(lake.store.stats().await.unwrap().messages, 6, "shared messages are stored once");
}

#[tokio::test]
async fn a_forked_session_and_an_answer_given_twice_are_forks() {
    let mut lake = Lake::new().await;
    lake.record(Agent::new("s1").ask(&[user("a")], &says("b"))).await;
    lake.record(Agent::new("s2").ask(&[user("a"), assistant("b"), user("c")], &says("d"))).await;
    lake.record(Agent::new("s1").ask(&[user("a")], &says("B!"))).await;
    lake.record(Agent::new("s3").ask(&[user("a")], &says("b"))).await;
    let found = lake.conversations().await;
    let forks: Vec<_> = found
        .iter()
        .map(|c| (c.session_id.as_str(), c.forked_from.as_ref().map(|f| (f.conversation_id, f.turn))))
        .collect();
    assert_eq!(forks, [("s1", None), ("s2", Some((found[0].id, 2))), ("s1", Some((found[0].id, 1))), ("s3", None)]);
}

#[tokio::test]
async fn sub_agents_name_their_parents() {
    let mut lake = Lake::new().await;
    let task = stream(&[json!({"type":"tool_use","id":"t1","name":"Task","input":{"prompt":"count the files"}})], true);
    lake.record(Agent::new("s").ask(&[user("go")], &task)).await;
    let by_id = |agent, parent_agent| Agent { agent: Some(agent), parent_agent, ..Agent::new("s") };
    lake.record(by_id("a1", None).ask(&[user("x")], &says("y"))).await;
    lake.record(by_id("a2", Some("a1")).ask(&[user("x")], &says("y"))).await;
    let by_prompt = [user("<system-reminder>r</system-reminder>count the files")];
    lake.record(Agent::new("s").ask(&by_prompt, &says("7"))).await;
    let found = lake.conversations().await;
    let parents: Vec<_> = found.iter().map(|c| c.parent_conversation_id).collect();
    assert_eq!(parents, [None, Some(found[0].id), Some(found[1].id), Some(found[0].id)]);
    assert_eq!(found[1].metadata["agent_id"], "a1");
}

#[tokio::test]
async fn side_calls_belong_to_the_session_and_not_to_a_line() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("build it")], &says("ok"))).await;
    let schema = json!({"format":{"type":"json_schema","schema":{"properties":{"title":{}}}}});
    let title = json!({"model":"m","messages":[user("build it")],"output_config":schema,"max_tokens":32000});
    lake.record(agent.exchange(&title, says(r#"{"title":"Building it"}"#).as_bytes(), Outcome::Complete)).await;
    let summary =
        Agent::body(&[user("build it"), assistant("ok"), user("CRITICAL: Respond with TEXT ONLY. Summarise.")]);
    lake.record(agent.exchange(&summary, says("we built").as_bytes(), Outcome::Complete)).await;
    lake.record(agent.ask(&[user("This session continues: we built")], &says("go on"))).await;
    let found = lake.conversations().await;
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].title.as_deref(), Some("Building it"));
    assert_eq!(found[1].forked_from.as_ref().map(|f| (f.conversation_id, f.turn)), Some((found[0].id, 2)));
    assert_eq!(lake.said(found[1].id).await.len(), 2, "a summary names what it replaces and shares no turn with it");
    let kinds: Vec<Kind> =
        lake.store.exchanges(ExchangeFilter::default()).await.unwrap().iter().map(|e| e.kind).collect();
    assert_eq!(kinds, [Kind::Message, Kind::Side, Kind::Side, Kind::Message]);
}

#[tokio::test]
async fn clients_without_a_session_are_told_apart_by_their_history() {
    let mut lake = Lake::new().await;
    let ask = |messages: &[Value], answer: &str| {
        let body = json!({"model":"gpt-4o","messages":messages}).to_string().into_bytes();
        let answer = json!({"id":"c","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"index":0,
            "message":{"role":"assistant","content":answer},"finish_reason":"stop"}],
            "usage":{"prompt_tokens":5,"completion_tokens":2}});
        exchange_at(
            Timestamp::now(),
            "/openai/v1/chat/completions",
            &[],
            body,
            answer.to_string().as_bytes(),
            Outcome::Complete,
        )
    };
    lake.record(ask(&[user("hi")], "hello")).await;
    lake.record(ask(&[user("hi"), json!({"role":"assistant","content":"hello"}), user("more")], "fine")).await;
    lake.record(ask(&[user("hi")], "hello")).await;
    let found = lake.conversations().await;
    assert_eq!(found.iter().map(|c| c.message_count).collect::<Vec<_>>(), [4, 2]);
    assert_ne!(found[0].session_id, found[1].session_id);
    assert!(found[0].cost_usd.is_some());
}

#[tokio::test]
async fn what_is_no_json_or_too_large_comes_back_as_well() {
    let mut lake = Lake::new().await;
    let large: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for body in [b"".to_vec(), b"\xff\x00 not json".to_vec(), b"{\"messages\":[1, 2,3]}".to_vec(), large] {
        let exchange = exchange_at(Timestamp::now(), "/v1/messages", &[], body.clone(), &body, Outcome::Complete);
        let id = lake.record(exchange).await;
        assert_eq!(lake.part(id, Part::RequestBody).await, body);
        assert_eq!(lake.part(id, Part::ResponseBody).await, body);
    }
}

#[tokio::test]
async fn search_finds_words_once_however_often_they_were_resent() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let call = json!({"type":"tool_use","id":"t1","name":"Grep","input":{"pattern":"needle"}});
    lake.record(agent.ask(&[user("find the haystack")], &stream(std::slice::from_ref(&call), true))).await;
    let result = json!({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"42 straws"}]});
    lake.record(
        agent.ask(&[user("find the haystack"), json!({"role":"assistant","content":[call]}), result], &says("done")),
    )
    .await;
    while lake.store.index_pending(2).await.unwrap() > 0 {}
    let find = async |query: SearchQuery| {
        let (hits, total) = lake.store.search(SearchQuery { limit: 10, ..query }).await.unwrap();
        assert_eq!(hits.len() as u64, total);
        hits.into_iter().map(|h| (h.turn, h.snippet)).collect::<Vec<_>>()
    };
    let text = |text: &str| SearchQuery { text: text.into(), ..SearchQuery::default() };
    assert_eq!(find(text("haystack")).await, [(1, "find the [haystack]".to_owned())]);
    assert_eq!(find(text("\"the haystack\" -needle")).await.len(), 1);
    assert_eq!(find(text("haystack -find")).await, []);
    assert_eq!(find(text("need*")).await, [(2, "Grep [needle]".to_owned())]);
    assert_eq!(find(SearchQuery { tool: Some("Grep".into()), ..text("straws") }).await.len(), 1);
    assert_eq!(find(SearchQuery { tool: Some("Bash".into()), ..text("straws") }).await, []);
    assert_eq!(find(SearchQuery { role: Some("assistant".into()), ..text("haystack") }).await, []);
    assert!(matches!(lake.store.search(text("-x")).await, Err(Error::Invalid(_))));
}

#[tokio::test]
async fn deleting_a_conversation_erases_its_words_and_nothing_that_others_share() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let secret = "zanzibarsecret";
    let first = lake.record(agent.ask(&[user("shared start")], &says("shared answer"))).await;
    lake.record(agent.ask(&[user("shared start"), assistant("shared answer"), user(secret)], &says("zanzibaranswer")))
        .await;
    let fork = agent.ask(&[user("shared start"), assistant("shared answer"), user("fork")], &says("forked"));
    let fork_body = fork.request_body.read_at(0, usize::MAX).unwrap();
    let fork_id = lake.record(fork).await;
    while lake.store.index_pending(100).await.unwrap() > 0 {}
    let found = lake.conversations().await;
    assert_eq!(
        lake.store.delete_conversation(found[0].id).await.unwrap(),
        Some(2),
        "two of its four turns live on in the fork"
    );
    assert_eq!(lake.store.delete_conversation(found[0].id).await.unwrap(), None);

    assert_eq!(lake.part(fork_id, Part::RequestBody).await, fork_body);
    let said = lake.said(found[1].id).await;
    assert_eq!(
        said.iter().map(|t| t.2.as_str()).collect::<Vec<_>>(),
        ["shared start", "shared answer", "fork", "forked"]
    );
    assert_eq!(lake.store.part(first, Part::RequestBody, &mut Vec::new()).await.unwrap(), Some(false));
    assert_eq!(lake.store.exchanges(ExchangeFilter::default()).await.unwrap().len(), 3, "places in the sequence stay");
    let query = SearchQuery { text: "zanzibar*".into(), limit: 5, ..SearchQuery::default() };
    assert_eq!(lake.store.search(query).await.unwrap().1, 0);

    // The next exchange must not refer to anything that went.
    let again = agent.ask(&[user("shared start"), assistant("shared answer"), user(secret)], &says("x"));
    let body = again.request_body.read_at(0, usize::MAX).unwrap();
    let id = lake.record(again).await;
    assert_eq!(lake.part(id, Part::RequestBody).await, body);
}

#[tokio::test]
async fn erased_words_are_gone_from_the_file() {
    let mut lake = Lake::new().await;
    // Not compressible, so that it would stand in the file as it is.
    let secret: String = (0..64u64)
        .map(|n| char::from(33 + (blake3::hash(&n.to_le_bytes()).as_bytes()[0] % 90)))
        .filter(|c| c.is_alphanumeric())
        .collect();
    lake.record(Agent::new("s").ask(&[user(&secret)], &says("ok"))).await;
    while lake.store.index_pending(100).await.unwrap() > 0 {}
    let holds = |path: &Path| {
        let file = std::fs::read(path).unwrap();
        let wal = std::fs::read(path.with_extension("db-wal")).unwrap_or_default();
        [file, wal].iter().any(|f| memchr::memmem::find(f, secret.to_lowercase().as_bytes()).is_some())
    };
    assert!(holds(&lake.path()), "the test would prove nothing");
    lake.store.delete_conversation(lake.conversations().await[0].id).await.unwrap();
    assert!(!holds(&lake.path()));
}

#[tokio::test]
async fn a_removed_database_file_is_noticed_and_made_anew() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("a")], &says("b"))).await;
    std::fs::remove_file(lake.path()).unwrap();
    let items = || vec![(1, Item::LifeEnd { at: None, orderly: true })];
    let batch = || Batch { recorder: lake.recorder, items: items() };
    assert!(matches!(lake.store.append(batch()).await, Err(Error::Unavailable(_))));
    assert_eq!(
        lake.store.watermark(lake.recorder).await.unwrap(),
        Watermark::default(),
        "the new file holds nothing yet"
    );
    assert_eq!(lake.store.append(batch()).await.unwrap().beyond, [1]);
}

#[tokio::test]
async fn the_counted_size_is_what_the_tables_take() {
    let mut lake = Lake::new().await;
    let mut agent = Agent::new("s");
    let mut history = Vec::new();
    for n in 0..60 {
        history.push(user(&format!("question {n} {}", blake3::hash(&[n]))));
        lake.record(agent.ask(&history, &says(&format!("answer {n} {}", blake3::hash(&[n, n]))))).await;
        history.push(assistant(&format!("answer {n} {}", blake3::hash(&[n, n]))));
    }
    let counted = lake.store.stats().await.unwrap().stored_bytes as i64;
    let measured = table_bytes(&lake.path());
    assert!((counted - measured).abs() * 10 < measured, "counted {counted}, measured {measured}");
}

/// Bytes of all rows and index entries, the full-text index and empty space in pages left out.
fn table_bytes(path: &Path) -> i64 {
    table_sizes(path).iter().map(|(_, bytes)| bytes).sum()
}

/// Tables and indexes by size, largest first.
fn table_sizes(path: &Path) -> Vec<(String, i64)> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT name, sum(payload) FROM dbstat
               WHERE name NOT LIKE 'message_words%' AND name NOT LIKE 'sqlite_%' GROUP BY name ORDER BY 2 DESC";
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Real captures, where they are at hand: sizes, and every body byte for byte.
#[tokio::test]
async fn real_sessions_come_back_and_take_little() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|a| a.join("shared/fixtures/claude-code"))
        .find(|f| f.is_dir());
    let Some(fixtures) = fixtures else { return };
    for name in ["cc-2.1.330-long", "cc-2.0.5-long"] {
        let mut lake = Lake::new().await;
        let mut expected = Vec::new();
        for line in std::fs::read_to_string(fixtures.join(format!("{name}.jsonl"))).unwrap().lines() {
            let exchange = captured(&serde_json::from_str(line).unwrap());
            let bodies = [&exchange.request_body, &exchange.response_body].map(|b| b.read_at(0, usize::MAX).unwrap());
            expected.push((lake.record(exchange).await, bodies));
        }
        for (id, [request, response]) in expected {
            assert_eq!(lake.part(id, Part::RequestBody).await, request);
            assert_eq!(lake.part(id, Part::ResponseBody).await, response);
        }
        let stats = lake.store.stats().await.unwrap();
        let share = table_bytes(&lake.path()) as f64 / stats.captured_bytes as f64;
        println!(
            "{name}: {} captured, {} in tables: {:.2} %",
            stats.captured_bytes,
            table_bytes(&lake.path()),
            share * 100.0
        );
        table_sizes(&lake.path()).iter().take(6).for_each(|(table, bytes)| println!("  {bytes:>7} {table}"));
        assert!(share <= 0.03, "{name}: {:.2} % of what was captured", share * 100.0);
    }
}

fn captured(line: &Value) -> CapturedExchange {
    let (request, response) = (&line["request"], &line["response"]);
    let headers = |of: &Value| {
        let pair = |h: &Value| (h[0].as_str().unwrap().to_owned(), h[1].as_str().unwrap().as_bytes().to_vec());
        Headers(of["headers"].as_array().unwrap().iter().map(pair).collect())
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().as_bytes().to_vec();
    let target = format!("{}?{}", request["path"].as_str().unwrap(), request["query"].as_str().unwrap_or_default());
    let mut exchange = exchange_at(
        Timestamp((line["t"].as_f64().unwrap() * 1e6) as i64),
        &target,
        &[],
        text(&request["body"]),
        &text(&response["body"]),
        Outcome::Complete,
    );
    exchange.request_head.headers = headers(request);
    let head = exchange.response_head.as_mut().unwrap();
    head.status = response["status"].as_u64().unwrap() as u16;
    head.headers = headers(response);
    exchange
}
