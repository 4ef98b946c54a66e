//! Messages that are handed in.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::*;
use winni::store::Error;

use crate::agent::{Agent, assistant, says, user};
use crate::lake::{Lake, message, text, turn};

pub(crate) async fn a_stored_conversation_reads_like_a_captured_one(lake: Lake) {
    let new = NewConversation {
        session_id: Some("team".into()),
        metadata: json!({"topic": "owls", "n": 1.5}),
        source: ConversationSource::Stored,
    };
    let begun = lake.store.begin_conversation(new).await.unwrap();
    assert_eq!((begun.session_id.as_str(), begun.source.as_str(), begun.message_count), ("team", "stored", 0));
    assert_eq!(begun.metadata, json!({"topic": "owls", "n": 1.5}));
    let blocks =
        json!([{"type":"text","text":"they do"},{"type":"tool_use","id":"t","name":"Look","input":{"at":[1,2]}}]);
    let messages = vec![
        NewMessage { metadata: json!({"from": "Ada"}), ..message(Role::User, "do owls sleep?") },
        NewMessage { role: Role::Assistant, content: blocks.clone(), turn: Some(2), ..message(Role::User, "") },
    ];
    let (id, stored) = lake.store.store_messages(Destination::Existing(begun.id), messages).await.unwrap();
    assert_eq!(id, begun.id);
    assert_eq!(stored.iter().map(|m| m.turn).collect::<Vec<_>>(), [1, 2]);
    let said_at = Timestamp(1_700_000_000_123_456);
    let later = NewMessage { created_at: Some(said_at), ..message(Role::Tool, "looked") };
    let (_, last) = lake.store.store_messages(Destination::Existing(id), vec![later]).await.unwrap();

    let turns = lake.store.turns(id, 0, None).await.unwrap();
    assert_eq!(turns.iter().map(|t| t.id).collect::<Vec<_>>(), [stored[0].id, stored[1].id, last[0].id]);
    assert_eq!(turns.iter().map(|t| t.role.as_str()).collect::<Vec<_>>(), ["user", "assistant", "tool"]);
    assert_eq!((&turns[0].metadata, &turns[1].metadata), (&json!({"from": "Ada"}), &json!({})));
    assert_eq!(turns[1].content, blocks);
    assert_eq!(turns[2].created_at, said_at);
    assert!(turns.iter().all(|t| t.complete && t.exchange_id.is_none() && t.conversation_id == id));
    assert_eq!(lake.store.turns(id, 1, Some(1)).await.unwrap()[0].id, stored[1].id);
    let found = lake.store.conversation(id).await.unwrap().unwrap();
    assert_eq!((found.message_count, found.title.as_deref()), (3, Some("do owls sleep?")));
    assert_eq!(
        found.updated_at,
        stored[1].created_at.max(begun.updated_at),
        "what was said long ago does not date it back"
    );
    let stats = lake.store.stats().await.unwrap();
    assert_eq!((stats.conversations, stats.messages, stats.exchanges), (1, 3, 0));
    assert!(stats.captured_bytes > 0 && stats.stored_bytes > 0);
}

pub(crate) async fn all_messages_are_stored_or_none(lake: Lake) {
    let id = lake.keep("s", &["one"]).await;
    let before = lake.store.stats().await.unwrap();
    let wrong =
        |turn| vec![message(Role::User, "two"), NewMessage { turn: Some(turn), ..message(Role::User, "three") }];
    let into = || Destination::Existing(id);
    let Err(Error::Invalid(why)) = lake.store.store_messages(into(), wrong(4)).await else {
        panic!("turn 4 was taken")
    };
    assert!(why.contains("`turn_number` must be 3") && why.contains("not 4"), "{why}");
    let bad = NewMessage { content: json!({"text": "x"}), ..message(Role::User, "") };
    let refused = lake.store.store_messages(into(), vec![message(Role::User, "two"), bad.clone()]).await;
    assert!(matches!(refused, Err(Error::Invalid(_))));
    let new = Destination::New(NewConversation { session_id: Some("new".into()), ..NewConversation::default() });
    assert!(lake.store.store_messages(new, vec![bad]).await.is_err());
    let unknown = Uuid::now_v7();
    let Err(Error::NotFound(why)) = lake.store.store_messages(Destination::Existing(unknown), Vec::new()).await else {
        panic!("an unknown conversation was found")
    };
    assert!(why.contains(&unknown.to_string()), "{why}");
    let after = lake.store.stats().await.unwrap();
    assert_eq!((after.conversations, after.messages), (before.conversations, before.messages));
    assert_eq!(after.stored_bytes, before.stored_bytes);
    let (_, stored) = lake.store.store_messages(into(), wrong(3)).await.unwrap();
    assert_eq!(stored[1].turn, 3);
}

pub(crate) async fn a_captured_conversation_is_not_added_to(mut lake: Lake) {
    lake.record(Agent::new("s").ask(&[user("a")], &says("b"))).await;
    let id = lake.conversations().await[0].id;
    let refused = lake.store.store_messages(Destination::Existing(id), vec![message(Role::User, "forged")]).await;
    let Err(Error::Invalid(why)) = refused else { panic!("the record was changed") };
    assert!(why.contains("was captured"), "{why}");
    assert_eq!(lake.said(id).await, [turn(1, "user", "a"), turn(2, "assistant", "b")]);
}

