//! A record that moves from one database to another, and back.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::runtime::Handle;
use uuid::Uuid;
use winni::model::*;
use winni::store::{Error, Result, Store};
use winni::{Moved, Step};

use crate::agent::{Agent, assistant, exchange_at, says, stream, user};
use crate::frames::{call, frame, result};
use crate::lake::{Database, Lake, message, postgres, sqlite, turn};

/// Everything that the store's face tells of a record, but for what is counted differently.
async fn told(lake: &Lake) -> Vec<Value> {
    let store = &lake.store;
    let mut told = Vec::new();
    let conversations = store.conversations(ConversationFilter::default()).await.unwrap();
    for conversation in &conversations {
        told.push(json!(conversation));
        told.push(json!(store.turns(conversation.id, 0, None).await.unwrap()));
    }
    for exchange in store.exchanges(ExchangeFilter::default()).await.unwrap() {
        for part in [Part::RequestHead, Part::RequestBody, Part::ResponseHead, Part::ResponseBody] {
            let mut bytes = Vec::new();
            let there = store.part(exchange.id, part, &mut bytes).await.unwrap();
            told.push(json!([there, bytes.len(), blake(&bytes)]));
        }
        told.push(json!(exchange));
    }
    for frame in store.frames(FrameFilter::default()).await.unwrap() {
        let mut bytes = Vec::new();
        let there = store.frame_body(frame.id, &mut bytes).await.unwrap();
        told.push(json!([there, bytes.len(), blake(&bytes)]));
        told.push(json!(frame));
    }
    told.push(json!(store.tool_calls(vec!["toolu_1".into(), "toolu_\u{0}".into()]).await.unwrap()));
    for context in store.startup_contexts(true).await.unwrap() {
        told.push(json!(store.startup_context_versions(context.name.clone()).await.unwrap()));
        told.push(json!(context));
    }
    for query in ["question*", "\"answer 3\"", "role:user question", "stored", "zanzibar*", "has:error"] {
        let hits = store.search(SearchQuery { text: query.into(), limit: 1000, ..SearchQuery::default() }).await;
        let mut hits: Vec<_> = hits.unwrap().0.iter().map(|hit| hit.message_id.to_string()).collect();
        hits.sort();
        told.push(json!([query, hits]));
    }
    told.push(json!(store.events(EventCursor::default(), 10_000).await.unwrap().0));
    let stats = store.stats().await.unwrap();
    told.push(json!([stats, store.watermark(lake.recorder).await.unwrap().contiguous]));
    told
}

fn blake(bytes: &[u8]) -> u64 {
    bytes.iter().fold(17, |sum, byte| sum.wrapping_mul(1_099_511_628_211).wrapping_add(u64::from(*byte)))
}

