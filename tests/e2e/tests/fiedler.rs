//! Fiedler as its clients see it, over providers that speak the real formats and play every kind of trouble.

use std::path::Path;
use std::time::{Duration, Instant};

use e2e::claude::{Home, NEWEST};
use e2e::fake_api::FakeApi;
use e2e::mcp::Mcp;
use e2e::providers::{Play, Providers};
use e2e::recorder::{Place, Recorder, iccm_binary};
use e2e::{process, wait};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

/// No key; long enough to be found wherever it were.
const KEYS: [(&str, &str); 5] = [
    ("OPENAI_API_KEY", "sk-test-openai-0001"),
    ("GEMINI_API_KEY", "sk-test-gemini-0002"),
    ("XAI_API_KEY", "sk-test-xai-0003"),
    ("TOGETHER_API_KEY", "sk-test-together-0004"),
    ("ANTHROPIC_API_KEY", "sk-test-anthropic-0005"),
];

const TEN: [&str; 10] = [
    "gemini-2.5-pro",
    "gpt-5",
    "gpt-4o",
    "Llama-3.1-70B",
    "Llama-3.3-70B",
    "DeepSeek-R1",
    "Qwen2.5-72B",
    "Mistral-Large-2411",
    "Llama-3.1-Nemotron-70B",
    "grok-4-0709",
];

/// Providers and an `iccm up` that asks them.
struct Hall {
    providers: Providers,
    place: Place,
    up: Recorder,
    mcp: Mcp,
}

fn place_for(providers: &Providers) -> Place {
    let place = Place::new().with_variable("ICCM_FIEDLER_KEY_FILE", "key-file");
    let place = providers.variables().iter().fold(place, |place, (name, value)| place.with_variable(name, value));
    let place = KEYS.iter().fold(place, |place, (name, value)| place.with_variable(name, value));
    std::fs::write(place.folder().join("home/key-file"), "thirty-two bytes that nobody knows").unwrap();
    place
}

impl Hall {
    fn open() -> Self {
        Self::with_models("")
    }

    /// With further models beside the ten.
    fn with_models(further: &str) -> Self {
        let providers = Providers::default();
        let place = place_for(&providers);
        let up = place.recorder("up", "http://127.0.0.1:1", &["--spy-listen", "127.0.0.1:0"]);
        let mcp = Mcp::of_url(&up.ready["fiedler"]);
        let hall = Self { providers, place, up, mcp };
        hall.add_models(further);
        hall
    }

    fn add_models(&self, further: &str) {
        let file = self.place.data_dir().join("fiedler/models.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n{further}")).unwrap();
    }

    fn send(&self, models: &[&str]) -> Value {
        self.mcp.call("fiedler_send", &json!({"prompt": "Why is the sky blue?", "models": models})).json()
    }

    /// The error of the only model that is asked.
    fn error_of(&self, model: &str) -> String {
        let result = self.send(&[model]);
        assert_eq!(result["status"], "failure", "{result}");
        result["results"][0]["error"].as_str().unwrap().to_owned()
    }
}

fn model(id: &str, provider: &str, further: &str) -> String {
    format!(
        "[[models]]\nid = \"{id}\"\nprovider = \"{provider}\"\ncontext_window = 8000\nmax_output = 1000\n{further}\n"
    )
}

fn read(path: &Value) -> String {
    std::fs::read_to_string(path.as_str().unwrap_or_else(|| panic!("no path: {path}"))).unwrap()
}

