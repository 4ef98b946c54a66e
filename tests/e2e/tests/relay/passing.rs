//! What goes through the relay, and what must come out.

use std::time::Duration;

use e2e::mcp_server::UNKNOWN;
use e2e::relay::{Listening, Relay, child};
use serde_json::{Value, json};

/// Every way to a server.
const TRANSPORTS: [&str; 3] = ["stdio", "ws", "http"];

/// A relay with one scripted server; the server must live as long as the test.
pub(crate) fn with_one(transport: &str, backend: &str, client: &str) -> (Relay, Option<Listening>) {
    let listening = (transport != "stdio").then(|| Listening::start(transport, backend, "one"));
    let entry = listening.as_ref().map_or_else(|| child(backend, "one"), Listening::entry);
    let servers = json!({"one": entry});
    (if client == "modern" { Relay::modern(servers) } else { Relay::legacy(servers) }, listening)
}

#[test]
fn ids_tokens_and_unknown_fields_survive_on_every_way() {
    for transport in TRANSPORTS {
        for backend in ["legacy", "modern"] {
            let (mut relay, _server) = with_one(transport, backend, "legacy");
            relay.tools();
            for id in ["\"a\\u0062c\"", "123456789012345678901234567890", "-7", "1.50", "\"\"", "null"] {
                let argument = r#"{"big": 98765432109876543210987, "t" : "ü\u00fc"}"#;
                relay.say(&format!(
                    r#"{{"x-top":[1e9],"params":{{"x-deep":true,"arguments":{argument},"name":"echo"}},"id":{id},"method":"tools/call","jsonrpc":"2.0"}}"#
                ));
                let line = relay.line();
                assert!(line.contains(&format!("\"id\":{id}")), "{transport} {backend}: {line}");
                assert!(line.contains(UNKNOWN), "{transport} {backend}: {line}");
                let answer: Value = serde_json::from_str(&line).unwrap();
                let sent = answer["result"]["content"][0]["text"].as_str().unwrap();
                for kept in [argument, "\"x-top\":[1e9]", "\"x-deep\":true"] {
                    assert!(sent.contains(kept), "{transport} {backend} lost {kept}: {sent}");
                }
            }
        }
    }
}

#[test]
fn progress_and_cancellation_find_their_request_on_every_way() {
    for transport in TRANSPORTS {
        for backend in ["legacy", "modern"] {
            let (mut relay, _server) = with_one(transport, backend, "legacy");
            let params = json!({"name": "slow", "arguments": {}, "_meta": {"progressToken": "the \"token\""}});
            let id = relay.send("tools/call", params);
            let progress = relay.other("notifications/progress");
            assert_eq!(progress["params"]["progressToken"], "the \"token\"", "{transport} {backend}");
            relay.say(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id},"reason":"enough"}}}}"#
            ));
            // The next call is answered, the cancelled one never is.
            assert!(relay.text("own_one", json!({})).contains("one"));
            if backend == "legacy" {
                let what = format!("{transport}: the cancellation to arrive with the server's own id");
                e2e::wait::until(&what, || {
                    let seen = relay.text("seen", json!({}));
                    let cancelled = seen.lines().find(|line| line.contains("notifications/cancelled"))?.to_owned();
                    let slow = seen.lines().find(|line| line.contains("\"slow\""))?.to_owned();
                    let (cancelled, slow): (Value, Value) =
                        (serde_json::from_str(&cancelled).unwrap(), serde_json::from_str(&slow).unwrap());
                    assert_eq!(cancelled["params"]["requestId"], slow["id"]);
                    assert_eq!(cancelled["params"]["reason"], "enough");
                    assert_eq!(slow["params"]["_meta"]["progressToken"], slow["id"], "tokens are the relay's own");
                    Some(())
                });
            }
            assert!(relay.others.iter().all(|message| message["id"] != id), "{transport} {backend}");
        }
    }
}

#[test]
fn results_of_fifty_megabytes_pass() {
    for transport in TRANSPORTS {
        let (mut relay, _server) = with_one(transport, "legacy", "legacy");
        let text = relay.text("size", json!({"bytes": 50_000_000}));
        assert_eq!(text.len(), 50_000_000, "{transport}");
        // And back: arguments of this size reach the server.
        let echoed = relay.text("echo", json!({"x": "y".repeat(20_000_000)}));
        assert!(echoed.len() > 20_000_000, "{transport}");
    }
}

#[test]
fn prompts_resources_and_completions_find_their_server() {
    let (ws, http) = (Listening::start("ws", "legacy", "ws"), Listening::start("http", "modern", "http"));
    let mut relay = Relay::legacy(json!({"ws": ws.entry(), "http": http.entry(), "child": child("legacy", "child")}));
    for name in ["ws", "http", "child"] {
        let prompt = relay.ask("prompts/get", json!({"name": format!("{name}_greet")}));
        assert_eq!(prompt["description"], format!("from {name}"));
        for uri in ["1", "other"] {
            let read = relay.ask("resources/read", json!({"uri": format!("fix://{name}/{uri}")}));
            assert_eq!(read["contents"][0]["text"], format!("of {name}"));
        }
        for reference in [
            json!({"type": "ref/prompt", "name": format!("{name}_greet")}),
            json!({"type": "ref/resource", "uri": format!("fix://{name}/{{id}}")}),
        ] {
            let params = json!({"ref": reference, "argument": {"name": "id", "value": ""}});
            assert_eq!(relay.ask("completion/complete", params)["completion"]["values"][0], name);
        }
    }
    let resources = relay.ask("resources/list", json!({}));
    assert_eq!(resources["resources"].as_array().unwrap().len(), 3);
    let id = relay.send("resources/read", json!({"uri": "nobody://x"}));
    assert_eq!(relay.answer(id)["error"]["code"], -32602);
}

#[test]
fn what_is_no_message_is_answered_with_an_error_and_the_relay_goes_on() {
    let (mut relay, _server) = with_one("stdio", "legacy", "legacy");
    for (line, code) in [("{nonsense", -32700), ("{}", -32600), (r#"{"id":1,"id":2,"method":"ping"}"#, -32600)] {
        relay.say(line);
        let answer: Value = serde_json::from_str(&relay.line()).unwrap();
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &Value::Null), "{line}");
    }
    relay.say(r#"[{"jsonrpc":"2.0","id":"b1","method":"ping"},{"jsonrpc":"2.0","id":"b2","method":"ping"}]"#);
    let ids: Vec<Value> = (0..2).map(|_| serde_json::from_str::<Value>(&relay.line()).unwrap()["id"].clone()).collect();
    assert_eq!(ids, ["b1", "b2"]);
    let id = relay.send("no/such", json!({}));
    assert_eq!(relay.answer(id)["error"]["code"], -32601);
    assert!(relay.line_within(Duration::from_millis(50)).is_none());
}
