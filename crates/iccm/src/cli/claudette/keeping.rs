//! What brings containers back that somebody ended with `docker kill`: Docker takes that for an order, which its restart policies do
//! not undo.
//!
//! What was stopped in good order (`docker stop`, `down`) stays so while an agent is at work: only what ended by SIGKILL is started.

use std::future::pending;
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

use super::{LABEL, RECORDER_NAME};

/// How often it is looked whether the recorder runs. Claude Code tries again for more than half a minute.
const LOOK: Duration = Duration::from_secs(2);
/// The exit code of what SIGKILL ended.
const KILLED: u8 = 137;

/// Does the work; a recorder or a database that is killed meanwhile is started again. What it did is said at the end, so that nothing is
/// written into the terminal of who is at work.
pub(super) async fn recorder_during<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut started = Vec::new();
    let done = tokio::select! {
        done = work => done,
        never = keep_recorder(&mut started) => match never {},
    };
    if !started.is_empty() {
        eprintln!("iccm: somebody killed the recorder; started again: docker start {}", started.join(" "));
    }
    done
}

async fn keep_recorder(started: &mut Vec<String>) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(LOOK).await;
        // An engine that does not answer has ended the work, too, and that says why.
        let Ok(killed) = ended(RECORDER_NAME, Some(KILLED)).await else { return pending().await };
        if !killed.is_empty() && start(&killed).await.is_ok() {
            started.extend(killed);
        }
    }
}

/// The containers of this name that are there and have ended, with this exit code if one is given.
pub(super) async fn ended(name: &str, code: Option<u8>) -> anyhow::Result<Vec<String>> {
    let mut words = vec!["--filter".to_owned(), format!("label={LABEL}={name}")];
    words.extend(code.into_iter().flat_map(|code| ["--filter".to_owned(), format!("exited={code}")]));
    let listed = docker(&["ps", "--all", "--filter", "status=exited", "--format", "{{.Names}}"], &words).await?;
    Ok(listed.lines().map(str::to_owned).collect())
}

pub(super) async fn start(containers: &[String]) -> anyhow::Result<()> {
    docker(&["start"], containers).await.map(|_| ())
}

async fn docker(words: &[&str], further: &[String]) -> anyhow::Result<String> {
    let asked = Command::new("docker").args(words).args(further).output().await;
    let asked = asked.context("cannot start docker; install Docker (docs.docker.com/engine/install)")?;
    if !asked.status.success() {
        bail!("docker {}: {}", words.join(" "), String::from_utf8_lossy(&asked.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&asked.stdout).into_owned())
}
