//! Erasing: what was asked to go goes, and nothing else.

use winni::model::*;

use crate::agent::{Agent, assistant, says, user};
use crate::lake::Lake;

pub(crate) async fn a_conversation_with_messages_goes_only_by_force(lake: Lake) {
    let full = lake.keep("s", &["one", "two"]).await;
    let empty = lake.store.begin_conversation(NewConversation::default()).await.unwrap().id;
    let delete = async |id, force| lake.store.delete_conversation(id, force).await.unwrap();
    assert_eq!(delete(full, false).await, Deletion::Kept { messages: 2 });
    assert_eq!(lake.said(full).await.len(), 2);
    assert_eq!(delete(empty, false).await, Deletion::Deleted { messages: 0 });
    assert_eq!(delete(empty, false).await, Deletion::Unknown);
    assert_eq!(delete(full, true).await, Deletion::Deleted { messages: 2 });
    assert!(lake.store.conversation(full).await.unwrap().is_none());
    assert_eq!(lake.store.stats().await.unwrap().messages, 0);
}

pub(crate) async fn equal_contents_stay_while_one_message_has_them(lake: Lake) {
    let [a, b] = [lake.keep("a", &["the same", "the same", "mine"]).await, lake.keep("b", &["the same"]).await];
    lake.index().await;
    lake.store.delete_conversation(a, true).await.unwrap();
    assert_eq!(lake.said(b).await[0].2, "the same");
    assert_eq!(lake.found("same").await, ["the same"]);
    assert_eq!(lake.found("mine").await.len(), 0);
    lake.store.delete_conversation(b, true).await.unwrap();
    assert_eq!(lake.said(lake.keep("c", &["the same"]).await).await[0].2, "the same");
}

pub(crate) async fn what_others_share_stays(mut lake: Lake) {
    let mut agent = Agent::new("s");
    let secret = "zanzibarsecret";
    let first = lake.record(agent.ask(&[user("shared start")], &says("shared answer"))).await;
    lake.record(agent.ask(&[user("shared start"), assistant("shared answer"), user(secret)], &says("zanzibaranswer")))
        .await;
    let fork = agent.ask(&[user("shared start"), assistant("shared answer"), user("fork")], &says("forked"));
    let fork_body = fork.request_body.read_at(0, usize::MAX).unwrap();
    let fork_id = lake.record(fork).await;
    lake.index().await;
    let found = lake.conversations().await;
    assert_eq!(
        lake.store.delete_conversation(found[0].id, true).await.unwrap(),
        Deletion::Deleted { messages: 2 },
        "two of its four turns live on in the fork"
    );
    assert_eq!(lake.store.delete_conversation(found[0].id, true).await.unwrap(), Deletion::Unknown);

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
