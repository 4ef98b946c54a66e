//! The containers of `claudette/compose.yaml`, with a scripted model API where the way out leads.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::DUMMY_KEY;
use e2e::claude::NEWEST;
use e2e::process::{self, Finished, Running};
use e2e::wait;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::engine::Engine;
use crate::{checkout, images};

const PATIENCE: Duration = Duration::from_secs(120);

/// Which compose is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compose {
    /// `docker-compose` 1.29.
    One,
    /// `docker compose`, version 2.
    Two,
}

impl Compose {
    fn command(self, engine: &Engine) -> Command {
        match self {
            Self::One => engine.command("docker-compose"),
            Self::Two => {
                let mut command = engine.command("docker");
                command.arg("compose");
                command
            }
        }
    }

    /// What stands between the parts of a container's name.
    fn separator(self) -> char {
        if self == Self::One { '_' } else { '-' }
    }
}

/// A project. Its containers, networks and volumes go when it is dropped.
#[derive(Debug)]
pub struct Project<'e> {
    engine: &'e Engine,
    compose: Compose,
    name: String,
    files: Vec<PathBuf>,
    variables: Vec<(String, String)>,
    folder: TempDir,
}

impl<'e> Project<'e> {
    /// A project with the newest Claude Code and the dummy key in the agent's environment; nothing runs yet.
    pub fn new(engine: &'e Engine, name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("claudette-").tempdir().expect("a temporary folder");
        for part in ["project", "log"] {
            let path = folder.path().join(part);
            std::fs::create_dir(&path).expect("a folder");
            open_to_all(&path);
        }
        let fake_api = std::env::current_exe().expect("a test knows its path");
        let fake_api = fake_api.ancestors().nth(2).expect("target/debug").join("fake-api");
        assert!(fake_api.is_file(), "no {}; cargo build --workspace builds it", fake_api.display());
        let text = |path: PathBuf| path.to_str().expect("UTF-8").to_owned();
        let variables = [
            ("CLAUDETTE_UPSTREAM", "http://api:9999".to_owned()),
            ("ICCM_IMAGE", images::ICCM.to_owned()),
            ("CLAUDETTE_IMAGE", images::claudette(NEWEST)),
            ("ANTHROPIC_API_KEY", DUMMY_KEY.to_owned()),
            ("CLAUDETTE_PROJECT", text(folder.path().join("project"))),
            ("TEST_FAKE_API", text(fake_api)),
            ("TEST_API_LOG", text(folder.path().join("log"))),
        ];
        let mut project = Self {
            engine,
            compose: Compose::Two,
            name: name.to_owned(),
            files: Vec::new(),
            variables: Vec::new(),
            folder,
        };
        for (name, value) in variables {
            project = project.with(name, &value);
        }
        project
            .with_file(&checkout().join("claudette/compose.yaml"))
            .with_file(&checkout().join("tests/containers/api.yaml"))
    }

    /// The same by another compose.
    pub fn by(mut self, compose: Compose) -> Self {
        self.compose = compose;
        self
    }

    /// The same with another value for a variable of the compose file.
    pub fn with(mut self, variable: &str, value: &str) -> Self {
        self.variables.retain(|(name, _)| name != variable);
        self.variables.push((variable.to_owned(), value.to_owned()));
        self
    }

    /// The same with a further compose file.
    pub fn with_file(mut self, path: &Path) -> Self {
        self.files.push(path.to_owned());
        self
    }

    /// The same with further variables in a service's container.
    pub fn with_environment(self, service: &str, variables: &[(String, String)]) -> Self {
        let file = self.folder.path().join(format!("{service}.json"));
        let variables: serde_json::Map<String, Value> =
            variables.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
        let content = serde_json::json!({"services": {service: {"environment": variables}}});
        std::fs::write(&file, content.to_string()).expect("a file");
        self.with_file(&file)
    }

    /// A folder of this project's own.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The engine that it runs on.
    pub fn engine(&self) -> &Engine {
        self.engine
    }

    /// `docker compose WORD …` for this project.
    pub fn compose_command(&self, words: &[&str]) -> Command {
        let mut command = self.compose.command(self.engine);
        for credential in
            ["CLAUDE_CODE_OAUTH_TOKEN", "OPENAI_API_KEY", "GEMINI_API_KEY", "TOGETHER_API_KEY", "XAI_API_KEY"]
        {
            command.env_remove(credential);
        }
        command.envs(self.variables.iter().cloned());
        command.args(["--project-name", &self.name]);
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        command.args(words);
        command
    }

