//! The images under test, and those that stand in for a registry's.
//!
//! The executable is the one that was built beside the tests, without its symbols: compiling it once more within an image would
//! take as long as all tests together.

use std::path::Path;
use std::process::Command;

use e2e::claude::{NEWEST, OLDEST};
use e2e::recorder::iccm_binary;

use crate::checkout;
use crate::engine::Engine;

/// Debian, from which all others are made.
pub const BASE: &str = "debian:bookworm-slim";
const NODE: &str = "node:22-bookworm-slim";
const POSTGRES: &str = "postgres:17-bookworm";
/// The recorder.
pub const ICCM: &str = "iccm";

/// The agent's image with this version of Claude Code.
pub fn claudette(version: &str) -> String {
    format!("claudette:{version}")
}

/// Builds what is not there yet; what is under test always.
pub(crate) fn build(engine: &Engine) {
    let has = |image: &str| engine.try_docker(&["image", "inspect", image]).status.success();
    if !has(BASE) {
        let base = checkout().join("target/containers/base.tar");
        assert!(base.is_file(), "there is no {}; scripts/test-containers makes it", base.display());
        engine.docker(&["import", base.to_str().expect("UTF-8"), BASE]);
    }
    let stand_ins = tempfile::tempdir().expect("a temporary folder");
    copy_all(&checkout().join("tests/containers/images"), stand_ins.path());
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", stand_ins.path().join("ca-certificates.crt"))
        .expect("the machine's certificates (ca-certificates)");
    for (image, file) in [(NODE, "node.Dockerfile"), (POSTGRES, "postgres.Dockerfile")] {
        docker_build(engine, stand_ins.path(), file, &["--tag", image]);
    }
    let context = context();
    let under_test = |further: &[&str]| {
        let rust = format!("RUST_IMAGE={BASE}");
        docker_build(engine, context.path(), "claudette/Dockerfile", &[&["--build-arg", &rust], further].concat());
    };
    under_test(&["--target", "iccm", "--tag", ICCM]);
    for version in [NEWEST, OLDEST] {
        let chosen = format!("CLAUDE_CODE_VERSION={version}");
        under_test(&["--target", "claudette", "--build-arg", &chosen, "--tag", &claudette(version)]);
    }
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

fn docker_build(engine: &Engine, context: &Path, file: &str, further: &[&str]) {
    let file = context.join(file);
    let words = [&["build", "--quiet", "--network", "host", "--file", file.to_str().expect("UTF-8")], further];
    engine.docker(&[&words.concat()[..], &[context.to_str().expect("UTF-8")]].concat());
}
