//! Taking over what a dead recorder left.
use crate::error::Result;
use crate::format::{Position, RecorderId};
use crate::reader::Reader;
use std::path::{Path, PathBuf};

/// Adopts.
pub fn adopt(root: &Path) -> Result<Vec<Adopted>> {
    let _ = root;
    Ok(Vec::new())
}

/// A folder.
#[derive(Debug)]
pub struct Adopted {
    dir: PathBuf,
    recorder: RecorderId,
    damage: Vec<Damage>,
}

/// Damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Damage {
    /// p
    pub position: Position,
    /// w
    pub what: &'static str,
}

impl Adopted {
    /// Its folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
    /// Whose log this is.
    pub fn recorder(&self) -> RecorderId {
        self.recorder
    }
    /// A reader.
    pub fn reader(&self) -> Result<Reader> {
        Reader::open(&self.dir)
    }
    /// Damage.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }
    /// Unreleased bytes.
    pub fn pending_bytes(&self) -> u64 {
        0
    }
    /// Release.
    pub fn release_before(&self, segment: u64) -> Result<()> {
        let _ = segment;
        Ok(())
    }
    /// Remove.
    pub fn remove(self) -> Result<()> {
        Ok(())
    }
}
