//! The relay's messages on record: once, whatever they pass, and joined with what the model asked for.

use std::path::Path;

use e2e::claude::{Home, NEWEST, Transcript};
use e2e::fake_api::FakeApi;
use e2e::recorder::{Place, Recorder};
use e2e::relay::{Listening, Relay, child};
use e2e::wait;
use serde_json::{Value, json};

const TOLD: &str = "The heron nests in the reeds.";

/// Writes the relay's file.
fn servers(place: &Place, servers: Value) -> std::path::PathBuf {
    let file = place.folder().join("relay.json");
    std::fs::write(&file, json!({"mcpServers": servers}).to_string()).unwrap();
    file
}

/// `iccm up` with a spy on a free port.
fn up(place: &Place, api: &FakeApi) -> Recorder {
    place.recorder("up", &api.url(), &["--spy-listen", "127.0.0.1:0"])
}

fn spy(up: &Recorder) -> &str {
    up.ready["spy"].as_str().unwrap().trim_start_matches("ws://")
}

fn run(home: &Home, place: &Place, api: &FakeApi, script: &str, file: &Path) -> Transcript {
    let run = home.ask_with_relay(place, &api.url(), &home.prompt(script), file, &[]);
    run.result();
    run
}

/// The session's main conversation, as `iccm show` gives it.
fn shown(place: &Place, session: &str) -> (String, Value) {
    let conversations = place.conversations();
    let of_session = conversations.iter().find(|c| c["session_id"] == session && c["parent_conversation_id"].is_null());
    let id = of_session.unwrap_or_else(|| panic!("no {session} in {conversations:#?}"))["id"].as_str().unwrap();
    (place.run(["show", id]).text(), place.show(id))
}

fn frames(place: &Place) -> Vec<Value> {
    place.json_lines(&["frames"])
}

/// Every message that passed is there once, by any count.
fn each_call_is_one(place: &Place, shown: &Value, calls: usize) {
    assert_eq!(shown["tool_calls"].as_array().unwrap().len(), calls, "{shown:#}");
    let frames = frames(place);
    let asked = frames.iter().filter(|frame| frame["method"] == "tools/call").count();
    assert_eq!(asked, calls, "{frames:#?}");
    assert_eq!(place.stats()["mcp_frames"], frames.len());
}

/// Claude Code → relay → spy → Dewey, over both of the spy's transports.
#[test]
fn a_message_that_claude_code_stores_through_relay_and_spy_is_one_story() {
    for transport in ["ws", "http"] {
        let (api, place, home) = (FakeApi::start(), Place::new(), Home::new(NEWEST));
        let up = up(&place, &api);
        let url = match transport {
            "ws" => format!("ws://{}?upstream=dewey", spy(&up)),
            _ => format!("http://{}/mcp/dewey", spy(&up)),
        };
        // A stateless request over HTTP has no connection to share a session with; this header tells it of each.
        let headers = json!({"X-Claude-Code-Session-Id": "${CLAUDE_CODE_SESSION_ID}"});
        let file = servers(&place, json!({"library": {"type": transport, "url": url, "headers": headers}}));
        let session = run(&home, &place, &api, "librarian", &file).session_id();
        up.stop();

        let (text, json) = shown(&place, &session);
        each_call_is_one(&place, &json, 2);
        let stored = &json["tool_calls"][1];
        let turns = json["turns"].to_string();
        assert!(turns.contains(stored["tool_use_id"].as_str().unwrap()), "the model's tool_use is in the same story");
        assert_eq!((&stored["server"], &stored["tool"]), (&json!("dewey"), &json!("dewey_store_message")));
        assert_eq!(stored["source"], if transport == "ws" { "spy" } else { "spy_http" });
        assert_eq!(stored["arguments"]["content"], TOLD);
        assert!(stored["duration_ms"].as_f64().unwrap() > 0.0, "{stored:#}");
        let message = &stored["stored"][0];
        assert_eq!((&message["content"], &message["turn"]), (&json!(TOLD), &json!(1)), "{stored:#}");
        assert_eq!(stored["result"]["structuredContent"]["message_id"], message["id"]);

        // The same as text: who asked, who answered and how long it took, and what is stored now, in this order.
        let after = |what: &str, text: &str| {
            let at = text.find(what).unwrap_or_else(|| panic!("no {what} in its place in:\n{text}"));
            text[at + what.len()..].to_owned()
        };
        let rest = after("→ mcp__relay__dewey_store_message", &text);
        let rest = after("⇄ dewey answered dewey_store_message in ", &rest);
        let rest = after("message_id", &rest);
        let rest =
            after(&format!("stored: #1 user in iccm show {}", message["conversation_id"].as_str().unwrap()), &rest);
        let rest = after(TOLD, &rest);
        after("← mcp__relay__dewey_store_message", &rest);
        assert_eq!(text.matches("⇄ dewey answered").count(), 2, "{text}");
        // Every frame is of this session, also those that no tool call asked for.
        assert!(frames(&place).iter().all(|frame| frame["session_id"] == json!(session)), "{:#?}", frames(&place));
    }
}