#[test]
fn ten_models_are_asked_at_the_same_time_and_all_is_on_record_byte_for_byte() {
    let hall = Hall::open();
    let names = |id: &str| if id.contains('-') { id.to_owned() } else { unreachable!("{id}") };
    let listed = hall.mcp.call("fiedler_list_models", &json!({})).json();
    let api_names: Vec<String> =
        listed["models"].as_array().unwrap().iter().map(|m| names(m["api_name"].as_str().unwrap())).collect();
    assert_eq!(api_names.len(), 10);
    // Nobody answers before all ten have been asked.
    api_names.iter().for_each(|name| hall.providers.play(name, &[Play::Together(10)]));
    let result = hall.send(&TEN);
    assert_eq!(result["status"], "success", "{result}");
    let results = result["results"].as_array().unwrap();
    assert_eq!(results.iter().map(|r| r["model"].as_str().unwrap()).collect::<Vec<_>>(), TEN);
    for (result, api_name) in results.iter().zip(&api_names) {
        assert!(read(&result["output_file"]).contains(&format!("Hello from {api_name}")));
        assert_eq!(result["tokens"], json!({"prompt": 11, "completion": 7}), "{result}");
    }
    assert_eq!(results[1]["cost_usd"], json!(11.0 * 1.25 / 1e6 + 7.0 * 10.0 / 1e6));
    let summary: Value = serde_json::from_str(&read(&result["summary_file"])).unwrap();
    assert_eq!(summary["results"], result["results"]);
    assert_eq!(summary["prompt"], "Why is the sky blue?");

    let recorded = hall.place.drained(10);
    let sent = hall.providers.exchanges();
    assert_eq!((recorded.len(), sent.len()), (10, 10));
    for (result, api_name) in results.iter().zip(&api_names) {
        let id = result["exchange_ids"][0].as_str().unwrap();
        let theirs = sent.iter().find(|exchange| exchange.model == *api_name).unwrap();
        assert_eq!(hall.place.part(id, "request-body"), theirs.request, "{api_name}");
        assert_eq!(hall.place.part(id, "response-body"), theirs.response, "{api_name}");
        let key = KEYS.iter().any(|(_, key)| theirs.head.fields.iter().any(|(_, value)| value.contains(key)));
        assert!(key, "the provider got its key: {:?}", theirs.head);
    }

    let conversation = result["conversation_id"].as_str().unwrap();
    let shown = hall.place.show(conversation).to_string();
    assert!(shown.contains("Why is the sky blue?") && shown.contains("Hello from gpt-4o"), "{shown}");
    wait::until("the run among what is found", || {
        let found = hall.place.json_lines(&["search", "\"Hello from gpt-4o\""]);
        found.iter().any(|hit| hit["conversation_id"] == conversation).then_some(())
    });
    let run = result["correlation_id"].as_str().unwrap();
    let compared = hall.place.run(["fiedler", "compare", &run[..8], "--format", "columns"]).text();
    let heads = compared.lines().filter(|line| line.contains(" | ")).count();
    assert!(heads > 5 && TEN.iter().all(|model| compared.contains(model)), "{compared}");
    hall.up.stop();
}

