//! Clients and servers of different eras understand each other.

use e2e::relay::{Relay, child};
use serde_json::json;

use crate::passing::with_one;

#[test]
fn discovery_is_answered_at_once_whatever_the_servers_do() {
    let servers =
        json!({"mute": {"command": "sleep", "args": ["1000"]}, "dead": {"type": "ws", "url": "ws://127.0.0.1:1"}});
    let began = std::time::Instant::now();
    let mut relay = Relay::modern(servers);
    let found = relay.ask("server/discover", json!({}));
    assert!(began.elapsed() < std::time::Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(found["capabilities"]["tools"]["listChanged"], true);
    assert_eq!(found["resultType"], "complete");
}

#[test]
fn a_modern_client_gets_what_its_era_requires_from_servers_of_both() {
    for backend in ["legacy", "modern"] {
        let (mut relay, _server) = with_one("stdio", backend, "modern");
        let tools = relay.ask("tools/list", json!({}));
        assert_eq!((&tools["resultType"], tools["ttlMs"].is_u64()), (&json!("complete"), true));
        let called = relay.ask("tools/call", json!({"name": "own_one", "arguments": {}}));
        assert_eq!(called["content"][0]["text"], "one");
        if backend == "legacy" {
            assert_eq!(called["resultType"], "complete");
            let read = relay.ask("resources/read", json!({"uri": "fix://one/1"}));
            assert_eq!((&read["ttlMs"], &read["cacheScope"]), (&json!(0), &json!("private")));
        }
    }
}

#[test]
fn a_version_that_nobody_speaks_is_refused_with_those_that_are_spoken() {
    let mut relay = Relay::start(json!({}), &[]);
    relay.say(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"1900-01-01"}}}"#);
    let answer = relay.answer(1);
    assert_eq!(answer["error"]["code"], -32022);
    assert_eq!(answer["error"]["data"]["supported"][0], "2026-07-28");
    relay.say(r#"{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#);
    assert_eq!(relay.answer(2)["error"]["code"], -32602, "capabilities are required");
}

#[test]
fn a_legacy_client_is_asked_and_its_answer_reaches_the_server() {
    for transport in ["stdio", "ws", "http"] {
        for backend in ["legacy", "modern"] {
            let (mut relay, _server) = with_one(transport, backend, "legacy");
            let call = relay.send("tools/call", json!({"name": "ask", "arguments": {}}));
            let question = relay.other("elicitation/create");
            assert_eq!(question["params"]["message"], "Who?", "{transport} {backend}");
            let answer =
                json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"n": 1}}});
            relay.say(&answer.to_string());
            let answered = relay.answer(call);
            let text = answered["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answered}"));
            assert!(text.contains(r#""action":"accept""#), "{transport} {backend}: {text}");
        }
    }
}

#[test]
fn a_modern_client_is_asked_within_its_call() {
    for transport in ["stdio", "ws", "http"] {
        for backend in ["legacy", "modern"] {
            let (mut relay, _server) = with_one(transport, backend, "modern");
            let first = relay.ask("tools/call", json!({"name": "ask", "arguments": {}}));
            assert_eq!(first["resultType"], "input_required", "{transport} {backend}: {first}");
            let (name, question) = first["inputRequests"].as_object().unwrap().iter().next().unwrap();
            assert_eq!(question["method"], "elicitation/create");
            let second = relay.ask(
                "tools/call",
                json!({"name": "ask", "arguments": {}, "inputResponses": {name: {"action": "decline"}}, "requestState": first["requestState"]}),
            );
            let text = second["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{second}"));
            assert!(text.contains("decline"), "{transport} {backend}: {text}");
            let seen = relay.text("seen", json!({}));
            let calls = seen.lines().filter(|line| line.contains("\"ask\"") && line.contains("tools/call")).count();
            assert_eq!(calls, if backend == "legacy" { 1 } else { 2 }, "a legacy server is called once");
        }
    }
}

#[test]
fn a_subscription_hears_of_changed_tools_with_its_own_id() {
    for backend in ["legacy", "modern"] {
        let (mut relay, _server) = with_one("stdio", backend, "modern");
        relay.tools();
        let listen = relay.send("subscriptions/listen", json!({"notifications": {"toolsListChanged": true}}));
        let acknowledged = relay.other("notifications/subscriptions/acknowledged");
        let id =
            |message: &serde_json::Value| message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone();
        assert_eq!(id(&acknowledged), listen);
        relay.text("grow", json!({}));
        assert_eq!(id(&relay.other("notifications/tools/list_changed")), listen, "{backend}");
        assert!(relay.tools().contains(&"grown_one_0".to_owned()));
        relay.text("same", json!({}));
        relay.text("own_one", json!({}));
        assert_eq!(relay.tool_changes(), 0, "{backend}: nothing has changed, so nothing is said");
        relay.hang_up();
        assert_eq!(relay.answer(listen)["result"]["resultType"], "complete", "it ends in good order");
    }
}

#[test]
fn a_legacy_server_that_is_silent_about_discovery_is_found_out() {
    let mut relay = Relay::legacy(json!({"shy": child("silent", "shy")}));
    assert!(relay.tools().contains(&"own_shy".to_owned()));
    assert_eq!(relay.server("shy")["protocol"], "legacy");
}
