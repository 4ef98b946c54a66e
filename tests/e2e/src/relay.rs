//! The MCP relay under test, and a client that says exactly what it is told to.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::{Running, first_line};
use crate::recorder::iccm_binary;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// The scripted server's program, built beside the tests.
pub fn mcp_server_binary() -> PathBuf {
    let path = iccm_binary().with_file_name("mcp-server");
    assert!(path.is_file(), "no {}; build it first: cargo build --workspace --locked", path.display());
    path
}

/// The program of an npm server that `scripts/test` installs.
pub fn npm_server(name: &str) -> PathBuf {
    let installed = std::env::var_os("ICCM_TEST_MCP_SERVERS_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/mcp-servers"), PathBuf::from);
    let program = installed.join("node_modules/.bin").join(name);
    assert!(program.exists(), "{} is not installed; run scripts/test, which installs it", program.display());
    program.canonicalize().expect("an existing file")
}

/// An entry of the `mcpServers` file for a scripted server as a child.
pub fn child(era: &str, name: &str) -> Value {
    json!({"command": mcp_server_binary(), "args": ["stdio", era, name]})
}

/// A scripted server that listens.
#[derive(Debug)]
pub struct Listening {
    running: Running,
    words: [String; 3],
    /// Where it listens.
    pub port: u16,
}

impl Listening {
    /// Starts one (`transport`: ws or http).
    pub fn start(transport: &str, era: &str, name: &str) -> Self {
        let words = [transport, era, name].map(str::to_owned);
        let (running, port) = Self::run(&words, 0);
        Self { running, words, port }
    }

    fn run(words: &[String; 3], port: u16) -> (Running, u16) {
        let mut command = Command::new(mcp_server_binary());
        command.args([&words[0], &port.to_string(), &words[1], &words[2]]);
        let (mut running, mut stdout) = Running::start_reading(command);
        let line = first_line(&mut running, &mut stdout);
        (running, line.trim().parse().expect("a port"))
    }

    /// Its entry in the `mcpServers` file.
    pub fn entry(&self) -> Value {
        let kind = &self.words[0];
        json!({"type": kind, "url": format!("{kind}://127.0.0.1:{}/mcp", self.port)})
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.running.kill();
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: rustix::process::Signal) {
        self.running.signal(signal);
    }

    /// Starts it again on the same port.
    pub fn start_again(&mut self) {
        (self.running, _) = Self::run(&self.words, self.port);
    }
}

/// A relay and its client's end of the streams.
#[derive(Debug)]
pub struct Relay {
    running: Running,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    folder: TempDir,
    modern: bool,
    next_id: u64,
    /// Notifications and requests that came while something else was waited for.
    pub others: Vec<Value>,
}

impl Relay {
    /// Starts a relay with these servers and introduces a legacy client.
    pub fn legacy(servers: Value) -> Self {
        let mut relay = Self::start(servers, &[]);
        relay.initialize(json!({"elicitation": {}, "sampling": {}, "roots": {"listChanged": true}}));
        relay
    }

    /// Starts a relay with these servers and introduces a modern client.
    pub fn modern(servers: Value) -> Self {
        let mut relay = Self::start(servers, &[]);
        relay.modern = true;
        let found = relay.ask("server/discover", json!({}));
        assert!(found["supportedVersions"].to_string().contains("2026-07-28"), "{found}");
        relay
    }

    /// Starts a relay that nobody speaks with yet.
    pub fn start(servers: Value, variables: &[(&str, &str)]) -> Self {
        Self::start_with(servers, variables, &[])
    }

    /// The same with its messages on record.
    pub fn recording(servers: Value, variables: &[(&str, &str)]) -> Self {
        Self::start_with(servers, variables, &["--record"])
    }

