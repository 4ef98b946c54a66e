//! Where files are looked for and kept: the XDG base directory specification (0.8), by hand, because it is four rules.

use std::path::{Path, PathBuf};

use super::Environment;

const FILE_NAME: &str = "iccm.toml";

/// The configuration file: the one asked for, else `./iccm.toml`, else the one in the user's configuration folder. Only the
/// one asked for need exist.
pub(super) fn config_file(asked: Option<&Path>, env: &Environment) -> Option<PathBuf> {
    if let Some(path) = asked.or_else(|| env.path("ICCM_CONFIG")) {
        return Some(path.to_owned());
    }
    let here = PathBuf::from(FILE_NAME);
    let users = base(env, "XDG_CONFIG_HOME", ".config").map(|folder| folder.join("iccm").join(FILE_NAME));
    [Some(here), users].into_iter().flatten().find(|path| path.is_file())
}

/// The user's data folder for ICCM; `None` without a home.
pub(super) fn data_dir(env: &Environment) -> Option<PathBuf> {
    Some(base(env, "XDG_DATA_HOME", ".local/share")?.join("iccm"))
}

/// The relay's `mcpServers` file: the one asked for, else the one in the user's configuration folder, which need not exist;
/// `None` without a home.
pub(crate) fn relay_file(asked: Option<&Path>, env: &Environment) -> Option<PathBuf> {
    if let Some(path) = asked.or_else(|| env.path("ICCM_RELAY_CONFIG")) {
        return Some(path.to_owned());
    }
    Some(base(env, "XDG_CONFIG_HOME", ".config")?.join("iccm").join("relay.json"))
}

/// The specification asks to ignore a relative path in these variables.
fn base(env: &Environment, variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| env.path(name).filter(|path| path.is_absolute());
    match absolute(variable) {
        Some(path) => Some(path.to_owned()),
        None => Some(absolute("HOME")?.join(below_home)),
    }
}