/// The servers that no spy stands before, in one session, with `iccm run`'s defaults.
#[test]
fn what_stdio_and_direct_servers_do_is_on_the_timeline() {
    let (api, place, home) = (FakeApi::start(), Place::new(), Home::new(NEWEST));
    let direct = Listening::start("ws", "legacy", "direct");
    let file = servers(&place, json!({"near": child("legacy", "near"), "far": direct.entry()}));
    let session = run(&home, &place, &api, "errands", &file).session_id();
    let (text, json) = shown(&place, &session);
    each_call_is_one(&place, &json, 2);
    for (call, (server, tool)) in
        json["tool_calls"].as_array().unwrap().iter().zip([("near", "own_near"), ("far", "own_direct")])
    {
        assert_eq!((&call["server"], &call["tool"], &call["source"]), (&json!(server), &json!(tool), &json!("relay")));
        assert!(call["answered_at"].is_string() && call["result"]["content"][0]["text"].is_string(), "{call:#}");
        assert!(text.contains(&format!("⇄ {server} answered {tool} in ")), "{text}");
    }
}

/// `iccm run` tells its command where its spy is, and a relay below it reaches servers by that.
#[test]
fn a_run_leads_its_relay_through_its_own_spy() {
    let (api, home) = (FakeApi::start(), Home::new(NEWEST));
    let direct = Listening::start("ws", "legacy", "direct");
    let place = Place::new();
    let config = format!("[mcp_servers.direct]\nws = \"ws://127.0.0.1:{}/mcp\"\n", direct.port);
    std::fs::write(place.folder().join("iccm.toml"), config).unwrap();
    let config = place.folder().join("iccm.toml");
    let place = place.with_arguments(&["--config", config.to_str().unwrap()]);
    let behind = json!({"type": "ws", "url": "ws://${ICCM_SPY}?upstream=direct"});
    let file = servers(&place, json!({"far": behind, "near": child("legacy", "near")}));
    let session = run(&home, &place, &api, "errands", &file).session_id();
    let (_, json) = shown(&place, &session);
    each_call_is_one(&place, &json, 2);
    let sources: Vec<_> = json["tool_calls"].as_array().unwrap().iter().map(|call| call["source"].clone()).collect();
    assert_eq!(sources, [json!("relay"), json!("spy")]);
}

