//! `iccm run` stands between a terminal and a command without either noticing, and what the command and its children
//! say is on record.

use std::io::{BufRead, Write};
use std::process::Command;
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::process::{self, Running};
use e2e::recorder::{Place, contains};
use e2e::terminal::Terminal;
use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(30);

/// A client that sends one message.
const CLIENT: &str = env!("CARGO_BIN_EXE_send-message");

fn run(place: &Place, api: &FakeApi, words: &[&str]) -> Command {
    place.command(["run", "--upstream", &api.url(), "--"].iter().chain(words))
}

fn shell(place: &Place, api: &FakeApi, script: &str) -> Command {
    run(place, api, &["sh", "-c", script])
}

#[test]
fn the_commands_exit_code_is_passed_on() {
    let (place, api) = (Place::new(), FakeApi::start());
    for code in [0, 1, 7, 255] {
        let finished = process::run(shell(&place, &api, &format!("exit {code}")), PATIENCE);
        assert_eq!(finished.code(), code, "{}", finished.stderr);
    }
}

#[test]
fn a_command_that_a_signal_ends_gives_the_shells_exit_code() {
    let (place, api) = (Place::new(), FakeApi::start());
    for (signal, code) in [("KILL", 137), ("TERM", 143), ("SEGV", 139)] {
        let finished = process::run(shell(&place, &api, &format!("kill -{signal} $$")), PATIENCE);
        assert_eq!(finished.code(), code, "{signal}: {}", finished.stderr);
    }
}

#[test]
fn a_command_that_does_not_exist_is_explained_in_one_line() {
    let (place, api) = (Place::new(), FakeApi::start());
    let finished = process::run(run(&place, &api, &["no-such-command-anywhere"]), PATIENCE);
    assert_ne!(finished.code(), 0);
    assert!(finished.stderr.contains("no-such-command-anywhere"), "{}", finished.stderr);
    assert_eq!(finished.stderr.trim_end().lines().count(), 1, "{}", finished.stderr);
}

#[test]
fn signals_reach_the_command_and_its_answer_counts() {
    let (place, api) = (Place::new(), FakeApi::start());
    for (signal, name) in [(Signal::TERM, "TERM"), (Signal::INT, "INT"), (Signal::HUP, "HUP"), (Signal::QUIT, "QUIT")] {
        // A shell that waits in the background's place answers a signal at once.
        let script = format!("trap 'exit 42' {name}; sleep 60 & echo ready; wait");
        let (mut running, mut stdout) = Running::start_reading(shell(&place, &api, &script));
        assert_eq!(process::first_line(&mut running, &mut stdout), "ready\n");
        running.signal(signal);
        let finished = running.finish(PATIENCE);
        assert_eq!(finished.code(), 42, "{name}: {}", finished.stderr);
    }
}

#[test]
fn stdin_stdout_and_stderr_are_the_commands_own() {
    let (place, api) = (Place::new(), FakeApi::start());
    let (running, mut stdin, mut stdout) = Running::start_talking(shell(&place, &api, "cat; echo complaint >&2"));
    stdin.write_all(b"one line\n").unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "one line\n", "nothing is held back");
    drop(stdin);
    line.clear();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "", "nothing is added to stdout");
    let finished = running.finish(PATIENCE);
    assert_eq!(finished.code(), 0);
    assert!(finished.stderr.starts_with("complaint\n"), "{}", finished.stderr);
}

#[test]
fn the_command_has_the_terminal() {
    let (place, api) = (Place::new(), FakeApi::start());
    let test = "test -t 0 && test -t 1 && test -t 2 && stty size && echo has-a-terminal; exit 5";
    let finished = Terminal::run(&shell(&place, &api, test)).finish(PATIENCE);
    assert!(finished.text().starts_with("40 120\r\nhas-a-terminal\r\n"), "{}", finished.text());
    assert_eq!(finished.code(), 5);
}

#[test]
fn an_interrupt_from_the_terminal_is_the_commands_to_answer() {
    let (place, api) = (Place::new(), FakeApi::start());
    let test = "trap 'echo interrupted; exit 33' INT; sleep 60 & echo ready; wait; exit 1";
    let mut terminal = Terminal::run(&shell(&place, &api, test));
    terminal.shows(0, "ready");
    terminal.type_in("\x03");
    let finished = terminal.finish(PATIENCE);
    assert_eq!(finished.code(), 33, "{}", finished.text());
    assert_eq!(finished.text().matches("interrupted").count(), 1, "once, not once for each process");
}

