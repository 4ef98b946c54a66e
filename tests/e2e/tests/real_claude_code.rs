//! The real Claude Code on record, whole.

use std::time::Duration;

use e2e::claude::{Home, MIDDLE, NEWEST, OLDEST};
use e2e::fake_api::FakeApi;
use e2e::fake_api::log::{Entry, Sent};
use e2e::postgres::{Cluster, PASSWORD};
use e2e::recorder::Place;
use e2e::verify::{answers_are_equal, key_is_nowhere, line_after, record_equals_log, turns_are};
use serde_json::Value;

/// A home, a model and a record.
struct Scene {
    api: FakeApi,
    place: Place,
    home: Home,
}

impl Scene {
    fn new(version: &str) -> Self {
        Self::at(Place::new(), version)
    }

    fn at(place: Place, version: &str) -> Self {
        Self { api: FakeApi::start(), place, home: Home::new(version) }
    }

    /// Runs a script through `iccm run`; gives the session's id.
    fn run(&self, script: &str, further: &[&str]) -> String {
        let prompt = self.home.prompt(script);
        self.home.ask_recorded(&self.place, &self.api.url(), &prompt, further).session_id()
    }

    /// The last call of that script that is a turn.
    fn last(&self, script: &str) -> Entry {
        let is_it = |entry: &Entry| entry.script.as_ref().is_some_and(|(name, _)| name == script);
        self.api.log().into_iter().rev().find(is_it).unwrap_or_else(|| panic!("no turn of {script}"))
    }

    /// What holds for every record: all bytes, right kinds, one key, no key in clear. Gives record and log in pairs.
    fn check(&self) -> Vec<(Value, Entry)> {
        let pairs = record_equals_log(&self.place, &self.api.log());
        for (exchange, entry) in &pairs {
            let probe = entry.method != "POST" || entry.target.contains("count_tokens");
            let kind = match (&entry.script, probe) {
                (Some(_), _) => "message",
                (None, false) => "side",
                (None, true) => exchange["kind"].as_str().unwrap(),
            };
            assert_eq!(exchange["kind"], kind, "{exchange} {:?}", entry.script);
            assert_eq!(exchange["outcome"], "complete", "{exchange}");
            assert_eq!(exchange["request_bytes"], entry.request_body.len());
            assert_eq!(exchange["response_bytes"], entry.response_body.len());
        }
        let mut keys: Vec<_> = pairs.iter().filter_map(|(exchange, _)| exchange["key_fingerprint"].as_str()).collect();
        keys.dedup();
        assert_eq!(keys.len(), 1, "one key, one fingerprint");
        key_is_nowhere(&self.place);
        pairs
    }

    fn conversations_of(&self, session: &str) -> Vec<Value> {
        let mut found = self.place.json_lines(&["conversations", "--session", session, "--limit", "1000"]);
        found.sort_by_key(|conversation| conversation["created_at"].as_str().map(str::to_owned));
        found
    }
}

/// The conversation that the exchange of `entry` belongs to.
fn conversation_of(pairs: &[(Value, Entry)], entry: &Entry) -> String {
    let pair = pairs.iter().find(|(_, other)| other.number == entry.number).expect("the entry is on record");
    pair.0["conversation_id"].as_str().unwrap_or_else(|| panic!("no conversation: {}", pair.0)).to_owned()
}

