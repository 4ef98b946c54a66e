//! Dewey as its clients see it: the official SDKs, the real Claude Code, and whoever means no good.

use std::io::BufReader;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::sync::Barrier;
use std::time::Duration;

use e2e::claude::{Home, NEWEST};
use e2e::fake_api::FakeApi;
use e2e::mcp::Mcp;
use e2e::postgres::Cluster;
use e2e::process::{self, Running};
use e2e::recorder::Place;
use rustix::process::Signal;
use serde_json::{Value, json};

/// `iccm dewey` over a record of its own. Killed when dropped.
struct Dewey {
    running: Running,
    _stdout: BufReader<ChildStdout>,
    mcp: Mcp,
    url: String,
    place: Place,
}

impl Dewey {
    fn start() -> Self {
        Self::at(Place::new())
    }

    fn at(place: Place) -> Self {
        let import = place.data_dir().join("import");
        std::fs::create_dir_all(&import).unwrap();
        let lines = "{\"role\":\"user\",\"content\":\"one\"}\n{\"role\":\"assistant\",\"content\":\"two\"}\n";
        std::fs::write(import.join("messages.jsonl"), lines).unwrap();
        let command = place.command(["dewey", "--json", "--dewey-listen", "127.0.0.1:0"]);
        let (mut running, mut stdout) = Running::start_reading(command);
        let ready: Value = serde_json::from_str(&process::first_line(&mut running, &mut stdout)).unwrap();
        let url = ready["dewey"].as_str().unwrap().to_owned();
        Self { running, _stdout: stdout, mcp: Mcp::of_url(&ready["dewey"]), url, place }
    }

    fn websocket_url(&self) -> String {
        self.url.replace("http://", "ws://")
    }

    /// What is on record, by its own count.
    fn total(&self) -> u64 {
        self.mcp.call("dewey_list_conversations", &json!({})).json()["total"].as_u64().unwrap()
    }

    fn begin(&self) -> String {
        self.mcp.call("dewey_begin_conversation", &json!({})).json()["conversation_id"].as_str().unwrap().to_owned()
    }

    fn stop(mut self) {
        self.running.signal(Signal::TERM);
        assert_eq!(self.running.end(Duration::from_secs(30)).code(), 0);
    }
}

/// The folder with the official SDKs, which `scripts/test` installs.
fn clients() -> PathBuf {
    let folder = std::env::var_os("ICCM_TEST_MCP_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/mcp-clients"), PathBuf::from);
    assert!(folder.is_dir(), "no MCP SDKs at {}; run scripts/test, which installs them", folder.display());
    folder
}

fn run_client(program: &Path, words: &[&str]) -> Value {
    let mut command = Command::new(program);
    command.args(words);
    let finished = process::run(command, Duration::from_secs(120)).success(&format!("{words:?}"));
    serde_json::from_str(finished.text().lines().last().unwrap()).unwrap()
}

