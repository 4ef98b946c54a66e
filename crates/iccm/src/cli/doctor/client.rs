//! Claude Code: whether it is there, and whether it will go through the recorder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use super::Finding;
use crate::cli::run::child;
use crate::config::{Config, Environment};

const BASE_URL: &str = "ANTHROPIC_BASE_URL";
const VERSION_PATIENCE: Duration = Duration::from_secs(10);

pub(super) async fn check(config: &Config, env: &Environment) -> Vec<Finding> {
    let mut findings = vec![claude(env).await, base_url(config, env)];
    findings.extend(settings_files(env).iter().filter_map(|path| settings(path)));
    findings
}

async fn claude(env: &Environment) -> Finding {
    const CHECK: &str = "claude";
    let Ok(path) = child::locate(OsStr::new("claude"), env) else {
        return Finding::warning(CHECK, "Claude Code is not on PATH", "npm install -g @anthropic-ai/claude-code");
    };
    let asking = Command::new(&path).arg("--version").stdin(Stdio::null()).kill_on_drop(true).output();
    match tokio::time::timeout(VERSION_PATIENCE, asking).await {
        Ok(Ok(output)) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Finding::good(CHECK, format!("{version} at {}", path.display()))
        }
        _ => Finding::warning(
            CHECK,
            format!("{} --version does not answer", path.display()),
            "run it by hand to see why; install it again",
        ),
    }
}

/// What clients do that are started without `iccm run`.
fn base_url(config: &Config, env: &Environment) -> Finding {
    const CHECK: &str = "client set-up";
    let listen = config.gateway_listen.value.0;
    let own = format!("http://{listen}");
    match env.text(BASE_URL) {
        Some(set) if set.trim_end_matches('/') == own => {
            Finding::good(CHECK, format!("{BASE_URL} points at iccm up ({own}); it must be running"))
        }
        Some(set) => Finding::good(CHECK, format!("{BASE_URL}={set}; iccm run will forward to it")),
        None => Finding::good(CHECK, format!("{BASE_URL} is not set; use iccm run, or set it to {own} for iccm up")),
    }
}

/// Claude Code's settings, each of which may set variables that go above those of the environment.
fn settings_files(env: &Environment) -> Vec<PathBuf> {
    let own_folder = match env.path("CLAUDE_CONFIG_DIR") {
        Some(folder) => Some(folder.to_owned()),
        None => env.path("HOME").map(|home| home.join(".claude")),
    };
    let own = own_folder.map(|folder| folder.join("settings.json"));
    let projects = [".claude/settings.json", ".claude/settings.local.json"].map(PathBuf::from);
    let managed = PathBuf::from("/etc/claude-code/managed-settings.json");
    own.into_iter().chain(projects).chain([managed]).collect()
}

fn settings(path: &Path) -> Option<Finding> {
    let text = std::fs::read_to_string(path).ok()?;
    let settings: Value = serde_json::from_str(&text).ok()?;
    let url = settings.get("env")?.get(BASE_URL)?.as_str()?;
    Some(Finding::warning(
        "client set-up",
        format!("{} sets {BASE_URL} to {url}, which goes above what iccm run sets", path.display()),
        "remove it there, or Claude Code bypasses the recorder",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_in_claude_codes_settings_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.json");
        std::fs::write(&path, r#"{"env": {"ANTHROPIC_BASE_URL": "https://x.example"}}"#).unwrap();
        let env: Environment = [("CLAUDE_CONFIG_DIR", folder.path())].into_iter().collect();
        assert_eq!(settings_files(&env)[0], path);
        assert!(settings(&path).unwrap().found.contains("https://x.example"));
        std::fs::write(&path, r#"{"env": {}}"#).unwrap();
        assert_eq!(settings(&path), None);
    }
}
