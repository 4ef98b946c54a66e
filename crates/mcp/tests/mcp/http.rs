//! Streamable HTTP up to 2025-11-25.

use std::sync::atomic::Ordering;

use http_body_util::BodyExt;
use mcp::Limits;
use serde_json::{Value, json};

use crate::support::{Server, call, initialize, post, request, within};

async fn session(server: &Server, version: &str) -> String {
    let answer = server.post(&[], &initialize(version)).await;
    assert_eq!((answer.status, &answer.json()["result"]["protocolVersion"]), (200, &json!(version)));
    let id = answer.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let answer = server.post(&[("mcp-session-id", &id)], &ready).await;
    assert_eq!((answer.status, answer.text().as_str()), (202, ""));
    id
}

#[tokio::test]
async fn a_session_of_every_version_calls_tools_until_it_is_deleted() {
    let server = Server::start().await;
    for version in ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"] {
        let id = session(&server, version).await;
        let fields = [("mcp-session-id", id.as_str()), ("mcp-protocol-version", version)];
        let answer = server.post(&fields, &call(1, "echo", json!({"text": "x"}))).await;
        assert_eq!(answer.headers["content-type"], "application/json");
        assert_eq!(answer.json()["result"]["structuredContent"]["text"], "x");
        let delete = http::Request::delete("/mcp").header("mcp-session-id", &id).body(String::new()).unwrap();
        assert_eq!(server.http(delete).await.status, 204);
        assert_eq!(server.post(&fields, &request(2, "ping", json!({}))).await.status, 404);
    }
}

#[tokio::test]
async fn a_session_survives_a_restart_and_a_foreign_one_is_unknown() {
    let id = session(&Server::start().await, "2025-06-18").await;
    let restarted = Server::start().await;
    let answer = restarted.post(&[("mcp-session-id", &id)], &request(1, "ping", json!({}))).await;
    assert_eq!((answer.status, &answer.json()["result"]), (200, &json!({})));
    assert_eq!(restarted.post(&[("mcp-session-id", "nobody")], &request(1, "ping", json!({}))).await.status, 404);
    let without = restarted.post(&[], &request(1, "tools/list", json!({}))).await;
    assert_eq!(without.json()["result"]["tools"][0]["name"], "echo", "a session is not needed");
}

#[tokio::test]
async fn progress_turns_the_answer_into_a_stream_of_events() {
    let server = Server::start().await;
    let params = json!({"name": "count", "arguments": {}, "_meta": {"progressToken": 7}});
    let answer = server.post(&[], &request(1, "tools/call", params.clone())).await;
    let events = answer.events();
    assert_eq!(events.len(), 4);
    assert_eq!(events[0]["params"], json!({"progressToken": 7, "progress": 1, "total": 3, "message": "counting"}));
    assert_eq!(events[3]["result"]["structuredContent"]["counted"], 3);
    let only_json = http::Request::post("/mcp")
        .header("content-type", "application/json; charset=utf-8")
        .header("accept", "application/json")
        .body(request(1, "tools/call", params).to_string())
        .unwrap();
    assert_eq!(server.http(only_json).await.json()["result"]["structuredContent"]["counted"], 3);
}

#[tokio::test]
async fn a_lost_connection_is_no_cancellation_but_a_cancellation_is() {
    let server = Server::start().await;
    let id = session(&server, "2025-11-25").await;
    let fields = [("mcp-session-id", id.as_str())];
    let wait = post(&fields, call(1, "wait", json!({})).to_string());
    tokio::select! {
        _ = server.open(wait) => panic!("answered without a permit"),
        () = server.is_waiting() => {}
    }
    let cancel = |id: u64| json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": id}});
    let wait = post(&fields, call(2, "wait", json!({})).to_string());
    let (answered, ()) = tokio::join!(server.http(wait), async {
        server.is_waiting().await;
        assert_eq!(server.post(&fields, &cancel(2)).await.status, 202);
    });
    assert_eq!((answered.status, answered.text().as_str()), (202, ""));
    assert_eq!(server.fixture.dropped.load(Ordering::SeqCst), 1, "only the cancelled one");
    let fixture = server.fixture.clone();
    fixture.gate.add_permits(1);
    server.stop().await;
    assert_eq!(fixture.finished.load(Ordering::SeqCst), 1, "the other one went on to its end");
}