#[test]
fn each_kind_of_trouble_is_an_error_that_names_model_provider_and_remedy() {
    let protocols =
        [("chat", "openai"), ("claude", "anthropic"), ("gem", "google"), ("local", "ollama"), ("respond", "answers")];
    let mut models: String =
        protocols.iter().map(|(id, provider)| model(id, provider, "retries = 1\ntimeout_seconds = 3")).collect();
    models.push_str("[providers.answers]\napi = \"openai-responses\"\nneeds_key = true\nkey_variables = [\"OPENAI_API_KEY\"]\nbase_url = \"URL/v1\"\n");
    let hall = Hall::open();
    hall.add_models(&models.replace("URL", &hall.providers.url()));
    for (id, provider) in protocols {
        let named = |error: &str| {
            assert!(error.starts_with(&format!("{id} ({provider}): ")), "{error}");
            error.to_owned()
        };
        let of = |plays: &[Play]| {
            hall.providers.play(id, plays);
            named(&hall.error_of(id))
        };
        let good = hall.send(&[id]);
        assert_eq!(good["status"], "success", "{good}");
        assert!(read(&good["results"][0]["output_file"]).contains(&format!("Hello from {id}")));
        assert_eq!(good["results"][0]["tokens"], json!({"prompt": 11, "completion": 7}), "{good}");
        assert!(of(&[Play::Refused(401, &[])]).contains("fiedler_set_key"));
        assert!(of(&[Play::Refused(404, &[])]).contains("api_name"));
        assert!(of(&[Play::Refused(429, &[("retry-after", "100")])]).contains("after its time is over"));
        assert!(of(&[Play::Refused(500, &[])]).contains("trouble 500"));
        assert!(of(&[Play::Cut]).contains("broke off"));
        assert!(of(&[Play::Empty]).contains("empty"));
        if provider != "ollama" {
            assert!(of(&[Play::Refuses]).contains("would not answer"));
        }
        // Once is forgiven, and waited for as long as the provider asks.
        hall.providers.play(id, &[Play::Refused(429, &[("retry-after", "1")]), Play::Good]);
        let began = Instant::now();
        let result = hall.send(&[id]);
        assert_eq!(result["status"], "success", "{result}");
        assert_eq!(result["results"][0]["attempts"], 2);
        assert!(began.elapsed() >= Duration::from_secs(1), "retry-after");
        // An answer that broke off is not asked for again: it was paid for.
        hall.providers.play(id, &[Play::Cut, Play::Good]);
        let result = hall.send(&[id]);
        assert_eq!(result["results"][0]["attempts"], 1, "{result}");
        assert!(read(&result["results"][0]["output_file"]).contains("Hello from "), "what came is kept");
    }
    hall.up.stop();
}

#[test]
fn nine_good_models_are_not_held_up_by_a_tenth_that_hangs() {
    let hall = Hall::with_models(&model("slow", "openai", "timeout_seconds = 2"));
    hall.providers.play("slow", &[Play::Hangs]);
    let models: Vec<&str> = TEN[..9].iter().copied().chain(["slow"]).collect();
    let result = hall.send(&models);
    assert_eq!(result["status"], "partial_success", "{result}");
    let results = result["results"].as_array().unwrap();
    let good = results.iter().filter(|r| r["status"] == "success" && r["duration_seconds"].as_f64().unwrap() < 2.0);
    assert_eq!(good.count(), 9, "{result}");
    let slow = &results[9];
    assert!(slow["error"].as_str().unwrap().contains("within 2 s"), "{slow}");
    assert!(read(&slow["output_file"]).contains("Hello from "), "what came is kept");
    hall.up.stop();
}

#[test]
fn an_eleventh_model_is_five_lines_and_a_wrong_file_changes_nothing() {
    let hall = Hall::open();
    let unknown = hall.mcp.call("fiedler_send", &json!({"prompt": "x", "models": ["gpt4o"]}));
    assert!(unknown.is_error && unknown.text.contains("did you mean `gpt-4o`"), "{}", unknown.text);
    let lines = "[[models]]\nid = \"small\"\nprovider = \"together\"\ncontext_window = 8000\nmax_output = 1000\n";
    assert_eq!(lines.lines().count(), 5);
    hall.add_models(lines);
    assert_eq!(hall.send(&["small"])["status"], "success");
    hall.add_models("[[models]]\nid = \"b\"\nprovider = \"together\"\ncontext_windw = 8000\nmax_output = 1000\n");
    let listed = hall.mcp.call("fiedler_list_models", &json!({})).json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 11);
    let problem = listed["problem"].as_str().unwrap();
    assert!(problem.contains("model `b`: unknown key `context_windw`; did you mean `context_window`?"), "{problem}");
    let sent = hall.send(&["small"]);
    assert_eq!(sent["status"], "success");
    assert!(sent["warnings"][0].as_str().unwrap().contains("context_windw"), "{sent}");
    hall.up.stop();
}

