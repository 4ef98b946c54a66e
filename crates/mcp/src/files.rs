//! Files that a call names, from folders that the operator allows, and no other file.
//!
//! A path is walked from the folder on, name by name, each opened without following links and relative to the one before,
//! so that nothing that is swapped meanwhile leads out. So refused: `..`, links anywhere below the folder, whatever is no
//! regular file (a pipe would make us wait for ever), and files over the bound that the caller gives.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// Why a file was not read: what its path must be, to stand after the parameter's name.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is below none of the folders.
    #[error("must be a file below {0}")]
    Outside(String),
    /// A link is in the way.
    #[error("must not be, or lead through, a symbolic link or a file that is no folder")]
    Link,
    /// It is a folder, a pipe or a device.
    #[error("must be a regular file")]
    NotRegular,
    /// It has more bytes.
    #[error("must be a file of at most {0} bytes")]
    TooLarge(u64),
    /// The system gives it to nobody.
    #[error("must be a file that can be read: {0}")]
    Unreadable(#[from] io::Error),
}

impl From<Errno> for FileError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::LOOP | Errno::NOTDIR | Errno::MLINK => Self::Link,
            error => Self::Unreadable(error.into()),
        }
    }
}

/// The folders below which files may be read.
#[derive(Clone, Copy, Debug)]
pub struct Folders<'a> {
    /// Which; a relative path is one in the first.
    pub allowed: &'a [PathBuf],
    /// What they are to the user, e.g. `an import folder of the server`.
    pub called: &'static str,
}

impl Folders<'_> {
    /// A file's bytes, at most `max_bytes` of them.
    ///
    /// # Errors
    /// See [`FileError`].
    pub fn read(&self, path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
        let (folder, names) = self.place(path)?;
        contents(open_below(folder, &names)?, max_bytes)
    }

    /// The folder that a path is below, and the names from there on.
    fn place<'p>(&'p self, path: &'p Path) -> Result<(&'p Path, Vec<&'p OsStr>), FileError> {
        let outside = || {
            let allowed: Vec<String> = self.allowed.iter().map(|folder| folder.display().to_string()).collect();
            FileError::Outside(format!("{}: {}", self.called, allowed.join(", ")))
        };
        let (folder, rest) = if path.is_relative() {
            (self.allowed.first().ok_or_else(outside)?.as_path(), path)
        } else {
            let below = |folder: &'p PathBuf| Some((folder.as_path(), path.strip_prefix(folder).ok()?));
            self.allowed.iter().find_map(below).ok_or_else(outside)?
        };
        let mut names = Vec::new();
        for component in rest.components() {
            match component {
                Component::Normal(name) => names.push(name),
                Component::CurDir => {}
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(outside()),
            }
        }
        if names.is_empty() { Err(outside()) } else { Ok((folder, names)) }
    }
}

/// Any file's bytes, at most `max_bytes` of them: for a path that the user gave at a terminal, links and all.
///
/// # Errors
/// See [`FileError`].
pub fn read_anywhere(path: &Path, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    contents(openat(CWD, path, TO_FILE, Mode::empty())?.into(), max_bytes)
}

/// Without waiting for the other end of a pipe, which then is refused.
const TO_FILE: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::CLOEXEC);
const TO_FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_below(folder: &Path, names: &[&OsStr]) -> rustix::io::Result<File> {
    // The folder itself is the operator's choice, links and all.
    let mut at: OwnedFd = openat(CWD, folder, TO_FOLDER, Mode::empty())?;
    let Some((last, above)) = names.split_last() else {
        return Err(Errno::ISDIR);
    };
    for name in above {
        at = openat(&at, *name, TO_FOLDER | OFlags::NOFOLLOW, Mode::empty())?;
    }
    openat(&at, *last, TO_FILE | OFlags::NOFOLLOW, Mode::empty()).map(File::from)
}

fn contents(file: File, max_bytes: u64) -> Result<Vec<u8>, FileError> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(FileError::NotRegular);
    }
    if about.len() > max_bytes {
        return Err(FileError::TooLarge(max_bytes));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(max_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes { Err(FileError::TooLarge(max_bytes)) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const MAX: u64 = 1000;

    struct Place {
        _all: tempfile::TempDir,
        root: PathBuf,
        folders: Vec<PathBuf>,
    }

    impl Place {
        fn new() -> Self {
            let all = tempfile::tempdir().unwrap();
            let root = all.path().to_owned();
            let folder = root.join("import");
            std::fs::create_dir_all(folder.join("sub")).unwrap();
            std::fs::write(folder.join("a.json"), "inside").unwrap();
            std::fs::write(folder.join("sub/b.json"), "below").unwrap();
            std::fs::write(root.join("secret"), "secret").unwrap();
            Self { _all: all, root, folders: vec![folder] }
        }

        fn read(&self, path: impl AsRef<Path>) -> Result<String, String> {
            let folders = Folders { allowed: &self.folders, called: "a folder of the test" };
            let bytes = folders.read(path.as_ref(), MAX).map_err(|error| error.to_string())?;
            Ok(String::from_utf8(bytes).unwrap())
        }
    }

    #[test]
    fn files_below_the_folder_are_read() {
        let place = Place::new();
        assert_eq!(place.read("a.json").as_deref(), Ok("inside"));
        assert_eq!(place.read("./sub/b.json").as_deref(), Ok("below"));
        assert_eq!(place.read(place.folders[0].join("sub/b.json")).as_deref(), Ok("below"));
    }

    #[test]
    fn nothing_leads_out() {
        let place = Place::new();
        let folder = &place.folders[0];
        symlink(place.root.join("secret"), folder.join("link")).unwrap();
        symlink(&place.root, folder.join("way")).unwrap();
        symlink("a.json", folder.join("inner")).unwrap();
        let outside = format!("must be a file below a folder of the test: {}", folder.display());
        for path in [
            "../secret".into(),
            "sub/../../secret".into(),
            "/etc/passwd".into(),
            place.root.join("secret"),
            folder.join("../secret"),
            place.root.join("import-other/secret"),
            "".into(),
            ".".into(),
            folder.clone(),
        ] {
            assert_eq!(place.read(&path).unwrap_err(), outside, "{}", path.display());
        }
        for path in ["link", "way/secret", "inner", "a.json/x"] {
            assert!(place.read(path).unwrap_err().contains("symbolic link"), "{path}");
        }
        assert!(Folders { allowed: &[], called: "none" }.read(Path::new("a.json"), MAX).is_err());
        assert_eq!(read_anywhere(&folder.join("link"), MAX).unwrap(), b"secret");
    }

    #[test]
    fn what_is_no_regular_file_of_bounded_size_is_refused() {
        let place = Place::new();
        let folder = &place.folders[0];
        assert!(place.read("nothing").unwrap_err().contains("can be read"));
        assert!(place.read("sub").unwrap_err().contains("regular file"));
        File::create(folder.join("large")).unwrap().set_len(MAX + 1).unwrap();
        assert!(place.read("large").unwrap_err().contains("at most 1000 bytes"));
        // Says that it is empty, and is not.
        assert!(matches!(read_anywhere(Path::new("/proc/self/status"), 10), Err(FileError::TooLarge(10))));
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(place.read("pipe").unwrap_err().contains("regular file"), "and nobody waits for its other end");
        assert!(matches!(read_anywhere(&pipe, MAX), Err(FileError::NotRegular)));
    }
}
