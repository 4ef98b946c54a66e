//! `iccm claudette`: contained agents without compose's files, several on one record.

use std::process::Command;
use std::time::Duration;

use containers::engine::{Engine, engine};
use containers::images::BASE;
use e2e::process::{self, Finished};
use e2e::recorder::{Place, iccm_binary};
use e2e::{DUMMY_KEY, wait};
use serde_json::Value;

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
        let mut command = Command::new(self.folder.path().join("iccm"));
        let docker = self.engine.command("docker");
        command.envs(docker.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("CLAUDETTE_UPSTREAM", "http://api:9999").env("ANTHROPIC_API_KEY", DUMMY_KEY);
        command.current_dir(self.folder.path());
        command.args(["claudette", "--data-dir"]).arg(self.folder.path().join("data")).args(words);
        process::run(command, PATIENCE).success(&format!("iccm claudette {words:?}"))
    }

    fn start_api(&self) {
        let fake_api = iccm_binary().with_file_name("fake-api");
        let mounted = format!("{}:/fake-api:ro", fake_api.display());
        let words =
            ["run", "--detach", "--init", "--name", "api", "--network", "claudette_outside", "--volume", &mounted];
        self.engine.docker(&[&words[..], &[BASE, "/fake-api", "--listen", "0.0.0.0:9999"]].concat());
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

    let listed = iccm.run(&["status"]).text();
    assert!(listed.contains("claudette-alpha") && listed.contains("recorder"), "{listed}");
    engine.docker(&["rm", "--force", "api"]);
    iccm.run(&["down", "--project", "alpha", "--all"]);
    assert_eq!(engine.docker(&["ps", "--all", "--quiet"]).lines().count(), 0);
}
