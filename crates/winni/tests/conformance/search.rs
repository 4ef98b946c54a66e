//! Search: the same sets on every backend.

use serde_json::json;
use winni::model::*;
use winni::store::Error;

use crate::agent::{Agent, says, stream, user};
use crate::lake::{Lake, message};

pub(crate) async fn words_are_found_once_however_often_they_were_resent(mut lake: Lake) {
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

pub(crate) async fn stored_and_captured_messages_are_found_alike(mut lake: Lake) {
    lake.record(Agent::new("s").ask(&[user("the quokka sleeps")], &says("let it"))).await;
    lake.keep("s", &["a quokka smiles"]).await;
    let new = NewConversation { metadata: json!({"project": "zoo"}), ..NewConversation::default() };
    let said = message(Role::Assistant, "quokkas are marsupials");
    let (other, _) = lake.store.store_messages(Destination::New(new), vec![said]).await.unwrap();
    lake.index().await;
    assert_eq!(lake.found("quokka").await, ["a quokka smiles", "the quokka sleeps"]);
    assert_eq!(lake.found("quokka*").await.len(), 3);
    let hits = lake.hits(SearchQuery { text: "marsupials".into(), ..SearchQuery::default() }).await;
    let hit = &hits[0];
    assert_eq!((hit.conversation_id, hit.turn, hit.role.as_str()), (other, 1, "assistant"));
    assert_eq!(hit.content, json!("quokkas are marsupials"));
    assert_eq!(hit.conversation_metadata, json!({"project": "zoo"}));
    assert_eq!(hit.message_id, lake.store.turns(other, 0, None).await.unwrap()[0].id);
}
