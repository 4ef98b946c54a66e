//! `iccm claudette`: contained agents without compose's files, several on one record.

use std::process::Command;
use std::time::Duration;

use containers::engine::{Engine, engine};
use containers::images::BASE;
use e2e::process::{self, Finished, Running};
use e2e::recorder::{Place, iccm_binary};
use e2e::{DUMMY_KEY, wait};
use serde_json::Value;

use crate::images::is_sent_upstream;

const PATIENCE: Duration = Duration::from_secs(300);

/// The executable without its symbols, as it is installed, and a place for what it keeps.
struct Installed<'e> {
    engine: &'e Engine,
    folder: tempfile::TempDir,
}

impl<'e> Installed<'e> {
    fn new(engine: &'e Engine) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let strip = Command::new("strip").arg("-o").arg(folder.path().join("iccm")).arg(iccm_binary()).status();
        assert!(strip.expect("strip starts (binutils)").success());
        for project in ["alpha", "beta"] {
            let path = folder.path().join(project);
            std::fs::create_dir(&path).expect("a folder");
            std::os::unix::fs::chown(&path, Some(4321), Some(4321)).expect("root may give folders away");
        }
        Self { engine, folder }
    }

    fn run(&self, words: &[&str]) -> Finished {
        process::run(self.command(words), PATIENCE).success(&format!("iccm claudette {words:?}"))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("iccm"));
        let docker = self.engine.command("docker");
        command.envs(docker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("CLAUDETTE_UPSTREAM", "http://api:9999").env("ANTHROPIC_API_KEY", DUMMY_KEY);
        command.current_dir(self.folder.path());
        command.args(["claudette", "--data-dir"]).arg(self.folder.path().join("data")).args(words);
        command
    }

    fn start_api(&self) {
        let fake_api = iccm_binary().with_file_name("fake-api");
        let mounted = format!("{}:/fake-api:ro", fake_api.display());
        let words =
            ["run", "--detach", "--init", "--name", "api", "--network", "claudette_outside", "--volume", &mounted];
        self.engine.docker(&[&words[..], &[BASE, "/fake-api", "--listen", "0.0.0.0:9999", "--log", "/log"]].concat());
    }
}