fn a_long_session_with_a_sub_agent_is_on_record_whole(scene: &Scene, version: &str) {
    let session = scene.run("long", &[]);
    let pairs = scene.check();
    for (exchange, entry) in pairs.iter().filter(|(_, entry)| entry.method == "POST") {
        assert_eq!(exchange["session_id"], session.as_str(), "one session: {:?}", entry.script);
    }
    let (main, sub) = (scene.last("long"), scene.last("read"));
    let (main_id, sub_id) = (conversation_of(&pairs, &main), conversation_of(&pairs, &sub));
    for (exchange, entry) in pairs.iter().filter(|(exchange, _)| exchange["kind"] == "message") {
        let sub_agents = entry.script.as_ref().is_some_and(|(name, _)| name == "read");
        assert_eq!(exchange["conversation_id"], if sub_agents { &*sub_id } else { &*main_id });
    }
    let conversations = scene.conversations_of(&session);
    assert_eq!(conversations.len(), 2, "the agent's and the sub-agent's: {conversations:#?}");
    let (main_shown, sub_shown) = (scene.place.show(&main_id), scene.place.show(&sub_id));
    assert_eq!((&main_shown["parent_conversation_id"], &main_shown["forked_from"]), (&Value::Null, &Value::Null));
    assert_eq!(sub_shown["parent_conversation_id"], main_id.as_str());
    turns_are(&main_shown, &line_after(&main));
    turns_are(&sub_shown, &line_after(&sub));
    let answers = main_shown["turns"].as_array().unwrap().iter().filter(|turn| turn["role"] == "assistant").count();
    assert_eq!(answers, 15);
    if version == OLDEST {
        assert!(pairs.iter().any(|(exchange, _)| exchange["kind"] == "side"), "2.0.5 asks much on the side");
    }
}

#[test]
fn fifteen_turns_with_a_sub_agent_of_2_1_330_are_on_record_whole() {
    a_long_session_with_a_sub_agent_is_on_record_whole(&Scene::new(NEWEST), NEWEST);
}

#[test]
fn fifteen_turns_with_a_sub_agent_of_2_1_197_are_on_record_whole() {
    a_long_session_with_a_sub_agent_is_on_record_whole(&Scene::new(MIDDLE), MIDDLE);
}

#[test]
fn fifteen_turns_with_a_sub_agent_of_2_0_5_are_on_record_whole() {
    a_long_session_with_a_sub_agent_is_on_record_whole(&Scene::new(OLDEST), OLDEST);
}

/// Through `iccm run` and `iccm up`; and what PostgreSQL then answers, SQLite answers of the same record, too.
#[test]
fn sessions_of_2_1_330_are_on_record_in_postgresql_as_they_are_in_sqlite() {
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    let scene = Scene::at(Place::new().with_arguments(&["--database", database.url()]), NEWEST);
    a_long_session_with_a_sub_agent_is_on_record_whole(&scene, NEWEST);
    let up = scene.place.recorder("up", &scene.api.url(), &[]);
    let run = scene.home.ask_directly(&up.url(), &scene.home.prompt("tools"), &[]);
    assert_eq!(run.result()["result"], "Both tools have run.");
    let pairs = scene.check();
    let id = conversation_of(&pairs, &scene.last("tools"));
    turns_are(&scene.place.show(&id), &line_after(&scene.last("tools")));
    up.stop();
    assert_eq!(scene.place.files_with(PASSWORD.as_bytes()), [""; 0].map(std::path::PathBuf::from));

    let place = scene.place.without_arguments();
    let file = format!("sqlite:{}", place.folder().join("moved.db").display());
    place.run(["migrate-store", "--from", database.url(), "--to", &file]);
    answers_are_equal(&place, database.url(), &file);
}

fn a_session_goes_on_and_forks(version: &str) {
    let scene = Scene::new(version);
    let session = scene.run("tools", &[]);
    assert_eq!(scene.run("again", &["--continue"]), session);
    assert_eq!(scene.run("think", &["--resume", &session]), session);
    let before_fork = scene.last("think");
    let forked = scene.run("hello", &["--resume", &session, "--fork-session"]);
    assert_ne!(forked, session);
    let after_fork = scene.last("hello");

    let pairs = scene.check();
    let conversations = scene.conversations_of(&session);
    assert_eq!(conversations.len(), 1, "three runs are one conversation: {conversations:#?}");
    let line = scene.place.show(conversations[0]["id"].as_str().unwrap());
    turns_are(&line, &line_after(&before_fork));

    let forks = scene.conversations_of(&forked);
    assert_eq!(forks.len(), 1, "{forks:#?}");
    assert_eq!(conversation_of(&pairs, &after_fork), forks[0]["id"].as_str().unwrap());
    turns_are(&scene.place.show(forks[0]["id"].as_str().unwrap()), &line_after(&after_fork));
    let origin = &forks[0]["forked_from"];
    assert_eq!(origin["conversation_id"], conversations[0]["id"], "a fork names the conversation it left");
    assert_eq!(origin["turn"], line["turns"].as_array().unwrap().len(), "and the last turn that both share");
}

