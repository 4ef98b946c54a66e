//! What the images are, and where no key is.

use std::process::Stdio;
use std::time::{Duration, Instant};

use containers::checkout;
use containers::engine::{Engine, engine};
use containers::images::{self, ICCM};
use containers::project::{Compose, Project};
use containers::record::{holds_all_that_was_answered, place, to};
use e2e::claude::NEWEST;
use e2e::process::{self, Running};
use e2e::recorder::contains;
use e2e::{DUMMY_KEY, wait};

/// The recorder's image may have so many bytes.
const ICCM_BYTES: u64 = 60 << 20;

#[test]
fn the_recorders_image_is_small_and_neither_image_runs_as_root() {
    let engine = engine();
    let size = |image: &str| -> u64 {
        engine.docker(&["image", "inspect", "--format", "{{.Size}}", image]).trim().parse().expect("a number")
    };
    let claudette = images::claudette(NEWEST);
    println!("sizes: iccm {} bytes, claudette {} bytes", size(ICCM), size(&claudette));
    assert!(size(ICCM) <= ICCM_BYTES, "{} bytes", size(ICCM));
    for image in [ICCM, &claudette] {
        let user = engine.docker(&["image", "inspect", "--format", "{{.Config.User}}", image]);
        assert_eq!(user.trim(), "1000:1000", "{image}");
    }
}

/// Whether any file of any layer holds the word.
fn layers_hold(engine: &Engine, image: &str, word: &str) -> bool {
    let mut saving =
        engine.command("docker").args(["save", image]).stdout(Stdio::piped()).spawn().expect("docker starts");
    let mut stream = saving.stdout.take().expect("stdout is a pipe");
    let (mut kept, mut chunk, mut found) = (Vec::new(), vec![0; 1 << 20], false);
    loop {
        let count = std::io::Read::read(&mut stream, &mut chunk).expect("the image can be read");
        if count == 0 {
            break;
        }
        // The end of what came before, in case that the word is cut.
        kept.drain(..kept.len().saturating_sub(word.len()));
        kept.extend_from_slice(&chunk[..count]);
        found |= contains(&kept, word.as_bytes());
    }
    assert!(saving.wait().expect("docker ends").success(), "docker save {image}");
    found
}

#[test]
fn a_key_that_lives_in_the_recorder_alone_is_nowhere_else() {
    let engine = engine();
    // One that stands in no test's source, so that it cannot be found by chance, nor missed.
    let key = format!("sk-ant-test-{}", uuid_like());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n")).expect("a file");
    open_to_all(folder.path(), 0o755);
    open_to_all(&file, 0o644);
    let project = Project::new(&engine, "keyless")
        .with("CLAUDETTE_KEY_FILE", file.to_str().expect("UTF-8"))
        .with("ANTHROPIC_API_KEY", DUMMY_KEY)
        .with_file(&checkout().join("claudette/keyless.yaml"));
    project.up();
    assert!(project.ask("tools").text().contains("Both tools have run."));
    is_sent_upstream(&project.api_log(), "x-api-key", &key);

    let exchanges = holds_all_that_was_answered(&project);
    let place = place(&project);
    for exchange in to(&exchanges, "/v1/messages") {
        assert_eq!(exchange["key_fingerprint"].as_str().map(str::len), Some(16), "{exchange}");
        let head = place.part(exchange["id"].as_str().expect("an id"), "request-head");
        assert!(!contains(&head, key.as_bytes()), "{}", String::from_utf8_lossy(&head));
    }
    for service in ["claudette", "kgb", "postgres"] {
        let inspected = engine.docker(&["inspect", &project.container(service)]);
        assert!(!inspected.contains(&key) && !inspected.contains(DUMMY_KEY), "{inspected}");
        assert!(!project.logs(service).contains(&key), "in the log of {service}");
    }
    let inside = project.shell(
        "claudette",
        &format!("env; cat /proc/*/environ; grep -rl {key} / --include='*' -s --exclude-dir=proc --exclude-dir=sys"),
    );
    assert!(!String::from_utf8_lossy(&inside.stdout).contains(&key), "the agent can find it");
    // The files of the volumes: the spool, the database, Claude's own state.
    for volume in ["record", "postgres", "state"] {
        let name = format!("keyless_{volume}");
        let path = engine.docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", &name]);
        let found = std::process::Command::new("grep").args(["-rl", &key, path.trim()]).output().expect("grep starts");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "in the volume {volume}");
    }
    for image in [ICCM, &images::claudette(NEWEST)] {
        assert!(!layers_hold(&engine, image, &key) && !layers_hold(&engine, image, DUMMY_KEY), "in a layer of {image}");
    }
    assert!(layers_hold(&engine, ICCM, "held-by-kgb"), "what is in a layer is found");
}

/// By `docker-compose` 1.29, which many still have.
#[test]
fn a_subscriptions_token_lives_in_the_recorder_alone_as_well() {
    let engine = engine();
    let token = format!("sk-ant-oat01-test-{}", uuid_like());
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("token");
    std::fs::write(&file, &token).expect("a file");
    open_to_all(folder.path(), 0o755);
    open_to_all(&file, 0o644);
    let project = Project::new(&engine, "token")
        .by(Compose::One)
        .with("CLAUDETTE_KEY_FILE", file.to_str().expect("UTF-8"))
        .with("CLAUDETTE_API_KEY_WORD", "")
        .with("CLAUDETTE_TOKEN_WORD", "held-by-kgb")
        .with_file(&checkout().join("claudette/keyless.yaml"));
    project.up();
    assert!(project.ask("tools").text().contains("Both tools have run."));
    is_sent_upstream(&project.api_log(), "authorization", &format!("Bearer {token}"));
    holds_all_that_was_answered(&project);
    for service in ["claudette", "kgb", "postgres"] {
        let inspected = engine.docker(&["inspect", &project.container(service)]);
        assert!(!inspected.contains(&token) && !project.logs(service).contains(&token), "{service}");
    }
    project.compose(&["stop"]);
    project.up();
    project.ask("hello");
    holds_all_that_was_answered(&project);
}

