//! Room on the disk for what has to be written when there is no more.
//!
//! The spool keeps a file of zeros beside its segments. When the disk has no room for a note, an End or the LifeEnd, the file
//! is deleted and they are written where it was; when there is room again it is made anew. Refused: to promise it. Others on
//! the disk may be faster, and a file system that copies on write, or compresses, may give back less.

use std::path::PathBuf;

use crate::filesystem::write_all_at;
use crate::folder::Folder;

/// The size of the file: a thousand Ends or gaps.
const RESERVE_BYTES: usize = 64 << 10;
/// While it cannot be made, it is tried with every so many-th begin.
const TRY_EVERY: u32 = 64;

#[derive(Debug)]
pub(crate) struct Reserve {
    is_kept: bool,
    until_next_try: u32,
}

impl Reserve {
    /// None yet; it is made with the next begin.
    pub(crate) const fn none() -> Self {
        Self { is_kept: false, until_next_try: 0 }
    }

    /// Makes the file, unless it is there.
    pub(crate) fn keep(&mut self, folder: &Folder) {
        if self.is_kept {
            return;
        }
        if self.until_next_try > 0 {
            self.until_next_try -= 1;
            return;
        }
        self.until_next_try = TRY_EVERY;
        let path = path(folder);
        let made = folder.fs.create(&path).and_then(|file| write_all_at(&*file, &[0; RESERVE_BYTES], 0));
        self.is_kept = made.is_ok();
        if let Err(error) = made {
            tracing::debug!(%error, "no room is kept on the spool's disk");
            // What was written of it is given back; when that fails too, the next try fails at the name.
            let _ = folder.fs.remove_file(&path);
        }
    }

    /// Gives the room back. Whether there was any.
    pub(crate) fn release(&mut self, folder: &Folder) -> bool {
        let was_kept = std::mem::replace(&mut self.is_kept, false);
        was_kept && drop_from(folder)
    }
}

/// Deletes the file of a folder, if there is one.
pub(crate) fn drop_from(folder: &Folder) -> bool {
    folder.fs.remove_file(&path(folder)).is_ok()
}

fn path(folder: &Folder) -> PathBuf {
    folder.dir.join("reserve")
}
