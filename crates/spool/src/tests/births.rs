//! Folders that are born, swept and removed at the same time.

use std::path::Path;
use std::sync::Arc;

use super::failing_disk::FailingDisk;
use super::spool_on;
use crate::filesystem::{Disk, FileSystem};
use crate::folder::{Name, Newborn};
use crate::recovery::adopt;
use crate::{Options, RecorderId, Spool};

fn disk() -> Arc<dyn FileSystem> {
    Arc::new(Disk)
}

fn names(root: &Path) -> Vec<String> {
    let mut names = Disk.names(root).unwrap();
    names.sort();
    names
}

#[test]
fn names_are_told_apart() {
    let id = "01900000-0000-7000-8000-000000000001";
    assert!(matches!(Name::of(id), Name::Recorder(recorder) if recorder.to_string() == id));
    assert_eq!(Name::of(&format!("{id}.new")), Name::Leftover);
    assert_eq!(Name::of(&format!("{id}.gone")), Name::Leftover);
    for foreign in ["", "lost+found", "iccm.db", "01900000000070008000000000000001", ".new", "x.gone"] {
        assert_eq!(Name::of(foreign), Name::Foreign, "{foreign}");
    }
    assert_eq!(Name::of(&format!("{id}.bak")), Name::Foreign);
}

#[test]
fn a_newborn_is_invisible_until_its_life_has_begun() {
    let root = tempfile::tempdir().unwrap();
    let mut id = || RecorderId(uuid::Uuid::now_v7());
    let newborn = Newborn::create(&disk(), root.path(), &mut id).unwrap();
    assert!(adopt(root.path()).unwrap().is_empty());
    assert_eq!(names(root.path()), [format!("{}.new", newborn.recorder)], "and nobody sweeps it, it is locked");
    drop(newborn);
    assert!(adopt(root.path()).unwrap().is_empty());
    assert!(names(root.path()).is_empty(), "what was never born is swept");
}

#[test]
fn a_newborn_that_is_swept_before_it_is_locked_is_born_again() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    disk.set(|faults| faults.sweeps = 3);
    let spool = spool_on(Arc::new(disk.clone()), root.path(), Options::default()).unwrap();
    assert_eq!(names(root.path()), [spool.recorder().to_string()]);
    disk.set(|faults| faults.sweeps = u32::MAX);
    assert!(matches!(spool_on(Arc::new(disk), root.path(), Options::default()), Err(crate::Error::Io { .. })));
}

#[test]
fn a_removal_that_died_half_way_is_finished_by_the_next_adoption() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool_on(disk(), root.path(), Options::default()).unwrap();
    let dir = spool.dir().to_owned();
    spool.end_life(b"").unwrap();
    drop(spool);
    std::fs::rename(&dir, dir.with_extension("gone")).unwrap();
    assert!(adopt(root.path()).unwrap().is_empty());
    assert!(names(root.path()).is_empty());
}

#[test]
fn many_births_adoptions_and_removals_at_once_lose_nothing() {
    let root = tempfile::tempdir().unwrap();
    let born = std::sync::Mutex::new(Vec::new());
    let removed = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..40 {
                    let spool = Spool::create(root.path(), Options::default(), b"about").unwrap();
                    born.lock().unwrap().push(spool.recorder());
                }
            });
            scope.spawn(|| {
                for _ in 0..40 {
                    for adopted in adopt(root.path()).unwrap() {
                        let recorder = adopted.recorder();
                        adopted.remove().unwrap();
                        removed.lock().unwrap().push(recorder);
                    }
                }
            });
        }
    });
    let mut removed = removed.into_inner().unwrap();
    for adopted in adopt(root.path()).unwrap() {
        removed.push(adopted.recorder());
        adopted.remove().unwrap();
    }
    let mut born = born.into_inner().unwrap();
    born.sort();
    removed.sort();
    assert_eq!(born, removed, "each was adopted exactly once");
    assert!(names(root.path()).is_empty());
}
