//! The images under test, and those that stand in for a registry's.
//!
//! They are built as the README says: by compose, with BuildKit. The executable is the one that was built beside the tests, without its
//! symbols: compiling it once more within an image would take as long as all tests together.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use e2e::claude::{NEWEST, OLDEST};
use e2e::process;
use e2e::recorder::iccm_binary;

use crate::checkout;
use crate::engine::Engine;

/// Debian, from which all others are made.
pub const BASE: &str = "debian:bookworm-slim";
const NODE: &str = "node:22-bookworm-slim";
const POSTGRES: &str = "postgres:17-bookworm";
/// The recorder.
pub const ICCM: &str = "iccm";

const PATIENCE: Duration = Duration::from_secs(500);

/// The agent's image with this version of Claude Code.
pub fn claudette(version: &str) -> String {
    format!("claudette:{version}")
}

/// Builds what is not there yet; what is under test always. Needs a way to Debian's and npm's packages.
pub fn build(engine: &Engine) {
    if !engine.try_docker(&["image", "inspect", BASE]).status.success() {
        let base = made("base.tar");
        engine.docker(&["import", base.to_str().expect("UTF-8"), BASE]);
    }
    let stand_ins = stand_ins();
    let context = context();
    thread::scope(|scope| {
        let database = scope.spawn(|| docker_build(engine, stand_ins.path(), "postgres.Dockerfile", POSTGRES));
        docker_build(engine, stand_ins.path(), "node.Dockerfile", NODE);
        // The other one's layers up to the version are this one's.
        compose_build(engine, context.path(), NEWEST, &["kgb", "claudette"]);
        compose_build(engine, context.path(), OLDEST, &["claudette"]);
        database.join().expect("the database's image");
    });
}

/// Something that `scripts/test-containers` made.
fn made(name: &str) -> std::path::PathBuf {
    let path = checkout().join("target/containers").join(name);
    assert!(path.exists(), "there is no {}; scripts/test-containers makes it", path.display());
    path
}

fn stand_ins() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    copy_all(&checkout().join("tests/containers/images"), folder.path());
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", folder.path().join("ca-certificates.crt"))
        .expect("the machine's certificates (ca-certificates)");
    let copied = Command::new("cp").arg("-a").arg(made("node")).arg(folder.path()).status();
    assert!(copied.expect("cp starts").success(), "a copy of Node.js");
    folder
}

/// A build context with the executable in it.
fn context() -> tempfile::TempDir {
    let context = tempfile::tempdir().expect("a temporary folder");
    let folder = context.path().join("claudette");
    std::fs::create_dir(&folder).expect("a folder");
    copy_all(&checkout().join("claudette"), &folder);
    let stripped = Command::new("strip").arg("-o").arg(context.path().join("iccm")).arg(iccm_binary()).status();
    assert!(stripped.expect("strip starts (binutils)").success(), "strip");
    context
}

/// The files of a folder, not what lies deeper.
fn copy_all(from: &Path, to: &Path) {
    let entries = std::fs::read_dir(from).unwrap_or_else(|e| panic!("{}: {e}", from.display()));
    for path in entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()) {
        std::fs::copy(&path, to.join(path.file_name().expect("a name"))).expect("a copy");
    }
}

fn docker_build(engine: &Engine, context: &Path, file: &str, image: &str) {
    let file = context.join(file);
    let words = ["build", "--quiet", "--tag", image, "--file", file.to_str().expect("UTF-8")];
    engine.docker(&[&words[..], &[context.to_str().expect("UTF-8")]].concat());
}

fn compose_build(engine: &Engine, context: &Path, version: &str, services: &[&str]) {
    let mut command = engine.command("docker");
    command.args(["compose", "--progress", "plain", "--file"]).arg(context.join("claudette/compose.yaml"));
    command.arg("build").args(services);
    command.env("RUST_IMAGE", BASE).env("CLAUDE_CODE_VERSION", version).env("CLAUDETTE_IMAGE", claudette(version));
    process::run(command, PATIENCE).success(&format!("docker compose build {services:?} ({version})"));
}
