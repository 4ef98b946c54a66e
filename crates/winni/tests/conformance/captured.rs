//! Captured exchanges: threaded into conversations, kept exactly.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::*;
use winni::store::Watermark;

use crate::agent::{Agent, assistant, exchange_at, says, stream, user};
use crate::lake::{Lake, turn};

pub(crate) async fn a_growing_session_is_one_conversation_and_every_body_comes_back(mut lake: Lake) {
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

pub(crate) async fn a_batch_handed_in_again_adds_nothing(lake: Lake) {
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

pub(crate) async fn a_retry_adds_no_turn_and_a_broken_answer_gives_way_to_the_whole_one(mut lake: Lake) {
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

pub(crate) async fn an_interrupted_answer_is_replaced_by_what_the_client_kept_of_it(mut lake: Lake) {
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

pub(crate) async fn a_rewind_is_a_fork_that_shares_its_beginning(mut lake: Lake) {
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

pub(crate) async fn a_forked_session_and_an_answer_given_twice_are_forks(mut lake: Lake) {
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

pub(crate) async fn sub_agents_name_their_parents(mut lake: Lake) {
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

pub(crate) async fn side_calls_belong_to_the_session_and_not_to_a_line(mut lake: Lake) {
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

pub(crate) async fn clients_without_a_session_are_told_apart_by_their_history(mut lake: Lake) {
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

pub(crate) async fn what_is_no_json_or_too_large_comes_back_as_well(mut lake: Lake) {
    let large: Vec<u8> = (0..3_000_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for body in [b"".to_vec(), b"\xff\x00 not json".to_vec(), b"{\"messages\":[1, 2,3]}".to_vec(), large] {
        let exchange = exchange_at(Timestamp::now(), "/v1/messages", &[], body.clone(), &body, Outcome::Complete);
        let id = lake.record(exchange).await;
        assert_eq!(lake.part(id, Part::RequestBody).await, body);
        assert_eq!(lake.part(id, Part::ResponseBody).await, body);
    }
}

/// Exchanges of agents that work side by side: they grow by large messages, are asked again, break off, rewind and call others.
fn of_many_agents() -> Vec<CapturedExchange> {
    let mut exchanges = Vec::new();
    let mut agents = ["s1", "s2", "", "s1"].map(Agent::new);
    agents[3].agent = Some("helper");
    let mut histories = vec![Vec::new(); agents.len()];
    for n in 0..160_usize {
        let at = n * 7 % 5 % agents.len();
        let (agent, history) = (&mut agents[at], &mut histories[at]);
        history.push(user(&format!("question {n} of agent {at} {}", "and so on ".repeat(40 + n))));
        let half = stream(&[json!({"type": "text", "text": format!("half {n}")})], false);
        if n % 11 == 3 {
            exchanges.push(agent.exchange(&Agent::body(history), half.as_bytes(), Outcome::UpstreamAborted));
        }
        let answer = format!("answer {n}");
        exchanges.push(agent.ask(history, &says(&answer)));
        if n % 13 == 5 {
            exchanges.push(agent.ask(history, &says(&format!("another answer {n}"))));
        }
        history.push(assistant(&answer));
        if n % 29 == 17 {
            history.truncate(history.len() / 4 * 2);
        }
    }
    exchanges
}

/// What a record says, with places in it instead of ids.
async fn told(lake: &Lake) -> (Vec<String>, Vec<Vec<u8>>) {
    let conversations = lake.conversations().await;
    let place = |id: Uuid| conversations.iter().position(|c| c.id == id);
    let mut told = Vec::new();
    for c in &conversations {
        let fork = c.forked_from.as_ref().map(|fork| (place(fork.conversation_id), fork.turn));
        let (parent, said) = (c.parent_conversation_id.map(place), lake.said(c.id).await);
        let session = if c.session_id.len() < 3 { &c.session_id[..] } else { "derived" };
        told.push(format!("{session} {:?} {fork:?} {parent:?} {} {said:?}", c.title, c.exchange_count));
    }
    let mut exchanges = lake.store.exchanges(ExchangeFilter::default()).await.unwrap();
    exchanges.sort_by_key(|e| e.seq);
    let mut bodies = Vec::new();
    for e in exchanges {
        told.push(format!("{} {:?} {:?}", e.seq, e.conversation_id.map(place), e.kind));
        bodies.push(lake.part(e.id, Part::RequestBody).await);
    }
    (told, bodies)
}

pub(crate) async fn a_batch_of_many_exchanges_says_what_many_batches_say(mut lake: Lake) {
    let mut other = lake.empty().await;
    let exchanges = of_many_agents();
    let sent: Vec<_> = exchanges.iter().map(|e| e.request_body.read_at(0, usize::MAX).unwrap()).collect();
    assert!(exchanges.len() > 180, "more than are read ahead");
    let items = exchanges.into_iter().zip(0..).map(|(exchange, seq)| (seq, Item::Exchange(Box::new(exchange))));
    lake.store.append(Batch { recorder: lake.recorder, items: items.collect() }).await.unwrap();
    lake.seq_from_store().await;
    for exchange in of_many_agents() {
        other.record(exchange).await;
    }
    let (told_at_once, bodies) = told(&lake).await;
    assert_eq!(bodies, sent);
    assert_eq!((told_at_once, bodies), told(&other).await);
    let [at_once, one_by_one] = [lake.store.stats().await.unwrap(), other.store.stats().await.unwrap()];
    assert_eq!(at_once.messages, one_by_one.messages);
    assert!(at_once.stored_bytes <= one_by_one.stored_bytes * 11 / 10, "{at_once:?} {one_by_one:?}");
}
