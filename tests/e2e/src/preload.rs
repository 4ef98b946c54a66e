//! Small libraries in C that stand between a process under test and its disk.
//!
//! They need no privileges and work in any container. They are compiled with `cc`, which Rust needs anyway.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;
use crate::wait;

/// Compiles `native/NAME.c` to a library in the folder `beside`, to be named in `LD_PRELOAD`.
pub fn library(name: &str, beside: &Path) -> PathBuf {
    let library = beside.join(name).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("native").join(name).with_extension("c");
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl");
    process::run(compiler, wait::PATIENCE).success("cc (install gcc and libc6-dev; scripts/test does)");
    library
}

/// A path as the value of an environment variable.
pub fn text(path: &Path) -> String {
    path.to_str().expect("a path in UTF-8").to_owned()
}
