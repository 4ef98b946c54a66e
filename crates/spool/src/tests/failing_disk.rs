//! A file system that fails on demand. It is the real one otherwise.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::filesystem::{Access, Disk, DiskFile, FileSystem, Lock, Missing};
use crate::lock;

/// What is to fail from now on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    /// So many bytes can still be written; the write that exceeds it is cut short, the next fails as a full disk does.
    pub(super) room: Option<usize>,
    /// No write takes more than this.
    pub(super) longest_write: Option<usize>,
    pub(super) set_len: bool,
    pub(super) sync: bool,
    pub(super) sync_dir: bool,
    pub(super) remove: bool,
    /// So many locks come too late: a sweeper has removed the folder.
    pub(super) sweeps: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct FailingDisk {
    pub(super) faults: Arc<Mutex<Faults>>,
    /// What was synced, in order: file names, and `.` for a folder.
    pub(super) synced: Arc<Mutex<Vec<String>>>,
}

impl FailingDisk {
    pub(super) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.faults));
    }

    fn check(&self, fails: impl FnOnce(&Faults) -> bool) -> io::Result<()> {
        if fails(&lock(&self.faults)) { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
    }

    fn wrap(&self, path: &Path, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        Arc::new(FailingFile { disk: self.clone(), name, file })
    }
}

#[derive(Debug)]
struct FailingFile {
    disk: FailingDisk,
    name: String,
    file: Arc<dyn DiskFile>,
}

impl DiskFile for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut faults = lock(&self.disk.faults);
        let most = bytes.len().min(faults.room.unwrap_or(usize::MAX)).min(faults.longest_write.unwrap_or(usize::MAX));
        if most == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let written = self.file.write_at(&bytes[..most], offset)?;
        faults.room = faults.room.map(|room| room - written);
        Ok(written)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.check(|faults| faults.set_len)?;
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.check(|faults| faults.sync)?;
        lock(&self.disk.synced).push(self.name.clone());
        self.file.sync_data()
    }
}

impl FileSystem for FailingDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir_all(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.create_dir(dir)
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, Disk.create(path)?))
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(self.wrap(path, Disk.open(path, access)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.check(|faults| faults.remove)?;
        Disk.remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        Disk.remove_dir(dir)
    }

    fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        Disk.names(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.check(|faults| faults.sync_dir)?;
        lock(&self.synced).push(".".to_owned());
        Disk.sync_dir(dir)
    }

    fn try_lock(&self, path: &Path, missing: Missing) -> io::Result<Option<Box<dyn Lock>>> {
        let mut faults = lock(&self.faults);
        if faults.sweeps > 0 {
            faults.sweeps -= 1;
            Disk.remove_dir(path.parent().unwrap())?;
        }
        Disk.try_lock(path, missing)
    }
}
