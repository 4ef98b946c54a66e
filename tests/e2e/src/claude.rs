//! The real Claude Code, in the versions that `scripts/test` installs.
//!
//! Each run has a home folder of its own, the dummy key, no traffic besides the model's, and a deadline. The versions lie
//! in `target/claude-code/VERSION` (`ICCM_TEST_CLAUDE_DIR` names another folder); a version that is missing fails.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::DUMMY_KEY;
use crate::process::{self, Finished};
use crate::recorder::Place;
use crate::terminal::Terminal;

/// A native program, the newest when this was written.
pub const NEWEST: &str = "2.1.330";
/// A native program, what npm gives to Node 20.
pub const MIDDLE: &str = "2.1.197";
/// Pure JavaScript, without session headers; its sub-agent tool is called `Task`.
pub const OLDEST: &str = "2.0.5";

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program of a version.
pub fn program(version: &str) -> PathBuf {
    let installed = std::env::var_os("ICCM_TEST_CLAUDE_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/claude-code"), PathBuf::from);
    let program = installed.join(version).join("node_modules/.bin/claude");
    assert!(
        program.exists(),
        "Claude Code {version} is not installed at {}; run scripts/test, which installs it, or set ICCM_TEST_CLAUDE_DIR",
        program.display()
    );
    program
}

/// A user's home and project, for one or more runs.
#[derive(Debug)]
pub struct Home {
    folder: TempDir,
    version: String,
}

/// What a run printed (`--output-format stream-json`).
#[derive(Debug)]
pub struct Transcript {
    /// The process's end.
    pub finished: Finished,
    /// The lines.
    pub events: Vec<Value>,
}

impl Home {
    /// A new home for that version.
    pub fn new(version: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("claude-e2e-").tempdir().expect("a temporary folder");
        let home = Self { folder, version: version.to_owned() };
        for folder in ["project", "tmp", "home"] {
            std::fs::create_dir(home.folder.path().join(folder)).expect("a folder");
        }
        let notes = "# Project notes\nUse python3. Keep modules small.\n";
        std::fs::write(home.project().join("CLAUDE.md"), notes).expect("a file");
        home
    }

    /// The folder that the agent works in.
    pub fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// A prompt that runs `script` in this project.
    pub fn prompt(&self, script: &str) -> String {
        format!("SCRIPT:{script} DIR:{} Please go on.", self.project().display())
    }

    /// The words of a command that asks `prompt`.
    pub fn words(&self, prompt: &str, further: &[&str]) -> Vec<OsString> {
        let mut words = vec![program(&self.version).into_os_string()];
        words.extend(["-p", prompt, "--output-format", "stream-json", "--verbose"].map(OsString::from));
        words.extend(further.iter().map(OsString::from));
        words.extend(["--allowedTools", "Bash,Read,Write,Agent,Task"].map(OsString::from));
        words
    }

    /// Asks without a recorder.
    pub fn ask_directly(&self, base_url: &str, prompt: &str, further: &[&str]) -> Transcript {
        let words = self.words(prompt, further);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().env("ANTHROPIC_BASE_URL", base_url);
        self.finish(command)
    }

    /// Asks through `iccm run`.
    pub fn ask_recorded(&self, place: &Place, upstream: &str, prompt: &str, further: &[&str]) -> Transcript {
        let start = ["run", "--upstream", upstream, "--"].map(OsString::from);
        self.finish(place.command(start.into_iter().chain(self.words(prompt, further))))
    }

    /// Asks through `iccm run` with an `mcpServers` file for the relay; `flags` are `iccm run`'s.
    pub fn ask_with_relay(
        &self,
        place: &Place,
        upstream: &str,
        prompt: &str,
        file: &Path,
        flags: &[&str],
    ) -> Transcript {
        let start: Vec<OsString> =
            ["run", "--upstream", upstream].iter().chain(flags).chain(&["--"]).map(OsString::from).collect();
        let mut words = self.words(prompt, &[]);
        if let Some(last) = words.last_mut() {
            last.push(",mcp__relay");
        }
        let mut command = place.command(start.into_iter().chain(words));
        command.env("ICCM_RELAY_CONFIG", file);
        self.finish(command)
    }