#[tokio::test]
async fn batches_are_2025_03_26s_alone() {
    let server = Server::start().await;
    let batch = json!([request(1, "ping", json!({})), request(2, "nothing", json!({}))]);
    for (version, status) in [("2025-03-26", 200), ("2025-06-18", 400), ("2025-11-25", 400), ("2024-11-05", 400)] {
        let id = session(&server, version).await;
        let answer = server.post(&[("mcp-session-id", &id)], &batch).await;
        assert_eq!(answer.status, status, "{version}");
        if status == 200 {
            assert_eq!(answer.json()[1]["error"]["code"], -32601);
        }
    }
    let notes = json!([{"jsonrpc": "2.0", "method": "notifications/initialized"}]);
    assert_eq!(server.post(&[], &notes).await.status, 202);
}

#[tokio::test]
async fn a_stream_opened_with_get_ends_with_its_session() {
    let server = Server::start().await;
    let id = session(&server, "2025-11-25").await;
    let get = |accept: &str| {
        http::Request::get("/mcp").header("accept", accept).header("mcp-session-id", &id).body(String::new()).unwrap()
    };
    assert_eq!(server.http(get("application/json")).await.status, 405);
    let mut stream = server.open(get("text/event-stream")).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    let delete = http::Request::delete("/mcp").header("mcp-session-id", &id).body(String::new()).unwrap();
    server.http(delete).await;
    assert!(within(stream.body_mut().collect()).await.unwrap().to_bytes().is_empty());
}

#[tokio::test]
async fn what_is_no_message_is_refused_with_a_status_that_says_why() {
    let server = Server::with(Limits { message_bytes: 100_000, ..Limits::default() }).await;
    let status = async |fields: &[(&str, &str)], body: String| {
        let answer = server.http(post(fields, body)).await;
        (answer.status, answer.json()["error"]["code"].as_i64().unwrap())
    };
    assert_eq!(status(&[], "{".into()).await, (400, -32700));
    assert_eq!(status(&[], "5".into()).await, (400, -32600));
    assert_eq!(status(&[], " ".repeat(100_001)).await, (413, -32600));
    let ping = request(1, "ping", json!({})).to_string();
    assert_eq!(status(&[("mcp-protocol-version", "1999-01-01")], ping.clone()).await, (400, -32022));
    for (name, value, expected) in [("content-type", "text/plain", 415), ("accept", "text/html", 406)] {
        let mut wrong = post(&[], ping.clone());
        wrong.headers_mut().insert(name, value.parse().unwrap());
        assert_eq!(server.http(wrong).await.status, expected);
    }
    let put = http::Request::put("/mcp").body(String::new()).unwrap();
    assert_eq!(server.http(put).await.status, 405);
    assert_eq!(server.http(http::Request::get("/x").body(String::new()).unwrap()).await.status, 404);
}

#[tokio::test]
async fn dns_rebinding_is_refused_on_every_path() {
    let server = Server::start().await;
    for path in ["/mcp", "/", "/health"] {
        for (name, value) in [("host", "evil.example"), ("origin", "https://evil.example"), ("origin", "null")] {
            let attack = http::Request::get(path).header(name, value).body(String::new()).unwrap();
            let answer = server.http(attack).await;
            assert_eq!(answer.status, 403, "{path} {name} {value}");
        }
    }
    let health = http::Request::get("/health").header("origin", "http://localhost:3000").body(String::new()).unwrap();
    let answer = server.http(health).await;
    assert_eq!((answer.status, &answer.json()["status"]), (200, &Value::from("healthy")));
}
