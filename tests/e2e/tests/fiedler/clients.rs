//! Fiedler as real clients see it: Claude Code, and MCP's official SDKs.

use e2e::claude::{Home, NEWEST};
use e2e::fake_api::FakeApi;
use e2e::mcp_sdks::{python, typescript};
use e2e::providers::{Play, Providers};
use e2e::recorder::iccm_binary;
use e2e::wait;
use serde_json::json;

use crate::hall::{Hall, place_for};

/// The agent's model asks for the tool; the call goes through the relay and the spy, and the run joins the agent's session.
#[test]
fn the_real_claude_code_asks_the_orchestra_through_the_relay_and_is_told_of_progress() {
    let api = FakeApi::start();
    let (providers, home) = (Providers::default(), Home::new(NEWEST));
    let place = place_for(&providers);
    let up = place.recorder("up", &api.url(), &["--spy-listen", "127.0.0.1:0"]);
    let spy = format!("{}/?upstream=fiedler", up.ready["spy"].as_str().unwrap());
    let servers = place.folder().join("relay.json");
    std::fs::write(&servers, json!({"mcpServers": {"fiedler": {"type": "ws", "url": spy}}}).to_string()).unwrap();
    let config = home.project().join("mcp.json");
    let relay = json!({"type": "stdio", "command": iccm_binary(), "args": ["relay", "--config", servers]});
    std::fs::write(&config, json!({"mcpServers": {"relay": relay}}).to_string()).unwrap();
    let further = ["--mcp-config", config.to_str().unwrap(), "--allowedTools", "mcp__relay"];
    let said = home.ask_directly(&up.url(), &home.prompt("fiedler"), &further);
    let results = said.tool_results();
    assert!(results[0].contains("success") && results[0].contains("2 of 2 models answered"), "{results:?}");
    let progress = wait::until("progress on record", || {
        let frames = place.json_lines(&["frames"]);
        let told = frames.iter().filter(|f| f["method"] == "notifications/progress").count();
        (told >= 4).then_some(told)
    });
    assert!(progress >= 4, "the client asked to be told, and was");
    let joined = place.json_lines(&["conversations", "--session", &said.session_id()]);
    let run = joined.iter().find(|c| c["metadata"]["kind"] == "fiedler_run");
    assert!(run.is_some(), "the run is of the agent's session: {joined:#?}");
    up.stop();
}

/// Where it listens, for either transport.
fn endpoints(hall: &Hall) -> [String; 2] {
    let url = hall.up.ready["fiedler"].as_str().unwrap();
    [url.replace("http://", "ws://"), url.to_owned()]
}

fn answers(hall: &Hall) -> String {
    let folder = hall.place.folder().join("answers");
    std::fs::create_dir_all(&folder).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn the_typescript_sdk_calls_all_tools_over_both_transports() {
    let hall = Hall::open();
    hall.providers.play("gpt-5", &[Play::Hangs]);
    for url in endpoints(&hall) {
        let did = typescript("fiedler.mjs", &url, &[&answers(&hall)]);
        assert_eq!(did["tools"], 8, "{url}");
        wait::until("the call that it cancelled to end", || (hall.providers.hanging() == 0).then_some(()));
    }
    hall.up.stop();
}

#[test]
fn the_python_sdks_call_all_tools_over_both_transports_and_in_both_eras() {
    let hall = Hall::open();
    let [websocket, http] = endpoints(&hall);
    for url in [&websocket, &http] {
        assert_eq!(python(1, "fiedler.py", url, &[&answers(&hall)])["tools"], 8, "{url}");
    }
    assert_eq!(python(2, "fiedler.py", &http, &[&answers(&hall), "modern"])["tools"], 8, "2026-07-28");
    hall.up.stop();
}
