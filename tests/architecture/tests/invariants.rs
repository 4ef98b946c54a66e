//! What ARCHITECTURE.md calls an invariant, asked of `cargo metadata` and of the sources.

#![expect(clippy::expect_used, clippy::panic, reason = "in tests a panic is how a failure is told")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The parts that talk to the world. Only the executable may know more than one of them.
const COMPONENTS: [&str; 5] = ["kgb", "dewey", "fiedler", "relay", "web"];

/// Our crates, and what each of them needs when it is built (tests and build scripts left out).
struct Graph {
    root: PathBuf,
    needs: BTreeMap<String, BTreeSet<String>>,
    ours: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &host()])
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
        let text = |v: &Value| v.as_str().expect("a string").to_owned();
        let list = |v: &Value| v.as_array().expect("a list").clone();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let ours = list(&metadata["workspace_members"]).iter().map(|id| names[&text(id)].clone()).collect();
        let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let normal = |d: &&Value| list(&d["dep_kinds"]).iter().any(|k| k["kind"].is_null());
            let needed =
                list(&node["deps"]).iter().filter(normal).map(|d| names[&text(&d["pkg"])].clone()).collect::<Vec<_>>();
            needs.entry(names[&text(&node["id"])].clone()).or_default().extend(needed);
        }
        Self { root: PathBuf::from(text(&metadata["workspace_root"])), needs, ours }
    }

    fn direct(&self, of: &str) -> &BTreeSet<String> {
        self.needs.get(of).unwrap_or_else(|| panic!("there is no crate {of}"))
    }

    /// Everything that a crate needs, directly or not.
    fn all(&self, of: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![of.to_owned()];
        while let Some(next) = open.pop() {
            open.extend(self.direct(&next).iter().filter(|n| found.insert((*n).clone())).cloned());
        }
        found
    }
}

/// The platform that this was built on: other platforms' crates need not be downloaded.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).expect("rustc names its host").to_owned()
}

#[track_caller]
fn assert_without(graph: &Graph, of: &str, unwanted: &[&str]) {
    let all = graph.all(of);
    let found: Vec<_> = unwanted.iter().filter(|u| all.contains(**u)).collect();
    assert!(found.is_empty(), "{of} must not need {found:?}");
}

#[test]
fn wire_does_no_io() {
    assert_without(&Graph::read(), "wire", &["tokio", "hyper", "mio", "rustix", "rusqlite", "spool", "winni", "kgb"]);
}

#[test]
fn the_spool_knows_no_json_and_no_conversation() {
    assert_without(&Graph::read(), "spool", &["serde", "serde_json", "wire", "winni", "kgb", "hyper", "rusqlite"]);
}

#[test]
fn only_winni_knows_sql() {
    let graph = Graph::read();
    let sql = ["rusqlite", "libsqlite3-sys", "tokio-postgres", "sqlx"];
    for krate in graph.ours.iter().filter(|k| *k != "winni" && *k != "e2e") {
        let direct = graph.direct(krate);
        assert!(!sql.iter().any(|s| direct.contains(*s)), "{krate} must ask winni instead of a database");
    }
}

#[test]
fn winni_knows_neither_the_traffic_nor_the_spool() {
    assert_without(&Graph::read(), "winni", &["hyper", "hyper-util", "spool", "kgb", "mcp"]);
}

#[test]
fn mcp_knows_the_protocol_and_nothing_of_what_it_serves() {
    assert_without(&Graph::read(), "mcp", &["winni", "spool", "rusqlite", "kgb", "dewey", "fiedler", "relay"]);
}

#[test]
fn components_do_not_know_each_other() {
    let graph = Graph::read();
    for component in COMPONENTS.iter().filter(|c| graph.ours.contains(**c)) {
        let others: Vec<&str> = COMPONENTS.iter().filter(|c| *c != component).copied().collect();
        assert_without(&graph, component, &others);
    }
}

#[test]
fn only_the_executable_wires_components() {
    let graph = Graph::read();
    for krate in graph.ours.iter().filter(|k| *k != "iccm" && !COMPONENTS.contains(&k.as_str())) {
        let wired: Vec<_> = COMPONENTS.iter().filter(|c| graph.direct(krate).contains(**c)).collect();
        assert!(wired.is_empty(), "{krate} must not need {wired:?}");
    }
}

#[test]
fn one_tls_stack() {
    assert_without(&Graph::read(), "iccm", &["openssl", "openssl-sys", "native-tls"]);
}

#[test]
fn every_crate_forbids_unsafe_code_and_says_what_it_is() {
    let graph = Graph::read();
    for source in sources(&graph.root).filter(|p| p.ends_with("src/lib.rs") || p.ends_with("src/main.rs")) {
        let text = std::fs::read_to_string(&source).expect("a source file");
        assert!(text.starts_with("//!"), "{} must open by saying what it guarantees", source.display());
    }
    for manifest in files(&graph.root, "Cargo.toml").filter(|p| p.parent() != Some(&graph.root)) {
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        let forbids = text.contains("[lints]\nworkspace = true") || text.contains("unsafe_code = \"forbid\"");
        assert!(forbids, "{} must take the workspace's lints, or forbid unsafe code itself", manifest.display());
    }
}

/// `allow` hides a finding for ever; `expect` with a reason reports itself when it is no longer needed.
#[test]
fn findings_are_expected_with_a_reason_and_never_allowed() {
    let graph = Graph::read();
    let needle = ["#[al", "low("].concat();
    for source in sources(&graph.root) {
        let text = std::fs::read_to_string(&source).expect("a source file");
        assert!(!text.contains(&needle), "{}: use #[expect(.., reason = \"…\")]", source.display());
    }
}

/// Bounded channels only: an unbounded queue is a leak that waits for its outage.
#[test]
fn no_queue_is_unbounded() {
    let graph = Graph::read();
    let needle = ["unbounded", "_channel"].concat();
    for source in sources(&graph.root) {
        let text = std::fs::read_to_string(&source).expect("a source file");
        assert!(!text.contains(&needle), "{} has an unbounded queue", source.display());
    }
}

fn sources(root: &Path) -> impl Iterator<Item = PathBuf> {
    files(root, ".rs")
}

fn files(root: &Path, ending: &'static str) -> impl Iterator<Item = PathBuf> {
    let mut open = vec![root.join("crates"), root.join("tests")];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} file was found, so nothing was checked");
    found.into_iter()
}
