//! Room on the disk for what has to be written when there is no more.
//!
//! The spool keeps a file of zeros beside its segments. When the disk has no room for a note, an End or the LifeEnd, the file
//! is deleted and they are written where it was; other data are refused until it could be made anew. Refused: to promise it. Others on
//! the disk may be faster, and a file system that copies on write, or compresses, may give back less.

use std::path::PathBuf;

use crate::filesystem::write_all_at;
use crate::folder::Folder;

/// The size of the file: a thousand Ends or gaps.
const RESERVE_BYTES: usize = 64 << 10;
/// While there is none, it is tried with every so many-th begin.
const TRY_EVERY: u32 = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reserve {
    /// None yet, and no try before so many begins.
    Unmade(u32),
    Kept,
    /// Given back. What others have left of it is not for ordinary data.
    Spent,
}

impl Reserve {
    /// Makes the file, unless it is there; but not each time when that fails.
    pub(crate) fn keep(&mut self, folder: &Folder) {
        *self = match *self {
            Self::Unmade(0) if make(folder) => Self::Kept,
            Self::Unmade(0) => Self::Unmade(TRY_EVERY),
            Self::Unmade(begins) => Self::Unmade(begins - 1),
            other => other,
        };
    }

    /// Whether ordinary data may be written: not before what was given back is there again.
    pub(crate) fn admits_data(&mut self, folder: &Folder) -> bool {
        if *self == Self::Spent && make(folder) {
            *self = Self::Kept;
        }
        *self != Self::Spent
    }

    /// Gives the room back. Whether there was any.
    pub(crate) fn release(&mut self, folder: &Folder) -> bool {
        let was_kept = *self == Self::Kept;
        if was_kept {
            *self = Self::Spent;
        }
        was_kept && drop_from(folder)
    }
}

fn make(folder: &Folder) -> bool {
    let path = path(folder);
    let made = folder.fs.create(&path).and_then(|file| write_all_at(&*file, &[0; RESERVE_BYTES], 0));
    if let Err(error) = &made {
        tracing::debug!(%error, "no room can be kept on the spool's disk");
        // What was written of it is given back; when that fails too, the next try fails at the name.
        let _ = folder.fs.remove_file(&path);
    }
    made.is_ok()
}

/// Deletes the file of a folder, if there is one.
pub(crate) fn drop_from(folder: &Folder) -> bool {
    folder.fs.remove_file(&path(folder)).is_ok()
}

fn path(folder: &Folder) -> PathBuf {
    folder.dir.join("reserve")
}