#[test]
fn two_agents_by_name_share_one_record_and_are_told_apart_in_it() {
    let engine = engine();
    let iccm = Installed::new(&engine);
    let said = iccm.run(&["up", "--project", "alpha"]);
    assert!(said.stderr.contains("+ CLAUDETTE_NAME=alpha "), "{}", said.stderr);
    assert!(said.stderr.contains("docker compose --project-name claudette-alpha --file "), "{}", said.stderr);
    assert!(!said.stderr.contains(DUMMY_KEY), "a key is printed: {}", said.stderr);
    iccm.start_api();

    let tools = ["--allowedTools", "Bash,Read,Write"];
    let prompt = |name: &str| format!("SCRIPT:tools DIR:/workspace/{name} Please go on.");
    let asked = prompt("alpha");
    let words = [&["exec", "--project", "alpha", "claude", "-p", &asked], &tools[..]].concat();
    assert!(iccm.run(&words).text().contains("Both tools have run."));
    let asked = prompt("beta");
    let words = [&["run", "--project", "beta", "--", "-p", &asked], &tools[..]].concat();
    assert!(iccm.run(&words).text().contains("Both tools have run."));
    for name in ["alpha", "beta"] {
        use std::os::unix::fs::MetadataExt;
        let made = std::fs::metadata(iccm.folder.path().join(name).join("mod0.py")).expect("the agent's file");
        assert_eq!(made.uid(), 4321, "the agent's files are the project's owner's");
    }

    let format = "{{(index .NetworkSettings.Networks \"claudette_record\").IPAddress}}";
    let address = engine.docker(&["inspect", "--format", format, "claudette-postgres-1"]);
    let url = format!("postgres://iccm:iccm@{}/iccm", address.trim());
    let place = Place::new().with_arguments(&["--database", &url]);
    let conversations_of = |name: &str| -> Vec<Value> {
        let mut found: Vec<Value> = place.json_lines(&["search", &format!("project:{name} Please")]);
        found.iter_mut().for_each(|hit| *hit = hit["conversation_id"].clone());
        found.dedup();
        found
    };
    let (alpha, beta) = wait::until("both on record and in the index", || {
        let (alpha, beta) = (conversations_of("alpha"), conversations_of("beta"));
        (!alpha.is_empty() && !beta.is_empty()).then_some((alpha, beta))
    });
    assert!(alpha.iter().all(|id| !beta.contains(id)), "{alpha:?} {beta:?}");

    // What Docker leaves as `docker kill` left it comes back with the next command, the recorder even during one.
    let (kgb, postgres) = ("claudette-kgb-1", "claudette-postgres-1");
    engine.docker(&["kill", kgb, postgres, "claudette-alpha-claudette-1"]);
    let asked = prompt("alpha");
    let words = [&["exec", "--project", "alpha", "claude", "-p", &asked], &tools[..]].concat();
    let said = iccm.run(&words);
    assert!(said.text().contains("Both tools have run."), "{}", said.stderr);
    assert!(said.stderr.contains("+ docker start claudette-"), "{}", said.stderr);
    let asked = prompt("alpha").replace("SCRIPT:tools", "SCRIPT:long PACE:40");
    let words = [&["exec", "--project", "alpha", "claude", "-p", &asked], &tools[..]].concat();
    let working = Running::start(iccm.command(&words));
    let answers = || engine.docker(&["exec", "api", "cat", "/log"]).lines().count();
    let before = answers();
    wait::until("an agent at work", || (answers() > before + 3).then_some(()));
    engine.docker(&["kill", kgb, postgres]);
    let said = working.finish(PATIENCE).success("an agent whose recorder is killed");
    assert!(said.text().contains("All fourteen steps are done."), "{}", said.stderr);
    assert!(said.stderr.contains("somebody killed the recorder"), "{}", said.stderr);

    let listed = iccm.run(&["status"]).text();
    assert!(listed.contains("claudette-alpha") && listed.contains("recorder"), "{listed}");
    engine.docker(&["rm", "--force", "api"]);
    iccm.run(&["down", "--project", "alpha", "--all"]);
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]).lines().count(), 0);
}

#[test]
fn a_token_from_a_file_and_a_record_in_one_file_take_one_word_each() {
    let engine = engine();
    let iccm = Installed::new(&engine);
    let token = "sk-ant-oat01-test-000";
    let file = iccm.folder.path().join("token");
    std::fs::write(&file, format!("{token}\n")).expect("a file");
    std::os::unix::fs::chown(&file, Some(4321), Some(4321)).expect("root may give files away");
    let file = file.to_str().expect("UTF-8");
    let with = |words: &[&str]| {
        let own = ["--project", "alpha", "--sqlite", "--key-file", file];
        iccm.run(&[&words[..1], &own, &words[1..]].concat())
    };
    let said = with(&["up"]);
    assert!(!said.stderr.contains(token), "a token is printed: {}", said.stderr);
    iccm.start_api();
    let prompt = "SCRIPT:tools DIR:/workspace/alpha Please go on.";
    let said = with(&["exec", "claude", "-p", prompt, "--allowedTools", "Bash,Write"]);
    assert!(said.text().contains("Both tools have run."), "{}", said.stderr);
    let log = engine.docker(&["exec", "api", "cat", "/log"]);
    let log: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect();
    is_sent_upstream(&log, "authorization", &format!("Bearer {token}"));
    let environment = with(&["exec", "sh", "-c", "cat /proc/*/environ"]).text();
    assert!(environment.contains("CLAUDE_CODE_OAUTH_TOKEN=held-by-kgb") && !environment.contains(token));
    assert!(!engine.try_docker(&["inspect", "claudette-postgres-1"]).status.success(), "there is no PostgreSQL");
    wait::until("the conversation on record, as status says that it is read", || {
        let listed = engine.docker(&["exec", "claudette-kgb-1", "iccm", "conversations", "--json"]);
        listed.contains("SCRIPT:tools").then_some(())
    });
    engine.docker(&["rm", "--force", "api"]);
    with(&["down", "--all"]);
}
