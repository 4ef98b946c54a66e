//! The executable under test, by its command line alone.
//!
//! The executable is the one that was built beside the tests (`target/debug/iccm`); `ICCM_BIN` names another.

use std::ffi::OsStr;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{self, Finished, Running};
use crate::wait;

/// How long a command that only reads may take.
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);

/// The executable; its absence is a failure that says how to build it.
pub fn iccm_binary() -> PathBuf {
    if let Some(named) = std::env::var_os("ICCM_BIN") {
        let path = PathBuf::from(named);
        assert!(path.is_file(), "ICCM_BIN names {}, which is not a file", path.display());
        return path;
    }
    let this = std::env::current_exe().expect("a test knows its own path");
    // target/debug/deps/NAME, or target/debug/NAME for a program.
    let built = this.ancestors().skip(1).take(2).map(|folder| folder.join("iccm")).find(|path| path.is_file());
    built.unwrap_or_else(|| {
        panic!(
            "no iccm beside {}; build it first: cargo build --workspace --locked (scripts/test does)",
            this.display()
        )
    })
}

/// A data folder and everything that is done with it. The folder goes when this is dropped.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    /// Further arguments for every command, e.g. `--database`.
    arguments: Vec<String>,
    /// Further variables for recorders.
    variables: Vec<(String, String)>,
}

impl Default for Place {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// An empty data folder in a home folder of its own.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("iccm-e2e-").tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("home")).expect("a home folder");
        Self { folder, arguments: Vec::new(), variables: Vec::new() }
    }

    /// The same place with further arguments for every command.
    pub fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// The same place as it was made.
    pub fn without_arguments(mut self) -> Self {
        self.arguments.clear();
        self
    }

    /// The same place with a further variable for every recorder.
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The folder around the data folder; it also holds the home folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// `iccm WORD …` with this data folder and nothing of the caller's environment but the search path.
    pub fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Command {
        let mut words = words.into_iter();
        let mut command = Command::new(iccm_binary());
        let home = self.folder.path().join("home");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &home);
        command.current_dir(&home);
        command.args(words.by_ref().take(1));
        command.arg("--data-dir").arg(self.data_dir()).args(&self.arguments).args(words);
        command
    }

    /// Runs a command that ends by itself and must succeed.
    pub fn run<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Finished {
        let command = self.command(words);
        let what = format!("{command:?}");
        process::run(command, COMMAND_PATIENCE).success(&what)
    }

    /// The lines of a `--json` command; none while there is no record yet.
    pub fn json_lines(&self, words: &[&str]) -> Vec<Value> {
        let finished = process::run(self.command(words.iter().chain(&["--json"])), COMMAND_PATIENCE);
        let no_record_yet = ["nothing recorded yet", "not stored yet"];
        if finished.status.code() == Some(1) && no_record_yet.iter().any(|text| finished.stderr.contains(text)) {
            return Vec::new();
        }
        let text = finished.success(&format!("{words:?}")).text();
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{words:?} printed {line:?}: {e}"));
        text.lines().map(parse).collect()
    }

    /// `iccm exchanges --json`.
    pub fn exchanges(&self) -> Vec<Value> {
        self.json_lines(&["exchanges"])
    }

    /// `iccm conversations --json`, without a limit that could cut it.
    pub fn conversations(&self) -> Vec<Value> {
        self.json_lines(&["conversations", "--limit", "100000"])
    }

    /// `iccm stats --json`.
    pub fn stats(&self) -> Value {
        self.json_lines(&["stats"]).pop().expect("stats prints a line")
    }

    /// `iccm show ID --format json`.
    pub fn show(&self, conversation: &str) -> Value {
        let text = self.run(["show", conversation, "--format", "json"]).text();
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("iccm show printed {text:?}: {e}"))
    }

    /// `iccm exchange ID --part PART`.
    pub fn part(&self, exchange: &str, part: &str) -> Vec<u8> {
        self.run(["exchange", exchange, "--part", part]).stdout
    }

    /// Waits until an exchange whose target contains `part` is on record, and gives its line; two of them are one too many.
    pub fn recorded(&self, part: &str) -> Value {
        wait::until(&format!("an exchange with {part} on record"), || {
            let is_it = |exchange: &Value| exchange["path"].as_str().is_some_and(|path| path.contains(part));
            let mut found: Vec<_> = self.exchanges().into_iter().filter(is_it).collect();
            assert!(found.len() <= 1, "{part} is recorded {} times: {found:?}", found.len());
            found.pop()
        })
    }

    /// Waits until at least `count` exchanges are on record and nothing waits in a spool; gives all of them.
    pub fn drained(&self, count: usize) -> Vec<Value> {
        wait::until_within(Duration::from_secs(120), &format!("{count} exchanges on record and an empty spool"), || {
            // In this order: what a spool held when it was seen to be empty is on record by then.
            let stats = self.json_lines(&["stats"]).pop()?;
            let empty = stats["spool_pending_records"].as_u64().expect("a count") == 0;
            let exchanges = if empty { self.exchanges() } else { Vec::new() };
            (empty && exchanges.len() >= count).then_some(exchanges)
        })
    }

    /// Waits until at least `count` exchanges are on record, while more may be waiting.
    pub fn drained_to(&self, count: usize) {
        wait::until(&format!("{count} exchanges on record"), || (self.exchanges().len() >= count).then_some(()));
    }

    /// Starts `iccm kgb` on a free port.
    pub fn kgb(&self, upstream: &str) -> Recorder {
        self.recorder("kgb", upstream, &[])
    }

    /// Starts a recorder (`kgb`, `up`) on a free port with further arguments, and waits until it says that it is ready.
    pub fn recorder(&self, part: &str, upstream: &str, further: &[&str]) -> Recorder {
        let mut command = self.recorder_command(part, upstream);
        command.args(further);
        Recorder::start(command)
    }

    /// The command that [`Self::recorder`] starts.
    pub fn recorder_command(&self, part: &str, upstream: &str) -> Command {
        let mut command = self.command([part, "--json", "--upstream", upstream, "--gateway-listen", "127.0.0.1:0"]);
        command.args(["--dewey-listen", "127.0.0.1:0", "--fiedler-listen", "127.0.0.1:0"]);
        command.envs(self.variables.iter().cloned());
        command
    }

    /// The files under the data folder that contain `needle`.
    pub fn files_with(&self, needle: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.data_dir()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
                let path = entry.expect("a folder's entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if contains(&std::fs::read(&path).unwrap_or_default(), needle) {
                    found.push(path);
                }
            }
        }
        found
    }
}

