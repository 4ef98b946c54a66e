//! The desktop's keyring (the Secret Service), through `secret-tool` of libsecret.
//!
//! The program and not a library: a library would bring an implementation of D-Bus for four calls, and the program is on the
//! machines that have a keyring. Keys go through its standard input and output, never through its command line.
//!
//! There is a keyring only where the session has a bus; a server has none, and there the encrypted file is used.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::{Secret, Variables};

const PROGRAM: &str = "secret-tool";
/// A locked keyring asks its owner for a password. Whoever is there answers within this time.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Keyring {
    program: std::path::PathBuf,
    bus: String,
    path: String,
}

impl Keyring {
    /// The keyring, if the session has one.
    pub(super) fn find(variables: &Variables) -> Option<Self> {
        let bus = variables("DBUS_SESSION_BUS_ADDRESS").filter(|bus| !bus.is_empty())?;
        let path = variables("PATH")?;
        let program = std::env::split_paths(&path).map(|folder| folder.join(PROGRAM)).find(|file| file.is_file())?;
        Some(Self { program, bus, path })
    }

    pub(super) async fn get(&self, provider: &str) -> Result<Option<Secret>, String> {
        let (found, output) = self.run(&["lookup", "service", "iccm", "provider", provider], None).await?;
        let text = String::from_utf8(output).unwrap_or_default();
        Ok(if found { Secret::parse(&text).ok() } else { None })
    }

    pub(super) async fn set(&self, provider: &str, key: &Secret) -> Result<(), String> {
        let label = format!("--label=iccm: key of {provider}");
        let (stored, _) = self.run(&["store", &label, "service", "iccm", "provider", provider], Some(key)).await?;
        if stored { Ok(()) } else { Err("the system's keyring did not take the key; is it locked?".to_owned()) }
    }

    pub(super) async fn delete(&self, provider: &str) -> Result<bool, String> {
        let had = self.get(provider).await?.is_some();
        if had {
            self.run(&["clear", "service", "iccm", "provider", provider], None).await?;
        }
        Ok(had)
    }

    async fn run(&self, arguments: &[&str], input: Option<&Secret>) -> Result<(bool, Vec<u8>), String> {
        let cannot = |error: std::io::Error| format!("cannot ask the system's keyring ({PROGRAM}): {error}");
        let mut child = Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .env("DBUS_SESSION_BUS_ADDRESS", &self.bus)
            .env("PATH", &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(cannot)?;
        let stdin = child.stdin.take();
        if let (Some(mut stdin), Some(key)) = (stdin, input) {
            stdin.write_all(key.expose().as_bytes()).await.map_err(cannot)?;
        }
        let ended = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
        let output = ended.map_err(|_| "the system's keyring did not answer; is it locked?".to_owned())?;
        let output = output.map_err(cannot)?;
        Ok((output.status.success(), output.stdout))
    }
}
