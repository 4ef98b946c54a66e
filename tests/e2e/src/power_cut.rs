//! Loss of power for one folder: everything is taken away that had not been synced.
//!
//! A killed process leaves the kernel's cache behind, so `kill -9` alone says nothing about fsync. A library in the
//! process under test (`native/power_cut.c`) notes what each successful sync has made durable; after the kill,
//! [`PowerCut::strike`] brings the folder back to just that: files are cut to the length that they had at their last
//! sync, names that no sync of their folder has seen are removed, and renames that none has seen are undone.
//!
//! Not played: blocks that reach the disk without a sync, and removals that are undone. Both are allowed and neither is
//! worse for a log that only grows.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::preload;

/// A folder that can lose its power.
#[derive(Debug)]
pub struct PowerCut {
    library: PathBuf,
    folder: PathBuf,
    notes: PathBuf,
    /// What a loss of power leaves.
    durable: Mutex<Durable>,
}

/// What was taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loss {
    /// Bytes at the ends of files.
    pub bytes: u64,
    /// Files and folders whose names had not been synced.
    pub names: usize,
    /// Renames that were undone.
    pub renames: usize,
}

impl std::ops::AddAssign for Loss {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.names += other.names;
        self.renames += other.renames;
    }
}

/// By inode, because files are renamed.
#[derive(Debug, Default)]
struct Durable {
    lengths: HashMap<u64, u64>,
    folders: HashMap<u64, BTreeMap<u64, String>>,
}

impl PowerCut {
    /// Prepares it for `folder` (created if need be); `beside` is a folder for the tools of the trade.
    pub fn prepare(folder: &Path, beside: &Path) -> Self {
        fs::create_dir_all(folder).expect("a folder");
        let library = preload::library("power_cut", beside);
        let folder = folder.canonicalize().expect("an existing folder");
        let this = Self { library, folder, notes: beside.join("power_cut.notes"), durable: Mutex::default() };
        this.settle();
        this
    }

    /// The variables that bring the library into a process.
    pub fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", preload::text(&self.library)),
            ("POWER_CUT_FOLDER", preload::text(&self.folder)),
            ("POWER_CUT_NOTES", preload::text(&self.notes)),
        ]
    }

    /// Takes away what was not synced. No process may be using the folder.
    pub fn strike(&self) -> Loss {
        let notes = fs::read_to_string(&self.notes).unwrap_or_default();
        let loss = {
            let mut durable = self.durable.lock().expect("no panic under this lock");
            notes.lines().for_each(|line| durable.note(line));
            durable.restore(&self.folder)
        };
        self.settle();
        loss
    }

    /// What is on the disk now is there to stay: the machine has been started again.
    fn settle(&self) {
        let mut durable = Durable::default();
        durable.take_over(&self.folder);
        *self.durable.lock().expect("no panic under this lock") = durable;
        File::create(&self.notes).expect("a file for the notes");
    }
}

impl Durable {
    fn note(&mut self, line: &str) {
        let number = |text: &str| text.parse::<u64>().unwrap_or_else(|e| panic!("{line:?}: {e}"));
        let mut words = line.splitn(3, ' ');
        let mut word = || words.next().unwrap_or_else(|| panic!("a torn note: {line:?}"));
        match (word(), number(word())) {
            ("F", inode) => drop(self.lengths.insert(inode, number(word()))),
            ("D", inode) => {
                let fields: Vec<_> = word().split_terminator('/').collect();
                let entries = fields.chunks(2).map(|pair| (number(pair[1]), pair[0].to_owned())).collect();
                self.folders.insert(inode, entries);
            }
            ("X", inode) => {
                self.lengths.remove(&inode);
                self.folders.remove(&inode);
                self.folders.values_mut().for_each(|entries| drop(entries.remove(&inode)));
            }
            (other, _) => panic!("an unknown note {other}: {line:?}"),
        }
    }

    /// Brings a folder back to what is durable of it.
    fn restore(&self, folder: &Path) -> Loss {
        let inode = fs::metadata(folder).expect("a folder").ino();
        let known = self.folders.get(&inode).cloned().unwrap_or_default();
        let mut loss = Loss::default();
        for (path, inode) in entries(folder) {
            let Some(name) = known.get(&inode) else {
                remove(&path);
                loss.names += 1;
                continue;
            };
            let durable_path = folder.join(name);
            if path != durable_path {
                fs::rename(&path, &durable_path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                loss.renames += 1;
            }
            if durable_path.is_dir() {
                loss += self.restore(&durable_path);
            } else {
                loss.bytes += cut(&durable_path, self.lengths.get(&inode).copied().unwrap_or(0));
            }
        }
        loss
    }

    fn take_over(&mut self, folder: &Path) {
        let inode = fs::metadata(folder).expect("a folder").ino();
        let found = entries(folder);
        let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
        self.folders.insert(inode, found.iter().map(|(path, inode)| (*inode, name(path))).collect());
        for (path, inode) in found {
            if path.is_dir() {
                self.take_over(&path);
            } else {
                self.lengths.insert(inode, fs::metadata(&path).expect("a file").len());
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<(PathBuf, u64)> {
    let entry = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("a folder's entry");
        (entry.path(), entry.metadata().expect("an entry's inode").ino())
    };
    fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).map(entry).collect()
}

fn remove(path: &Path) {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

/// Cuts a file to a length, if it is longer; gives how much that took away.
fn cut(path: &Path, length: u64) -> u64 {
    let file = File::options().write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let before = file.metadata().expect("a file's length").len();
    if before > length {
        file.set_len(length).expect("a file can be cut");
    }
    before.saturating_sub(length)
}