/// A running recorder. Dropping it kills it.
#[derive(Debug)]
pub struct Recorder {
    running: Running,
    address: SocketAddr,
    /// What it said when it was ready.
    pub ready: Value,
    // Kept open: a recorder that writes to a closed stdout would get SIGPIPE.
    _stdout: BufReader<ChildStdout>,
}

impl Recorder {
    /// Starts what [`Place::recorder_command`] gives, with whatever was added to it.
    pub fn start(command: Command) -> Self {
        let (mut running, mut stdout) = Running::start_reading(command);
        let line = process::first_line(&mut running, &mut stdout);
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("not a ready line: {line:?}: {e}"));
        let gateway = ready["gateway"].as_str().unwrap_or_else(|| panic!("no gateway in {line}"));
        let address = gateway.trim_start_matches("http://").trim_end_matches('/').parse().expect("an address");
        Self { running, address, ready, _stdout: stdout }
    }

    /// Where its gateway listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// What it has said on stderr.
    pub fn stderr(&self) -> String {
        self.running.stderr()
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.running.kill();
    }

    /// SIGTERM; it must drain and exit 0.
    pub fn stop(mut self) {
        self.running.signal(Signal::TERM);
        self.running.end(Duration::from_secs(120)).success("a recorder that was asked to stop");
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the recorder {} said:\n{}", self.pid(), self.stderr());
        }
    }
}

/// Whether `bytes` contains `needle`.
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}
