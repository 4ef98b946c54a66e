use std::collections::HashSet;

use serde_json::{Value, json};

use super::*;

fn body(exchange: &Exchange) -> Value {
    serde_json::from_slice(&exchange.recorded.request_body).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_does_not() {
    let shape = Shape::mixed(Client::Newest, 12);
    let bytes = |seed| -> Vec<u8> {
        session(seed, &shape).exchanges.iter().flat_map(|exchange| exchange.recorded.request_body.clone()).collect()
    };
    assert_eq!(bytes(3), bytes(3));
    assert_ne!(bytes(3), bytes(4));
}

#[test]
fn a_history_grows_and_every_earlier_message_stays_but_for_its_cache_mark() {
    for client in [Client::Newest, Client::Middle, Client::Oldest] {
        let session = session(5, &Shape::mixed(client, 30));
        let main: Vec<_> = session.exchanges.iter().filter(|e| e.line == Some(0) && e.succeeded).map(body).collect();
        assert!(main.len() > 10, "{client:?}: {}", main.len());
        for pair in main.windows(2) {
            let (before, after) = (plain(&pair[0]), plain(&pair[1]));
            assert!(after.len() > before.len());
            assert_eq!(after[..before.len()], before[..], "{client:?}");
        }
        let marks = |body: &Value| body["messages"].to_string().matches("cache_control").count();
        let expected = if client == Client::Oldest { 2 } else { 1 };
        assert!(main[1..].iter().all(|body| marks(body) == expected), "{client:?}");
    }
}

#[test]
fn a_message_that_loses_its_mark_flips_to_a_plain_string() {
    let session = session(5, &Shape::mixed(Client::Newest, 30));
    let prompts = |body: &Value| -> Vec<bool> {
        let messages = body["messages"].as_array().unwrap().iter();
        messages
            .filter(|m| m["role"] == "user" && !m["content"].to_string().contains("tool_result"))
            .map(|m| m["content"].is_string())
            .collect()
    };
    let last = body(session.exchanges.iter().rev().find(|e| e.line.is_some_and(|line| line == 0)).unwrap());
    assert!(prompts(&last)[1..].iter().any(|plain| *plain), "an older prompt is a plain string");
}

#[test]
fn a_mixed_session_has_sub_agents_side_calls_retries_and_a_rewind() {
    for client in [Client::Newest, Client::Middle, Client::Oldest] {
        let session = session(9, &Shape::mixed(client, 40));
        let children = session.lines.iter().filter(|line| line.parent.is_some()).count();
        assert_eq!(children, 3, "{client:?}: two of the main agent's and one nested");
        assert!(session.lines.iter().any(|line| line.forked_from.is_some()), "{client:?}");
        assert!(session.exchanges.iter().any(|e| e.kind == Kind::Side), "{client:?}");
        let failed: Vec<_> = (0..session.exchanges.len()).filter(|i| !session.exchanges[*i].succeeded).collect();
        assert_eq!(failed.len(), 2, "{client:?}");
        for i in failed {
            let (failed, again) = (&session.exchanges[i].recorded, &session.exchanges[i + 1].recorded);
            assert_eq!(failed.request_body, again.request_body, "{client:?}: a retry has the same bytes");
        }
        let ids: HashSet<_> = session.exchanges.iter().map(|e| &e.recorded.response_headers[1].1).collect();
        assert_eq!(ids.len(), session.exchanges.len(), "{client:?}: request ids are unique");
    }
}

/// The messages without cache marks, in one form.
fn plain(body: &Value) -> Vec<(String, String)> {
    let messages = body["messages"].as_array().unwrap().iter();
    messages
        .map(|message| {
            let content = match &message["content"] {
                Value::String(text) => json!([{"type": "text", "text": text}]),
                other => other.clone(),
            };
            let text = content.to_string().replace(r#","cache_control":{"type":"ephemeral"}"#, "");
            (message["role"].to_string(), text)
        })
        .collect()
}
