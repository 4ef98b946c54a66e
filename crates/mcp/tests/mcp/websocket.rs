//! WebSocket.

use std::sync::atomic::Ordering;

use mcp::Limits;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::support::{Server, call, initialize, request};

#[tokio::test]
async fn the_subprotocol_is_answered_when_it_is_offered_and_only_then() {
    let server = Server::start().await;
    let offer = |offered: &'static str| {
        move |headers: &mut http::HeaderMap| {
            headers.insert("sec-websocket-protocol", offered.parse().unwrap());
        }
    };
    for offered in ["mcp", "other, mcp"] {
        let (_, response) = server.websocket_with(offer(offered)).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "mcp");
    }
    let (_, response) = server.websocket_with(|_| {}).await.unwrap();
    assert!(!response.headers().contains_key("sec-websocket-protocol"));
}

#[tokio::test]
async fn every_version_that_begins_with_initialize_is_agreed_on() {
    let server = Server::start().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let mut client = server.websocket().await;
        let answer = client.ask(&initialize(version)).await;
        assert_eq!(answer["result"]["protocolVersion"], version);
        assert_eq!(answer["result"]["serverInfo"]["name"], "fixture");
        assert_eq!(client.ask(&request(1, "ping", json!({}))).await["result"], json!({}));
        let tools = client.ask(&request(2, "tools/list", Value::Null)).await;
        assert_eq!(tools["result"]["tools"][0]["name"], "echo");
        assert_eq!(tools["result"]["tools"][0]["annotations"]["readOnlyHint"], true);
        let echoed = client.ask(&call(3, "echo", json!({"text": "a😀"}))).await;
        assert_eq!(echoed["result"]["structuredContent"], json!({"text": "a😀"}));
        assert_eq!(echoed["result"]["content"][0]["text"], r#"{"text":"a😀"}"#);
        assert!(echoed["result"].get("resultType").is_none(), "not known to this version");
    }
}

#[tokio::test]
async fn hostile_messages_are_answered_and_the_connection_lives() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    let nested = "[".repeat(100_000);
    for (message, code) in [
        ("{".to_owned(), -32700),
        (nested, -32700),
        (r#"{"id":1,"method":"tools/call","params":[]}"#.to_owned(), -32602),
        (r#"{"id":1,"method":"tools/call","params":{"name":5}}"#.to_owned(), -32602),
        (r#"{"id":1,"method":"tools/call","params":{"name":"\ud800"}}"#.to_owned(), -32602),
        (r#"{"id":1,"method":"tools/call","params":{"name":"nothing"}}"#.to_owned(), -32602),
        (r#"{"id":1,"method":"no/method"}"#.to_owned(), -32601),
        (r#"{"id":null,"method":"ping"}"#.to_owned(), -32600),
        (r#"[{"id":1,"method":"ping"}]"#.to_owned(), -32600),
    ] {
        // Batches are refused by this version.
        client.ask(&initialize("2025-06-18")).await;
        client.send_text(message.clone()).await;
        assert_eq!(client.next().await["error"]["code"], code, "{}", &message[..message.len().min(80)]);
    }
    for arguments in [r#"{"text":"\ud800"}"#, r#"{"text":"a\u0000"}"#, "[1]", "7", "{}", r#"{"text":{}}"#, r#"{"x":1}"#]
    {
        let message = format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"echo","arguments":{arguments}}}}}"#);
        client.send_text(message).await;
        let answer = client.next().await;
        assert_eq!(answer["result"]["isError"], true, "{arguments}: {answer}");
    }
    let answer = client.ask(&call(2, "panic", json!({}))).await;
    assert_eq!(answer["error"]["code"], -32603);
    assert_eq!(client.ask(&call(3, "echo", json!({"text": "x"}))).await["result"]["isError"], false);
}

#[tokio::test]
async fn a_batch_of_2025_03_26_is_answered_with_one_array() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    client.ask(&initialize("2025-03-26")).await;
    let batch =
        json!([request(1, "ping", json!({})), {"method": "notifications/x"}, call(2, "echo", json!({"text": "x"})), 5]);
    let answers = client.ask(&batch).await;
    let ids: Vec<&Value> = answers.as_array().unwrap().iter().map(|answer| &answer["id"]).collect();
    assert_eq!(ids, [&json!(1), &json!(2), &Value::Null]);
    assert_eq!(client.ask(&json!([])).await["error"]["code"], -32600);
}

#[tokio::test]
async fn sixty_megabytes_go_both_ways() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    let text = "é".repeat(30 << 20);
    let answer = client.ask(&call(1, "echo", json!({"text": text}))).await;
    assert_eq!(answer["result"]["structuredContent"]["text"].as_str().unwrap().len(), 60 << 20);
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection_with_1009() {
    let server = Server::with(Limits { message_bytes: 1000, ..Limits::default() }).await;
    let mut client = server.websocket().await;
    client.send(&call(1, "echo", json!({"text": "x".repeat(2000)}))).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn calls_run_side_by_side_and_progress_is_told() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    client.send(&call(1, "wait", json!({}))).await;
    server.is_waiting().await;
    let counted = json!({"name": "count", "arguments": {}, "_meta": {"progressToken": "p"}});
    client.send(&request(2, "tools/call", counted)).await;
    for done in 1..=3 {
        let progress = client.next().await;
        assert_eq!(progress["method"], "notifications/progress");
        assert_eq!(
            (&progress["params"]["progressToken"], &progress["params"]["progress"]),
            (&json!("p"), &json!(done))
        );
    }
    assert_eq!(client.next().await["id"], 2);
    server.fixture.gate.add_permits(1);
    assert_eq!(client.next().await["id"], 1);
}

#[tokio::test]
async fn a_cancelled_call_is_dropped_and_not_answered() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    client.send(&call(1, "wait", json!({}))).await;
    server.is_waiting().await;
    client.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})).await;
    server.has_dropped(1).await;
    assert_eq!(client.ask(&request(2, "ping", json!({}))).await["id"], 2);
}

#[tokio::test]
async fn what_a_client_waited_for_is_cancelled_when_it_is_gone() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    client.send(&call(1, "wait", json!({}))).await;
    server.is_waiting().await;
    drop(client);
    server.has_dropped(1).await;
}

#[tokio::test]
async fn a_shutdown_lets_calls_end_and_says_goodbye() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    client.send(&call(1, "wait", json!({}))).await;
    server.is_waiting().await;
    let fixture = server.fixture.clone();
    let stopping = tokio::spawn(server.stop());
    fixture.gate.add_permits(1);
    assert_eq!(client.next().await["id"], 1);
    assert_eq!(client.close_code().await, 1001);
    stopping.await.unwrap();
    assert_eq!(fixture.finished.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_web_pages_connection_is_refused() {
    let server = Server::start().await;
    for (name, value) in [("origin", "http://evil.example"), ("host", "evil.example:9020"), ("origin", "null")] {
        let refused = server
            .websocket_with(|headers| {
                headers.insert(name, value.parse().unwrap());
            })
            .await;
        let Err(Error::Http(response)) = refused else { panic!("{name}: {value} was let in") };
        assert_eq!(response.status(), 403);
    }
}
