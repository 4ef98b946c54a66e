//! Servers that others wrote, from npm, and the client that this is for.

use e2e::claude::{Home, NEWEST};
use e2e::fake_api::FakeApi;
use e2e::recorder::Place;
use e2e::relay::{Relay, mcp_server_binary, npm_server};
use serde_json::{Value, json};

fn servers(folder: &std::path::Path) -> Value {
    json!({
        "everything": {"command": npm_server("mcp-server-everything")},
        "files": {"command": npm_server("mcp-server-filesystem"), "args": [folder]},
        "memory": {"command": npm_server("mcp-server-memory"), "env": {"MEMORY_FILE_PATH": folder.join("memory.jsonl")}},
        "thinking": {"command": npm_server("mcp-server-sequential-thinking")},
    })
}

#[test]
fn four_servers_from_npm_work_at_once_for_clients_of_both_eras() {
    for modern in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("note.txt"), "written before").unwrap();
        let servers = servers(folder.path());
        let mut relay = if modern { Relay::modern(servers) } else { Relay::start(servers, &[]) };
        if !modern {
            // Without roots, so that the file server keeps to the folder of its command line.
            relay.initialize(json!({"elicitation": {}, "sampling": {}}));
        }
        for name in ["everything", "files", "memory", "thinking"] {
            relay.until_server_is(name, "connected");
        }
        assert!(relay.tools().len() > 30);
        assert_eq!(relay.text("echo", json!({"message": "hello"})), "Echo: hello");
        let read = relay.text("read_text_file", json!({"path": folder.path().join("note.txt")}));
        assert_eq!(read, "written before");
        let entity = json!({"name": "Ada", "entityType": "person", "observations": ["writes programs"]});
        relay.text("create_entities", json!({"entities": [entity]}));
        assert!(relay.text("search_nodes", json!({"query": "Ada"})).contains("writes programs"));
        let thought = json!({"thought": "t", "nextThoughtNeeded": false, "thoughtNumber": 1, "totalThoughts": 1});
        assert!(relay.text("sequentialthinking", thought).contains("thoughtNumber"));
        let slow = json!({"name": "trigger-long-running-operation", "arguments": {"duration": 0.1, "steps": 2}, "_meta": {"progressToken": "p"}});
        relay.ask("tools/call", slow);
        assert_eq!(relay.other("notifications/progress")["params"]["progressToken"], "p");
        assert!(!relay.ask("prompts/list", json!({}))["prompts"].as_array().unwrap().is_empty());
        let uri = relay.ask("resources/list", json!({}))["resources"][0]["uri"].clone();
        assert!(!relay.ask("resources/read", json!({"uri": uri}))["contents"].as_array().unwrap().is_empty());
    }
}

/// The agent adds a server with the relay's tool and calls the new server's tool, in one session, while nobody touches its
/// configuration; and `--no-mcp` leaves the relay out.
#[test]
fn claude_code_calls_a_tool_that_it_has_just_added() {
    let (api, place, home) = (FakeApi::start(), Place::new(), Home::new(NEWEST));
    let file = place.folder().join("relay.json");
    let first = json!({"mcpServers": {"first": e2e::relay::child("legacy", "first")}});
    std::fs::write(&file, first.to_string()).unwrap();
    let server = mcp_server_binary();
    let prompt = format!("{} MCP:{}", home.prompt("relay"), server.display());
    let run = home.ask_with_relay(&place, &api.url(), &prompt, &file, &[]);
    assert_eq!(run.result()["result"], "The added tool has answered.");
    let last = api.log().into_iter().rev().find(|entry| entry.script.as_ref().is_some_and(|(name, _)| name == "relay"));
    let body = last.expect("the script ran").json().unwrap().to_string();
    assert!(body.contains("mcp__relay__own_added"), "the tool was offered to the model");
    let results: Vec<&str> = body.matches("added").collect();
    assert!(results.len() > 3, "{body}");
    let after: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(after["mcpServers"]["added"]["args"][2], "added");

    let (api, home) = (FakeApi::start(), Home::new(NEWEST));
    let without = home.ask_with_relay(&place, &api.url(), &home.prompt("hello"), &file, &["--no-mcp"]);
    without.result();
    assert!(!api.log().iter().any(|entry| entry.json().is_some_and(|body| body.to_string().contains("mcp__relay__"))));
}