    /// Starts an interactive session through `iccm run` in a terminal, past all first-time questions, and with the traffic
    /// that is not essential: titles, probes.
    pub fn talk_recorded(&self, place: &Place, upstream: &str) -> Terminal {
        let folder = self.project().canonicalize().expect("an existing folder");
        let settings = json!({
            "hasCompletedOnboarding": true, "theme": "dark",
            "projects": {folder.to_str().expect("UTF-8"): {"hasTrustDialogAccepted": true, "allowedTools": []}},
            "customApiKeyResponses": {"approved": [DUMMY_KEY], "rejected": []},
        });
        let home = self.folder.path().join("home/.claude");
        std::fs::create_dir_all(&home).expect("a folder");
        std::fs::write(home.join(".claude.json"), settings.to_string()).expect("a file");
        let words = ["run", "--upstream", upstream, "--"].map(OsString::from);
        let mut command = place.command(words.into_iter().chain([program(&self.version).into_os_string()]));
        self.prepare(&mut command);
        command.env_remove("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC");
        Terminal::run(&command)
    }

    /// Gives a command this home and project.
    pub fn prepare(&self, command: &mut Command) {
        let home = self.folder.path().join("home");
        command
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &home)
            .env("CLAUDE_CONFIG_DIR", home.join(".claude"))
            .env("TMPDIR", self.folder.path().join("tmp"))
            .env("ANTHROPIC_API_KEY", DUMMY_KEY)
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .env("LANG", "C.UTF-8")
            .current_dir(self.project());
    }

    /// The file in which Claude Code keeps a session.
    pub fn transcript(&self, session: &str) -> PathBuf {
        let projects = self.folder.path().join("home/.claude/projects");
        let folders = std::fs::read_dir(&projects).unwrap_or_else(|e| panic!("{}: {e}", projects.display()));
        let files = folders.map(|folder| folder.expect("an entry").path().join(format!("{session}.jsonl")));
        files.into_iter().find(|file| file.is_file()).unwrap_or_else(|| panic!("no transcript of {session}"))
    }

    fn finish(&self, mut command: Command) -> Transcript {
        self.prepare(&mut command);
        let finished = process::run(command, PATIENCE);
        let events = String::from_utf8_lossy(&finished.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        Transcript { finished, events }
    }
}

impl Transcript {
    /// The last event; panics with everything the run said when it is no successful result.
    pub fn result(&self) -> &Value {
        let result = self.events.iter().rev().find(|event| event["type"] == "result");
        let good = result.filter(|result| result["is_error"] == false && self.finished.status.success());
        good.unwrap_or_else(|| {
            let Finished { status, stdout, stderr } = &self.finished;
            panic!("Claude Code failed: {status}\nstderr: {stderr}\nstdout: {}", String::from_utf8_lossy(stdout))
        })
    }

    /// The texts of the tools' results, in order.
    pub fn tool_results(&self) -> Vec<String> {
        self.result();
        let blocks = self.events.iter().filter(|event| event["type"] == "user").filter_map(|event| {
            let blocks = event["message"]["content"].as_array()?;
            Some(blocks.iter().filter(|block| block["type"] == "tool_result"))
        });
        blocks.flatten().map(|block| text_of(&block["content"])).collect()
    }

    /// The session's id, as Claude Code says it.
    pub fn session_id(&self) -> String {
        self.result()["session_id"].as_str().expect("a result names its session").to_owned()
    }
}

/// A content's words: a string, or the text blocks of an array.
fn text_of(content: &Value) -> String {
    match content.as_array() {
        Some(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n"),
        None => content.as_str().unwrap_or_default().to_owned(),
    }
}
