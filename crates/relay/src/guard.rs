//! The process between the relay and a child: it outlives neither, and nothing outlives it.
//!
//! A server is often started by a starter (`npx`, `uvx`, a shell), and ending the starter leaves the server behind. So
//! each child runs below a guard that is the reaper of all its descendants (`PR_SET_CHILD_SUBREAPER`), is told by the
//! kernel when the relay dies (`PR_SET_PDEATHSIG`), and then ends every descendant: SIGTERM, SIGKILL after
//! `PATIENCE`. The guard does not touch the streams: the server has the relay's pipes themselves.
//!
//! Linux only, as is the rest of the project's process handling.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitCode;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, WaitOptions, getpid, getppid, kill_process, set_child_subreaper, set_parent_process_death_signal, wait,
};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// The argument that makes the executable a guard. What follows: the relay's process id, the command, its arguments.
pub const GUARD_ARGUMENT: &str = "relay-guard";

/// How long descendants may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often it is looked whether they have.
const POLL: Duration = Duration::from_millis(20);
/// The shell's code for a command that cannot be started.
const NOT_STARTED: u8 = 127;

/// Runs as a guard if the command line says so. Called before anything else, because it needs nothing else.
pub fn run_if_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != GUARD_ARGUMENT {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime.and_then(|runtime| runtime.block_on(guard(words.collect())));
    Some(result.unwrap_or_else(|error| {
        eprintln!("iccm: {error}");
        ExitCode::from(NOT_STARTED)
    }))
}

async fn guard(words: Vec<OsString>) -> io::Result<ExitCode> {
    let [relay, command, arguments @ ..] = words.as_slice() else {
        return Err(io::Error::other("a guard needs a process id and a command; it is for the relay's own use"));
    };
    let relay = relay.to_str().and_then(|text| text.parse().ok()).and_then(Pid::from_raw);
    // Listening comes first: a signal between this and what follows must not end the guard alone.
    let mut parent_died = signal(SignalKind::user_defined1())?;
    let mut asked = signal(SignalKind::terminate())?;
    set_child_subreaper(Some(getpid()))?;
    set_parent_process_death_signal(Some(Signal::USR1))?;
    if getppid() != relay {
        return Err(io::Error::other("the relay is gone already"));
    }
    let mut child = Command::new(command)
        .args(arguments)
        .spawn()
        .map_err(|error| io::Error::new(error.kind(), format!("cannot start {}: {error}", command.display())))?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = asked.recv() => return Ok(end_descendants().await),
            _ = parent_died.recv() => {
                // The kernel tells of the end of the thread that started us; the relay may live on.
                if getppid() != relay {
                    return Ok(end_descendants().await);
                }
            }
        }
    };
    end_descendants().await;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

/// SIGTERM for all, SIGKILL for those that stay; returns when there is none left.
async fn end_descendants() -> ExitCode {
    signal_all(Signal::TERM);
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        reap();
        if descendants().is_empty() {
            return ExitCode::SUCCESS;
        }
        if tokio::time::Instant::now() >= deadline {
            signal_all(Signal::KILL);
        }
        tokio::time::sleep(POLL).await;
    }
}

fn signal_all(signal: Signal) {
    for pid in descendants() {
        // It may have ended this moment.
        let _ = kill_process(pid, signal);
    }
}

/// Takes the exit codes of descendants that have ended.
fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// All processes below this one that still run.
fn descendants() -> Vec<Pid> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        // The second field is the command in brackets, which may hold anything.
        let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        if let (Some(state), Some(parent)) = (fields.next(), fields.next())
            && state != "Z"
            && let Ok(parent) = parent.parse()
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut open = vec![getpid().as_raw_nonzero().get()];
    while let Some(next) = open.pop() {
        for child in children.remove(&next).unwrap_or_default() {
            open.push(child);
            found.extend(Pid::from_raw(child));
        }
    }
    found
}