pub(crate) async fn stored_messages_leave_captured_lines_alone(mut lake: Lake) {
    // The same words in the same session, once stored and once captured, before and after.
    let mut agent = Agent::new("s");
    lake.keep("s", &["a"]).await;
    lake.record(agent.ask(&[user("a")], &says("b"))).await;
    let messages = vec![message(Role::User, "a"), message(Role::Assistant, "b")];
    let new = NewConversation { session_id: Some("s".into()), ..NewConversation::default() };
    lake.store.store_messages(Destination::New(new), messages).await.unwrap();
    lake.record(agent.ask(&[user("a"), assistant("b"), user("c")], &says("d"))).await;
    let found = lake.conversations().await;
    let shapes: Vec<_> = found.iter().map(|c| (c.source.as_str(), c.message_count, c.forked_from.is_some())).collect();
    assert_eq!(shapes, [("stored", 1, false), ("captured", 4, false), ("stored", 2, false)]);
}

pub(crate) async fn lists_have_an_order_a_page_and_a_total(mut lake: Lake) {
    let ids = [lake.keep("a", &["1"]).await, lake.keep("b", &["2"]).await, lake.keep("a", &["3"]).await];
    lake.store.store_messages(Destination::Existing(ids[0]), vec![message(Role::User, "newest")]).await.unwrap();
    let store = lake.store.clone();
    let list = async |filter: ConversationFilter| {
        let found = store.conversations(filter.clone()).await.unwrap();
        let total = store.conversations_total(filter).await.unwrap();
        (found.into_iter().map(|c| c.id).collect::<Vec<_>>(), total)
    };
    let by = |sort| ConversationFilter { sort, ..ConversationFilter::default() };
    assert_eq!(list(by(Sort::UpdatedAt)).await, (vec![ids[0], ids[2], ids[1]], 3));
    assert_eq!(list(by(Sort::CreatedAt)).await, (vec![ids[2], ids[1], ids[0]], 3));
    let page = ConversationFilter { limit: Some(1), offset: 1, ..by(Sort::CreatedAt) };
    assert_eq!(list(page).await, (vec![ids[1]], 3));
    let session = ConversationFilter { session_id: Some("a".into()), ..by(Sort::CreatedAt) };
    assert_eq!(list(session).await, (vec![ids[2], ids[0]], 2));
    let beyond = ConversationFilter { offset: u64::MAX, limit: Some(u64::MAX), ..ConversationFilter::default() };
    assert_eq!(list(beyond).await, (Vec::new(), 3));
    lake.record(Agent::new("a").ask(&[user("x")], &says("y"))).await;
    let stored = ConversationFilter { source: Some(ConversationSource::Stored), ..ConversationFilter::default() };
    assert_eq!(list(stored).await.1, 3);
}

pub(crate) async fn hostile_texts_come_back_as_they_are(lake: Lake) {
    let texts = ["'; DROP TABLE message; --", "a\u{0}b", "\u{1F980}\u{10FFFF}", "", "\u{FFFE}\u{202E}", "%s %n {}"];
    let metadata = json!({"'key\u{0}": "'; --\u{0}", "title": "\u{1F980}"});
    let new = NewConversation { session_id: Some("'\"; --".into()), metadata: metadata.clone(), ..Default::default() };
    let messages = texts.iter().map(|t| NewMessage { metadata: metadata.clone(), ..message(Role::User, t) }).collect();
    let (id, _) = lake.store.store_messages(Destination::New(new), messages).await.unwrap();
    lake.index().await;
    let turns = lake.store.turns(id, 0, None).await.unwrap();
    assert_eq!(turns.iter().map(|t| text(&t.content)).collect::<Vec<_>>(), texts);
    assert!(turns.iter().all(|t| t.metadata == metadata));
    let found = lake.store.conversation(id).await.unwrap().unwrap();
    assert_eq!((found.session_id.as_str(), found.title.as_deref()), ("'\"; --", Some("\u{1F980}")));
    assert_eq!(found.metadata, metadata);
    let refused = NewConversation { session_id: Some("a\u{0}b".into()), ..NewConversation::default() };
    assert!(matches!(lake.store.begin_conversation(refused).await, Err(Error::Invalid(_))));
}

pub(crate) async fn a_large_conversation_comes_back_whole(lake: Lake) {
    let texts: Vec<String> =
        (0..200).map(|n: u32| format!("{n} ").repeat(25_000 / (n.to_string().len() + 1))).collect();
    let messages: Vec<NewMessage> = texts.iter().map(|t| message(Role::Assistant, t)).collect();
    let new = Destination::New(NewConversation::default());
    let (id, stored) = lake.store.store_messages(new, messages).await.unwrap();
    assert_eq!(stored.len(), 200);
    let turns = lake.store.turns(id, 0, None).await.unwrap();
    assert!(
        turns.iter().map(|t| &t.content).eq(texts.iter().map(|t| Value::from(t.as_str())).collect::<Vec<_>>().iter())
    );
}

pub(crate) async fn a_call_that_fails_leaves_those_beside_it_alone(lake: Lake) {
    let id = lake.keep("s", &[]).await;
    let call = |n: u64| {
        let store = lake.store.clone();
        let wish = n.is_multiple_of(3).then_some(1_000);
        let messages = vec![message(Role::User, "good"), NewMessage { turn: wish, ..message(Role::User, "good") }];
        tokio::spawn(async move { store.store_messages(Destination::Existing(id), messages).await })
    };
    let calls: Vec<_> = (0..30).map(call).collect();
    let mut refused = 0;
    for call in calls {
        match call.await.unwrap() {
            Ok((_, stored)) => assert_eq!(stored[1].turn, stored[0].turn + 1),
            Err(Error::Invalid(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((refused, lake.said(id).await.len()), (10, 40));
}
