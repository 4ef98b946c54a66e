//! The official conformance suite of MCP: against a server of ours directly, through the spy, and behind the relay.
//!
//! What stands between may change nothing: the spy gives the very same results, check by check, and the relay keeps
//! every scenario that the server passes by itself. Programs: `clients/conformance`; the suite is what `scripts/test`
//! installs.

use std::collections::BTreeMap;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::process::{self, Running, first_line};
use e2e::recorder::{Place, iccm_binary};
use serde_json::{Value, json};

/// How long one run of a whole revision may take.
const PATIENCE: Duration = Duration::from_secs(240);
/// The suite waits half a second for some notifications, which a busy machine may miss; a defect is there every time.
const ATTEMPTS: usize = 4;

/// The scenarios that a revision requires of a server, as the suite's `requirements` name them.
const REQUIRED: [(&str, usize); 2] = [("2025-11-25", 30), ("2026-07-28", 37)];

/// Each scenario's checks: id and status, in the order in which they were made.
type Results = BTreeMap<String, Vec<(String, String)>>;

fn installed() -> PathBuf {
    let installed = std::env::var_os("ICCM_TEST_CONFORMANCE_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/mcp-conformance"), PathBuf::from);
    installed.join("node_modules")
}

/// The suite wants a newer Node.js than distributions have; it is installed beside it.
fn node() -> Command {
    let modules = installed();
    let entries = std::fs::read_dir(&modules).into_iter().flatten().flatten();
    let mut programs = entries.map(|entry| entry.path()).filter(|path| path.join("bin/node").is_file());
    let program =
        programs.find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("node-")));
    let program =
        program.unwrap_or_else(|| panic!("no Node.js in {}; run scripts/test, which installs it", modules.display()));
    Command::new(program.join("bin/node"))
}

/// A program of `clients/conformance` that prints its port.
struct Listening {
    port: u16,
    _running: Running,
    _stdout: BufReader<ChildStdout>,
}

impl Listening {
    fn start(program: &str, words: &[&str]) -> Self {
        let mut command = node();
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/conformance").join(program)).args(words);
        let (mut running, mut stdout) = Running::start_reading(command);
        let port = first_line(&mut running, &mut stdout).trim().parse().expect("a port");
        Self { port, _running: running, _stdout: stdout }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/mcp", self.port)
    }
}

/// All server scenarios of a revision, those that it does not score included.
fn results(revision: &str, url: &str) -> Results {
    let folder = tempfile::tempdir().unwrap();
    let mut command = node();
    command.arg(installed().join("@modelcontextprotocol/conformance/dist/index.js"));
    command.args(["server", "--requirements", revision, "--url", url, "-o"]).arg(folder.path());
    // Its exit code says whether all was passed, which is for the caller to judge.
    let finished = process::run(command, PATIENCE);
    let mut results = Results::new();
    for entry in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        let Ok(text) = std::fs::read_to_string(entry.path().join("checks.json")) else { continue };
        let checks: Vec<Value> = serde_json::from_str(&text).unwrap();
        let word = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
        let checks = checks.iter().map(|check| (word(check, "id"), word(check, "status"))).collect();
        results.insert(scenario(&entry.file_name().to_string_lossy()).to_owned(), checks);
    }
    assert!(!results.is_empty(), "nothing was checked: {}\n{}", finished.text(), finished.stderr);
    results
}

/// `server-NAME-2026-11-28T13-29-52-077Z`
fn scenario(folder: &str) -> &str {
    const TIME: usize = "-2026-11-28T13-29-52-077Z".len();
    let name = folder.strip_prefix("server-").unwrap_or(folder);
    name.len().checked_sub(TIME).and_then(|end| name.get(..end)).unwrap_or(name)
}

fn is_passed(checks: &[(String, String)]) -> bool {
    let succeeded = checks.iter().filter(|(_, status)| status == "SUCCESS").count();
    succeeded > 0 && !checks.iter().any(|(_, status)| status == "FAILURE" || status == "WARNING")
}

fn passed(results: &Results) -> Vec<&str> {
    results.iter().filter(|(_, checks)| is_passed(checks)).map(|(name, _)| name.as_str()).collect()
}