#[test]
fn settings_stay_and_files_come_from_allowed_folders_only() {
    let providers = Providers::default();
    let place = place_for(&providers);
    let output = place.folder().join("answers");
    let up = place.recorder("up", "http://127.0.0.1:1", &[]);
    let mcp = Mcp::of_url(&up.ready["fiedler"]);
    assert_eq!(
        mcp.call("fiedler_set_models", &json!({"models": ["4o", "GROK"]})).json()["models"],
        json!(["gpt-4o", "grok-4-0709"])
    );
    assert!(mcp.call("fiedler_set_output", &json!({"output_dir": "answers"})).is_error);
    mcp.call("fiedler_set_output", &json!({"output_dir": output})).json();
    up.stop();

    let up = place.recorder("up", "http://127.0.0.1:1", &[]);
    let mcp = Mcp::of_url(&up.ready["fiedler"]);
    let config = mcp.call("fiedler_get_config", &json!({})).json();
    assert_eq!((&config["models"], &config["output_dir"]), (&json!(["gpt-4o", "grok-4-0709"]), &json!(output)));
    let import = place.data_dir().join("import");
    std::fs::create_dir_all(&import).unwrap();
    std::fs::write(import.join("note.txt"), "the albatross").unwrap();
    std::fs::write(import.join("image.png"), b"\x89PNG\r\n\x1a\nxyz").unwrap();
    std::fs::write(import.join("binary"), b"\x00\x01\x02").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", import.join("link")).unwrap();
    let send = |file: &Path, models: &[&str]| {
        mcp.call("fiedler_send", &json!({"prompt": "look", "files": [file], "models": models}))
    };
    for (file, word) in [
        (import.join("../fiedler/models.toml"), "below a folder"),
        ("/etc/passwd".into(), "below a folder"),
        (import.join("link"), "symbolic link"),
        (import.join("binary"), "binary"),
        (import.join("nothing"), "can be read"),
    ] {
        let refused = send(&file, &["gpt-4o"]);
        assert!(refused.is_error && refused.text.contains(word), "{}: {}", file.display(), refused.text);
    }
    assert!(providers.exchanges().is_empty(), "nothing was asked");
    let sent = send(&import.join("note.txt"), &[]).json();
    assert!(sent["output_dir"].as_str().unwrap().starts_with(output.to_str().unwrap()));
    assert!(providers.exchanges().iter().all(|e| String::from_utf8_lossy(&e.request).contains("the albatross")));
    let sent = send(&import.join("image.png"), &["gpt-4o", "llama"]).json();
    assert_eq!(sent["status"], "partial_success");
    assert!(sent["results"][1]["error"].as_str().unwrap().contains("takes no images"), "{sent}");
    let last = providers.exchanges().pop().unwrap();
    assert!(String::from_utf8_lossy(&last.request).contains("data:image/png;base64,iVBORw0KGgp4eXo="));
    up.stop();
}

