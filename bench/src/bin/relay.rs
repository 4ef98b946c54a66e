//! What the relay adds to a call: the same client, the same scripted server, once directly and once through `iccm relay`,
//! in turns, in one run.
//!
//! `cargo run --release -p bench --bin relay [-- CALLS]` (build the workspace in release mode first). Messages of about
//! 1 KB each way. The server is a child on stdio both ways; `relay, ws` has it behind a WebSocket, and `recording` is the
//! relay with `--record`, as it runs below `iccm run -- claude`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use e2e::recorder::iccm_binary;
use e2e::relay::{Listening, child, mcp_server_binary};

const ROUNDS: usize = 10;

/// A client that waits for each answer.
struct Client {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    id: u64,
    took: Vec<Duration>,
}

impl Client {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let stdin = child.stdin.take().context("a pipe")?;
        let stdout = BufReader::new(child.stdout.take().context("a pipe")?);
        let mut client = Self { child, stdin, stdout, id: 0, took: Vec::new() };
        let hello = r#"{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}"#;
        client.ask("initialize", hello)?;
        client.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#)?;
        client.ask("tools/list", "{}")?;
        Ok(client)
    }

    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.stdin.write_all(format!("{line}\n").as_bytes())?;
        Ok(self.stdin.flush()?)
    }

    fn ask(&mut self, method: &str, params: &str) -> anyhow::Result<String> {
        self.id += 1;
        let id = self.id;
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#))?;
        let mut line = String::new();
        loop {
            line.clear();
            ensure!(self.stdout.read_line(&mut line)? > 0, "the server ended");
            if line.contains(&format!("\"id\":{id}}}")) || line.contains(&format!("\"id\":{id},")) {
                return Ok(line);
            }
        }
    }

    fn round(&mut self, calls: usize) -> anyhow::Result<()> {
        let params = format!(r#"{{"name":"echo","arguments":{{"text":"{}"}}}}"#, "x".repeat(900));
        for _ in 0..calls {
            let began = Instant::now();
            let answer = self.ask("tools/call", &params)?;
            self.took.push(began.elapsed());
            ensure!(answer.len() > 900, "an error: {answer}");
        }
        Ok(())
    }

    /// Microseconds at these shares of all calls.
    fn at(&mut self, shares: [f64; 3]) -> [f64; 3] {
        self.took.sort();
        shares.map(|share| {
            let index = ((self.took.len() - 1) as f64 * share) as usize;
            self.took[index].as_secs_f64() * 1e6
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // What it started ends with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn relay(entry: serde_json::Value, folder: &tempfile::TempDir, name: &str, flags: &[&str]) -> anyhow::Result<Client> {
    let file = folder.path().join(name);
    std::fs::write(&file, serde_json::json!({"mcpServers": {"one": entry}}).to_string())?;
    let mut command = Command::new(iccm_binary());
    command.arg("relay").arg("--config").arg(file).args(flags).env("ICCM_LOG", "off");
    command.env("ICCM_DATA_DIR", folder.path().join("data"));
    Client::start(command)
}

fn main() -> anyhow::Result<()> {
    let calls = std::env::args().nth(1).map(|word| word.parse()).transpose()?.unwrap_or(500);
    let folder = tempfile::tempdir()?;
    let mut direct = Command::new(mcp_server_binary());
    direct.args(["stdio", "legacy", "one"]);
    let ws = Listening::start("ws", "legacy", "one");
    let mut clients = [
        ("direct, stdio", Client::start(direct)?),
        ("relay, stdio", relay(child("legacy", "one"), &folder, "stdio.json", &[])?),
        ("recording", relay(child("legacy", "one"), &folder, "recording.json", &["--record"])?),
        ("relay, ws", relay(ws.entry(), &folder, "ws.json", &[])?),
    ];
    for _ in 0..ROUNDS {
        for (_, client) in &mut clients {
            client.round(calls)?;
        }
    }
    println!("{:<14} {:>9} {:>9} {:>9}   over direct (p50)", "", "p50 µs", "p90 µs", "p99 µs");
    let mut base = None;
    for (name, client) in &mut clients {
        let [p50, p90, p99] = client.at([0.5, 0.9, 0.99]);
        let base = *base.get_or_insert(p50);
        println!("{name:<14} {p50:>9.0} {p90:>9.0} {p99:>9.0}   {:+.0} µs, × {:.2}", p50 - base, p50 / base);
    }
    Ok(())
}
