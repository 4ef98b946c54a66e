//! A Docker engine of the tests' own: socket, state and networks apart from any other on the machine.
//!
//! It runs under a shell that waits for this process: whatever ends the tests, also `kill -9`, ends the engine. Images are kept
//! in `target/containers` (`ICCM_TEST_DOCKER_DIR` names another folder); containers, volumes and networks are not. One
//! test at a time has it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use e2e::process::{self, Finished};
use e2e::wait;
use tempfile::TempDir;

use crate::{checkout, images};

/// How long one command may take; building an image downloads packages.
const PATIENCE: Duration = Duration::from_secs(400);

/// Addresses of its own, so that rules that another engine left for the usual ones do not matter. Runs the engine, restarts it at each line of standard input, and ends it at its end.
const KEEPER: &str = r#"state=$1; run=$2
# One engine at a time has the state: the one before may still be ending.
exec 9>"$state/lock"; flock 9
start() {
    dockerd -H "unix://$run/socket" --data-root "$state" --exec-root "$run/exec" --pidfile "$run/pid" \
        --storage-driver overlay2 --bridge none \
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

/// The engine, with all images built; the only test that has it until it lets go.
pub fn engine() -> MutexGuard<'static, Engine> {
    static ENGINE: OnceLock<Mutex<Engine>> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| {
        let engine = Engine::start();
        engine.clear();
        images::build(&engine);
        Mutex::new(engine)
    });
    let engine = engine.lock().unwrap_or_else(PoisonError::into_inner);
    // What a failed test left behind.
    engine.clear();
    engine
}

fn state_folder() -> PathBuf {
    let folder = std::env::var_os("ICCM_TEST_DOCKER_DIR")
        .map_or_else(|| checkout().join("target/containers/engine"), PathBuf::from);
    std::fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    folder
}

impl Engine {
    fn start() -> Self {
        let run = TempDir::with_prefix("iccm-docker-").expect("a temporary folder").keep();
        let mut command = Command::new("sh");
        command.args(["-c", KEEPER, "sh"]).arg(state_folder()).arg(&run);
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

    /// A program that talks to this engine and to no other.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", format!("unix://{}", self.run.join("socket").display()));
        // The builder and the compose of every version, without plugins.
        command.env("DOCKER_BUILDKIT", "0").env("COMPOSE_DOCKER_CLI_BUILD", "0");
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
