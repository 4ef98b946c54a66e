//! Keys in the desktop's keyring: a real one, on a bus of its own.

use std::io::BufReader;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command};
use std::time::Duration;

use e2e::process::{self, Running};
use e2e::recorder::{Place, contains};
use serde_json::json;

use crate::hall::Hall;

const KEPT: &str = "sk-test-keyring-0010";

/// A session bus with GNOME's keyring on it, unlocked.
struct Session {
    bus: Running,
    address: String,
    /// What has started the keyring, which ends with this, too.
    _keyring: Running,
    _stdout: BufReader<ChildStdout>,
}

impl Session {
    fn start(home: &Path) -> Self {
        let mut command = Command::new("dbus-daemon");
        // Its socket in here: killed, it leaves it behind.
        let socket = format!("--address=unix:path={}", home.join("bus").display());
        command.args(["--session", "--nofork", "--print-address", &socket]).env("HOME", home);
        let (mut bus, mut stdout) = Running::start_reading(command);
        let address = process::first_line(&mut bus, &mut stdout).trim().to_owned();
        let mut command = Command::new("sh");
        command.args(["-c", "printf password | gnome-keyring-daemon --unlock --components=secrets"]);
        command.env("HOME", home).env("DBUS_SESSION_BUS_ADDRESS", &address);
        let mut keyring = Running::start(command);
        keyring.end(Duration::from_secs(30)).success("a keyring; scripts/test installs it");
        Self { bus, address, _keyring: keyring, _stdout: stdout }
    }
}

/// A `secret-tool` that writes down how it was called, and then is the real one.
fn witness(place: &Place) -> (PathBuf, PathBuf) {
    let (folder, seen) = (place.folder().join("bin"), place.folder().join("seen"));
    std::fs::create_dir(&folder).unwrap();
    let real = ["/usr/bin", "/usr/local/bin", "/bin"].map(|folder| Path::new(folder).join("secret-tool"));
    let real = real.iter().find(|path| path.is_file()).expect("secret-tool; scripts/test installs it");
    let program = folder.join("secret-tool");
    let text = format!(
        "#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ >> {0}\necho >> {0}\nexec {1} \"$@\"\n",
        seen.display(),
        real.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    (folder, seen)
}

#[test]
fn the_systems_keyring_keeps_keys_and_no_command_line_or_environment_shows_them() {
    let mut session = None;
    let mut seen = PathBuf::new();
    let hall = Hall::at(|place| {
        let started = Session::start(&place.folder().join("home"));
        let (folder, file) = witness(&place);
        seen = file;
        let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
        let place = place.with_variable("DBUS_SESSION_BUS_ADDRESS", &started.address).with_variable("PATH", &path);
        session = Some(started);
        place
    });
    let set = |key: &str| hall.mcp.call("fiedler_set_key", &json!({"provider": "openai", "api_key": key}));
    assert_eq!(set(KEPT).json()["kept_in"], "system keyring");
    let listed = hall.mcp.call("fiedler_list_keys", &json!({}));
    assert_eq!(listed.json()["kept_in"]["openai"], "system keyring", "{}", listed.text);
    let sent_key = || {
        assert_eq!(hall.send(&["gpt-4o"])["status"], "success");
        hall.providers.exchanges().pop().unwrap().head.get("authorization").unwrap().to_owned()
    };
    assert_eq!(sent_key(), format!("Bearer {KEPT}"), "it goes before the environment's");
    let delete = || hall.mcp.call("fiedler_delete_key", &json!({"provider": "openai"})).json()["deleted"].clone();
    assert_eq!((delete(), delete()), (json!(true), json!(false)));
    assert_eq!(sent_key(), "Bearer sk-test-openai-0001", "the environment's is left");

    let called = std::fs::read(&seen).unwrap();
    for word in ["store", "lookup", "clear"] {
        assert!(contains(&called, word.as_bytes()), "{word}");
    }
    assert!(!contains(&called, b"sk-test"), "{}", String::from_utf8_lossy(&called));
    assert_eq!(hall.place.files_with(KEPT.as_bytes()), [] as [PathBuf; 0]);
    let kept = std::fs::read_dir(hall.place.folder().join("home/.local/share/keyrings")).unwrap();
    let kept: Vec<_> = kept.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    assert!(!kept.is_empty() && kept.iter().all(|file| !contains(file, b"sk-test")), "encrypted");

    // Without its bus it takes nothing, and says so without the key.
    session.unwrap().bus.kill();
    let refused = set(KEPT);
    assert!(refused.is_error && refused.text.contains("keyring") && !refused.text.contains(KEPT), "{}", refused.text);
    assert!(!hall.up.stderr().contains("sk-test"), "{}", hall.up.stderr());
    hall.up.stop();
}