fn script(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_typescript_sdk_calls_all_tools_over_both_transports() {
    let dewey = Dewey::start();
    let folder = clients().join("typescript");
    for url in [dewey.websocket_url(), dewey.url.clone()] {
        let did = run_client(Path::new("node"), &[&script("typescript.mjs"), &url, folder.to_str().unwrap()]);
        assert_eq!(did["tools"], 11, "{url}");
    }
    dewey.stop();
}

#[test]
fn dewey_keeps_in_postgresql_what_it_is_given() {
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    let dewey = Dewey::at(Place::new().with_arguments(&["--database", database.url()]));
    let folder = clients().join("typescript");
    for url in [dewey.websocket_url(), dewey.url.clone()] {
        let did = run_client(Path::new("node"), &[&script("typescript.mjs"), &url, folder.to_str().unwrap()]);
        assert_eq!(did["tools"], 11, "{url}");
    }
    let message = json!({"conversation_id": dewey.begin(), "role": "user", "content": "an albatross in a cluster"});
    dewey.mcp.call("dewey_store_message", &message).json();
    let found =
        e2e::wait::until("what was stored to be found", || dewey.place.json_lines(&["search", "albatross"]).pop());
    assert_eq!(found["conversation_id"], message["conversation_id"]);
    let rows = cluster.sql(database.name(), "SELECT count(*) FROM iccm.message");
    assert_eq!(rows, "1", "what the clients stored they have deleted, too");
    dewey.stop();
}

#[test]
fn the_python_sdk_calls_all_tools_over_both_transports_and_in_both_eras() {
    let dewey = Dewey::start();
    let (old, new) = (clients().join("python-1/bin/python"), clients().join("python-2/bin/python"));
    for url in [dewey.websocket_url(), dewey.url.clone()] {
        assert_eq!(run_client(&old, &[&script("python.py"), &url])["tools"], 11, "{url}");
    }
    assert_eq!(run_client(&new, &[&script("python.py"), &dewey.url, "modern"])["tools"], 11, "2026-07-28");
    dewey.stop();
}

/// In `iccm up`, so that the call is also on record as part of the session that made it.
#[test]
fn the_real_claude_code_uses_dewey_over_ws_and_http() {
    let api = FakeApi::start();
    for kind in ["ws", "http"] {
        let (place, home) = (Place::new(), Home::new(NEWEST));
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

#[test]
fn hostile_arguments_are_refused_by_name_and_nothing_is_stored() {
    let dewey = Dewey::start();
    let conversation = dewey.begin();
    let into = |rest: &str| format!(r#"{{"conversation_id":"{conversation}",{rest}}}"#);
    let unknown = r#""conversation_id":"019a0000-0000-7000-8000-000000000001""#;
    let long = "x".repeat(20_000);
    let table: Vec<(&str, String, &str)> = vec![
        ("dewey_begin_conversation", r#"{"session_id":5}"#.into(), "session_id"),
        ("dewey_begin_conversation", r#"{"session_id":""}"#.into(), "session_id"),
        ("dewey_begin_conversation", format!(r#"{{"session_id":"{long}"}}"#), "session_id"),
        ("dewey_begin_conversation", r#"{"session_id":"a\u0000b"}"#.into(), "session_id"),
        ("dewey_begin_conversation", r#"{"metadata":[]}"#.into(), "metadata"),
        ("dewey_begin_conversation", r#"{"metadata":{"a":"\udc00"}}"#.into(), "metadata"),
        ("dewey_begin_conversation", r#"{"sesion_id":"x"}"#.into(), "sesion_id"),
        ("dewey_store_message", "{}".into(), "conversation_id"),
        ("dewey_store_message", "[]".into(), "arguments"),
        ("dewey_store_message", into(r#""role":"user""#), "content"),
        ("dewey_store_message", into(r#""role":"root","content":"x""#), "role"),
        ("dewey_store_message", into(r#""role":"user","content":null"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":{"type":"text"}"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":["x"]"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":"\ud83d""#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":"\u0000""#), "content"),
        (
            "dewey_store_message",
            into(&format!(r#""role":"user","content":{}1{}"#, "[".repeat(500), "]".repeat(500))),
            "content",
        ),
        ("dewey_store_message", into(r#""role":"user","content":"x","turn_number":2"#), "the next turn is 1"),
        ("dewey_store_message", into(r#""role":"user","content":"x","turn_number":-1"#), "turn_number"),
        ("dewey_store_message", into(r#""role":"user","content":"x","metadata":"{}""#), "metadata"),
        ("dewey_store_message", format!(r#"{{{unknown},"role":"user","content":"x"}}"#), "conversation_id"),
        (
            "dewey_store_message",
            r#"{"conversation_id":"'; DROP TABLE turns; --","role":"user","content":"x"}"#.into(),
            "conversation_id",
        ),
        ("dewey_store_messages_bulk", "{}".into(), "messages"),
        ("dewey_store_messages_bulk", r#"{"messages":[]}"#.into(), "messages"),
        ("dewey_store_messages_bulk", r#"{"messages":"[]"}"#.into(), "messages"),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"good"},{"role":"user"}]}"#.into(),
            "messages[1].content",
        ),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"good"},{"role":"user","content":"\ud800"}]}"#.into(),
            "messages[1].content",
        ),
        (
            "dewey_store_messages_bulk",
            into(r#""messages":[{"role":"user","content":"a"},{"role":"user","content":"b","turn_number":9}]"#),
            "the next turn is 2",
        ),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"a"}],"messages_file":"messages.jsonl"}"#.into(),
            "not both",
        ),
        (
            "dewey_store_messages_bulk",
            into(r#""messages":[{"role":"user","content":"a"}],"session_id":"another""#),
            "session_id",
        ),
        ("dewey_get_conversation", r#"{"conversation_id":7}"#.into(), "conversation_id"),
        ("dewey_get_conversation", into(r#""limit":0"#), "limit"),
        ("dewey_get_conversation", into(r#""offset":1e30"#), "offset"),
        ("dewey_list_conversations", r#"{"limit":101}"#.into(), "limit"),
        ("dewey_list_conversations", r#"{"limit":"20"}"#.into(), "limit"),
        ("dewey_list_conversations", r#"{"sort_by":"created_at; DROP TABLE conversations"}"#.into(), "sort_by"),
        ("dewey_delete_conversation", into(r#""force":"yes""#), "force"),
        ("dewey_delete_conversation", format!("{{{unknown}}}"), "conversation_id"),
        ("dewey_search", "{}".into(), "query"),
        ("dewey_search", r#"{"query":""}"#.into(), "query"),
        ("dewey_search", format!(r#"{{"query":"{long}"}}"#), "query"),
        ("dewey_search", r#"{"query":"x","role":"root"}"#.into(), "role"),
        ("dewey_search", r#"{"query":"x","start_date":"soon"}"#.into(), "start_date"),
        ("dewey_search", r#"{"query":"x","end_date":20261122}"#.into(), "end_date"),
        ("dewey_get_startup_context", r#"{"name":["x"]}"#.into(), "name"),
        ("dewey_set_startup_context", r#"{"name":"x"}"#.into(), "content"),
        ("dewey_set_startup_context", r#"{"name":"x","content":"y","set_active":1}"#.into(), "set_active"),
        ("dewey_set_startup_context", r#"{"name":"\u0000","content":"y"}"#.into(), "name"),
        ("dewey_list_startup_contexts", r#"{"include_content":"true"}"#.into(), "include_content"),
        ("dewey_delete_startup_context", r#"{"name":"nobody"}"#.into(), "name"),
    ];
    let before = dewey.total();
    for (tool, arguments, named) in table {
        let answer = dewey.mcp.call_text(tool, &arguments);
        let shown: String = arguments.chars().take(120).collect();
        assert!(answer.is_error, "{tool} took {shown}: {}", answer.text);
        assert!(answer.text.contains(named), "{tool} {shown}: {} does not name {named}", answer.text);
    }
    assert_eq!(dewey.total(), before, "a refused call left something behind");
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": conversation})).json();
    assert_eq!(shown["messages"], json!([]));
    for query in ["'; DROP TABLE messages; --", "\"unclosed", "*", "( NEAR/5 )", "𝕊𝕢𝕝 😀", "-"] {
        let answer = dewey.mcp.call("dewey_search", &json!({"query": query}));
        assert!(!answer.is_error || answer.text.contains("query"), "{query}: {}", answer.text);
    }
    dewey.stop();
}

#[test]
fn fifty_megabytes_come_back_whole_and_too_much_is_refused() {
    let dewey = Dewey::start();
    let conversation = dewey.begin();
    let store = |content: String| {
        let message = json!({"conversation_id": conversation, "role": "user", "content": content});
        dewey.mcp.call("dewey_store_message", &message)
    };
    let content = "0123456789 \"\u{1F600}\" ".repeat(3 << 20);
    assert!(content.len() > 50 << 20);
    assert_eq!(store(content.clone()).json()["turn_number"], 1);
    let too_much = store("x".repeat((64 << 20) + 1));
    assert!(too_much.is_error && too_much.text.contains("`content` must have at most"), "{}", too_much.text);
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": conversation})).json();
    assert_eq!(shown["messages"].as_array().unwrap().len(), 1);
    assert!(shown["messages"][0]["content"] == content.as_str(), "not what was stored");
    dewey.stop();
}

#[test]
fn many_writers_of_one_conversation_get_turns_without_gap_or_double() {
    const WRITERS: usize = 32;
    const EACH: usize = 15;
    let dewey = Dewey::start();
    let (conversation, together) = (dewey.begin(), Barrier::new(WRITERS));
    let write = |writer: usize| {
        together.wait();
        let store = |n: usize| {
            let message = json!({"conversation_id": conversation, "role": "user", "content": format!("{writer}/{n}")});
            let stored = dewey.mcp.call("dewey_store_message", &message).json();
            (stored["turn_number"].as_u64().unwrap(), format!("{writer}/{n}"))
        };
        (0..EACH).map(store).collect::<Vec<_>>()
    };
    let mut told: Vec<(u64, String)> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|writer| scope.spawn(move || write(writer))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    told.sort();
    let turns: Vec<u64> = told.iter().map(|(turn, _)| *turn).collect();
    assert_eq!(turns, (1..=(WRITERS * EACH) as u64).collect::<Vec<_>>());
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": conversation})).json();
    let kept: Vec<&str> =
        shown["messages"].as_array().unwrap().iter().map(|m| m["content"].as_str().unwrap()).collect();
    let told: Vec<&str> = told.iter().map(|(_, content)| content.as_str()).collect();
    assert_eq!(kept, told, "each message stands where its writer was told");
    dewey.stop();
}

#[test]
fn one_startup_context_is_active_however_many_are_set_at_once() {
    const SETTERS: usize = 16;
    let dewey = Dewey::start();
    let together = Barrier::new(SETTERS);
    std::thread::scope(|scope| {
        for setter in 0..SETTERS {
            let (dewey, together) = (&dewey, &together);
            scope.spawn(move || {
                together.wait();
                let context = json!({"name": format!("context {}", setter % 4), "content": setter.to_string()});
                assert_eq!(dewey.mcp.call("dewey_set_startup_context", &context).json()["is_active"], true);
            });
        }
    });
    let listed = dewey.mcp.call("dewey_list_startup_contexts", &json!({})).json();
    let contexts = listed["contexts"].as_array().unwrap();
    assert_eq!(contexts.len(), 4);
    assert_eq!(contexts.iter().filter(|context| context["is_active"] == true).count(), 1);
    let versions: u64 = contexts.iter().map(|context| context["version"].as_u64().unwrap()).sum();
    assert_eq!(versions, SETTERS as u64, "every version is kept");
    dewey.stop();
}

#[test]
fn files_come_from_import_folders_alone() {
    let place = Place::new();
    let secret = place.folder().join("secret.jsonl");
    let dewey = Dewey::at(place);
    std::fs::write(&secret, "{\"role\":\"user\",\"content\":\"secret\"}\n").unwrap();
    let import = dewey.place.data_dir().join("import");
    symlink(&secret, import.join("link.jsonl")).unwrap();
    symlink(dewey.place.folder(), import.join("way")).unwrap();
    let secret = secret.to_str().unwrap();
    let outside =
        ["link.jsonl", "way/secret.jsonl", "../../secret.jsonl", "x/../../../secret.jsonl", secret, "/etc/passwd", "."];
    for file in outside {
        let answer = dewey.mcp.call("dewey_store_messages_bulk", &json!({"messages_file": file}));
        assert!(answer.is_error && answer.text.starts_with("`messages_file` must"), "{file}: {}", answer.text);
        assert!(!answer.text.contains("root:"), "{file}");
    }
    assert_eq!(dewey.total(), 0);
    let inside = import.join("messages.jsonl");
    for file in ["messages.jsonl", inside.to_str().unwrap()] {
        assert_eq!(dewey.mcp.call("dewey_store_messages_bulk", &json!({"messages_file": file})).json()["stored"], 2);
    }
    dewey.stop();
}

/// A transcript that the real Claude Code wrote.
#[test]
fn a_transcript_of_claude_code_becomes_a_conversation() {
    let (api, dewey, home) = (FakeApi::start(), Dewey::start(), Home::new(NEWEST));
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

#[test]
fn a_captured_conversation_is_read_like_a_stored_one_and_cannot_be_added_to() {
    let (api, place, home) = (FakeApi::start(), Place::new(), Home::new(NEWEST));
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

#[test]
fn a_web_page_cannot_reach_dewey_by_dns_rebinding() {
    let dewey = Dewey::start();
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (name, value) in
        [("host", "evil.example"), ("host", "127.0.0.1.evil.example:9020"), ("origin", "http://evil.example")]
    {
        assert_eq!(dewey.mcp.post(ping, &[(name, value)]).0, 403, "{name}: {value}");
    }
    assert_eq!(dewey.mcp.post(ping, &[("host", "localhost"), ("origin", "http://localhost:3000")]).0, 200);
    dewey.stop();
}
