//! Wrong usage, wrong configuration, nothing recorded: what the program says, and what it exits with.

use crate::support::{Place, assert_fails, stderr, stdout};

#[test]
fn wrong_usage_exits_with_2() {
    let place = Place::new();
    let wrong: [&[&str]; 9] = [
        &[],
        &["no-such-command"],
        &["run"],
        &["search"],
        &["show"],
        &["up", "--durability", "disk"],
        &["up", "--gateway-listen", "somewhere"],
        &["exchange", "x", "--part", "everything"],
        &["conversations", "--limit", "many"],
    ];
    for words in wrong {
        let output = place.run(words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", stderr(&output));
    }
}

#[test]
fn help_and_version_succeed() {
    let place = Place::new();
    let help = place.run(&["--help"]);
    assert!(help.status.success());
    for command in ["up", "dewey", "fiedler", "relay", "claudette", "run", "show", "search", "doctor", "frames"] {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command}");
    }
    // Commands come with their parts; none is advertised before.
    for command in ["web", "replay"] {
        assert!(!stdout(&help).contains(&format!("\n  {command} ")), "{command}");
    }
    assert!(stdout(&place.run(&["--version"])).starts_with("iccm "));
}

#[test]
fn an_unknown_configuration_key_names_the_nearest_one() {
    let place = Place::new();
    std::fs::write(place.folder.path().join("iccm.toml"), "gateway_lisen = '127.0.0.1:1'").unwrap();
    assert_fails(
        &place.run(&["stats"]),
        1,
        &["iccm.toml: unknown key `gateway_lisen`; did you mean `gateway_listen`?"],
    );
}

#[test]
fn the_users_configuration_folder_is_read() {
    let place = Place::new();
    let folder = place.folder.path().join("home/.config/iccm");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("iccm.toml"), "durability = 'never'").unwrap();
    assert_fails(&place.run(&["stats"]), 1, &[".config/iccm/iccm.toml: `durability` must be `process` or `power`"]);
}

#[test]
fn without_a_home_the_data_folder_must_be_named() {
    let place = Place::new();
    let output = place.command(&["stats"]).env_remove("HOME").env_remove("ICCM_DATA_DIR").output().unwrap();
    assert_fails(&output, 1, &["neither HOME nor XDG_DATA_HOME is set", "--data-dir"]);
}

#[test]
fn listening_for_other_machines_needs_to_be_allowed() {
    let place = Place::new();
    for command in ["up", "kgb"] {
        let output = place.run(&[command, "--gateway-listen", "0.0.0.0:0"]);
        assert_fails(&output, 1, &["refusing to listen on 0.0.0.0:0", "--allow-remote"]);
    }
    let output = place.run(&["dewey", "--dewey-listen", "0.0.0.0:0"]);
    assert_fails(&output, 1, &["refusing to listen on 0.0.0.0:0", "--allow-remote"]);
    let output = place.run(&["run", "--gateway-listen", "[::]:0", "true"]);
    assert_fails(&output, 1, &["--allow-remote"]);
    assert!(!place.data_dir().exists());
}

#[test]
fn reading_where_nothing_was_recorded_says_so_and_creates_nothing() {
    let place = Place::new();
    let reading: [&[&str]; 9] = [
        &["conversations"],
        &["conversations", "--json"],
        &["show", "0123"],
        &["exchanges"],
        &["exchange", "0123", "--part", "request-body"],
        &["search", "word"],
        &["tail"],
        &["stats", "--json"],
        &["delete", "0123", "--yes"],
    ];
    for words in reading {
        let output = place.run(words);
        assert_fails(&output, 1, &["nothing recorded yet in", "run: iccm run -- claude"]);
        assert!(output.stdout.is_empty(), "{words:?}");
    }
    assert!(!place.data_dir().exists());
}

#[test]
fn a_log_filter_that_does_not_parse_is_explained() {
    let output = Place::new().command(&["stats"]).env("ICCM_LOG", "=,=").output().unwrap();
    assert_fails(&output, 1, &["ICCM_LOG==,= is not a log filter"]);
}
