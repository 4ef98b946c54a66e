//! MCP over the standard streams of a child process, a line a message.
//!
//! The child runs below a [guard](crate::guard) that ends it, and all that it started, when this process dies however it
//! dies. What the child writes to stderr goes to the log; the last line of it is told when the child ends by itself.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Ends, Event, Failure, Link, Messages, Seen, Variables};
use crate::config::StdioServer;

/// After its stdin was closed.
const GRACE: Duration = Duration::from_millis(300);
/// After SIGTERM; the guard itself kills after two seconds.
const TERM_PATIENCE: Duration = Duration::from_secs(4);
/// Bytes of a line of the child's log that are kept.
const LOG_LINE_BYTES: u64 = 4096;
const READ_BUFFER_BYTES: usize = 64 * 1024;

/// Starts the child. `guard` is the program, and its first arguments, that the child runs below.
pub(crate) fn open(
    name: &str,
    server: &StdioServer,
    guard: &[std::ffi::OsString],
    inherited: &Variables,
    seen: Seen,
) -> Result<Link, Failure> {
    let [program, arguments @ ..] = guard else {
        return Err(Failure::lasting("there is no guard to run children below"));
    };
    let mut command = Command::new(program);
    command.args(arguments).arg(std::process::id().to_string()).arg(&server.command).args(&server.args);
    command.env_clear().envs(inherited.iter().map(|(k, v)| (k, v)));
    command.envs(&server.env);
    if let Some(folder) = &server.cwd {
        command.current_dir(folder);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child =
        command.spawn().map_err(|error| Failure::lasting(format!("cannot start {}: {error}", server.command)))?;
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(Failure::passing("a child without pipes"));
    };
    let (mut link, ends) = Link::new(seen);
    let Ends { outgoing, events, stop, seen } = ends;
    let last_words = LastWords::default();
    let log = tokio::spawn(log(name.to_owned(), stderr, last_words.clone()));
    let reader = tokio::spawn(read(stdout, events.clone(), stop.clone()));
    link.own(tokio::spawn(write(stdin, Messages { outgoing, stop: stop.clone(), seen })));
    link.own(tokio::spawn(keep(child, events, stop, last_words, log, reader)));
    Ok(link)
}

/// The last line that a child wrote to stderr.
#[derive(Clone, Debug, Default)]
struct LastWords(Arc<Mutex<String>>);

async fn write(mut stdin: ChildStdin, mut messages: Messages) {
    while let Some(bytes) = messages.next().await {
        let line = line(bytes);
        let written = tokio::select! {
            written = async { stdin.write_all(&line).await.and(stdin.flush().await) } => written,
            () = messages.stop.cancelled() => return,
        };
        // That the child is gone its keeper tells.
        if written.is_err() {
            return;
        }
    }
}

/// A message as a line. A newline in JSON can only be space between tokens, so nothing is lost.
pub(crate) fn line(bytes: Bytes) -> Vec<u8> {
    let mut line = Vec::with_capacity(bytes.len() + 1);
    line.extend_from_slice(&bytes);
    for byte in &mut line {
        if matches!(byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.push(b'\n');
    line
}

async fn read(stdout: ChildStdout, events: mpsc::Sender<Event>, stop: CancellationToken) {
    let mut reader = BufReader::with_capacity(READ_BUFFER_BYTES, stdout);
    loop {
        let mut line = Vec::new();
        let read = tokio::select! {
            read = reader.read_until(b'\n', &mut line) => read,
            () = stop.cancelled() => return,
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
        let bytes = Bytes::from(line);
        let bytes = bytes.slice(..bytes.trim_ascii_end().len());
        if !bytes.is_empty() && events.send(Event::Message { bytes, within: None }).await.is_err() {
            return;
        }
    }
}

async fn log(name: String, stderr: ChildStderr, last_words: LastWords) {
    let mut reader = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut reader).take(LOG_LINE_BYTES).read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            _ => return,
        }
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        if !text.is_empty() {
            tracing::info!(backend = name, "{text}");
            *last_words.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
    }
}

/// Waits for the child's end, or brings it about.
async fn keep(
    mut child: Child,
    events: mpsc::Sender<Event>,
    stop: CancellationToken,
    last_words: LastWords,
    log: tokio::task::JoinHandle<()>,
    reader: tokio::task::JoinHandle<()>,
) {
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let ended = tokio::select! {
        status = child.wait() => Some(status),
        () = stop.cancelled() => None,
    };
    if let Some(status) = ended {
        // What it had said before it ended is still on its way.
        let _ = tokio::time::timeout(GRACE, reader).await;
        let _ = tokio::time::timeout(GRACE, log).await;
        let words = last_words.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let words = if words.is_empty() { words } else { format!("; its last words: {words}") };
        // Nobody listens any more when the link was closed at the same moment.
        let _ = events.send(Event::Lost(Failure::passing(format!("the process has ended ({status}){words}")))).await;
    } else {
        end(&mut child, group).await;
        log.abort();
        reader.abort();
    }
    // The guard leaves nothing behind unless it was killed itself.
    if let Some(group) = group {
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Its stdin is closed already, which is the signal to go; what comes then is for those that do not listen.
async fn end(child: &mut Child, group: Option<Pid>) {
    if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
        return;
    }
    if let Some(guard) = group {
        let _ = kill_process(guard, Signal::TERM);
    }
    if tokio::time::timeout(TERM_PATIENCE, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}