#[test]
fn a_continued_resumed_and_forked_session_of_2_1_330_is_on_record_whole() {
    a_session_goes_on_and_forks(NEWEST);
}

#[test]
fn a_continued_resumed_and_forked_session_of_2_1_197_is_on_record_whole() {
    a_session_goes_on_and_forks(MIDDLE);
}

/// 2.0.5 names a session of its own with `--fork-session`, too, and continues the old one with `--continue`.
#[test]
fn a_continued_resumed_and_forked_session_of_2_0_5_is_on_record_whole() {
    a_session_goes_on_and_forks(OLDEST);
}

#[test]
fn nested_sub_agents_name_their_parents() {
    for version in [NEWEST, MIDDLE] {
        let scene = Scene::new(version);
        let session = scene.run("nested", &[]);
        let pairs = scene.check();
        let ids = ["nested", "agent", "read"].map(|script| conversation_of(&pairs, &scene.last(script)));
        assert_eq!(scene.conversations_of(&session).len(), 3, "{version}");
        let parent = |id: &str| scene.place.show(id)["parent_conversation_id"].clone();
        assert_eq!(parent(&ids[0]), Value::Null);
        assert_eq!(parent(&ids[1]), ids[0].as_str(), "{version}");
        assert_eq!(parent(&ids[2]), ids[1].as_str(), "{version}");
    }
}

#[test]
fn parallel_sub_agents_and_one_in_the_background_are_conversations_of_their_own() {
    for version in [NEWEST, MIDDLE, OLDEST] {
        for (script, conversations) in [("agents", 3), ("background", 2)] {
            let scene = Scene::new(version);
            let session = scene.run(script, &[]);
            let pairs = scene.check();
            let main = conversation_of(&pairs, &scene.last(script));
            let found = scene.conversations_of(&session);
            assert_eq!(found.len(), conversations, "{version} {script}: {found:#?}");
            for other in found.iter().filter(|conversation| conversation["id"] != main.as_str()) {
                assert_eq!(other["parent_conversation_id"], main.as_str(), "{version} {script}");
            }
            turns_are(&scene.place.show(&main), &line_after(&scene.last(script)));
        }
    }
}

#[test]
fn a_compaction_is_a_side_call_and_what_follows_names_where_it_left() {
    let scene = Scene::new(NEWEST);
    let session = scene.run("tools", &[]);
    let compacted = scene.home.ask_recorded(&scene.place, &scene.api.url(), "/compact", &["--continue"]);
    compacted.result();
    scene.run("hello", &["--continue"]);
    let pairs = scene.check();
    let (before, after) = (scene.last("tools"), scene.last("hello"));
    let (old, new) = (conversation_of(&pairs, &before), conversation_of(&pairs, &after));
    assert_ne!(old, new, "a history that was replaced is a new conversation");
    let shown = scene.place.show(&new);
    assert_eq!(shown["session_id"], session.as_str());
    assert_eq!(shown["forked_from"]["conversation_id"], old.as_str(), "{}", shown["forked_from"]);
    turns_are(&shown, &line_after(&after));
}

