//! A recorder's folder: its names, its birth, its lock and its removal.
//!
//! ```text
//! ROOT/UUID/lock                  flock, held as long as the owner lives (kill -9 frees it)
//! ROOT/UUID/NNNNNNNNNNNNNNNN.seg  segments, numbered without a gap from the first that is retained
//! ROOT/UUID/reserve               zeros, deleted when the disk is full
//! ROOT/UUID.new/                  being born: renamed to UUID when it is locked and its life has begun
//! ROOT/UUID.gone/                 being removed: renamed first, then emptied
//! ```
//!
//! Both renames make the change of hands one step: whoever sees `UUID` sees a folder with a lock file and a begun life, and
//! an adopter that was about to lock a folder which is just being removed finds its path gone and leaves it alone. A
//! leftover `.new` or `.gone` whose lock is free belongs to nobody and is swept at the next adoption. A newborn that loses its
//! temporary folder to a sweeper (it can, between creating the folder and locking it) begins again under a new id.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use crate::error::{Error, Result};
use crate::filesystem::{Access, DiskFile, FileSystem, Lock, Missing, write_all_at};
use crate::format::{RecorderId, SegmentHeader};
use crate::lock;

const LOCK_NAME: &str = "lock";
const SEGMENT_SUFFIX: &str = ".seg";
const NEWBORN_SUFFIX: &str = "new";
const GONE_SUFFIX: &str = "gone";
/// How often a newborn that lost its temporary folder to a sweeper tries again.
const BIRTHS: u32 = 16;
/// How many segment files stay open for reading.
const OPEN_FILES: usize = 4;

/// A recorder's folder on a file system.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    pub(crate) fs: Arc<dyn FileSystem>,
    pub(crate) dir: PathBuf,
}

/// What a name in the spool's root stands for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Recorder(RecorderId),
    Leftover,
    Foreign,
}

impl Name {
    pub(crate) fn of(name: &str) -> Self {
        let id = |text: &str| Uuid::try_parse(text).ok().filter(|id| id.hyphenated().to_string() == text);
        match name.split_once('.') {
            None => id(name).map_or(Self::Foreign, |id| Self::Recorder(RecorderId(id))),
            Some((stem, NEWBORN_SUFFIX | GONE_SUFFIX)) if id(stem).is_some() => Self::Leftover,
            Some(_) => Self::Foreign,
        }
    }
}