#[test]
fn what_a_commands_children_and_their_children_send_is_on_record() {
    let (place, api) = (Place::new(), FakeApi::start());
    let script = format!("'{CLIENT}' child; sh -c \"sh -c '{CLIENT} grandchild; exit 0' & wait\"; '{CLIENT}' last");
    let finished = process::run(shell(&place, &api, &script), PATIENCE).success("the command");
    assert_eq!(finished.text().matches("This is the answer of the script hello").count(), 3);
    for case in ["child", "grandchild", "last"] {
        assert_eq!(place.recorded(&format!("case={case}"))["outcome"], "complete");
    }
}

#[test]
fn the_summary_is_one_line_on_stderr_and_counts_the_exchanges() {
    let (place, api) = (Place::new(), FakeApi::start());
    let finished = process::run(run(&place, &api, &[CLIENT, "summary"]), PATIENCE).success("the command");
    let lines: Vec<_> = finished.stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("1 exchange") && lines[0].contains("captured"), "{lines:?}");
}

#[test]
fn when_the_command_has_ended_everything_is_stored() {
    let (place, api) = (Place::new(), FakeApi::start());
    process::run(run(&place, &api, &[CLIENT, "stored"]), PATIENCE).success("the command");
    assert_eq!(place.exchanges().len(), 1, "already now, without waiting");
    let stats = place.stats();
    assert_eq!((&stats["spool_pending_records"], &stats["unrecorded"]), (&0.into(), &0.into()), "{stats}");
}

#[test]
fn a_base_url_that_was_set_before_is_where_requests_go() {
    let (place, api) = (Place::new(), FakeApi::start());
    let mut command = place.command(["run", "--", CLIENT, "inherited"]);
    command.env("ANTHROPIC_BASE_URL", api.url());
    process::run(command, PATIENCE).success("the command");
    assert_eq!(place.recorded("case=inherited")["outcome"], "complete");
    assert_eq!(api.log().len(), 1);
}

#[test]
fn a_command_that_is_killed_in_mid_stream_is_on_record_as_far_as_it_came() {
    let (place, api) = (Place::new(), FakeApi::start());
    api.open_gate("g");
    let (mut running, mut stdout) = Running::start_reading(run(&place, &api, &[CLIENT, "killed", "g"]));
    let line = process::first_line(&mut running, &mut stdout);
    let pid: i32 = line.trim_end().strip_prefix("streaming ").unwrap_or_else(|| panic!("{line}")).parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    let finished = running.finish(PATIENCE);
    assert_eq!(finished.code(), 137, "{}", finished.stderr);
    let recorded = place.recorded("case=killed");
    assert_eq!(recorded["outcome"], "client_aborted", "{recorded}");
    assert!(contains(&place.part(recorded["id"].as_str().unwrap(), "response-body"), b"message_start"));
}

#[test]
fn a_run_that_is_killed_itself_is_stored_by_the_next_one() {
    let (place, api) = (Place::new(), FakeApi::start());
    api.open_gate("g");
    let script = format!("'{CLIENT}' whole >/dev/null; exec '{CLIENT}' half g");
    let (mut running, mut stdout) = Running::start_reading(shell(&place, &api, &script));
    let line = process::first_line(&mut running, &mut stdout);
    assert!(line.starts_with("streaming"), "{line}");
    running.kill();
    drop(running);
    process::run(shell(&place, &api, "exit 0"), PATIENCE).success("the next run");
    let whole = place.recorded("case=whole");
    assert_eq!(whole["outcome"], "complete");
    let half = place.recorded("case=half");
    assert_eq!(half["outcome"], "recorder_crashed", "{half}");
    assert!(contains(&place.part(half["id"].as_str().unwrap(), "response-body"), b"message_start"));
}

#[test]
fn several_runs_beside_a_recorder_share_one_record() {
    let (place, api) = (Place::new(), FakeApi::start());
    let up = place.recorder("up", &api.url(), &[]);
    let runs: Vec<_> = (0..4).map(|n| Running::start(run(&place, &api, &[CLIENT, &format!("beside-{n}-")]))).collect();
    for run in runs {
        run.finish(PATIENCE).success("a run beside others");
    }
    for n in 0..4 {
        assert_eq!(place.recorded(&format!("case=beside-{n}-"))["outcome"], "complete");
    }
    up.stop();
    assert_eq!(place.exchanges().len(), 4);
}
