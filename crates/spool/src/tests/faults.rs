//! Writes and syncs that fail.

use std::sync::Arc;

use super::failing_disk::FailingDisk;
use super::{read_all, spool_on};
use crate::{Channel, Durability, Error, Kind, Options, Position, Reader};

const BODY: Channel = Channel(1);
const SMALL_SEGMENTS: Options =
    Options { segment_bytes: 1024, max_bytes: 1 << 30, durability: Durability::Power, repeating: None };

#[test]
fn a_write_that_fails_half_way_is_undone_at_every_length() {
    for room in 0..400 {
        let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
        let spool = spool_on(Arc::new(disk.clone()), root.path(), Options::default()).unwrap();
        let kept = spool.begin(b"kept", &[(BODY, b"one")]).unwrap();
        let (written, bytes) = (spool.written(), spool.pending_bytes());

        disk.set(|faults| faults.room = Some(room));
        let refused = spool.begin(b"refused", &[(BODY, &[7; 400])]);
        assert!(matches!(refused, Err(Error::Full)), "{refused:?}");
        assert_eq!((spool.written(), spool.pending_bytes()), (written, bytes));
        let file = spool.dir().join("0000000000000000.seg");
        assert_eq!(std::fs::metadata(file).unwrap().len(), written.offset, "nothing half-written stays");

        disk.set(|faults| faults.room = None);
        let next = spool.begin(b"next", &[]).unwrap();
        assert_eq!(next.seq(), kept.seq() + 1, "a failed begin consumes no sequence number");
        let kinds: Vec<_> = read_all(Reader::follow(&spool)).into_iter().map(|(_, _, payload)| payload).collect();
        assert_eq!(kinds, [&b"about"[..], b"kept", b"one", b"next"]);
    }
}

#[test]
fn short_writes_are_continued() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    disk.set(|faults| faults.longest_write = Some(3));
    let spool = spool_on(Arc::new(disk), root.path(), SMALL_SEGMENTS).unwrap();
    let entry = spool.begin(b"head", &[]).unwrap();
    for byte in 0..10 {
        entry.append(BODY, &[byte; 300]).unwrap();
    }
    let parts: Vec<_> =
        read_all(Reader::follow(&spool)).into_iter().filter(|(_, kind, _)| matches!(kind, Kind::Part(_))).collect();
    assert_eq!(parts.len(), 10);
    assert!(parts.iter().enumerate().all(|(index, (_, _, bytes))| *bytes == [index as u8; 300]));
}

#[test]
fn a_segment_that_cannot_be_begun_leaves_the_old_one_in_use() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    let spool = spool_on(Arc::new(disk.clone()), root.path(), SMALL_SEGMENTS).unwrap();
    let entry = spool.begin(b"head", &[(BODY, &[1; 800])]).unwrap();
    disk.set(|faults| faults.room = Some(30));
    assert!(matches!(entry.append(BODY, &[2; 300]), Err(Error::Full)));
    assert_eq!(spool.written().segment, 0);
    disk.set(|faults| faults.room = None);
    assert_eq!(entry.append(BODY, &[2; 300]).unwrap().segment, 1);
    assert_eq!(read_all(Reader::follow(&spool)).len(), 4);
}

#[test]
fn an_undo_that_fails_poisons() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    let spool = spool_on(Arc::new(disk.clone()), root.path(), Options::default()).unwrap();
    let entry = spool.begin(b"head", &[]).unwrap();
    disk.set(|faults| (faults.room, faults.set_len) = (Some(10), true));
    assert!(matches!(entry.append(BODY, b"lost"), Err(Error::Poisoned)));
    disk.set(|faults| *faults = super::failing_disk::Faults::default());
    assert!(matches!(entry.append(BODY, b"later"), Err(Error::Poisoned)));
    assert!(matches!(spool.note(b"later"), Err(Error::Poisoned)));
    assert!(spool.is_poisoned());

    let records = read_all(Reader::follow(&spool)).len();
    assert_eq!(records, 2, "the reader sees nothing of the torn record");
    drop((entry, spool));
    let adopted = crate::recovery::adopt(root.path()).unwrap();
    assert_eq!(adopted[0].recovered().cut_bytes, 10);
    assert_eq!(adopted[0].recovered().ended_entries, 1);
}

#[tokio::test]
async fn a_sync_that_fails_poisons_and_wakes_everybody() {
    for is_dir in [false, true] {
        let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
        let spool = spool_on(Arc::new(disk.clone()), root.path(), SMALL_SEGMENTS).unwrap();
        let entry = spool.begin(b"head", &[]).unwrap();
        spool.sync_to(entry.begun()).await.unwrap();
        disk.set(|faults| *(if is_dir { &mut faults.sync_dir } else { &mut faults.sync }) = true);
        let end = entry.append(BODY, &[1; 2000]).unwrap();
        let follower = spool.wait_beyond(end);
        let (one, two, _) = tokio::join!(spool.sync_to(end), spool.sync_to(end), follower);
        assert!(matches!((one, two), (Err(Error::Poisoned), Err(Error::Poisoned))));
        disk.set(|faults| (faults.sync, faults.sync_dir) = (false, false));
        assert!(matches!(spool.sync_to(end).await, Err(Error::Poisoned)), "a failed sync is never tried again");
        assert!(matches!(entry.append(BODY, b"x"), Err(Error::Poisoned)));
        assert!(spool.synced() < end);
    }
}

#[tokio::test]
async fn segments_are_synced_in_order_and_the_folder_before_any_of_it_counts() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    let spool = spool_on(Arc::new(disk.clone()), root.path(), SMALL_SEGMENTS).unwrap();
    assert_eq!(spool.synced(), spool.written(), "with `Power` a new spool is on the disk");
    disk.synced.lock().unwrap().clear();
    let entry = spool.begin(b"head", &[]).unwrap();
    for _ in 0..3 {
        entry.append(BODY, &[1; 900]).unwrap();
    }
    let end = spool.written();
    assert_eq!(end.segment, 3);
    assert!(spool.synced() < Position { segment: 1, offset: 0 });
    spool.sync_to(end).await.unwrap();
    assert_eq!(spool.synced(), end);
    let synced = disk.synced.lock().unwrap().clone();
    let segment = |number: u64| format!("{number:016}.seg");
    assert_eq!(synced, [segment(0), segment(1), segment(2), segment(3), ".".to_owned(), ".".to_owned()]);
}

#[test]
fn a_release_that_fails_can_be_repeated() {
    let (disk, root) = (FailingDisk::default(), tempfile::tempdir().unwrap());
    let spool = spool_on(Arc::new(disk.clone()), root.path(), SMALL_SEGMENTS).unwrap();
    let entry = spool.begin(b"head", &[(BODY, &[1; 800])]).unwrap();
    entry.append(BODY, &[2; 900]).unwrap();
    let before = spool.pending_bytes();
    disk.set(|faults| faults.remove = true);
    assert!(matches!(spool.release_before(1), Err(Error::Io { .. })));
    assert_eq!(spool.pending_bytes(), before, "what is there still counts");
    disk.set(|faults| faults.remove = false);
    spool.release_before(1).unwrap();
    assert_eq!((spool.pending_bytes(), spool.first_segment()), (spool.written().offset, 1));
}
