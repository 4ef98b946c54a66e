//! What is wrong with a configuration: which key, where it was set, and what it must be.

use std::path::PathBuf;

use super::Origin;
use super::values::nearest;

/// What is wrong with the configuration, in one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is not valid TOML: {message}", path.display())]
    Syntax { path: PathBuf, message: String },
    #[error("{origin}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey { origin: Origin, key: String, nearest: String },
    #[error("{origin}: `{key}` {problem}")]
    Value { origin: Origin, key: String, problem: String },
    #[error("cannot tell where to keep the record: neither HOME nor XDG_DATA_HOME is set; give --data-dir DIR")]
    NoDataFolder,
}

/// A key that is not among the known ones; all stand below `prefix`, which is empty or ends with a dot.
pub(super) fn unknown<'a>(
    origin: &Origin,
    prefix: &str,
    key: &str,
    known: impl Iterator<Item = &'a str>,
) -> ConfigError {
    ConfigError::UnknownKey {
        origin: origin.clone(),
        key: format!("{prefix}{key}"),
        nearest: format!("{prefix}{}", nearest(key, known)),
    }
}

/// A value that a key cannot have; the problem reads after the key's name.
pub(super) fn value_error(origin: &Origin, key: &str, problem: String) -> ConfigError {
    ConfigError::Value { origin: origin.clone(), key: key.to_owned(), problem }
}