    fn start_with(servers: Value, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("iccm-relay-").tempdir().expect("a temporary folder");
        let file = folder.path().join("relay.json");
        std::fs::write(&file, json!({"mcpServers": servers}).to_string()).expect("a file");
        let mut command = Command::new(iccm_binary());
        command.arg("relay").arg("--config").arg(&file).args(flags).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder.path());
        command.envs(variables.iter().copied()).current_dir(folder.path());
        let (running, stdin, stdout) = Running::start_talking(command);
        let lines = reading(stdout);
        Self { running, stdin: Some(stdin), lines, folder, modern: false, next_id: 0, others: Vec::new() }
    }

    /// The legacy introduction.
    pub fn initialize(&mut self, capabilities: Value) -> Value {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities, "clientInfo": {"name": "test", "version": "1"}});
        let result = self.ask("initialize", params);
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        result
    }

    /// The `mcpServers` file.
    pub fn file(&self) -> PathBuf {
        self.folder.path().join("relay.json")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its process.
    pub fn running(&mut self) -> &mut Running {
        &mut self.running
    }

    /// Sends these very bytes as a line.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the stream is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the relay reads");
    }

    /// Closes the relay's input.
    pub fn hang_up(&mut self) {
        self.stdin = None;
    }

    /// The next line, as it came.
    pub fn line(&mut self) -> String {
        self.line_within(PATIENCE).unwrap_or_else(|| panic!("nothing came; stderr: {}", self.running.stderr()))
    }

    /// The next line, if one comes in time.
    pub fn line_within(&mut self, patience: Duration) -> Option<String> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the relay ended; stderr: {}", self.running.stderr()),
        }
    }

    /// Sends a request without waiting; gives its id.
    pub fn send(&mut self, method: &str, mut params: Value) -> u64 {
        self.next_id += 1;
        if self.modern {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({"elicitation": {}, "roots": {}});
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "test", "version": "1"});
        }
        let request = json!({"jsonrpc": "2.0", "id": self.next_id, "method": method, "params": params});
        self.say(&request.to_string());
        self.next_id
    }

    /// Waits for the answer to a request; what else comes is kept.
    pub fn answer(&mut self, id: u64) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no answer to {id}; stderr: {}", self.running.stderr());
            let message: Value = serde_json::from_str(&self.line()).expect("the relay writes JSON and nothing else");
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
            self.others.push(message);
        }
    }

    /// Asks; an error fails the test.
    pub fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{method}: {answer}; stderr: {}", self.running.stderr());
        answer["result"].clone()
    }

    /// Calls a tool; gives the whole answer.
    pub fn call(&mut self, tool: &str, arguments: Value) -> Value {
        let id = self.send("tools/call", json!({"name": tool, "arguments": arguments}));
        self.answer(id)
    }

    /// Calls a tool that must succeed; gives its text.
    pub fn text(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.call(tool, arguments);
        let text = answer["result"]["content"][0]["text"].as_str();
        let text = text.filter(|_| answer["result"]["isError"] != true);
        text.unwrap_or_else(|| panic!("{tool}: {answer}; stderr: {}", self.running.stderr())).to_owned()
    }

    /// The names of the tools.
    pub fn tools(&mut self) -> Vec<String> {
        let tools = self.ask("tools/list", json!({}));
        let tools = tools["tools"].as_array().expect("a list").clone();
        tools.iter().map(|tool| tool["name"].as_str().expect("a name").to_owned()).collect()
    }

    /// How often the client was told that the tools changed.
    pub fn tool_changes(&self) -> usize {
        self.others.iter().filter(|message| message["method"] == "notifications/tools/list_changed").count()
    }

    /// Waits for a message that is no answer.
    pub fn other(&mut self, method: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(index) = self.others.iter().position(|message| message["method"] == method) {
                return self.others.remove(index);
            }
            assert!(Instant::now() < deadline, "no {method}; stderr: {}", self.running.stderr());
            let line = self.line();
            self.others.push(serde_json::from_str(&line).expect("JSON"));
        }
    }

    /// The state of a server.
    pub fn server(&mut self, name: &str) -> Value {
        let text = self.text("relay_list_servers", json!({}));
        let all: Value = serde_json::from_str(&text).expect("JSON");
        let servers = all["servers"].as_array().expect("a list").clone();
        servers.into_iter().find(|server| server["name"] == name).unwrap_or(Value::Null)
    }

    /// Waits until a server is in a state.
    pub fn until_server_is(&mut self, name: &str, state: &str) {
        crate::wait::until(&format!("{name} to be {state}"), || (self.server(name)["state"] == state).then_some(()));
    }
}

fn reading(stdout: BufReader<ChildStdout>) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in stdout.lines() {
            let Ok(line) = line else { return };
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// The processes below a process, as the system sees them now.
pub fn descendants(of: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(1);
        parents.extend(fields.next().and_then(|parent| parent.parse::<u32>().ok()).map(|parent| (pid, parent)));
    }
    let (mut found, mut open) = (Vec::new(), vec![of]);
    while let Some(next) = open.pop() {
        let children: Vec<u32> = parents.iter().filter(|(_, parent)| *parent == next).map(|(pid, _)| *pid).collect();
        open.extend(&children);
        found.extend(children);
    }
    found
}

/// Whether a process runs (and is not only waiting to be reaped).
pub fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}
