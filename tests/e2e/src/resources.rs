//! What a running process holds: memory and descriptors, as the kernel counts them.

use std::path::PathBuf;

/// A process by its id.
#[derive(Clone, Copy, Debug)]
pub struct Resources(pub u32);

impl Resources {
    /// Resident memory at this moment, in bytes.
    pub fn resident(self) -> u64 {
        self.status("VmRSS:")
    }

    /// The most resident memory since the process began or [`Self::forget_peak`], in bytes.
    pub fn peak(self) -> u64 {
        self.status("VmHWM:")
    }

    /// Lets [`Self::peak`] begin anew.
    pub fn forget_peak(self) {
        // 5: "reset the peak resident set size", proc_pid_clear_refs(5).
        std::fs::write(self.file("clear_refs"), "5").expect("clear_refs of a child can be written");
    }

    /// Open descriptors.
    pub fn descriptors(self) -> usize {
        std::fs::read_dir(self.file("fd")).expect("the descriptors of a child can be listed").count()
    }

    fn status(self, name: &str) -> u64 {
        let status = std::fs::read_to_string(self.file("status")).expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of kB") * 1024
    }

    fn file(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }
}
