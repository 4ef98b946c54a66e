//! `iccm fiedler` without any server.

use std::time::Duration;

use e2e::process;
use e2e::providers::{Play, Providers};
use e2e::terminal::Terminal;
use serde_json::Value;

use crate::hall::{KEYS, TEN, place_for};

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

#[test]
fn on_a_terminal_each_model_has_a_bar_that_moves_and_ends() {
    let providers = Providers::default();
    let place = place_for(&providers);
    providers.play("gpt-5", &[Play::Refused(401, &[])]);
    let words = ["fiedler", "send", "What is a fugue?", "--model", "gpt-4o", "--model", "gpt-5"];
    let mut command = place.command(words);
    command.envs(providers.variables()).envs(KEYS);
    let finished = Terminal::run(&command).finish(Duration::from_secs(60)).success("fiedler send on a terminal");
    let screen = finished.text();
    for (bar, words) in [
        ("....................", "gpt-4o: asked"),
        ("#...................", "gpt-4o: "),
        ("####################", "gpt-4o: "),
        ("xxxxxxxxxxxxxxxxxxxx", "gpt-5"),
    ] {
        assert!(screen.contains(&format!("[{bar}] {words}")), "{bar} {words} in {screen:?}");
    }
    // Drawn over, not below: as many lines up as there are models.
    assert!(screen.contains("\u{1b}[2A\r\u{1b}[2K["), "{screen:?}");
    assert!(!screen.contains("sk-test"), "{screen:?}");
}
