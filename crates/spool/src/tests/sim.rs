//! A disk in memory that fails as disks do, and forgets as they do.
//!
//! Each operation that changes something is a step. At a chosen step the machine stops: that operation happens in part (a write) or
//! not at all, and none after it happens. Other steps may fail by themselves. After the stop, [`SimDisk::kill`] keeps all that
//! was done, as the kernel does when a process dies; [`SimDisk::lose_power`] keeps what was synced, file by file and folder by
//! folder, and of the rest whatever the dice say.

mod state;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

pub(super) use self::state::Fault;
use self::state::{Change, Content, Renaming, State, device_error};
use crate::filesystem::{Access, DiskFile, FileSystem, Lock, Missing};
use crate::lock;

/// Clones are the same disk.
#[derive(Debug, Clone)]
pub(super) struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    pub(super) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State::new(seed))))
    }

    /// The machine stops at the step after so many.
    pub(super) fn stop_after(&self, steps: u64) {
        let mut state = lock(&self.0);
        state.stop_at = Some(state.steps + 1 + steps);
    }

    /// The step after so many fails.
    pub(super) fn fail_after(&self, steps: u64, fault: Fault) {
        let mut state = lock(&self.0);
        let at = state.steps + 1 + steps;
        state.faults.insert(at, fault);
    }

    /// The disk is full; but for what is deleted.
    pub(super) fn fill(&self) {
        let mut state = lock(&self.0);
        state.capacity = state.used();
    }

    /// There is room again.
    pub(super) fn make_room(&self) {
        lock(&self.0).capacity = u64::MAX;
    }

    pub(super) fn has_stopped(&self) -> bool {
        lock(&self.0).stopped
    }

    /// The process is gone; what it did stays.
    pub(super) fn kill(&self) {
        lock(&self.0).restart();
    }

    /// The power is gone: of each file what was synced, and of what came after it whatever happened to be written back, some of
    /// it in part; of names those whose folder was synced, and the first few of the others.
    pub(super) fn lose_power(&self) {
        lock(&self.0).lose_power();
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    node: u64,
}

impl SimFile {
    fn with<T>(&self, act: impl FnOnce(&mut State, &mut Content) -> io::Result<T>) -> io::Result<T> {
        let mut state = lock(&self.disk.0);
        let mut content = state.files.remove(&self.node).ok_or(io::ErrorKind::NotFound)?;
        let result = act(&mut state, &mut content);
        state.files.insert(self.node, content);
        result
    }
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.with(|state, content| {
            let fault = state.step()?;
            if state.used() + (content.live.len() as u64).max(offset + bytes.len() as u64) > state.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = if fault.is_some() { state.roll(bytes.len() as u64 + 1) as usize } else { bytes.len() };
            if taken > 0 {
                content.change(Change::Write(offset, bytes[..taken].to_vec()));
            }
            match fault {
                None => Ok(taken),
                Some(Fault::Short) => Ok(taken.max(1)).inspect(|_| {
                    if taken == 0 {
                        content.change(Change::Write(offset, bytes[..1].to_vec()));
                    }
                }),
                Some(Fault::Io) => Err(device_error()),
                Some(Fault::NoSpace) => Err(io::ErrorKind::StorageFull.into()),
            }
        })
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|_, content| {
            let from = content.live.len().min(offset as usize);
            let len = bytes.len().min(content.live.len() - from);
            bytes[..len].copy_from_slice(&content.live[from..from + len]);
            Ok(len)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|state, content| {
            state.whole_step()?;
            content.change(Change::Len(len));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|_, content| Ok(content.live.len() as u64))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|state, content| {
            if let Err(error) = state.whole_step() {
                // The kernel reports the failure once and drops what it could not write: a second sync would succeed.
                if !state.stopped {
                    content.unsynced.clear();
                }
                return Err(error);
            }
            for change in content.unsynced.drain(..) {
                change.apply(&mut content.durable);
            }
            // What a failed sync has dropped is a hole of old bytes that later syncs do not fill.
            Ok(())
        })
    }
}

#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    node: u64,
    boot: u64,
}

impl Lock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = lock(&self.disk.0);
        if state.boot == self.boot {
            state.locked.retain(|node| *node != self.node);
        }
    }
}

impl FileSystem for SimDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut at = PathBuf::new();
        for name in dir {
            at.push(name);
            let is_there = lock(&self.0).node(&at).is_ok();
            if !is_there {
                self.create_dir(&at)?;
            }
        }
        Ok(())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        lock(&self.0).add(dir, false).map(drop)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let node = lock(&self.0).add(path, true)?;
        Ok(Arc::new(SimFile { disk: self.clone(), node }))
    }

    fn open(&self, path: &Path, _: Access) -> io::Result<Arc<dyn DiskFile>> {
        let state = lock(&self.0);
        let node = state.node(path)?;
        if !state.files.contains_key(&node) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(Arc::new(SimFile { disk: self.clone(), node }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.node(from)?;
        state.whole_step()?;
        let renaming = Renaming::Move(state.name(from)?, state.name(to)?);
        state.rename(renaming);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        state.node(path)?;
        state.whole_step()?;
        let name = state.name(path)?;
        state.rename(Renaming::Unset(name));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let node = state.node(dir)?;
        if state.live.keys().any(|(folder, _)| *folder == node) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        state.whole_step()?;
        let name = state.name(dir)?;
        state.rename(Renaming::Unset(name));
        Ok(())
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = lock(&self.0);
        let node = state.node(dir)?;
        Ok(state.live.keys().filter(|(folder, _)| *folder == node).map(|(_, name)| name.clone()).collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let node = state.node(dir)?;
        state.whole_step()?;
        let (synced, unsynced) =
            std::mem::take(&mut state.unsynced).into_iter().partition(|renaming| renaming.folder() == node);
        state.unsynced = unsynced;
        let synced: Vec<Renaming> = synced;
        synced.iter().for_each(|renaming| renaming.apply(&mut state.durable));
        Ok(())
    }

    fn try_lock(&self, path: &Path, missing: Missing) -> io::Result<Option<Box<dyn Lock>>> {
        let mut state = lock(&self.0);
        let node = match state.node(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && missing == Missing::Create => {
                state.add(path, true)?
            }
            node => node?,
        };
        if state.locked.contains(&node) {
            return Ok(None);
        }
        state.locked.push(node);
        Ok(Some(Box::new(SimLock { disk: self.clone(), node, boot: state.boot })))
    }
}
