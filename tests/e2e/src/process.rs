//! Child processes that always end: each is the leader of a process group of its own, is waited for with a deadline,
//! and the group is killed when the handle is dropped.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::wait;

/// A running child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// What it writes to stdout, unless someone reads along.
    stdout: Option<File>,
    stderr: File,
    name: String,
}

/// What a child left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to stdout (empty if someone read along).
    pub stdout: Vec<u8>,
    /// Everything it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// Exit code; panics with what the child said when a signal ended it.
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| panic!("ended by a signal: {:?}\n{}", self.status, self.stderr))
    }

    /// Panics with what the child said unless it succeeded.
    pub fn success(self, what: &str) -> Self {
        let Self { status, stdout, stderr } = &self;
        assert!(status.success(), "{what}: {status}\nstderr: {stderr}\nstdout: {}", String::from_utf8_lossy(stdout));
        self
    }

    /// Its stdout as text.
    pub fn text(&self) -> String {
        String::from_utf8(self.stdout.clone()).expect("stdout is UTF-8")
    }
}

impl Running {
    /// Starts a command; both outputs go to files, so that a child can never block on a full pipe.
    pub fn start(mut command: Command) -> Self {
        let stdout = tempfile::tempfile().expect("a temporary file");
        command.stdout(Stdio::from(stdout.try_clone().expect("a descriptor")));
        Self::spawn(command, Some(stdout))
    }

    /// Starts a command whose stdout is read by the caller, line by line.
    pub fn start_reading(mut command: Command) -> (Self, BufReader<ChildStdout>) {
        command.stdout(Stdio::piped());
        let mut running = Self::spawn(command, None);
        let stdout = running.child.stdout.take().expect("stdout is a pipe");
        (running, BufReader::new(stdout))
    }

    /// Starts a command that the caller talks with.
    pub fn start_talking(mut command: Command) -> (Self, ChildStdin, BufReader<ChildStdout>) {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Self::spawn_with_stdin(command, None);
        let stdin = running.child.stdin.take().expect("stdin is a pipe");
        let stdout = running.child.stdout.take().expect("stdout is a pipe");
        (running, stdin, BufReader::new(stdout))
    }

    fn spawn(mut command: Command, stdout: Option<File>) -> Self {
        command.stdin(Stdio::null());
        Self::spawn_with_stdin(command, stdout)
    }

    fn spawn_with_stdin(mut command: Command, stdout: Option<File>) -> Self {
        let name = format!("{command:?}");
        let stderr = tempfile::tempfile().expect("a temporary file");
        command.process_group(0);
        command.stderr(Stdio::from(stderr.try_clone().expect("a descriptor")));
        let child = command.spawn().unwrap_or_else(|e| panic!("{name} does not start: {e}"));
        Self { child, stdout, stderr, name }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to this process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap_or_else(|e| panic!("{signal:?} to {}: {e}", self.name));
    }

    /// Whether it is still there.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Kills it at once and reaps it.
    pub fn kill(&mut self) {
        self.child.kill().unwrap_or_else(|e| panic!("killing {}: {e}", self.name));
        self.child.wait().unwrap_or_else(|e| panic!("reaping {}: {e}", self.name));
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&contents(&self.stderr)).into_owned()
    }

    /// Waits for its end; one that takes longer is killed and fails the test.
    pub fn finish(mut self, patience: Duration) -> Finished {
        self.end(patience)
    }

    /// [`Self::finish`] for an owner that still has use for the handle.
    pub fn end(&mut self, patience: Duration) -> Finished {
        let what = format!("the end of {}", self.name);
        let deadline = std::time::Instant::now() + patience;
        let status = wait::until_within(patience + Duration::from_secs(5), &what, || {
            if std::time::Instant::now() >= deadline {
                panic!("after {patience:?} still running: {}\nstderr: {}", self.name, self.stderr());
            }
            self.child.try_wait().expect("a child can be asked")
        });
        let stdout = self.stdout.as_ref().map(contents).unwrap_or_default();
        Finished { status, stdout, stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Also when the leader has ended: what it started may have stayed behind. An empty group is no error.
        let _ = kill_process_group(pid(&self.child), Signal::KILL);
        drop(self.child.wait());
    }
}

/// Runs a command to its end.
pub fn run(command: Command, patience: Duration) -> Finished {
    Running::start(command).finish(patience)
}

/// The first line that `reader` gives; panics with the child's complaints when it ends without one.
pub fn first_line(child: &mut Running, reader: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("stdout can be read");
    if line.is_empty() {
        let stderr = wait::until("the end of a process that closed its stdout", || {
            (!child.is_running()).then(|| child.stderr())
        });
        panic!("{} ended without a word on stdout; stderr: {stderr}", child.name);
    }
    line
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn contents(file: &File) -> Vec<u8> {
    // Opened anew: the child shares this file's position, and reading would move the place where it writes.
    let mut copy = File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).expect("a descriptor of our own");
    let mut bytes = Vec::new();
    copy.read_to_end(&mut bytes).expect("a temporary file can be read");
    bytes
}
