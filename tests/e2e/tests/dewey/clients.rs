//! The official SDKs and the real Claude Code.

use e2e::claude::{Home, NEWEST};
use e2e::fake_api::FakeApi;
use e2e::mcp_sdks::{python, typescript};
use serde_json::json;

use crate::server::{Backend, Dewey};

pub(crate) fn the_typescript_sdk_calls_all_tools_over_both_transports(backend: Backend) {
    let dewey = Dewey::start(backend);
    for url in [dewey.websocket_url(), dewey.url.clone()] {
        assert_eq!(typescript("dewey.mjs", &url, &[])["tools"], 11, "{url}");
    }
    assert_eq!(dewey.total(), 0, "what the client stored it has deleted, too");
    dewey.stop();
}

pub(crate) fn the_python_sdk_calls_all_tools_over_both_transports_and_in_both_eras(backend: Backend) {
    let dewey = Dewey::start(backend);
    for url in [dewey.websocket_url(), dewey.url.clone()] {
        assert_eq!(python(1, "dewey.py", &url, &[])["tools"], 11, "{url}");
    }
    assert_eq!(python(2, "dewey.py", &dewey.url, &["modern"])["tools"], 11, "2026-07-28");
    assert_eq!(dewey.total(), 0, "what the client stored it has deleted, too");
    dewey.stop();
}

/// In `iccm up`, so that the call is also on record as part of the session that made it.
pub(crate) fn the_real_claude_code_uses_dewey_over_ws_and_http(backend: Backend) {
    let api = FakeApi::start();
    for kind in ["ws", "http"] {
        let (place, home) = (backend.place(), Home::new(NEWEST));
        let up = place.recorder("up", &api.url(), &[]);
        let http_url = up.ready["dewey"].as_str().unwrap().to_owned();
        let url = if kind == "ws" { http_url.replace("http://", "ws://") } else { http_url };
        let config = home.project().join("mcp.json");
        std::fs::write(&config, json!({"mcpServers": {"dewey": {"type": kind, "url": url}}}).to_string()).unwrap();
        let further = ["--mcp-config", config.to_str().unwrap(), "--allowedTools", "mcp__dewey"];
        let said = home.ask_directly(&up.url(), &home.prompt("dewey"), &further);
        let results = said.tool_results();
        assert_eq!(results.len(), 6, "{kind}: {results:#?}");
        for (place, words) in [
            (0, "is_active"),
            (1, "Remember the albatross."),
            (2, "message_ids"),
            (3, "from-claude"),
            (4, "[albatross]"),
            (5, "`conversation_id` must be an id"),
        ] {
            assert!(results[place].contains(words), "{kind}: {} lacks {words}", results[place]);
        }
        let found = place.json_lines(&["search", "albatross nest", "--session", "from-claude"]);
        assert_eq!(found.len(), 1, "{kind}: what the tool stored, the command line finds");
        up.stop();
    }
}

/// A transcript that the real Claude Code wrote.
pub(crate) fn a_transcript_of_claude_code_becomes_a_conversation(backend: Backend) {
    let (api, dewey, home) = (FakeApi::start(), Dewey::start(backend), Home::new(NEWEST));
    let said = home.ask_directly(&api.url(), &home.prompt("tools"), &[]);
    let session = said.session_id();
    let file = home.transcript(&session);
    std::fs::copy(file, dewey.place.data_dir().join("import/transcript.jsonl")).unwrap();
    let file = json!({"messages_file": "transcript.jsonl"});
    let stored = dewey.mcp.call("dewey_store_messages_bulk", &file).json();
    let id = json!({"conversation_id": stored["conversation_id"]});
    let shown = dewey.mcp.call("dewey_get_conversation", &id).json();
    assert_eq!((&shown["session_id"], &shown["source"]), (&json!(session), &json!("imported")));
    let messages = shown["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "user", "assistant"], "{messages:#?}");
    assert_eq!(messages[2]["content"].as_array().unwrap().len(), 2, "the results of two calls are one message");
    dewey.stop();
}

pub(crate) fn a_captured_conversation_is_read_like_a_stored_one_and_cannot_be_added_to(backend: Backend) {
    let (api, place, home) = (FakeApi::start(), backend.place(), Home::new(NEWEST));
    let session = home.ask_recorded(&place, &api.url(), &home.prompt("hello"), &[]).session_id();
    let dewey = Dewey::at(place);
    let listed = dewey.mcp.call("dewey_list_conversations", &json!({"session_id": session})).json();
    let id = &listed["conversations"][0]["id"];
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": id})).json();
    assert_eq!(shown["messages"].as_array().unwrap().last().unwrap()["role"], "assistant");
    let message = json!({"conversation_id": id, "role": "user", "content": "forged"});
    let answer = dewey.mcp.call("dewey_store_message", &message);
    assert!(answer.is_error && answer.text.contains("captured"), "{}", answer.text);
    dewey.stop();
}