/// Runs the suite until `judge` finds nothing wrong.
fn runs(revision: &str, url: &str, judge: impl Fn(&Results) -> Vec<String>) -> Results {
    let mut wrong = Vec::new();
    for _ in 0..ATTEMPTS {
        let results = results(revision, url);
        wrong = judge(&results);
        if wrong.is_empty() {
            return results;
        }
    }
    panic!("{revision} at {url}, the last of {ATTEMPTS} runs: {wrong:#?}");
}

/// The fixture by itself passes all that its revision requires; otherwise it would be no measure.
fn directly(revision: &str, required: usize, fixture: &Listening) -> Results {
    let results = runs(revision, &fixture.url(), |results| {
        let known = ["tasks-", "http-header-validation", "http-custom-header", "server-sse-polling"];
        let failed =
            results.iter().filter(|(name, checks)| !is_passed(checks) && !known.iter().any(|k| name.starts_with(k)));
        failed.map(|(name, checks)| format!("{name}: {checks:?}")).collect()
    });
    let count = passed(&results).len();
    assert!(count >= required, "{count} scenarios of {required} passed: {:?}", passed(&results));
    results
}

#[test]
fn the_spy_changes_no_result_of_the_conformance_suite() {
    let (api, place) = (FakeApi::start(), Place::new());
    for (revision, required) in REQUIRED {
        let fixture = Listening::start("fixture.mjs", &[revision]);
        let directly = directly(revision, required, &fixture);
        let mut command = place.recorder_command("kgb", &api.url());
        command.args(["--spy-listen", "127.0.0.1:0"]).env("ICCM_MCP_SERVERS_FIXTURE_HTTP", fixture.url());
        let kgb = e2e::recorder::Recorder::start(command);
        let spy = kgb.ready["spy"].as_str().unwrap().replace("ws://", "http://");
        runs(revision, &format!("{spy}/mcp/fixture"), |through| {
            let names = directly.keys().chain(through.keys());
            let other = names.filter(|name| directly.get(*name) != through.get(*name));
            other
                .map(|name| format!("{name}: {:?} and through the spy {:?}", directly.get(name), through.get(name)))
                .collect()
        });
        kgb.stop();
    }
    // The suite's traffic is on record, as messages.
    let calls = place.json_lines(&["frames"]).into_iter().filter(|frame| frame["method"] == "tools/call").count();
    assert!(calls > 20, "{calls}");
}

#[test]
fn the_relay_keeps_every_scenario_that_the_server_passes() {
    for (revision, required) in REQUIRED {
        let fixture = Listening::start("fixture.mjs", &[revision]);
        let directly = directly(revision, required, &fixture);
        behind_the_relay(revision, &fixture, &passed(&directly));
    }
}

/// A client of one era and a server of the other, with the relay between them: the suite of the client's revision.
#[test]
fn the_relay_keeps_the_scenarios_between_the_eras() {
    // A legacy server asks one thing after the other, under ids of its own: it has neither the keys nor the number of
    // questions at once that the first two count. The third warns of the legacy era's code for a resource that is not there:
    // the relay leaves a server's errors as they are.
    let different = [
        "input-required-result-basic-elicitation",
        "input-required-result-multiple-input-requests",
        "sep-2164-resource-not-found",
    ];
    let [(legacy, _), (modern, _)] = REQUIRED;
    for ((revision, required), server) in REQUIRED.into_iter().zip([modern, legacy]) {
        let directly = directly(revision, required, &Listening::start("fixture.mjs", &[revision]));
        let expected: Vec<&str> = passed(&directly).into_iter().filter(|name| !different.contains(name)).collect();
        assert!(expected.len() + different.len() >= required);
        behind_the_relay(revision, &Listening::start("fixture.mjs", &[server]), &expected);
    }
}

/// A revision's suite against the relay, which has the fixture behind it.
fn behind_the_relay(revision: &str, fixture: &Listening, scenarios: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.json");
    let servers = json!({"mcpServers": {"fixture": {"type": "http", "url": fixture.url()}}});
    std::fs::write(&file, servers.to_string()).unwrap();
    let iccm = iccm_binary();
    let words = [revision, iccm.to_str().unwrap(), "relay", "--config", file.to_str().unwrap()];
    let front = Listening::start("front.mjs", &words);
    runs(revision, &front.url(), |behind| {
        let lost = scenarios.iter().filter(|name| !behind.get(**name).is_some_and(|checks| is_passed(checks)));
        lost.map(|name| format!("{name}: {:?}", behind.get(*name))).collect()
    });
}
