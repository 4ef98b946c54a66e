//! A run's output folder: `<time>_<correlation id>` with `summary.json`, a `.md` per model, and `fiedler.log`.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use winni::model::Timestamp;

use super::{ModelResult, Order, Report};
use crate::output::{create_folder, write_atomically};

pub(super) struct Folder {
    path: PathBuf,
    log: Mutex<File>,
}

impl Folder {
    pub(super) fn create(below: &Path, at: Timestamp, id: Uuid) -> Result<Self, String> {
        let at = jiff::Timestamp::from_microsecond(at.0).unwrap_or_default();
        let time = at.strftime("%Y%m%d_%H%M%S");
        let path = below.join(format!("{time}_{id}"));
        let cannot = |error: std::io::Error| {
            format!(
                "cannot create the output folder {}: {error}; choose another one with fiedler_set_output",
                path.display()
            )
        };
        create_folder(below).map_err(cannot)?;
        DirBuilder::new().mode(0o700).create(&path).map_err(cannot)?;
        let log =
            File::options().append(true).create_new(true).mode(0o600).open(path.join("fiedler.log")).map_err(cannot)?;
        Ok(Self { path, log: Mutex::new(log) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn summary(&self) -> PathBuf {
        self.path.join("summary.json")
    }

    /// A line of the log. That it cannot be written is no reason to lose an answer.
    pub(super) fn log(&self, line: &str) {
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(log, "{} {line}", jiff::Timestamp::now()) {
            tracing::warn!(%error, folder = %self.path.display(), "cannot write a run's log");
        }
    }

    pub(super) fn write_answer(&self, result: &ModelResult, text: &str) -> Result<PathBuf, String> {
        let path = self.path.join(file_name(&result.model));
        let note = match &result.error {
            Some(error) => format!("\n> Not a whole answer: {error}\n"),
            None => String::new(),
        };
        let head =
            format!("# {}\n\nProvider: {}, {:.1} s\n{note}\n", result.model, result.provider, result.duration_seconds);
        let cannot = |error: std::io::Error| format!("the answer cannot be written to {}: {error}", path.display());
        write_atomically(&path, format!("{head}{text}\n").as_bytes()).map_err(cannot)?;
        Ok(path)
    }

    pub(super) fn write_summary(
        &self,
        order: &Order,
        report: &Report,
        started_at: Timestamp,
        took: Duration,
    ) -> Result<(), String> {
        let mut summary = serde_json::to_value(report).map_err(|error| error.to_string())?;
        summary["prompt"] = json!(order.prompt);
        summary["files"] = json!(order.files);
        summary["started_at"] = json!(started_at);
        summary["duration_seconds"] = json!(took.as_secs_f64());
        let text = serde_json::to_vec_pretty(&summary).map_err(|error| error.to_string())?;
        let path = self.summary();
        write_atomically(&path, &text).map_err(|error| format!("cannot write {}: {error}", path.display()))
    }
}

/// Ids are unique whatever their case, but not once what no file's name has is replaced: what was replaced is marked.
fn file_name(model: &str) -> String {
    let plain: String =
        model.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if plain == model && !plain.starts_with('.') {
        return format!("{plain}.md");
    }
    let mark = blake3::hash(model.as_bytes()).to_hex();
    format!("{}_{}.md", plain.trim_start_matches('.'), &mark[..8])
}
