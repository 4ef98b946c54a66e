//! One owner at a time.

use super::*;

#[test]
fn a_living_recorders_folder_is_not_adopted() {
    let root = tempfile::tempdir().unwrap();
    let one = Spool::create(root.path(), Options::default(), b"one").unwrap();
    let two = Spool::create(root.path(), Options::default(), b"two").unwrap();
    assert!(adopt(root.path()).unwrap().is_empty());
    let gone = one.recorder();
    let entry = one.begin(b"head", &[]).unwrap();
    drop(one);
    assert!(adopt(root.path()).unwrap().is_empty(), "an entry keeps its spool");
    drop(entry);
    assert_eq!(adopt_one(root.path()).recorder(), gone);
    drop(two);
    assert_eq!(adopt(root.path()).unwrap().len(), 2, "the first was let go again and not removed");
}

#[test]
fn of_two_adopters_one_gets_the_folder() {
    let root = tempfile::tempdir().unwrap();
    drop(Spool::create(root.path(), Options::default(), b"").unwrap());
    let first = adopt_one(root.path());
    assert!(adopt(root.path()).unwrap().is_empty());
    drop(first);
    let many: usize = std::thread::scope(|scope| {
        let adopters: Vec<_> = (0..8).map(|_| scope.spawn(|| adopt(root.path()).unwrap())).collect();
        let adopted: Vec<_> = adopters.into_iter().map(|adopter| adopter.join().unwrap()).collect();
        adopted.iter().map(Vec::len).sum()
    });
    assert_eq!(many, 1);
}

#[test]
fn folders_come_oldest_first_and_other_names_are_left_alone() {
    let root = tempfile::tempdir().unwrap();
    assert!(adopt(&root.path().join("missing")).unwrap().is_empty());
    fs::write(root.path().join("iccm.db"), b"x").unwrap();
    fs::create_dir(root.path().join("backup")).unwrap();
    let recorders: Vec<_> =
        (0..4).map(|_| Spool::create(root.path(), Options::default(), b"").unwrap().recorder()).collect();
    let adopted: Vec<_> = adopt(root.path()).unwrap().iter().map(Adopted::recorder).collect();
    assert_eq!(adopted, recorders);
    assert!(root.path().join("iccm.db").exists() && root.path().join("backup").exists());
}

#[test]
fn nobody_else_may_look_inside() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), Options::default(), b"").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(spool.dir()), 0o700);
    assert_eq!(mode(&segment_path(spool.dir(), 0)), 0o600);
}