#[test]
fn no_key_is_anywhere_but_in_the_key_store() {
    const KEPT: &str = "sk-test-kept-wrong-0006";
    let hall = Hall::open();
    let set = hall.mcp.call("fiedler_set_key", &json!({"provider": "openai", "api_key": KEPT}));
    assert_eq!(set.json()["kept_in"], "encrypted file");
    assert!(!set.text.contains("sk-test"));
    assert!(hall.mcp.call("fiedler_set_key", &json!({"provider": "opena", "api_key": KEPT})).text.contains("openai"));
    let bad = hall.mcp.call("fiedler_set_key", &json!({"provider": "xai", "api_key": format!("{KEPT} ä")}));
    assert!(bad.is_error && !bad.text.contains(KEPT), "{}", bad.text);
    let listed = hall.mcp.call("fiedler_list_keys", &json!({}));
    assert!(!listed.text.contains("sk-test"), "{}", listed.text);
    assert_eq!(listed.json()["kept_in"]["openai"], "encrypted file");
    // The kept one goes first; the provider does not like it, and repeats it.
    let error = hall.error_of("gpt-5");
    assert!(error.contains("Incorrect API key provided: Bearer [key]"), "{error}");
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", hall.up.pid())).unwrap();
    assert!(!command_line.contains("sk-test"));
    assert_eq!(hall.mcp.call("fiedler_delete_key", &json!({"provider": "openai"})).json()["deleted"], true);
    assert_eq!(hall.send(&["gpt-5", "gemini", "grok", "llama"])["status"], "success");
    hall.place.drained(5);
    // A response that a provider wrote is on record as it is; so the careless one is looked for beside it.
    for key in KEYS.iter().map(|(_, key)| *key) {
        assert_eq!(hall.place.files_with(key.as_bytes()), [] as [std::path::PathBuf; 0], "{key}");
    }
    assert!(
        hall.place
            .files_with(b"sk-test-kept")
            .iter()
            .all(|file| file.to_string_lossy().contains("spool") || file.to_string_lossy().contains("winni"))
    );
    // Through the spy, which keeps every message: this one without the key.
    const SPIED: &str = "sk-test-spied-0007";
    let mut socket = Socket::connect(&format!("{}/?upstream=fiedler", hall.up.ready["spy"].as_str().unwrap()));
    let mut call = call_of(1, json!({"provider": "xai", "api_key": SPIED}), true);
    call["params"]["name"] = json!("fiedler_set_key");
    socket.send(&call);
    assert_eq!(socket.next()["result"]["structuredContent"]["provider"], "xai", "the key arrived");
    let frame = wait::until("the call on record", || {
        let is_it = |frame: &Value| frame["method"] == "tools/call" && frame["name"] == "fiedler_set_key";
        hall.place.json_lines(&["frames"]).into_iter().find(is_it)
    });
    let kept = String::from_utf8(hall.place.run(["frame", frame["id"].as_str().unwrap()]).stdout).unwrap();
    assert!(kept.contains("\"api_key\":\"[redacted]\""), "{kept}");
    assert_eq!(hall.place.files_with(SPIED.as_bytes()), [] as [std::path::PathBuf; 0]);
    let stderr = hall.up.stderr();
    assert!(!stderr.contains("sk-test"), "{stderr}");
    hall.up.stop();
}

#[test]
fn the_command_line_asks_shows_progress_and_needs_no_server() {
    let providers = Providers::default();
    let place = place_for(&providers);
    let mut command =
        place.command(["fiedler", "send", "What is a fugue?", "--model", "gpt-4o", "--model", "grok", "--json"]);
    command.envs(providers.variables()).envs(KEYS);
    let finished = process::run(command, Duration::from_secs(60)).success("fiedler send");
    let report: Value = serde_json::from_str(&finished.text()).unwrap();
    assert_eq!(report["status"], "success");
    for words in ["gpt-4o: asked", "grok-4-0709: asked", "(2 of 2)"] {
        assert!(finished.stderr.contains(words), "{}", finished.stderr);
    }
    assert_eq!(place.drained(2).len(), 2, "on record without another part");
    let markdown = place.run(["fiedler", "compare", report["output_dir"].as_str().unwrap()]).text();
    assert!(markdown.starts_with("# What is a fugue?\n\n## gpt-4o\n"), "{markdown}");
    let models = place.json_lines(&["fiedler", "models"]);
    assert_eq!(models.iter().map(|m| m["id"].as_str().unwrap()).collect::<Vec<_>>(), TEN);
}

/// A connection of messages, whoever is at its other end.
struct Socket {
    runtime: tokio::runtime::Runtime,
    stream: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>,
}

impl Socket {
    fn connect(url: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let address = url.trim_start_matches("ws://").split(['/', '?']).next().unwrap().to_owned();
        let (stream, _) = runtime
            .block_on(async {
                let stream = tokio::net::TcpStream::connect(address).await.unwrap();
                tokio_tungstenite::client_async(url, stream).await
            })
            .unwrap_or_else(|e| panic!("{url}: {e}"));
        Self { runtime, stream }
    }

    fn send(&mut self, message: &Value) {
        let text = message.to_string();
        self.runtime.block_on(self.stream.send(Message::text(text))).unwrap();
    }