/// Whatever stands in the relay's environment reaches no file of the record.
#[test]
fn secrets_of_the_relays_environment_are_not_on_record() {
    let place = Place::new();
    let data = place.data_dir();
    let variables = [
        ("CLAUDE_CODE_MESSAGING_TOKEN", "secret-messaging-token"),
        ("ANTHROPIC_API_KEY", "sk-ant-test-000"),
        ("CLAUDE_CODE_SESSION_ID", "S"),
        ("ICCM_DATA_DIR", data.to_str().unwrap()),
    ];
    let mut relay = Relay::recording(json!({"one": child("legacy", "one")}), &variables);
    relay.initialize(json!({}));
    relay.tools();
    let env = relay.text("env", json!({}));
    assert!(!env.contains("secret-messaging-token") && !env.contains("sk-ant-test-000"), "{env}");
    assert!(env.contains("CLAUDE_CODE_SESSION_ID=S"), "{env}");
    relay.hang_up();
    assert_eq!(relay.running().end(std::time::Duration::from_secs(20)).code(), 0);
    let frames = frames(&place);
    let call = frames.iter().find(|frame| frame["method"] == "tools/call").expect("the call is on record");
    assert_eq!((&call["session_id"], &call["source"], &call["name"]), (&json!("S"), &json!("relay"), &json!("env")));
    for secret in ["secret-messaging-token", "sk-ant-test-000"] {
        assert_eq!(place.files_with(secret.as_bytes()), Vec::<std::path::PathBuf>::new());
    }
}

/// What a relay that is killed has passed on is stored by whoever comes next.
#[test]
fn a_killed_relays_messages_are_on_record() {
    let place = Place::new();
    let data = place.data_dir();
    let mut relay =
        Relay::recording(json!({"one": child("legacy", "one")}), &[("ICCM_DATA_DIR", data.to_str().unwrap())]);
    relay.initialize(json!({}));
    for n in 0..50 {
        relay.text("echo", json!({"n": n}));
    }
    relay.running().kill();
    drop(relay);
    let api = FakeApi::start();
    let next = place.recorder("up", &api.url(), &["--spy-listen", "127.0.0.1:0"]);
    wait::until("the relay's messages on record", || {
        let frames = frames(&place);
        let (mut asked, mut answered) = (Vec::new(), Vec::new());
        for frame in &frames {
            match frame["name"] == "echo" {
                true => asked.push(&frame["rpc_id"]),
                false => answered.push(&frame["rpc_id"]),
            }
        }
        assert!(asked.len() <= 50, "none is doubled");
        let whole =
            asked.len() == 50 && asked.iter().all(|id| answered.iter().filter(|other| other == &id).count() == 1);
        whole.then_some(())
    });
    next.stop();
}

/// Clients end their servers with SIGKILL when they are in a hurry; the run that they were part of stores what is left.
#[test]
fn a_run_stores_what_its_killed_relay_has_recorded() {
    let (api, place) = (FakeApi::start(), Place::new());
    let file = servers(&place, json!({"one": child("legacy", "one")}));
    let introduction = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params":
        {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}});
    let call =
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "own_one", "arguments": {}}});
    let (input, output) = (place.folder().join("input"), place.folder().join("output"));
    std::fs::write(&input, format!("{introduction}\n{call}\n")).unwrap();
    // The input stays open, so that nothing but the kill ends the relay.
    let script = format!(
        "mkfifo '{0}.pipe'; exec 3<>'{0}.pipe'; cat '{0}' >&3; '{iccm}' relay --record --config '{file}' <&3 >'{1}' & \
         until grep -q '\"id\":2' '{1}'; do sleep 0.05; done; kill -9 $!; wait",
        input.display(),
        output.display(),
        iccm = e2e::recorder::iccm_binary().display(),
        file = file.display(),
    );
    let run = place.command(["run", "--upstream", &api.url(), "--", "sh", "-c", &script]);
    e2e::process::run(run, std::time::Duration::from_secs(60)).success("the run");
    let frames = frames(&place);
    let asked = frames.iter().find(|frame| frame["method"] == "tools/call").expect("the call is on record");
    let answers = frames.iter().filter(|frame| frame["rpc_id"] == asked["rpc_id"] && frame["direction"] == "to_client");
    assert_eq!((&asked["source"], answers.count()), (&json!("relay"), 1), "{frames:#?}");
    assert_eq!(place.stats()["spool_pending_records"], 0);
}
