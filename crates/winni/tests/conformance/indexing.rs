//! The full-text index is filled beside everything else, by whoever comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use winni::model::*;
use winni::store::Store;

use crate::agent::{Agent, says, stream, user};
use crate::lake::Lake;

/// Two processes index without pause while messages go that they have read, or are about to.
pub(crate) async fn what_goes_while_it_is_indexed_is_not_found(mut lake: Lake) {
    let ending = Arc::new(AtomicBool::new(false));
    let indexing = [lake.store.clone(), lake.again().await].map(|store| tokio::spawn(index(store, ending.clone())));
    for n in 0..40 {
        let gone = lake.keep("kept", &[&format!("gone{n} common"), "common as well"]).await;
        let mut agent = Agent::new(format!("agent {n}").leak());
        let half = stream(&[json!({"type": "text", "text": format!("half{n}")})], false);
        let history = [user(&format!("asked{n}"))];
        lake.record(agent.exchange(&Agent::body(&history), half.as_bytes(), Outcome::UpstreamAborted)).await;
        lake.record(agent.ask(&history, &says(&format!("whole{n}")))).await;
        let deletion = lake.store.delete_conversation(gone, true).await.unwrap();
        assert_eq!(deletion, Deletion::Deleted { messages: 2 });
    }
    ending.store(true, Ordering::Relaxed);
    for task in indexing {
        task.await.unwrap();
    }
    lake.index().await;
    assert_eq!(lake.found("common").await, [""; 0]);
    for n in 0..40 {
        assert_eq!(lake.found(&format!("half{n}")).await, [""; 0]);
        assert_eq!(lake.found(&format!("gone{n}")).await, [""; 0]);
        assert_eq!(lake.found(&format!("asked{n}")).await, [format!("asked{n}")]);
        assert_eq!(lake.found(&format!("whole{n}")).await, [format!("whole{n}")]);
    }
}

/// The title of a session is found with its first message, though it comes while that one is indexed.
pub(crate) async fn a_title_that_comes_while_its_message_is_indexed_is_found(mut lake: Lake) {
    let ending = Arc::new(AtomicBool::new(false));
    let indexing = tokio::spawn(index(lake.again().await, ending.clone()));
    for n in 0..40 {
        let mut agent = Agent::new(format!("session {n}").leak());
        let first = user(&format!("begun{n}"));
        lake.record(agent.ask(std::slice::from_ref(&first), &says("yes"))).await;
        let title = json!({"title": format!("named{n}")}).to_string();
        lake.record(agent.exchange(&title_question(), says(&title).as_bytes(), Outcome::Complete)).await;
    }
    ending.store(true, Ordering::Relaxed);
    indexing.await.unwrap();
    lake.index().await;
    for n in 0..40 {
        assert_eq!(lake.found(&format!("named{n} begun{n}")).await, [format!("begun{n}")]);
    }
}

/// The side call that names a session.
fn title_question() -> Value {
    let schema = json!({"format": {"type": "json_schema", "schema": {"properties": {"title": {}}}}});
    json!({"model": "m", "messages": [user("name it")], "output_config": schema, "max_tokens": 32000})
}

async fn index(store: Arc<dyn Store>, ending: Arc<AtomicBool>) {
    while !ending.load(Ordering::Relaxed) {
        store.index_pending(3).await.unwrap();
    }
}
