//! The compose files and what images are built from, as the executable carries them, and the executable itself.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

macro_rules! carried {
    ($($name:literal),+) => { [$(($name, include_str!(concat!("../../../../../claudette/", $name)))),+] };
}

const CARRIED: [(&str, &str); 8] = carried![
    "Dockerfile",
    "assemble",
    "entrypoint",
    "preset.js",
    "compose.yaml",
    "agent.yaml",
    "keyless.yaml",
    "sqlite.yaml"
];

/// The folder where they lie.
pub(super) struct Files {
    context: PathBuf,
}

impl Files {
    /// Writes them below `context`, which is also what images are built from.
    pub(super) fn write(context: &Path) -> anyhow::Result<Self> {
        let folder = context.join("claudette");
        let cannot = || format!("cannot write {}; choose another place with --data-dir", folder.display());
        fs::create_dir_all(&folder).with_context(cannot)?;
        for (name, content) in CARRIED {
            let path = folder.join(name);
            // What is there already keeps its time, so that no image is built anew for nothing.
            if fs::read_to_string(&path).ok().as_deref() != Some(content) {
                fs::write(&path, content).with_context(cannot)?;
            }
        }
        Ok(Self { context: context.to_owned() })
    }

    /// Puts this very executable beside them, from which the images are built.
    pub(super) fn put_executable(&self) -> anyhow::Result<()> {
        let (own, copy) = (PathBuf::from("/proc/self/exe"), self.context.join("iccm"));
        let is_there = match (fs::metadata(&own), fs::metadata(&copy)) {
            (Ok(own), Ok(copy)) => own.len() == copy.len() && own.modified().ok() <= copy.modified().ok(),
            _ => false,
        };
        if !is_there {
            let draft = self.context.join("iccm.part");
            fs::copy(&own, &draft)
                .and_then(|_| fs::rename(&draft, &copy))
                .with_context(|| format!("cannot copy this executable to {}", copy.display()))?;
        }
        Ok(())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.context.join("claudette").join(name)
    }
}
