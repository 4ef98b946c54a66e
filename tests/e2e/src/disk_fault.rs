//! A disk that is full or read-only for the files of one folder, switched on and off while a process runs.
//!
//! Real full and read-only file systems need privileges that root in a container does not have, and mode bits do not bind
//! root at all. So the process under test gets a small library preloaded (`native/disk_fault.c`) that refuses what such a
//! file system would refuse.

use std::path::{Path, PathBuf};

use crate::preload::{self, text};
use crate::wait;

/// A folder whose disk can fail.
#[derive(Debug)]
pub struct DiskFault {
    library: PathBuf,
    folder: PathBuf,
    switch: PathBuf,
}

impl DiskFault {
    /// Prepares faults for the files in `folder` (created if need be); `beside` is a folder for the tools of the trade.
    pub fn prepare(folder: &Path, beside: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("a folder");
        let library = preload::library("disk_fault", beside);
        let folder = folder.canonicalize().expect("an existing folder");
        Self { library, folder, switch: beside.join("disk_fault.switch") }
    }

    /// The variables that bring the library into a process.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", text(&self.library)),
            ("DISK_FAULT_FOLDER", format!("{}/", text(&self.folder))),
            ("DISK_FAULT_SWITCH", text(&self.switch)),
        ]
    }

    /// From now on the disk is `full` or `read-only`.
    pub fn begin(&self, fault: &str) {
        drop(std::fs::remove_file(self.hit()));
        std::fs::write(&self.switch, fault).expect("a file");
    }

    /// Waits until something has been refused.
    pub fn wait_until_it_hurts(&self) {
        wait::until("a write that the disk refused", || self.hit().exists().then_some(()));
    }

    /// The disk is well again.
    pub fn end(&self) {
        std::fs::remove_file(&self.switch).expect("the fault was on");
    }

    fn hit(&self) -> PathBuf {
        self.switch.with_extension("switch.hit")
    }
}