    fn next(&mut self) -> Value {
        loop {
            let next = async { tokio::time::timeout(Duration::from_secs(30), self.stream.next()).await };
            let message = self.runtime.block_on(next).expect("a message in time").expect("an open connection").unwrap();
            if let Message::Text(text) = message {
                return serde_json::from_str(&text).unwrap();
            }
        }
    }
}

fn call_of(id: u64, arguments: Value, is_modern: bool) -> Value {
    let mut meta = json!({"progressToken": format!("token-{id}")});
    if is_modern {
        meta["io.modelcontextprotocol/protocolVersion"] = json!("2026-07-28");
        meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
    }
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": "fiedler_send", "arguments": arguments, "_meta": meta}})
}

#[test]
fn progress_grows_to_the_end_over_websocket_and_through_the_spy_in_both_eras() {
    let hall = Hall::open();
    let direct = hall.up.ready["fiedler"].as_str().unwrap().replace("http://", "ws://");
    let spied = format!("{}/?upstream=fiedler", hall.up.ready["spy"].as_str().unwrap());
    // The spy's default is Fiedler.
    let by_default = format!("{}/", hall.up.ready["spy"].as_str().unwrap());
    for (url, is_modern) in [(&direct, false), (&direct, true), (&spied, false), (&spied, true), (&by_default, true)] {
        let mut socket = Socket::connect(url);
        if !is_modern {
            let client = json!({"name": "test", "version": "1"});
            socket.send(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
                "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}}));
            assert_eq!(socket.next()["result"]["serverInfo"]["name"], "fiedler");
            socket.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        }
        socket.send(&call_of(1, json!({"prompt": "x", "models": ["gpt-4o", "grok"]}), is_modern));
        let mut reported = Vec::new();
        let result = loop {
            let message = socket.next();
            if message["method"] != "notifications/progress" {
                break message["result"]["structuredContent"].clone();
            }
            assert_eq!(message["params"]["progressToken"], "token-1");
            reported.push(message["params"].clone());
        };
        assert_eq!(result["status"], "success", "{url}: {result}");
        let numbers: Vec<u64> = reported.iter().map(|p| p["progress"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(reported.last().unwrap()["progress"], reported.last().unwrap()["total"]);
        let said: String = reported.iter().map(|p| p["message"].as_str().unwrap()).collect();
        for words in ["gpt-4o: asked", "bytes of its answer", "(2 of 2)"] {
            assert!(said.contains(words), "{said}");
        }
    }
    hall.up.stop();
}

#[test]
fn a_cancelled_call_stops_all_its_models_and_keeps_what_they_said() {
    let hall = Hall::open();
    hall.providers.play("gpt-4o", &[Play::Hangs]);
    hall.providers.play("gpt-5", &[Play::Silent]);
    let mut socket = Socket::connect(&hall.up.ready["fiedler"].as_str().unwrap().replace("http://", "ws://"));
    socket.send(&call_of(7, json!({"prompt": "x", "models": ["gpt-4o", "gpt-5", "grok"]}), true));
    wait::until("two models that hang, and one that has answered", || {
        let has_answered = socket.next()["params"]["message"].as_str().is_some_and(|m| m.contains("(1 of 3)"));
        has_answered.then_some(())
    });
    wait::until("both hang", || (hall.providers.hanging() == 2).then_some(()));
    socket.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    wait::until("nobody hangs", || (hall.providers.hanging() == 0).then_some(()));
    let runs = hall.place.data_dir().join("fiedler/runs");
    let summary: Value = wait::until("a summary", || {
        let run = std::fs::read_dir(&runs).unwrap().next()?.unwrap().path();
        serde_json::from_slice(&std::fs::read(run.join("summary.json")).ok()?).ok()
    });
    assert_eq!(summary["status"], "partial_success", "{summary}");
    assert!(read(&summary["results"][0]["output_file"]).contains("Hello from "));
    assert!(summary["results"][1]["error"].as_str().unwrap().contains("cancelled"));
    hall.up.stop();
}

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
