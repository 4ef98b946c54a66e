//! `iccm run`: the command it runs notices nothing but the base URLs.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::support::{ANSWER, Place, Started, ask, assert_fails, model_api, stderr, stdout};
use rustix::process::Signal;

#[test]
fn the_exit_code_is_the_commands() {
    let place = Place::new();
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let output = place.run(&["run", "--", "sh", "-c", script]);
        assert_eq!(output.status.code(), Some(code), "{script}: {}", stderr(&output));
    }
}

#[test]
fn a_command_that_cannot_be_started_exits_as_in_a_shell() {
    let place = Place::new();
    assert_fails(&place.run(&["run", "no-such-command"]), 127, &["no-such-command: command not found"]);
    let plain = place.folder.path().join("plain");
    std::fs::write(&plain, "x").unwrap();
    std::fs::set_permissions(&plain, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_fails(&place.run(&["run", plain.to_str().unwrap()]), 126, &["not an executable file"]);
    assert!(!place.data_dir().exists());
}

#[test]
fn the_commands_streams_are_its_own() {
    let place = Place::new();
    let mut run = place.start(&["run", "--", "sh", "-c", "read line; echo \"got $line\"; echo heard >&2; exit 3"]);
    run.stdin.as_mut().unwrap().write_all(b"hello\n").unwrap();
    assert_eq!(run.line(), "got hello");
    let (code, text) = run.finish();
    assert_eq!(code, Some(3));
    assert!(text.starts_with("heard\n"), "{text}");
}

#[test]
fn the_command_is_pointed_at_the_recorder() {
    let place = Place::new();
    let output = place.run(&["run", "sh", "-c", "echo $ANTHROPIC_BASE_URL; echo $OPENAI_BASE_URL"]);
    let text = stdout(&output);
    let (anthropic, openai) = text.trim().split_once('\n').unwrap();
    assert!(anthropic.starts_with("http://127.0.0.1:"), "{text}");
    assert_eq!(openai, format!("{anthropic}/openai/v1"));
}

#[test]
fn signals_that_reach_only_iccm_are_passed_on() {
    let place = Place::new();
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::HUP, "HUP"), (Signal::INT, "INT")] {
        let script = format!("trap 'exit 42' {name}; echo ready; while :; do sleep 0.05; done");
        let mut run = place.start(&["run", "sh", "-c", &script]);
        assert_eq!(run.line(), "ready");
        run.signal(signal);
        assert_eq!(run.finish().0, Some(42), "{name}");
    }
}

#[test]
fn what_was_ignored_before_stays_ignored() {
    let place = Place::new();
    let iccm = env!("CARGO_BIN_EXE_iccm");
    let script = format!("trap '' HUP; exec {iccm} run sh -c 'kill -HUP $$; echo alive'");
    let mut shell = place.command(&[]);
    let environment: Vec<_> = shell.get_envs().filter_map(|(k, v)| Some((k.to_owned(), v?.to_owned()))).collect();
    shell = std::process::Command::new("sh");
    shell.env_clear().envs(environment).args(["-c", &script]);
    let output = shell.output().unwrap();
    assert_eq!(stdout(&output), "alive\n", "{}", stderr(&output));
}

/// Runs a command that says where its gateway is, lets the test send a question there, and ends.
fn asked_once(place: &Place, environment: &[(&str, &str)]) -> (String, Option<i32>, String) {
    let mut command = place.command(&["run", "sh", "-c", "echo ${ANTHROPIC_BASE_URL#http://}; read line"]);
    command.envs(environment.iter().copied());
    let mut run = Started::new(command);
    let response = ask(run.line().parse().unwrap());
    let (code, text) = run.finish();
    (response, code, text)
}

#[test]
fn what_the_command_says_is_recorded_and_summed_up() {
    let place = Place::new();
    let upstream = format!("http://{}", model_api(Some(ANSWER)));
    let (response, _, text) = asked_once(&place, &[("ANTHROPIC_BASE_URL", &upstream)]);
    assert!(response.ends_with(ANSWER), "{response}");
    let summary = text.lines().last().unwrap();
    let expected =
        "iccm: session 5e551011-0000-4000-8000-000000000001 · 1 conversation · 1 exchange · tokens 10 in, 5 out · $";
    assert!(summary.starts_with(expected), "{text}");
    assert!(summary.contains(" captured, ") && summary.ends_with(" stored"), "{summary}");

    let exchanges = place.json(&["exchanges", "--json"]);
    assert_eq!(exchanges.len(), 1);
    assert_eq!(exchanges[0]["upstream"].as_str().unwrap().trim_end_matches('/'), upstream);
    assert_eq!(exchanges[0]["outcome"], "complete");
}

#[test]
fn an_upstream_that_is_configured_goes_above_one_that_is_set() {
    let place = Place::new();
    let upstream = format!("http://{}", model_api(Some(ANSWER)));
    let environment = [("ANTHROPIC_BASE_URL", "http://127.0.0.1:9"), ("ICCM_UPSTREAM", upstream.as_str())];
    assert!(asked_once(&place, &environment).0.ends_with(ANSWER));
}

#[test]
fn a_database_that_cannot_be_used_does_not_stop_the_command() {
    let place = Place::new();
    let upstream = format!("http://{}", model_api(Some(ANSWER)));
    let environment = [("ICCM_UPSTREAM", upstream.as_str()), ("ICCM_DATABASE_URL", "sqlite:/proc/nowhere/iccm.db")];
    let (response, _, text) = asked_once(&place, &environment);
    assert!(response.ends_with(ANSWER));
    assert!(text.contains("recorded into the spool"), "{text}");

    // The next start, with a database, stores it.
    assert!(place.run(&["run", "true"]).status.success());
    let exchanges = place.json(&["exchanges", "--json"]);
    assert_eq!(exchanges.len(), 1);
}
