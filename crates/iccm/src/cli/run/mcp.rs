//! The relay, offered to a client that is run.
//!
//! Guaranteed: no file of the user is touched and none is left behind; the relay comes with the command line, for this run
//! alone, beside the servers that the client knows already. Nothing happens where there is nothing to join (no `mcpServers`
//! file of the relay, or an empty one), where the user wants no other servers than those they name, and with `--no-mcp`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use serde_json::{Value, json};

use crate::config::{Environment, relay_file};

/// The name under which the client knows the relay: a part of its tools' names, `mcp__relay__TOOL`.
const NAME: &str = "relay";

/// Claude Code's commands that start no session.
const OTHER_COMMANDS: [&str; 10] =
    ["agents", "auth", "config", "doctor", "install", "mcp", "migrate-installer", "plugin", "setup-token", "update"];

/// The command's arguments, with the relay before them where there is something to join.
pub(super) fn with_relay(program: &OsStr, arguments: &[OsString], env: &Environment) -> Vec<OsString> {
    let offered = offer(program, arguments, env).into_iter();
    offered.chain(arguments.iter().cloned()).collect()
}

fn offer(program: &OsStr, arguments: &[OsString], env: &Environment) -> Option<OsString> {
    if Path::new(program).file_name() != Some(OsStr::new("claude")) || !starts_a_session(arguments) {
        return None;
    }
    let file = std::path::absolute(relay_file(None, env)?).ok()?;
    if !has_servers(&file) {
        return None;
    }
    let own = std::env::current_exe().ok()?;
    // Where it records is told by the environment (see `environment`): it may be a secret, and this is a command line.
    let arguments = ["relay", "--record", "--config", file.to_str()?];
    let server = json!({"type": "stdio", "command": own.to_str()?, "args": arguments});
    // One word: the option takes any number of values, and would take a prompt that follows it.
    Some(format!("--mcp-config={}", json!({"mcpServers": {NAME: server}})).into())
}

fn starts_a_session(arguments: &[OsString]) -> bool {
    let is = |word: &OsString, other: &str| word == OsStr::new(other);
    let begins_other = arguments.first().is_some_and(|first| OTHER_COMMANDS.iter().any(|other| is(first, other)));
    let leaves = ["--strict-mcp-config", "--version", "-v", "--help", "-h"];
    !begins_other && !arguments.iter().any(|word| leaves.iter().any(|other| is(word, other)))
}

/// A file that cannot be read offers nothing here; `iccm relay` itself tells what is wrong with it.
fn has_servers(file: &Path) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value: Value = serde_json::from_str(&text).unwrap_or_default();
    value["mcpServers"].as_object().is_some_and(|servers| !servers.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(program: &str, arguments: &[&str], servers: &str) -> Option<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("relay.json");
        std::fs::write(&file, servers).unwrap();
        let env: Environment = [("ICCM_RELAY_CONFIG", file.to_str().unwrap())].into_iter().collect();
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let all = with_relay(OsStr::new(program), &arguments, &env);
        assert!(all.ends_with(&arguments), "the user's own words stay: {all:?}");
        (all.len() > arguments.len()).then(|| all[0].to_str().unwrap().to_owned())
    }

    #[test]
    fn claude_is_offered_the_relay_when_there_is_something_to_join() {
        let servers = r#"{"mcpServers":{"x":{"command":"y"}}}"#;
        let word = offered("/opt/bin/claude", &["a prompt"], servers).unwrap();
        let config: Value = serde_json::from_str(word.strip_prefix("--mcp-config=").unwrap()).unwrap();
        let arguments = &config["mcpServers"]["relay"]["args"];
        assert_eq!((&arguments[0], &arguments[1]), (&json!("relay"), &json!("--record")));
        assert!(arguments[3].as_str().unwrap().ends_with("relay.json"));
        assert_eq!(offered("claude", &[], "{}"), None, "nothing to join");
        assert_eq!(offered("claude", &[], "nonsense"), None);
        assert_eq!(offered("codex", &[], servers), None, "another client");
        assert_eq!(offered("claude", &["mcp", "list"], servers), None, "no session");
        assert_eq!(offered("claude", &["-p", "x", "--strict-mcp-config"], servers), None, "as the user asked");
    }
}
