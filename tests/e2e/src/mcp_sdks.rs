//! MCP's official SDKs, running the client programs in `clients`. `scripts/test` installs them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::process;

/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs a program for the TypeScript SDK; the last line that it prints.
pub fn typescript(program: &str, url: &str, further: &[&str]) -> Value {
    let sdk = installed().join("typescript");
    let mut command = Command::new("node");
    command.arg(client(program)).arg(url).arg(sdk).args(further);
    run(command)
}

/// Runs a program for a series of the Python SDK (1 or 2); the last line that it prints.
pub fn python(series: u8, program: &str, url: &str, further: &[&str]) -> Value {
    let mut command = Command::new(installed().join(format!("python-{series}/bin/python")));
    // Compiled files would stay behind among the sources.
    command.arg("-B").arg(client(program)).arg(url).args(further);
    run(command)
}

fn installed() -> PathBuf {
    let folder = std::env::var_os("ICCM_TEST_MCP_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/mcp-clients"), PathBuf::from);
    assert!(folder.is_dir(), "no MCP SDKs at {}; run scripts/test, which installs them", folder.display());
    folder
}

fn client(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(program)
}

fn run(command: Command) -> Value {
    let what = format!("{command:?}");
    let finished = process::run(command, PATIENCE).success(&what);
    serde_json::from_str(finished.text().lines().last().expect("a line")).expect("a line of JSON")
}
