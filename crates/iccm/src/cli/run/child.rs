//! The command itself: found, started, signalled, waited for.
//!
//! The child stays in this process's group, so the terminal is the child's as if `iccm` were not there: Ctrl-C, Ctrl-\ and
//! Ctrl-Z reach both, and `iccm` lets the child decide about the first two. What reaches `iccm` alone it passes on.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, getpgrp, getpid, kill_process, waitid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;

use crate::config::Environment;
use crate::shutdown;

/// How often it is looked whether the child has stopped itself.
const STOP_POLL: Duration = Duration::from_millis(100);

/// How far apart a signal's arrivals at the command and here may be.
const SAME_SIGNAL: Duration = Duration::from_millis(300);

/// Why a command cannot be started; the exit codes are those of every shell.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum Missing {
    #[error("{}: command not found; is it installed and on PATH?", .0.display())]
    NotFound(PathBuf),
    #[error("{}: not an executable file; check its permissions", .0.display())]
    NotExecutable(PathBuf),
}

impl Missing {
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Missing::NotFound(_) => 127,
            Missing::NotExecutable(_) => 126,
        }
    }
}

/// Where a command is, as the system would find it: by its path if it has one, else on `PATH`.
pub(crate) fn locate(program: &OsStr, env: &Environment) -> Result<PathBuf, Missing> {
    let path = Path::new(program);
    if path.components().count() > 1 || program.as_encoded_bytes().contains(&b'/') {
        return match (path.exists(), is_executable(path)) {
            (_, true) => Ok(path.to_owned()),
            (true, false) => Err(Missing::NotExecutable(path.to_owned())),
            (false, false) => Err(Missing::NotFound(path.to_owned())),
        };
    }
    let folders = env.path("PATH").map(Path::as_os_str).unwrap_or_default();
    let candidates: Vec<PathBuf> = std::env::split_paths(folders).map(|folder| folder.join(path)).collect();
    if let Some(found) = candidates.iter().find(|candidate| is_executable(candidate)) {
        return Ok(found.clone());
    }
    match candidates.into_iter().find(|candidate| candidate.is_file()) {
        Some(found) => Err(Missing::NotExecutable(found)),
        None => Err(Missing::NotFound(path.to_owned())),
    }
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs the command to its end; its exit code, or 128 and the signal that killed it.
pub(in crate::cli) async fn run(
    program: &OsStr,
    arguments: &[OsString],
    env: &[(String, OsString)],
) -> anyhow::Result<u8> {
    let signals = Signals::listen().context("cannot listen to signals")?;
    let variables = env.iter().map(|(name, value)| (name, value));
    let mut child = Command::new(program)
        .args(arguments)
        .envs(variables)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let status = wait(&mut child, signals).await.context("cannot wait for the command")?;
    Ok(exit_code(status))
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code & 0xff).unwrap_or(1)
}

async fn wait(child: &mut Child, mut signals: Signals) -> std::io::Result<ExitStatus> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let has_terminal = std::io::stdin().is_terminal();
    let mut stop_poll = tokio::time::interval(STOP_POLL);
    stop_poll.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            status = child.wait() => return status,
            received = signals.next() => {
                if let Some(pid) = pid.filter(|_| !is_the_terminals(received)) {
                    // It may have ended this moment; then there is nobody to tell.
                    let _ = kill_process(pid, received);
                }
            }
            _ = stop_poll.tick(), if has_terminal => pid.into_iter().for_each(stop_with),
        }
    }
}

/// Returns when somebody asks for an end after the command has ended: a signal, but not the very one that ended the command,
/// which reaches this process at about the same time.
pub(super) async fn impatience() -> std::io::Result<()> {
    tokio::time::sleep(SAME_SIGNAL).await;
    let received = Signals::listen()?.next().await;
    tracing::debug!("asked to end by signal {received:?}");
    Ok(())
}

/// Whether a signal came from the terminal, and so has reached the child already: keys act on the foreground group.
fn is_the_terminals(received: Signal) -> bool {
    matches!(received, Signal::INT | Signal::QUIT)
        && File::open("/dev/tty")
            .is_ok_and(|terminal| rustix::termios::tcgetpgrp(terminal).is_ok_and(|foreground| foreground == getpgrp()))
}

/// If the child has stopped itself (as full-screen programs do on Ctrl-Z), stops this process, too, so that the shell gets
/// the terminal back; continues the child when the shell continues this process.
fn stop_with(child: Pid) {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if let Ok(Some(status)) = waitid(WaitId::Pid(child), options)
        && status.stopped()
    {
        let _ = kill_process(getpid(), Signal::STOP);
        let _ = kill_process(child, Signal::CONT);
    }
}

/// The signals that would end this process.
struct Signals {
    interrupt: Listener,
    quit: Listener,
    terminate: Listener,
    hang_up: Listener,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: Listener::new(SignalKind::interrupt())?,
            quit: Listener::new(SignalKind::quit())?,
            terminate: Listener::new(SignalKind::terminate())?,
            hang_up: Listener::new(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            () = self.interrupt.received() => Signal::INT,
            () = self.quit.received() => Signal::QUIT,
            () = self.terminate.received() => Signal::TERM,
            () = self.hang_up.received() => Signal::HUP,
        }
    }
}

/// Listens to a signal, unless it is ignored by our parent's wish (see [`shutdown::was_ignored`]).
struct Listener(Option<tokio::signal::unix::Signal>);

impl Listener {
    fn new(kind: SignalKind) -> std::io::Result<Self> {
        if shutdown::was_ignored(kind) { Ok(Self(None)) } else { signal(kind).map(|listener| Self(Some(listener))) }
    }

    async fn received(&mut self) {
        match &mut self.0 {
            Some(listener) => _ = listener.recv().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_as_a_shell_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "x").unwrap();
        let env: Environment =
            [("PATH", format!("/nowhere:{}:/bin:/usr/bin", folder.path().display()))].into_iter().collect();
        assert!(locate(OsStr::new("sh"), &env).unwrap().ends_with("sh"));
        assert_eq!(locate(OsStr::new("plain"), &env), Err(Missing::NotExecutable(plain.clone())));
        assert_eq!(locate(plain.as_os_str(), &env), Err(Missing::NotExecutable(plain)));
        assert_eq!(locate(OsStr::new("no-such"), &env), Err(Missing::NotFound("no-such".into())));
        assert_eq!(locate(OsStr::new("./no-such"), &env), Err(Missing::NotFound("./no-such".into())));
    }

    #[test]
    fn exit_codes_are_the_shells() {
        assert_eq!(exit_code(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(exit_code(ExitStatus::from_raw(0)), 0);
        assert_eq!(exit_code(ExitStatus::from_raw(9)), 137);
    }
}
