//! A full spool refuses, closes its books all the same, and goes on when there is room.

use super::*;
use spool::Error;

const MAX: u64 = 300 << 10;

fn full_spool(root: &Path) -> (Spool, Vec<spool::Entry>) {
    let options = Options { segment_bytes: 32 << 10, max_bytes: MAX, durability: Durability::Process, repeating: None };
    let spool = Spool::create(root, options, b"about").unwrap();
    let entries: Vec<_> = (0..5).map(|_| spool.begin(b"head", &[]).unwrap()).collect();
    while entries[0].append(REQUEST, &[1; 1000]).is_ok() {}
    (spool, entries)
}

#[test]
fn a_full_spool_refuses_and_consumes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (spool, entries) = full_spool(root.path());
    let before = (spool.written(), spool.pending_bytes());
    assert!(matches!(entries[1].append(REQUEST, &[1; 1000]), Err(Error::Full)));
    assert!(matches!(spool.begin(b"head", &[(REQUEST, b"body")]), Err(Error::Full)));
    assert!(matches!(entries[1].close(&[(REQUEST, &[1; 8000])], b"end"), Err(Error::Full)));
    assert_eq!((spool.written(), spool.pending_bytes()), before);
    entries[1].close(&[], b"end").unwrap();
}

#[test]
fn the_books_can_be_closed_however_full_it_is() {
    let root = tempfile::tempdir().unwrap();
    let (spool, entries) = full_spool(root.path());
    let mut notes = 0;
    while spool.note(&[2; 200]).is_ok() {
        notes += 1;
    }
    assert!(notes > 100, "notes have a reserve of their own");
    for entry in entries {
        entry.finish(&[(RESPONSE, &[3; 2000])], &[4; 1900]).unwrap();
    }
    spool.end_life(&[5; 1000]).unwrap();
    assert!(spool.pending_bytes() <= MAX);
    let on_disk: u64 =
        (0..=spool.written().segment).map(|n| fs::metadata(segment_path(spool.dir(), n)).unwrap().len()).sum();
    assert_eq!(spool.pending_bytes(), on_disk);
}

#[test]
fn a_release_makes_room() {
    let root = tempfile::tempdir().unwrap();
    let (spool, entries) = full_spool(root.path());
    let refused = spool.begin(b"head", &[]);
    assert!(matches!(refused, Err(Error::Full)));
    spool.release_before(4).unwrap();
    assert_eq!(spool.begin(b"head", &[]).unwrap().seq(), 6, "the refused begin took no number");
    let mut appended = 0;
    while entries[1].append(REQUEST, &[1; 1000]).is_ok() {
        appended += 1;
    }
    assert!(appended > 100, "{appended}");
}

#[test]
fn options_that_contradict_themselves_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let good = Options::default();
    for bad in [
        Options { segment_bytes: 10, ..good },
        Options { max_bytes: 10, ..good },
        Options { segment_bytes: 1 << 40, ..good },
    ] {
        assert!(matches!(Spool::create(root.path(), bad, b""), Err(Error::Options(_))));
    }
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}