/// Every question to the model carries this field.
pub(crate) fn is_sent_upstream(log: &[serde_json::Value], name: &str, value: &str) {
    let asked: Vec<_> = log.iter().filter(|entry| entry["method"] == "POST").collect();
    assert!(!asked.is_empty());
    for entry in asked {
        let fields = entry["request_headers"].as_array().expect("fields");
        let is_it = |field: &&serde_json::Value| {
            field[0].as_str().is_some_and(|known| known.eq_ignore_ascii_case(name)) && field[1] == value
        };
        assert!(fields.iter().any(|field| is_it(&field)), "no {name} of ours: {fields:?}");
    }
}

#[test]
fn the_recorder_cannot_write_its_own_files_and_says_when_it_is_ready() {
    let engine = engine();
    let project = Project::new(&engine, "frozen").with_file(&checkout().join("claudette/sqlite.yaml"));
    let begun = Instant::now();
    project.up();
    println!("cold start: {:?} from nothing to an agent that reaches its recorder", begun.elapsed());
    project.ask("hello");
    println!("cold start: {:?} to the first recorded answer", begun.elapsed());
    assert_eq!(project.inspect("kgb", "{{.HostConfig.ReadonlyRootfs}}"), "true");
    assert!(
        !engine.try_docker(&["inspect", &project.container("postgres")]).status.success(),
        "there is no PostgreSQL"
    );
    wait::until("a healthy container", || {
        (project.inspect("kgb", "{{.State.Health.Status}}") == "healthy").then_some(())
    });
    wait::until("the conversation on record, as the container itself reads it", || {
        let listing = project.exec("kgb", &["/usr/local/bin/iccm", "conversations", "--json"]);
        let said = process::run(listing, Duration::from_secs(30));
        said.text().contains("SCRIPT:hello").then_some(())
    });
}

#[test]
fn stop_lets_a_running_answer_end() {
    let engine = engine();
    let project = Project::new(&engine, "stop");
    project.up();
    // The database is there: else what is left waits in the spool, as it does when it is away.
    project.ask("hello");
    holds_all_that_was_answered(&project);
    let request = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"SCRIPT:hello PACE:150"}]}"#;
    let script = format!(
        "curl --silent --no-buffer --output seen -H 'x-api-key: {DUMMY_KEY}' -H 'content-type: application/json' \
         --data '{request}' http://kgb:8089/v1/messages"
    );
    let client = Running::start(project.exec("claudette", &["bash", "-c", &script]));
    let seen = || std::fs::read(project.folder().join("project/seen")).unwrap_or_default();
    wait::until("the beginning of a stream", || contains(&seen(), b"message_start").then_some(()));
    assert!(!contains(&seen(), b"message_stop"), "it is under way");
    project.compose(&["stop", "kgb"]);
    client.finish(Duration::from_secs(30)).success("a client whose recorder stops");
    assert!(contains(&seen(), b"message_stop"), "{}", String::from_utf8_lossy(&seen()));
    assert_eq!(project.inspect("kgb", "{{.State.ExitCode}}"), "0");
    let exchanges = holds_all_that_was_answered(&project);
    assert_eq!(to(&exchanges, "/v1/messages").len(), 2, "drained before it ended");
}

#[test]
fn the_dev_containers_compose_file_says_what_ours_does() {
    let engine = engine();
    let config = |file: &str| {
        let mut command = engine.command("docker-compose");
        command.arg("--file").arg(checkout().join(file)).args(["--project-name", "same", "config"]);
        command.env("CLAUDETTE_PROJECT", "/project");
        process::run(command, Duration::from_secs(60)).success(file).text()
    };
    // Without what images are built from. docker-compose sorts what is extended in another way, hence as sets of lines.
    let mut in_build = false;
    let mut lines_of = |file: &str| -> Vec<String> {
        let text = config(file);
        let kept = text.lines().filter(|line| {
            in_build = *line == "    build:" || (in_build && line.starts_with("      "));
            !in_build
        });
        let mut lines: Vec<String> = kept.map(|line| line.replace(": null", ": {}")).collect();
        lines.sort();
        lines
    };
    let (ours, template) = (lines_of("claudette/compose.yaml"), lines_of("claudette/.devcontainer/compose.yaml"));
    assert!(ours.len() > 80, "{ours:#?}");
    assert_eq!(template, ours);
    // As compose 2 understands them.
    let understood = |file: &str| -> serde_json::Value {
        let mut command = engine.command("docker");
        command.args(["compose", "--project-name", "same", "--file"]).arg(checkout().join(file));
        command.args(["config", "--format", "json"]).env("CLAUDETTE_PROJECT", "/project");
        let text = process::run(command, Duration::from_secs(60)).success(file).text();
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for service in config["services"].as_object_mut().expect("services").values_mut() {
            service.as_object_mut().expect("a service").remove("build");
        }
        config
    };
    assert_eq!(understood("claudette/.devcontainer/compose.yaml"), understood("claudette/compose.yaml"));
}

fn uuid_like() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{:x}-{:x}", std::process::id(), now.as_nanos())
}

fn open_to_all(path: &std::path::Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}
