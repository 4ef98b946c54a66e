//! A file below an import folder, and no other file.
//!
//! A path is walked from the folder on, name by name, each opened without following links and relative to the one before,
//! so that nothing that is swapped meanwhile leads out. So refused: `..`, links anywhere below the folder, whatever is no
//! regular file (a pipe would make us wait for ever), and files over [`MAX_FILE_BYTES`].

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

/// A file has at most so many bytes.
pub(super) const MAX_FILE_BYTES: u64 = 256 << 20;

/// The file's text; or what the path must be, to stand after the parameter's name.
pub(super) fn read(path: &Path, folders: &[PathBuf]) -> Result<String, String> {
    let (folder, names) = place(path, folders)?;
    let file = open(folder, &names).map_err(|error| match error {
        Errno::LOOP | Errno::NOTDIR | Errno::MLINK => {
            "must not be, or lead through, a symbolic link or a file that is no folder".to_owned()
        }
        error => format!("must be a file that can be read: {}", std::io::Error::from(error)),
    })?;
    let about = file.metadata().map_err(|error| format!("must be a file that can be read: {error}"))?;
    if !about.is_file() {
        return Err("must be a regular file".to_owned());
    }
    let too_large = || format!("must be a file of at most {MAX_FILE_BYTES} bytes; divide it");
    if about.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    // It may grow while it is read.
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("must be a file that can be read: {error}"))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    String::from_utf8(bytes).map_err(|error| format!("must be a file of UTF-8 text: {error}"))
}

/// The import folder that a path is below, and the names from there on. A relative path is one in the first folder.
fn place<'a>(path: &'a Path, folders: &'a [PathBuf]) -> Result<(&'a Path, Vec<&'a std::ffi::OsStr>), String> {
    let allowed = || folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ");
    let outside = || format!("must be a file below an import folder of the server: {}", allowed());
    let (folder, rest) = if path.is_relative() {
        (folders.first().ok_or_else(outside)?.as_path(), path)
    } else {
        let below = |folder: &'a PathBuf| Some((folder.as_path(), path.strip_prefix(folder).ok()?));
        folders.iter().find_map(below).ok_or_else(outside)?
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

fn open(folder: &Path, names: &[&std::ffi::OsStr]) -> rustix::io::Result<File> {
    let to_folder = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // The folder itself is the operator's choice, links and all.
    let mut at: OwnedFd = openat(CWD, folder, to_folder, Mode::empty())?;
    let Some((last, above)) = names.split_last() else {
        return Err(Errno::ISDIR);
    };
    for name in above {
        at = openat(&at, *name, to_folder | OFlags::NOFOLLOW, Mode::empty())?;
    }
    let to_file = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    openat(&at, *last, to_file, Mode::empty()).map(File::from)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

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
            read(path.as_ref(), &self.folders)
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
        for path in [
            "../secret".into(),
            "sub/../../secret".into(),
            "link".into(),
            "way/secret".into(),
            "inner".into(),
            "/etc/passwd".into(),
            place.root.join("secret"),
            folder.join("../secret"),
            place.root.join("import-other/secret"),
            "".into(),
            ".".into(),
            folder.clone(),
        ] {
            let refused = place.read(&path).unwrap_err();
            assert!(refused.starts_with("must"), "{}: {refused}", path.display());
        }
        assert!(read(Path::new("a.json"), &[]).is_err());
    }

    #[test]
    fn what_is_no_text_file_of_bounded_size_is_refused() {
        let place = Place::new();
        let folder = &place.folders[0];
        assert!(place.read("nothing").unwrap_err().contains("can be read"));
        assert!(place.read("sub").unwrap_err().contains("regular file"));
        std::fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
        assert!(place.read("binary").unwrap_err().contains("UTF-8"));
        File::create(folder.join("large")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(place.read("large").unwrap_err().contains("at most"));
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(CWD, &pipe, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        assert!(place.read("pipe").unwrap_err().contains("regular file"), "and nobody waits for its other end");
    }
}
