//! What the tools set and what stays set: which models are asked, and where answers go.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::output::write_atomically;

/// Absent values leave the decision to the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) models: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) output_dir: Option<PathBuf>,
}

/// The file that they are kept in.
pub(crate) struct SettingsFile {
    path: PathBuf,
    now: Mutex<Settings>,
}

impl SettingsFile {
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        let now = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("{} is damaged ({error}); delete it to begin anew", path.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Settings::default(),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        Ok(Self { path, now: Mutex::new(now) })
    }

    pub(crate) fn get(&self) -> Settings {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes them on disk first, then here.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new = now.clone();
        change(&mut new);
        let cannot = |why: String| format!("cannot write {}: {why}", self.path.display());
        let text = serde_json::to_vec_pretty(&new).map_err(|error| cannot(error.to_string()))?;
        write_atomically(&self.path, &text).map_err(|error| cannot(error.to_string()))?;
        *now = new;
        Ok(())
    }
}