/// A record with something in every table.
async fn fill(lake: &mut Lake) {
    let mut agent = Agent::new("s1");
    let mut history = Vec::new();
    for n in 0..12 {
        history.push(user(&format!("question {n}")));
        lake.record(agent.ask(&history, &says(&format!("answer {n}")))).await;
        history.push(assistant(&format!("answer {n}")));
    }
    history.truncate(5);
    history.push(user("another way"));
    lake.record(agent.ask(&history, &says("forked"))).await;
    let large: Vec<u8> = (0..2_400_000u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    for body in [b"\xff\x00 no json".to_vec(), large] {
        lake.record(exchange_at(Timestamp(-5), "/v1/messages", &[], body.clone(), &body, Outcome::ClientAborted)).await;
    }
    let connection = Uuid::now_v7();
    for tool_use in ["toolu_1", "toolu_\u{0}", "toolu_gone"] {
        let mut asking = Agent::new(if tool_use == "toolu_gone" { "going" } else { "s2" });
        asking.clock += 40_000_000_000_000;
        let block = json!({"type":"tool_use","id":tool_use,"name":"mcp__dewey__dewey_search","input":{"query":"x"}});
        lake.record(asking.ask(&[user(&format!("zanzibar {tool_use}"))], &stream(&[block], true))).await;
        lake.keep_frame(frame(connection, Direction::ToServer, 0, call(1, tool_use))).await;
        lake.keep_frame(frame(connection, Direction::ToClient, 1, result(1, "found"))).await;
    }
    let stored = lake.keep("kept\u{10fffd}", &["stored \u{0} and \u{10fffd}0", "stored twice", "stored twice"]).await;
    let metadata = json!({"title": "\u{0}", "n": 1.5});
    let more = NewMessage { metadata, ..message(Role::Tool, "stored with metadata") };
    lake.store.store_messages(Destination::Existing(stored), vec![more]).await.unwrap();
    let going = lake.keep("going", &["stored and erased"]).await;
    for (name, content, active) in [("a", "one", true), ("b\u{10fffd}", "two\u{0}", false), ("a", "three", true)] {
        lake.store.set_startup_context(name.into(), content.into(), active).await.unwrap();
    }
    lake.gap(3).await;
    let captured = lake.conversations().await.into_iter().find(|c| c.session_id == "going" && c.source == "captured");
    for id in [going, captured.unwrap().id] {
        lake.store.delete_conversation(id, true).await.unwrap();
    }
}

async fn moved(from: &Database, to: &Database) -> Result<Moved> {
    // Folders differ; `sqlite:` means another file in each.
    winni::move_record(&from.full_url(), &to.full_url(), from.folder.path(), |_| {}).await
}

/// The record of `lake` as another database holds it after the move.
async fn move_to(lake: &Lake, to: Database) -> (Lake, Moved) {
    let moved = moved(&lake.database, &to).await.unwrap();
    let there = Lake { recorder: lake.recorder, ..Lake::open(to).await };
    there.index().await;
    (there, moved)
}

pub(crate) async fn a_record_moves_whole_and_goes_on(mut lake: Lake) {
    fill(&mut lake).await;
    lake.index().await;
    let expected = told(&lake).await;
    for to in [sqlite(), postgres()] {
        let (there, moved) = move_to(&lake, to).await;
        assert!(moved.written > 0 && moved.exchanges == 18 && moved.frames == 6, "{moved:?}");
        assert!(moved.rows.iter().all(|(_, rows)| *rows > 0), "{moved:?}");
        assert_eq!(told(&there).await, expected);
        // On to a third one, which what stands in the second must suffice for; then everything goes on there.
        let back = if there.database.is_sqlite() { postgres() } else { sqlite() };
        let (again, _) = move_to(&there, back).await;
        assert_eq!(told(&again).await, expected);
        for mut lake in [there, again] {
            goes_on(&mut lake).await;
            lake.index().await;
            if lake.database.is_sqlite() {
                // What was recorded after the move stands in another epoch than what the move brought.
                let (onward, _) = move_to(&lake, postgres()).await;
                assert_eq!(told(&onward).await, told(&lake).await);
            }
        }
    }
    assert_eq!(told(&lake).await, expected, "the source was only read");
}

pub(crate) async fn a_record_without_months_comes_to_stand_in_its_newest_one(mut lake: Lake) {
    // In a file, whatever the lake is: there a record has no months.
    let mut file = Lake::open(sqlite()).await;
    for lake in [&mut lake, &mut file] {
        let mut agent = Agent::new("s");
        agent.clock -= 100_000_000_000_000;
        lake.record(agent.ask(&[user("years ago")], &says("yes"))).await;
        agent.clock += 90_000_000_000_000;
        lake.record(agent.ask(&[user("years ago"), assistant("yes"), user("and now")], &says("no"))).await;
    }
    let months = "SELECT string_agg(DISTINCT to_char(make_date(1970 + epoch / 12, epoch % 12 + 1, 1), 'YYYY-MM'), ' ')
         FROM (SELECT epoch FROM iccm.exchange UNION SELECT epoch FROM iccm.pack_piece UNION SELECT epoch FROM iccm.block) e";
    let of_exchanges =
        "SELECT string_agg(DISTINCT to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM'), ' ') FROM iccm.exchange";
    for (lake, has_months) in [(&file, false), (&lake, !lake.database.is_sqlite())] {
        let (there, _) = move_to(lake, postgres()).await;
        let sql = |sql: &str| e2e::postgres::shared().sql(there.database.name(), sql);
        let (stands, happened) = (sql(months), sql(of_exchanges));
        let newest = happened.split(' ').next_back().unwrap();
        assert_eq!(stands, if has_months { &happened } else { newest }, "{happened}");
        let partition = format!("SELECT count(*) FROM iccm.exchange_{}", newest.replace('-', "_"));
        assert_eq!(sql(&partition), if has_months { "1" } else { "2" });
    }
}

/// What was moved can be added to, continued, found and erased.
async fn goes_on(lake: &mut Lake) {
    let before = lake.conversations().await.len();
    let history = [user("question 0"), assistant("answer 0"), user("question new")];
    lake.seq_from_store().await;
    let id = lake.record(Agent::new("s1").ask(&history, &says("answer new"))).await;
    assert_eq!(lake.part(id, Part::ResponseBody).await, says("answer new").into_bytes());
    let stored = lake.keep("kept\u{10fffd}", &["stored twice"]).await;
    lake.index().await;
    assert_eq!(lake.conversations().await.len(), before + 2, "a fork and what was stored");
    assert_eq!(lake.found("\"question new\"").await, ["question new"]);
    lake.store.delete_conversation(stored, true).await.unwrap();
    let all = lake.conversations().await;
    for conversation in all.iter().filter(|c| c.session_id == "s1" && c.forked_from.is_none()) {
        lake.store.delete_conversation(conversation.id, true).await.unwrap();
    }
    assert_eq!(lake.part(id, Part::ResponseBody).await, says("answer new").into_bytes());
    lake.index().await;
    assert_eq!(lake.found("\"question 0\"").await, ["question 0"], "the fork has inherited it");
    assert_eq!(lake.found("\"question 7\"").await, [""; 0]);
    lake.store.set_startup_context("a".into(), "four".into(), true).await.unwrap();
    assert_eq!(lake.store.startup_context_versions("a".into()).await.unwrap().len(), 3);
}

/// What the move brought and what is recorded now may have packs of the same number, in different epochs.
pub(crate) async fn a_conversation_goes_on_where_it_was_moved_to(mut lake: Lake) {
    let mut agent = Agent::new("s");
    let mut history = vec![user("question 0")];
    let mut expected = vec![turn(1, "user", "question 0")];
    for (n, session) in (0..).zip(["other 0", "other 1", "other 2"]) {
        if n > 0 {
            let to = if lake.database.is_sqlite() { postgres() } else { sqlite() };
            lake = move_to(&lake, to).await.0;
            lake.seq_from_store().await;
            history.push(user(&format!("question {n}")));
            expected.push(turn(2 * n + 1, "user", &format!("question {n}")));
        }
        lake.record(agent.ask(&history, &says(&format!("answer {n}")))).await;
        history.push(assistant(&format!("answer {n}")));
        expected.push(turn(2 * n + 2, "assistant", &format!("answer {n}")));
        assert_eq!(lake.conversations().await.len(), 1 + n as usize);
        assert_eq!(lake.said(lake.conversations().await[0].id).await, expected);
        // Begins with the same block, in the same epoch.
        lake.record(Agent::new(session).ask(&history[..1], &says("other"))).await;
    }
    let [first, others @ ..] = &lake.conversations().await[..] else { panic!("nothing there") };
    lake.store.delete_conversation(first.id, true).await.unwrap();
    for other in others {
        let expected = [turn(1, "user", "question 0"), turn(2, "assistant", "other")];
        assert_eq!(lake.said(other.id).await, expected);
    }
}

pub(crate) async fn a_second_move_finds_everything_there(mut lake: Lake) {
    fill(&mut lake).await;
    for to in [sqlite(), postgres()] {
        let (there, _) = move_to(&lake, to).await;
        let again = moved(&lake.database, &there.database).await.unwrap();
        assert_eq!((again.written, again.exchanges), (0, 18));
        there.keep("new", &["said at the new place"]).await;
        refused(&lake, &there.database, "has gone on since").await;
    }
}

pub(crate) async fn what_holds_something_else_is_no_destination(mut lake: Lake) {
    fill(&mut lake).await;
    for to in [sqlite(), postgres()] {
        let other = Lake::open(to).await;
        other.keep("other", &["mine"]).await;
        refused(&lake, &other.database, "already holds a record").await;
        assert_eq!(other.found("mine").await.len() + other.conversations().await.len(), 1);
        refused(&lake, &lake.database, "the same database").await;
        let nothing = Database { url: "sqlite:".into(), folder: tempfile::tempdir().unwrap() };
        let error = moved(&nothing, &other.database).await.unwrap_err();
        assert!(error.to_string().contains("there is no record in"), "{error}");
        assert!(!nothing.folder.path().join("iccm.db").exists());
    }
}

async fn refused(lake: &Lake, to: &Database, why: &str) {
    let Err(Error::Invalid(said)) = moved(&lake.database, to).await else { panic!("it was moved") };
    assert!(said.contains(why), "{said}");
}

/// A move that ends in the middle, as a full disk or a server that goes ends it.
pub(crate) async fn an_interrupted_move_keeps_others_out_and_is_taken_up(mut lake: Lake) {
    fill(&mut lake).await;
    lake.index().await;
    for to in [sqlite(), postgres()] {
        let (from, url, folder) = (lake.database.full_url(), to.full_url(), lake.database.folder.path().to_owned());
        let opened_before = winni::open(&to.url, to.folder.path()).await.unwrap();
        let stop_at_messages = |step| assert_ne!(step, winni::Step::Copying("message"), "stopped on purpose");
        assert!(winni::move_record(&from, &url, &folder, stop_at_messages).await.is_err());
        let Err(Error::Unavailable(said)) = winni::open(&to.url, to.folder.path()).await.map(|_| ()) else {
            panic!("half a record was opened")
        };
        assert!(said.contains("iccm migrate-store again"), "{said}");
        let written = opened_before.set_startup_context("x".into(), "y".into(), true).await;
        assert!(matches!(written, Err(Error::Unavailable(_))), "{written:?}");
        let half = winni::move_record(&url, &sqlite().full_url(), &folder, |_| {}).await.unwrap_err();
        assert!(half.to_string().contains("the source is not whole"), "{half}");
        // The source goes on meanwhile; nothing that it erases stays at the destination.
        let mut agent = Agent::new("s9");
        agent.clock += 90_000_000_000_000;
        lake.record(agent.ask(&[user("in between")], &says("yes"))).await;
        let one = lake.conversations().await[0].id;
        lake.store.delete_conversation(one, true).await.unwrap();
        lake.index().await;
        let (there, _) = move_to(&lake, to).await;
        assert_eq!(told(&there).await, told(&lake).await);
    }
}

/// Changes the source as soon as all of it was compared.
async fn moved_while(
    lake: &Lake,
    to: &Database,
    change: impl AsyncFnOnce(Arc<dyn Store>) + Send + 'static,
) -> Result<Moved> {
    let (store, runtime, mut change) = (lake.store.clone(), Handle::current(), Some(change));
    let at_the_end = move |step| {
        if let Some(change) = change.take_if(|_| step == Step::Finishing) {
            runtime.block_on(change(store.clone()));
        }
    };
    winni::move_record(&lake.database.full_url(), &to.full_url(), lake.database.folder.path(), at_the_end).await
}

pub(crate) async fn what_the_source_gets_at_the_last_moment_is_not_left_behind(mut lake: Lake) {
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("question 1")], &says("answer 1"))).await;
    let kept = lake.keep("kept", &["stored"]).await;
    for to in [sqlite(), postgres()] {
        let (exchange, recorder, seq) = (agent.ask(&[user("late")], &says("later")), lake.recorder, lake.seq);
        let late = moved_while(&lake, &to, async move |store| {
            let items = vec![(seq, Item::Exchange(Box::new(exchange)))];
            store.append(Batch { recorder, items }).await.unwrap();
        });
        is_too_late(late.await, &to).await;
        lake.seq += 1;
        let late = moved_while(&lake, &to, async move |store| {
            store.store_messages(Destination::Existing(kept), vec![message(Role::User, "late")]).await.unwrap();
        });
        is_too_late(late.await, &to).await;
        let late = moved_while(&lake, &to, async |store| {
            store.set_startup_context("late".into(), "x".into(), true).await.unwrap();
        });
        is_too_late(late.await, &to).await;
        let going = lake.keep("going", &["erased"]).await;
        let late = moved_while(&lake, &to, async move |store| {
            store.delete_conversation(going, true).await.unwrap();
        });
        is_too_late(late.await, &to).await;
        // What does not belong to the record may change: it is compared once more.
        let waiting = moved_while(&lake, &to, async |store| assert!(store.index_pending(1000).await.unwrap() > 0));
        assert!(waiting.await.unwrap().exchanges > 0);
        let there = Lake { recorder: lake.recorder, ..Lake::open(to).await };
        there.index().await;
        assert_eq!(told(&there).await, told(&lake).await);
    }
}

async fn is_too_late(moved: Result<Moved>, to: &Database) {
    let Err(Error::Invalid(said)) = moved else { panic!("something was left behind: {moved:?}") };
    assert!(said.contains("the source has changed meanwhile; stop what records into it"), "{said}");
    let opened = winni::open(&to.url, to.folder.path()).await;
    assert!(matches!(opened, Err(Error::Unavailable(_))), "half a record was opened");
}
