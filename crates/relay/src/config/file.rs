//! The file on disk: read, watched, replaced.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// Editors write in several steps; the last one counts.
const SETTLE: Duration = Duration::from_millis(60);
/// How often the file is looked at where the system cannot tell of changes (some network file systems).
const POLL: Duration = Duration::from_secs(2);

/// Why the file could not be changed or read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It is no JSON of the expected form.
    #[error("{} is not an mcpServers file: {source}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// It changed while it was being changed, or is no object.
    #[error("{} cannot be changed: its top level must be an object", path.display())]
    Shape {
        /// Which file.
        path: PathBuf,
    },
}

/// A place, whether or not there is a file yet.
#[derive(Clone, Debug)]
pub(crate) struct ConfigFile {
    path: PathBuf,
}

impl ConfigFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        // The watcher sees the folder, and a relative path's folder may be empty.
        Self { path: std::path::absolute(&path).unwrap_or(path) }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The text; empty where there is no file.
    pub(crate) fn read(&self) -> Result<String, ConfigError> {
        match std::fs::read_to_string(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(|source| self.io(source)),
        }
    }

    pub(crate) fn syntax(&self, source: serde_json::Error) -> ConfigError {
        ConfigError::Syntax { path: self.path.clone(), source }
    }

    pub(crate) fn shape(&self) -> ConfigError {
        ConfigError::Shape { path: self.path.clone() }
    }

    fn io(&self, source: io::Error) -> ConfigError {
        ConfigError::Io { path: self.path.clone(), source }
    }

    /// Replaces the file: whoever reads it sees the old text or the new one, also after a loss of power.
    pub(crate) fn write(&self, text: &str) -> Result<(), ConfigError> {
        self.replace(text).map_err(|source| self.io(source))
    }

    fn replace(&self, text: &str) -> io::Result<()> {
        // A link (as dotfile managers make them) stays one; what it leads to is replaced.
        let target = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = target.parent().ok_or_else(|| io::Error::other("a file needs a folder"))?;
        std::fs::create_dir_all(folder)?;
        let mut temporary = tempfile::Builder::new().prefix(".iccm-relay-").tempfile_in(folder)?;
        temporary.write_all(text.as_bytes())?;
        // A new file is its owner's alone, since it may hold tokens; an existing one keeps what it allowed.
        if let Ok(existing) = std::fs::metadata(&target) {
            temporary.as_file().set_permissions(existing.permissions())?;
        }
        temporary.as_file().sync_all()?;
        temporary.persist(&target).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    }

    /// Calls `changed` whenever the text is another than before, until the future is dropped.
    pub(crate) async fn watch(&self, mut last: String, mut changed: impl FnMut(String)) {
        let woken = Arc::new(Notify::new());
        let watcher = self.watcher(woken.clone());
        if let Err(error) = &watcher {
            tracing::info!(path = %self.path.display(), %error, "changes are noticed by looking every {POLL:?}");
        }
        loop {
            // First of all once without being woken: it may have changed before anybody watched.
            match self.read() {
                Ok(text) if text != last => {
                    last.clone_from(&text);
                    changed(text);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the servers stay as they are"),
            }
            match &watcher {
                Ok(_) => woken.notified().await,
                Err(_) => tokio::time::sleep(POLL).await,
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    /// Watches the folder: a file that is replaced is another file, and one that is not there yet cannot be watched.
    fn watcher(&self, woken: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
        let mut watcher = notify::recommended_watcher(move |_| woken.notify_one())?;
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        if !folder.exists() {
            return Err(notify::Error::path_not_found());
        }
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        // A link's target changes in another folder.
        if let Some(target) = std::fs::canonicalize(&self.path).ok().as_deref().and_then(Path::parent)
            && target != folder
        {
            watcher.watch(target, RecursiveMode::NonRecursive)?;
        }
        Ok(watcher)
    }
}