    /// `docker compose WORD …`, which must succeed.
    pub fn compose(&self, words: &[&str]) -> Finished {
        process::run(self.compose_command(words), PATIENCE).success(&format!("compose {words:?}"))
    }

    /// Starts all that does not run, and waits until an agent could work.
    pub fn up(&self) {
        self.compose(&["up", "--detach", "--no-build"]);
        self.is_up();
    }

    /// Waits until an agent could work.
    pub fn is_up(&self) {
        wait::until_within(PATIENCE, "a recorder that the agent reaches", || {
            let ready = process::run(self.exec("claudette", &["iccm", "ready", "http://kgb:8089"]), PATIENCE);
            ready.status.success().then_some(())
        });
    }

    /// `docker exec` of a command in a service's container.
    pub fn exec(&self, service: &str, words: &[&str]) -> Command {
        let mut command = self.engine.command("docker");
        command.args(["exec", &self.container(service)]).args(words).stdin(Stdio::null());
        command
    }

    /// What a shell in a service's container says of a script: its exit code and both outputs.
    pub fn shell(&self, service: &str, script: &str) -> Finished {
        process::run(self.exec(service, &["bash", "-c", script]), PATIENCE)
    }

    /// Asks Claude Code in its container; it must answer.
    pub fn ask(&self, prompt: &str) -> Finished {
        process::run(self.ask_command(prompt), PATIENCE).success("Claude Code in its container")
    }

    /// The same, under way.
    pub fn asking(&self, prompt: &str) -> Running {
        Running::start(self.ask_command(prompt))
    }

    fn ask_command(&self, prompt: &str) -> Command {
        let prompt = format!("SCRIPT:{prompt} DIR:/workspace/claudette Please go on.");
        let tools = "Bash,Read,Write,Agent,Task,mcp__relay";
        self.exec("claudette", &["claude", "-p", &prompt, "--allowedTools", tools])
    }

    /// A service's container.
    pub fn container(&self, service: &str) -> String {
        let between = self.compose.separator();
        format!("{}{between}{service}{between}1", self.name)
    }

    /// A field of what Docker says about a service's container.
    pub fn inspect(&self, service: &str, format: &str) -> String {
        self.engine.docker(&["inspect", "--format", format, &self.container(service)]).trim().to_owned()
    }

    /// `kill -9` of a container's process, from outside: a crash.
    pub fn crash(&self, service: &str) {
        let pid = self.inspect(service, "{{.State.Pid}}").parse().ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, Signal::KILL).unwrap_or_else(|e| panic!("killing {service}: {e}"));
    }

    /// Waits until a crashed container has been started anew.
    pub fn comes_back(&self, service: &str, restarts_before: u32) {
        wait::until_within(PATIENCE, &format!("{service} to come back"), || {
            let state = self.inspect(service, "{{.RestartCount}} {{.State.Running}}");
            let (count, running) = state.split_once(' ').expect("two words");
            (running == "true" && count.parse::<u32>().expect("a number") > restarts_before).then_some(())
        });
    }

    /// How often Docker has restarted a container.
    pub fn restarts(&self, service: &str) -> u32 {
        self.inspect(service, "{{.RestartCount}}").parse().expect("a number")
    }

    /// A container's address on the network where it is reached from this machine.
    pub fn address(&self, service: &str, network: &str) -> String {
        let format = format!("{{{{(index .NetworkSettings.Networks \"{}_{network}\").IPAddress}}}}", self.name);
        self.inspect(service, &format)
    }

    /// What the model API saw and sent, exchange by exchange.
    pub fn api_log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("log/exchanges.jsonl")).unwrap_or_default();
        // A line that is being written is not there yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("the log is JSON Lines")).collect()
    }

    /// What a service logged.
    pub fn logs(&self, service: &str) -> String {
        let finished = self.engine.try_docker(&["logs", &self.container(service)]);
        finished.text() + &finished.stderr
    }
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in ["kgb", "postgres", "claudette", "api"] {
                let said = self.engine.try_docker(&["logs", "--tail", "30", &self.container(service)]);
                eprintln!("== {service}\n{}{}", String::from_utf8_lossy(&said.stdout), said.stderr);
            }
            return;
        }
        self.compose(&["down", "--volumes", "--timeout", "3"]);
    }
}

/// The container's user is another one than ours.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("permissions");
}
