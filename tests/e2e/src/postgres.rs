//! PostgreSQL of the test's own: a cluster in a temporary folder, on loopback, with a password.
//!
//! The server runs under a shell that waits for this process: whatever ends the tests, also `kill -9`, ends the server and
//! removes its folder. Started by root, it runs as nobody, as PostgreSQL refuses root. Its absence is a failure that says
//! what to install.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// The role and the password of every cluster.
pub const USER: &str = "iccm";
/// Looked for where no password may appear.
pub const PASSWORD: &str = "secret-of-the-database-7b1e";

/// `nobody`, on every system.
const NOBODY: u32 = 65_534;

/// Runs the server until standard input says a word or ends; at its end the folder goes too.
const KEEPER: &str = r#"folder=$1; shift
"$@" </dev/null >>"$folder/log" 2>&1 &
server=$!
read -r word
kill -QUIT $server 2>/dev/null
wait $server
[ "$word" = keep ] || rm -rf "$folder""#;

/// A cluster. Dropping it ends the server and removes the folder.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    settings: Vec<String>,
    keeper: Option<Child>,
}

/// The cluster that the tests of one process share; each takes a database of its own.
pub fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::start(&["fsync=off"]))
}

impl Cluster {
    /// Makes and starts a cluster with further settings (`name=value`).
    pub fn start(settings: &[&str]) -> Self {
        let mut cluster = Self::make(settings);
        cluster.start_server();
        cluster
    }

    /// Makes a cluster and does not start it.
    pub fn make(settings: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("iccm-postgres-").tempdir().expect("a temporary folder").keep();
        let password = folder.join("password");
        std::fs::write(&password, PASSWORD).expect("a file");
        for path in [&folder, &password] {
            give_to_server(path);
        }
        let mut initdb = server_command("initdb");
        initdb.args(["--username", USER, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]);
        initdb.arg("--pwfile").arg(&password).arg("--pgdata").arg(folder.join("data"));
        let made = initdb.output().unwrap_or_else(|e| panic!("initdb: {e}"));
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        let settings = settings.iter().map(|s| (*s).to_owned()).collect();
        Self { folder, port: free_port(), settings, keeper: None }
    }

    /// Starts the server and waits until it takes connections.
    pub fn start_server(&mut self) {
        assert!(self.keeper.is_none(), "it runs already");
        let mut command = as_server_user(Command::new("sh"));
        command.args(["-c", KEEPER, "sh"]).arg(&self.folder).arg(program("postgres"));
        command.arg("-D").arg(self.folder.join("data")).args(["-p", &self.port.to_string()]);
        command.arg("-k").arg(&self.folder).args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=150"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command.current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        self.keeper = Some(command.spawn().expect("sh starts"));
        wait::until_within(Duration::from_secs(60), "a PostgreSQL server that takes connections", || {
            let asked = self.psql("postgres", "SELECT 1").output().expect("psql starts");
            asked.status.success().then_some(())
        });
    }

    /// `kill -9` of the server.
    pub fn kill(&mut self) {
        let server = self.server_pid();
        let children = children_of(server);
        kill_process(server, Signal::KILL).unwrap_or_else(|e| panic!("killing PostgreSQL: {e}"));
        // Its children notice and go; until then another server could not start.
        wait::until("the end of a killed PostgreSQL server", || {
            (!children.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists())).then_some(())
        });
        self.end_keeper("keep\n");
    }

    /// Ends the server; it can be started again.
    pub fn stop(&mut self) {
        self.end_keeper("keep\n");
    }

    /// A new, empty database, which goes with the cluster.
    pub fn database(&self) -> Database {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        // One at a time: they are copied from a template that must have no other user.
        static ONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        Database { url: self.url(&name), name }
    }

    /// The URL of a database, password and all.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// Where it listens on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder, which the server's user owns.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Runs SQL as an administrator would, and gives what `psql` prints.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        let output = self.psql(database, sql).output().expect("psql starts");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Runs SQL in a transaction that stays open, locks and all, until what is returned is dropped.
    pub fn hold(&self, database: &Database, sql: &str) -> Held {
        let mut command = self.client(&database.name);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut psql = command.spawn().expect("psql starts");
        let stdin = psql.stdin.as_mut().expect("its standard input");
        writeln!(stdin, "BEGIN; {sql}; SELECT 'held';").expect("psql reads");
        let mut said = String::new();
        BufReader::new(psql.stdout.as_mut().expect("its output")).read_line(&mut said).expect("psql answers");
        assert_eq!(said.trim(), "held", "{sql}");
        Held(psql)
    }

    fn psql(&self, database: &str, sql: &str) -> Command {
        let mut command = self.client(database);
        command.stdin(Stdio::null()).args(["-c", sql]);
        command
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql"));
        command.env("PGPASSWORD", PASSWORD).env("PGCONNECT_TIMEOUT", "10");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        command.args(["-U", USER, "-d", database]);
        command
    }

    fn server_pid(&self) -> Pid {
        let file = self.folder.join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let pid = text.lines().next().and_then(|line| line.trim().parse().ok()).and_then(Pid::from_raw);
        pid.expect("a process id in postmaster.pid")
    }

    fn end_keeper(&mut self, word: &str) {
        if let Some(mut keeper) = self.keeper.take() {
            if let Some(mut stdin) = keeper.stdin.take() {
                // It is gone if somebody else has ended it.
                drop(stdin.write_all(word.as_bytes()));
            }
            keeper.wait().expect("the server's keeper ends");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            let from = log.char_indices().rev().nth(4_000).map_or(0, |(at, _)| at);
            eprintln!("PostgreSQL said:\n{}", &log[from..]);
        }
        self.end_keeper("remove\n");
        // Also where no server was started.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// A transaction that is open.
#[derive(Debug)]
pub struct Held(Child);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.kill().expect("psql is ours");
        self.0.wait().expect("psql ends");
    }
}

/// A database in a cluster.
#[derive(Debug)]
pub struct Database {
    url: String,
    name: String,
}

impl Database {
    /// How to reach it, password and all.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Makes a file the server's: it reads no key that belongs to somebody else.
pub fn give_to_server(path: &Path) {
    if rustix::process::geteuid().is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

fn server_command(name: &str) -> Command {
    as_server_user(Command::new(program(name)))
}

fn as_server_user(mut command: Command) -> Command {
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/");
    command
}

/// A program of the newest PostgreSQL that is installed, where Debian keeps them, else from the search path.
fn program(name: &str) -> PathBuf {
    let versions =
        std::fs::read_dir("/usr/lib/postgresql").map(|entries| entries.flatten().map(|e| e.path()).collect());
    let mut versions: Vec<PathBuf> = versions.unwrap_or_default();
    versions.sort();
    let debian = versions.into_iter().rev().map(|version| version.join("bin").join(name));
    let search = std::env::var_os("PATH").unwrap_or_default();
    let found = debian.chain(std::env::split_paths(&search).map(|f| f.join(name))).find(|p| File::open(p).is_ok());
    found.unwrap_or_else(|| panic!("PostgreSQL's {name} is missing: install postgresql-15 (scripts/test does)"))
}

fn children_of(parent: Pid) -> Vec<u32> {
    let parent = parent.as_raw_nonzero().to_string();
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let of = |entry: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // After the name, which is in parentheses: state, parent.
        let is_child = stat.rsplit_once(')')?.1.split_whitespace().nth(1) == Some(&parent);
        if is_child { entry.file_name().to_str()?.parse().ok() } else { None }
    };
    processes.filter_map(of).collect()
}

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}
