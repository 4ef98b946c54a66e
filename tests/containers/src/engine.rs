//! A Docker engine of the tests' own: socket, state and networks apart from any other on the machine.
//!
//! It runs in the namespaces that `scripts/test-containers` makes, and nowhere else: an engine writes the firewall's rules and leaves
//! mounts behind. It runs under a shell that waits for this process: whatever ends the tests, also `kill -9`, ends the engine.
//! Images are kept in `target/containers` (`ICCM_TEST_DOCKER_DIR` names another folder); containers, volumes and networks are
//! not. One test at a time has it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use e2e::process::{self, Finished};
use e2e::wait;
use tempfile::TempDir;

/// How long one command may take; building an image downloads packages.
const PATIENCE: Duration = Duration::from_secs(400);

/// Runs the engine, restarts it at each line of standard input, and ends it at its end.
const KEEPER: &str = r#"state=$1; run=$2; storage=$3; group=$4
# One engine at a time has the state: the one before may still be ending.
exec 9>"$state/lock"; flock 9
start() {
    dockerd -H "unix://$run/socket" --data-root "$state" --exec-root "$run/exec" --pidfile "$run/pid" \
        --storage-driver "$storage" --cgroup-parent "/$group" \
        --default-address-pool base=10.213.0.0/16,size=24 --log-level warn </dev/null >>"$run/log" 2>&1 9>&- &
    engine=$!
}
stop() { kill -TERM $engine; wait $engine; }
start
while read -r word; do stop; touch "$run/stopped"; read -r word; start; done
stop
for mounted in "$run"/exec/netns/*; do umount "$mounted" 2>/dev/null; done
rm -rf "$run""#;

/// A running engine.
#[derive(Debug)]
pub struct Engine {
    run: PathBuf,
    keeper: Mutex<Child>,
}

/// The engine; the only test that has it until it lets go.
pub fn engine() -> MutexGuard<'static, Engine> {
    static ENGINE: OnceLock<Mutex<Engine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| Mutex::new(Engine::start()));
    let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    // What a failed test left behind.
    engine.clear();
    engine
}

/// The address at which containers with a way out reach this process: the world of these tests.
pub fn world() -> Ipv4Addr {
    given("ICCM_TEST_WORLD").parse().expect("an address")
}

/// What `scripts/test-containers` says.
fn given(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set: an engine runs in namespaces of its own only; use scripts/test-containers")
    })
}

impl Engine {
    /// Starts it, and waits until it answers.
    pub fn start() -> Self {
        let state = PathBuf::from(given("ICCM_TEST_DOCKER_DIR"));
        // There, what is left of one that was killed goes with the namespace.
        let run = TempDir::with_prefix_in("engine-", "/run").expect("a temporary folder").keep();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(state).arg(&run);
        command.args([given("ICCM_TEST_DOCKER_STORAGE"), given("ICCM_TEST_CGROUP")]);
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let keeper = command.spawn().expect("sh starts");
        let engine = Self { run, keeper: Mutex::new(keeper) };
        engine.wait_until_up();
        engine
    }

    fn wait_until_up(&self) {
        let log = || std::fs::read_to_string(self.run.join("log")).unwrap_or_default();
        wait::until_within(Duration::from_secs(60), "a Docker engine (needs root, docker.io, iptables)", || {
            let asked = self.command("docker").args(["version"]).output().expect("docker is installed (docker.io)");
            if !asked.status.success() && log().contains("failed to start daemon") {
                panic!("the Docker engine does not start:\n{}", log());
            }
            asked.status.success().then_some(())
        });
    }

    /// A program that talks to this engine and to no other. (Compose and buildx are found by `DOCKER_CONFIG`.)
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.run.join("socket").display()));
        command.env("DOCKER_BUILDKIT", "1");
        command
    }

    /// `docker WORD …`, which must succeed; gives what it printed.
    pub fn docker(&self, words: &[&str]) -> String {
        self.try_docker(words).success(&format!("docker {words:?}")).text()
    }

    /// `docker WORD …`, whatever comes of it.
    pub fn try_docker(&self, words: &[&str]) -> Finished {
        let mut command = self.command("docker");
        command.args(words);
        process::run(command, PATIENCE)
    }

    /// Stops the engine, as a machine does when it goes down, and starts it again, as when it boots. Nothing is told to the
    /// containers but what the engine tells them.
    pub fn reboot(&self) {
        self.tell_keeper("stop");
        let stopped = self.run.join("stopped");
        wait::until_within(Duration::from_secs(90), "the engine's end", || stopped.exists().then_some(()));
        std::fs::remove_file(&stopped).expect("the keeper's file");
        self.tell_keeper("start");
        self.wait_until_up();
    }

    fn tell_keeper(&self, word: &str) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(keeper.stdin.as_mut().expect("the keeper listens"), "{word}").expect("the keeper lives");
    }

    /// Removes all containers, volumes and networks.
    fn clear(&self) {
        let all = self.docker(&["ps", "--all", "--quiet"]);
        for container in all.lines() {
            self.docker(&["rm", "--force", "--volumes", container]);
        }
        for volume in self.docker(&["volume", "ls", "--quiet"]).lines() {
            self.docker(&["volume", "rm", "--force", volume]);
        }
        self.docker(&["network", "prune", "--force"]);
    }

    /// Where the engine keeps its socket and its log.
    pub fn folder(&self) -> &Path {
        &self.run
    }
}

impl Drop for Engine {
    /// Waits for its end, so that the next one finds the state at peace. (A test's engine is never dropped; it ends with the process.)
    fn drop(&mut self) {
        let keeper = self.keeper.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(keeper.stdin.take());
        let _ = keeper.wait();
    }
}