impl Folder {
    pub(crate) fn segment_path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{number:016}{SEGMENT_SUFFIX}"))
    }

    /// The numbers of the segments that exist, ascending.
    pub(crate) fn segments(&self) -> io::Result<Vec<u64>> {
        let number = |name: String| name.strip_suffix(SEGMENT_SUFFIX).filter(|stem| stem.len() == 16)?.parse().ok();
        let mut numbers: Vec<u64> = self.fs.names(&self.dir)?.into_iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Creates a segment with its header. On failure no file is left behind, or, when that fails too, the answer is `Poisoned`:
    /// a half-written header in the way of the next segment's name cannot be written around.
    pub(crate) fn create_segment(&self, header: &SegmentHeader) -> Result<Arc<dyn DiskFile>> {
        let path = self.segment_path(header.number);
        let file = self.fs.create(&path).map_err(Error::io("creating a segment"))?;
        let Err(error) = write_all_at(&*file, &header.encode(), 0) else {
            return Ok(file);
        };
        match self.fs.remove_file(&path) {
            Ok(()) => Err(Error::io("writing a segment's header")(error)),
            Err(cut) => {
                tracing::error!(%error, %cut, "a half-created spool segment could not be removed; recording stops until a restart");
                Err(Error::Poisoned)
            }
        }
    }

    pub(crate) fn open_segment(&self, number: u64, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.fs.open(&self.segment_path(number), access)
    }

    /// Makes the names of the segments, and of the folder itself, durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        self.fs.sync_dir(&self.dir)?;
        self.fs.sync_dir(self.dir.parent().unwrap_or(Path::new(".")))
    }

    /// Takes the folder's lock, with a new lock file when somebody has deleted it.
    pub(crate) fn try_lock(&self) -> io::Result<Option<Box<dyn Lock>>> {
        self.fs.try_lock(&self.dir.join(LOCK_NAME), Missing::Create)
    }

    /// Deletes a folder that died while it was born or removed, unless it lives after all.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        // Never with a new lock file: it would stand in the way of a remover that has deleted its own and is about to delete the
        // folder. A folder without one is empty, or gets one in a moment; the latter is not deleted, or is born again.
        match self.fs.try_lock(&self.dir.join(LOCK_NAME), Missing::Fail) {
            Ok(Some(_lock)) => self.empty(),
            Ok(None) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.fs.remove_dir(&self.dir),
            Err(error) => Err(error),
        }
    }

    /// Removes the folder and all in it. The caller holds its lock.
    pub(crate) fn remove(&self) -> io::Result<()> {
        let gone = self.dir.with_extension(GONE_SUFFIX);
        self.fs.rename(&self.dir, &gone)?;
        Self { fs: self.fs.clone(), dir: gone }.empty()
    }

    /// Deletes what is in a folder and then the folder; the lock file last, so that who finds no lock file finds an empty folder.
    fn empty(&self) -> io::Result<()> {
        let names = self.fs.names(&self.dir)?;
        for name in names.iter().filter(|name| *name != LOCK_NAME) {
            self.fs.remove_file(&self.dir.join(name))?;
        }
        if names.iter().any(|name| name == LOCK_NAME) {
            self.fs.remove_file(&self.dir.join(LOCK_NAME))?;
        }
        match self.fs.remove_dir(&self.dir) {
            // A sweeper was faster with the empty folder.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
}

/// Creates the root folder, and its parents where they are missing, and makes the names of those that were created durable. (Or
/// nothing below them would survive a loss of power, however well it was synced.)
fn create_root(fs: &dyn FileSystem, root: &Path) -> Result<()> {
    let is_missing = |dir: &&Path| matches!(fs.names(dir), Err(error) if error.kind() == io::ErrorKind::NotFound);
    let named = |dir: &Path| !dir.as_os_str().is_empty();
    let missing: Vec<_> = root.ancestors().filter(|dir| named(dir)).take_while(is_missing).collect();
    fs.create_dir_all(root).map_err(Error::io("creating the spool's root folder"))?;
    for dir in missing {
        let parent = dir.parent().filter(|parent| named(parent)).unwrap_or(Path::new("."));
        fs.sync_dir(parent).map_err(Error::io("syncing the folder of the spool's root folder"))?;
    }
    Ok(())
}

/// A folder that has been locked under its temporary name and not yet been given its own.
#[derive(Debug)]
pub(crate) struct Newborn {
    pub(crate) folder: Folder,
    pub(crate) recorder: RecorderId,
    pub(crate) lock: Box<dyn Lock>,
    home: PathBuf,
}

impl Newborn {
    /// Creates and locks a folder for a new recorder below `root`; `id` gives an id for each try.
    pub(crate) fn create(fs: &Arc<dyn FileSystem>, root: &Path, id: &mut dyn FnMut() -> RecorderId) -> Result<Self> {
        create_root(&**fs, root)?;
        for _ in 0..BIRTHS {
            let recorder = id();
            let home = root.join(recorder.to_string());
            let folder = Folder { fs: fs.clone(), dir: home.with_extension(NEWBORN_SUFFIX) };
            fs.create_dir(&folder.dir).map_err(Error::io("creating the recorder's folder"))?;
            match folder.try_lock() {
                Ok(Some(lock)) => {
                    return Ok(Self { folder, recorder, lock, home });
                }
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("locking the recorder's folder")(error)),
            }
        }
        let source =
            io::Error::other("it was swept away each time; is a virus scanner or a loop of recorders at work?");
        Err(Error::Io { doing: "locking the recorder's folder", source })
    }

    /// Gives the folder its name: from now on adopters see it.
    pub(crate) fn settle(self) -> Result<(Folder, Box<dyn Lock>)> {
        let Self { folder, lock, home, .. } = self;
        folder.fs.rename(&folder.dir, &home).map_err(Error::io("naming the recorder's folder"))?;
        Ok((Folder { fs: folder.fs, dir: home }, lock))
    }
}

/// The segments of a folder, opened for reading when they are needed. A handful of files stays open; a released one is let
/// go, or its blocks would stay occupied.
#[derive(Debug)]
pub(crate) struct SegmentFiles {
    folder: Folder,
    /// The most recently used at the end.
    open: Mutex<Vec<(u64, Arc<dyn DiskFile>)>>,
}

impl SegmentFiles {
    pub(crate) fn new(folder: Folder) -> Self {
        Self { folder, open: Mutex::new(Vec::with_capacity(OPEN_FILES)) }
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn get(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = lock(&self.open);
        if let Some(found) = open.iter().position(|(known, _)| *known == number) {
            let entry = open.remove(found);
            open.push(entry);
        } else {
            let file = self.folder.open_segment(number, Access::Read)?;
            if open.len() == OPEN_FILES {
                open.remove(0);
            }
            open.push((number, file));
        }
        open.last().map(|(_, file)| file.clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Deletes one segment; that it is already gone is fine.
    pub(crate) fn remove(&self, number: u64) -> Result<()> {
        let removed = self.folder.fs.remove_file(&self.folder.segment_path(number));
        // Only now: before the file is gone, a reader could open it again.
        lock(&self.open).retain(|(known, _)| *known != number);
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("deleting a released segment")(error))
            }
            _ => Ok(()),
        }
    }
}