#[test]
fn a_failed_answer_and_its_retry_are_two_exchanges_and_one_message() {
    for fault in ["status_529", "reset_mid_stream", "fin_mid_stream"] {
        let scene = Scene::new(NEWEST);
        let prompt = format!("{} FAULT:{fault}", scene.home.prompt("hello"));
        let session = scene.home.ask_recorded(&scene.place, &scene.api.url(), &prompt, &[]).session_id();
        scene.place.drained(2);
        let exchanges = scene.place.exchanges();
        let mut turns: Vec<_> = exchanges.iter().filter(|exchange| exchange["method"] == "POST").collect();
        turns.sort_by_key(|exchange| exchange["started_at"].as_str());
        let outcomes: Vec<_> = turns.iter().map(|exchange| exchange["outcome"].as_str().unwrap()).collect();
        let first = if fault == "status_529" { "complete" } else { "upstream_aborted" };
        assert_eq!(outcomes, [first, "complete"], "{fault}");
        let conversations = scene.conversations_of(&session);
        assert_eq!(conversations.len(), 1, "{fault}: {conversations:#?}");
        let shown = scene.place.show(conversations[0]["id"].as_str().unwrap());
        turns_are(&shown, &line_after(&scene.last("hello")));
    }
}

#[test]
fn a_compressed_answer_is_kept_compressed_and_read_in_clear() {
    let scene = Scene::new(NEWEST);
    let prompt = format!("{} ENCODING:gzip", scene.home.prompt("hello"));
    scene.home.ask_recorded(&scene.place, &scene.api.url(), &prompt, &[]).result();
    let pairs = scene.check();
    let entry = scene.last("hello");
    assert!(entry.response_body.starts_with(&[0x1f, 0x8b]), "the answer was compressed");
    let shown = scene.place.show(&conversation_of(&pairs, &entry));
    let last = shown["turns"].as_array().unwrap().last().unwrap();
    assert!(last["content"].to_string().contains("This is the answer of the script hello."), "{last}");
}

#[test]
fn a_client_in_another_terminal_is_recorded_by_iccm_up() {
    let scene = Scene::new(NEWEST);
    let up = scene.place.recorder("up", &scene.api.url(), &[]);
    let run = scene.home.ask_directly(&up.url(), &scene.home.prompt("tools"), &[]);
    assert_eq!(run.result()["result"], "Both tools have run.");
    let pairs = scene.check();
    let id = conversation_of(&pairs, &scene.last("tools"));
    turns_are(&scene.place.show(&id), &line_after(&scene.last("tools")));
    let text = scene.place.run(["show", &id]).text();
    assert!(text.contains("Both tools have run."), "iccm show prints it:\n{text}");
    up.stop();
}

#[test]
fn an_interactive_session_is_on_record_with_its_title_call_on_the_side() {
    for version in [NEWEST, MIDDLE] {
        let scene = Scene::new(version);
        let mut terminal = scene.home.talk_recorded(&scene.place, &scene.api.url());
        let ready = terminal.shows(0, "❯");
        terminal.type_in("SCRIPT:hello");
        let typed = terminal.shows(ready, "SCRIPT:hello");
        terminal.type_in("\r");
        terminal.shows(typed, "hello.");
        let title = scene.api.wait("the title call's end", |log| {
            log.iter().find(|e| is_title_call(e) && e.sent == Sent::Whole).cloned()
        });
        terminal.type_in("/exit");
        terminal.shows(typed, "/exit");
        terminal.type_in("\r");
        let finished = terminal.finish(Duration::from_secs(30));
        assert_eq!(finished.code(), 0, "{version}: {}", String::from_utf8_lossy(&finished.stdout));

        let pairs = scene.check();
        let of = |entry: &Entry| &pairs.iter().find(|(_, other)| other.number == entry.number).unwrap().0;
        assert_eq!(of(&title)["kind"], "side", "{version}");
        assert_eq!(of(&title)["session_id"], of(&scene.last("hello"))["session_id"], "{version}");
        assert!(
            pairs.iter().any(|(exchange, entry)| entry.method == "HEAD" && exchange["kind"] == "other"),
            "{version}"
        );
        let shown = scene.place.show(of(&scene.last("hello"))["conversation_id"].as_str().unwrap());
        assert_eq!(shown["title"], "A scripted session", "{version}: the title that the side call gave");
        turns_are(&shown, &line_after(&scene.last("hello")));
    }
}

fn is_title_call(entry: &Entry) -> bool {
    entry.json().is_some_and(|body| body["output_config"]["format"].is_object())
}
