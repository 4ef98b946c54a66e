//! 2026-07-28 on the same endpoint.

use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::support::{Answered, Server, post, request, within};

const VERSION: &str = "2026-07-28";

fn meta() -> Value {
    json!({"io.modelcontextprotocol/protocolVersion": VERSION, "io.modelcontextprotocol/clientCapabilities": {}})
}

fn modern(method: &str, mut params: Value) -> Value {
    params["_meta"] = meta();
    request(1, method, params)
}

async fn ask(server: &Server, method: &str, name: Option<&str>, params: Value) -> Answered {
    let mut fields = vec![("mcp-protocol-version", VERSION), ("mcp-method", method)];
    fields.extend(name.map(|name| ("mcp-name", name)));
    server.post(&fields, &modern(method, params)).await
}

#[tokio::test]
async fn requests_need_no_beginning_and_results_say_what_they_are() {
    let server = Server::start().await;
    let discovered = ask(&server, "server/discover", None, json!({})).await.json();
    assert_eq!(discovered["result"]["supportedVersions"][0], VERSION);
    assert_eq!(discovered["result"]["resultType"], "complete");
    assert_eq!(discovered["result"]["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "fixture");
    let tools = ask(&server, "tools/list", None, json!({})).await;
    assert!(!tools.headers.contains_key("mcp-session-id"));
    let tools = tools.json();
    assert_eq!((&tools["result"]["cacheScope"], &tools["result"]["ttlMs"]), (&json!("public"), &json!(300_000)));
    assert_eq!(tools, ask(&server, "tools/list", None, json!({})).await.json(), "the order is the same each time");
    let params = json!({"name": "echo", "arguments": {"text": "x"}});
    let echoed = ask(&server, "tools/call", Some("echo"), params).await.json();
    assert_eq!(echoed["result"]["structuredContent"]["text"], "x");
    assert_eq!(echoed["result"]["resultType"], "complete");
    let read = ask(&server, "resources/read", Some("fixture://1"), json!({"uri": "fixture://1"})).await.json();
    assert_eq!(
        (&read["result"]["contents"][0]["text"], &read["result"]["cacheScope"]),
        (&json!("one"), &json!("private"))
    );
}

#[tokio::test]
async fn what_headers_and_body_say_must_agree() {
    let server = Server::start().await;
    let refused = async |fields: &[(&str, &str)], message: &Value| {
        let answer = server.post(fields, message).await;
        let json = answer.json();
        assert_eq!(json["id"], 1, "{json}");
        (answer.status, json["error"]["code"].as_i64().unwrap_or_default())
    };
    let list = modern("tools/list", json!({}));
    let version = ("mcp-protocol-version", VERSION);
    let method = ("mcp-method", "tools/list");
    assert_eq!(refused(&[], &list).await, (400, -32020));
    assert_eq!(refused(&[version], &list).await, (400, -32020));
    assert_eq!(refused(&[("mcp-protocol-version", "2025-11-25"), method], &list).await, (400, -32020));
    assert_eq!(refused(&[version, ("mcp-method", "tools/call")], &list).await, (400, -32020));
    let call = modern("tools/call", json!({"name": "echo", "arguments": {"text": "x"}}));
    let called = ("mcp-method", "tools/call");
    assert_eq!(refused(&[version, called], &call).await, (400, -32020));
    assert_eq!(refused(&[version, called, ("mcp-name", "count")], &call).await, (400, -32020));
    assert_eq!(refused(&[version, called, ("mcp-name", "=?base64?ZWNobw==?=")], &call).await, (200, 0));
    assert_eq!(refused(&[version, method], &request(1, "tools/list", json!({}))).await, (400, -32602));
    assert_eq!(refused(&[version, method], &request(1, "tools/list", Value::Null)).await, (400, -32602));
    let mut poor = list.clone();
    poor["params"]["_meta"].as_object_mut().unwrap().remove("io.modelcontextprotocol/clientCapabilities");
    assert_eq!(refused(&[version, method], &poor).await, (400, -32602));
    let mut old = list.clone();
    old["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("1900-01-01");
    let answer = server.post(&[("mcp-protocol-version", "1900-01-01"), method], &old).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (400, &json!(-32022)));
    assert_eq!(answer.json()["error"]["data"]["requested"], "1900-01-01");
    assert_eq!(answer.json()["error"]["data"]["supported"][0], VERSION);
}

#[tokio::test]
async fn what_was_removed_is_unknown_and_what_is_missing_is_a_wrong_parameter() {
    let server = Server::start().await;
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "no/method"] {
        let answer = ask(&server, method, None, json!({})).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    let answer = ask(&server, "resources/read", Some("fixture://2"), json!({"uri": "fixture://2"})).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (200, &json!(-32602)));
}

#[tokio::test]
async fn closing_the_stream_cancels_the_call() {
    let server = Server::start().await;
    let fields = [("mcp-protocol-version", VERSION), ("mcp-method", "tools/call"), ("mcp-name", "wait")];
    let wait = post(&fields, modern("tools/call", json!({"name": "wait", "arguments": {}})).to_string());
    tokio::select! {
        _ = server.open(wait) => panic!("answered without a permit"),
        () = server.is_waiting() => {}
    }
    server.has_dropped(1).await;
}

#[tokio::test]
async fn a_subscription_is_acknowledged_and_stays_open_until_the_server_stops() {
    let server = Server::start().await;
    let fields = [("mcp-protocol-version", VERSION), ("mcp-method", "subscriptions/listen")];
    let listen = modern("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
    let mut stream = server.open(post(&fields, listen.to_string())).await;
    let first = within(stream.body_mut().frame()).await.unwrap().unwrap().into_data().unwrap();
    let first: Value =
        serde_json::from_slice(first.trim_ascii_end().strip_prefix(b"event: message\ndata: ").unwrap()).unwrap();
    assert_eq!(first["method"], "notifications/subscriptions/acknowledged");
    assert_eq!(first["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    server.stop().await;
    let rest = within(stream.body_mut().collect()).await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&rest).contains(r#""resultType":"complete""#));
}

#[tokio::test]
async fn over_websocket_each_request_says_what_it_speaks() {
    let server = Server::start().await;
    let mut client = server.websocket().await;
    let answer = client.ask(&modern("server/discover", json!({}))).await;
    assert_eq!(answer["result"]["supportedVersions"][0], VERSION);
    assert_eq!(client.ask(&modern("initialize", json!({"protocolVersion": VERSION}))).await["error"]["code"], -32601);
    let acknowledged = client.ask(&modern("subscriptions/listen", json!({}))).await;
    assert_eq!(acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"], 1);
    let old = client.ask(&request(2, "ping", json!({}))).await;
    assert_eq!(old["result"], json!({}), "and those that do not say speak what was agreed on");
}
