//! What is on the disk: what whoever looks at it now sees, and what would be left without power.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A way to fail once, at a given step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The device answers with an error; a write may have happened in part.
    Io,
    /// No room; likewise.
    NoSpace,
    /// A write takes less than it was given.
    Short,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Change {
    pub(super) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let end = *offset as usize + written.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset as usize..end].copy_from_slice(written);
            }
            Self::Len(len) => bytes.resize(*len as usize, 0),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    pub(super) unsynced: Vec<Change>,
}

impl Content {
    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.live);
        self.unsynced.push(change);
    }
}

/// A name in a folder. Folders are named by their number, so that renaming one takes what is in it along.
pub(super) type Name = (u64, String);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Renaming {
    Set(Name, u64),
    Unset(Name),
    Move(Name, Name),
}

impl Renaming {
    pub(super) fn apply(&self, names: &mut BTreeMap<Name, u64>) {
        match self {
            Self::Set(name, node) => drop(names.insert(name.clone(), *node)),
            Self::Unset(name) => drop(names.remove(name)),
            Self::Move(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }

    pub(super) fn folder(&self) -> u64 {
        match self {
            Self::Set((folder, _), _) | Self::Unset((folder, _)) | Self::Move((folder, _), _) => *folder,
        }
    }
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) files: BTreeMap<u64, Content>,
    pub(super) live: BTreeMap<Name, u64>,
    pub(super) durable: BTreeMap<Name, u64>,
    pub(super) unsynced: Vec<Renaming>,
    next_node: u64,
    pub(super) locked: Vec<u64>,
    /// Locks of an earlier life of the machine free nothing.
    pub(super) boot: u64,
    pub(super) steps: u64,
    pub(super) stop_at: Option<u64>,
    pub(super) stopped: bool,
    pub(super) faults: BTreeMap<u64, Fault>,
    /// So many bytes fit on the disk.
    pub(super) capacity: u64,
    dice: u64,
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            files: BTreeMap::new(),
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            unsynced: Vec::new(),
            next_node: 0,
            locked: Vec::new(),
            boot: 0,
            steps: 0,
            stop_at: None,
            stopped: false,
            faults: BTreeMap::new(),
            capacity: u64::MAX,
            dice: seed | 1,
        }
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice >> 11) % sides.max(1)
    }

    /// Takes a step. `Ok(Some)`: it fails so.
    pub(super) fn step(&mut self) -> io::Result<Option<Fault>> {
        self.steps += 1;
        if self.stopped {
            return Err(stopped());
        }
        if self.stop_at.is_some_and(|at| self.steps >= at) {
            self.stopped = true;
            return Ok(Some(Fault::Io));
        }
        Ok(self.faults.remove(&self.steps))
    }

    /// A step that happens or does not.
    pub(super) fn whole_step(&mut self) -> io::Result<()> {
        match self.step()? {
            Some(Fault::Io) => Err(device_error()),
            Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Short) | None => Ok(()),
        }
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<u64> {
        let mut node = 0;
        for name in path.iter().skip(1) {
            let name = name.to_str().unwrap().to_owned();
            node = *self.live.get(&(node, name)).ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(node)
    }

    pub(super) fn name(&self, path: &Path) -> io::Result<Name> {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Ok((self.node(path.parent().unwrap())?, name))
    }

    /// Bytes of all files that have a name, but for one that is being written.
    pub(super) fn used(&self) -> u64 {
        let bytes = |node| self.files.get(node).map_or(0, |content| content.live.len() as u64);
        self.live.values().map(bytes).sum()
    }

    pub(super) fn rename(&mut self, renaming: Renaming) {
        renaming.apply(&mut self.live);
        self.unsynced.push(renaming);
    }

    pub(super) fn add(&mut self, path: &Path, is_file: bool) -> io::Result<u64> {
        let name = self.name(path)?;
        if self.live.contains_key(&name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.whole_step()?;
        self.next_node += 1;
        let node = self.next_node;
        if is_file {
            self.files.insert(node, Content::default());
        }
        self.rename(Renaming::Set(name, node));
        Ok(node)
    }

    /// See [`SimDisk::lose_power`](super::SimDisk::lose_power).
    pub(super) fn lose_power(&mut self) {
        self.restart();
        let unsynced = std::mem::take(&mut self.unsynced);
        let kept = self.roll(unsynced.len() as u64 + 1) as usize;
        for renaming in &unsynced[..kept] {
            renaming.apply(&mut self.durable);
        }
        self.live = self.durable.clone();
        let mut files = std::mem::take(&mut self.files);
        for content in files.values_mut() {
            let mut bytes = std::mem::take(&mut content.durable);
            let in_order = self.roll(2) == 0;
            let until = self.roll(content.unsynced.len() as u64 + 1) as usize;
            for (index, change) in content.unsynced.drain(..).enumerate() {
                let is_kept = if in_order { index < until } else { self.roll(2) == 0 };
                match &change {
                    _ if is_kept => change.apply(&mut bytes),
                    Change::Write(offset, written) if index == until => {
                        let torn = self.roll(written.len() as u64 + 1) as usize;
                        Change::Write(*offset, written[..torn].to_vec()).apply(&mut bytes);
                    }
                    _ => {}
                }
            }
            content.durable.clone_from(&bytes);
            content.live = bytes;
        }
        self.files = files;
    }

    pub(super) fn restart(&mut self) {
        self.boot += 1;
        self.locked.clear();
        self.stopped = false;
        self.stop_at = None;
        self.faults.clear();
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

pub(super) fn device_error() -> io::Error {
    io::Error::from_raw_os_error(5)
}
