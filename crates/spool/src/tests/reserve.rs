//! A disk that others have filled: what closes the books still goes down.

use std::path::Path;
use std::sync::Arc;

use super::sim::SimDisk;
use super::{read_all, spool_on};
use crate::filesystem::FileSystem;
use crate::recovery::adopt_in;
use crate::{Channel, Error, Flags, Kind, Options, Reader, Spool};

fn spool(disk: &SimDisk, segment_bytes: u64) -> Spool {
    let options = Options { segment_bytes, ..Options::default() };
    spool_on(Arc::new(disk.clone()), Path::new("/spool"), options).unwrap()
}

fn is_full<T>(outcome: Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Full))
}

#[test]
fn on_a_full_disk_notes_and_ends_go_down_and_nothing_else_does() {
    // In a segment that has room, and where each needs a new one.
    for segment_bytes in [64 << 20, 1 << 10] {
        let disk = SimDisk::new(7);
        let spool = spool(&disk, segment_bytes);
        let (running, other) = (spool.begin(b"one", &[]).unwrap(), spool.begin(b"two", &[]).unwrap());
        disk.fill();
        assert!(is_full(running.append(Channel(1), &[1; 600])) && is_full(spool.begin(b"three", &[])));
        assert_eq!(spool.note(&[2; 700]).unwrap(), 3, "what did not go down took no number");
        running.close(&[], &[3; 700]).unwrap();
        other.close(&[], b"end").unwrap();
        assert!(is_full(spool.begin(b"four", &[])), "what is left of the reserve is not for this");
        spool.end_life(b"over").unwrap();

        let kinds: Vec<_> = read_all(Reader::follow(&spool)).into_iter().map(|(seq, kind, _)| (seq, kind)).collect();
        let end = Kind::End { flags: Flags::NONE };
        let life_end = Kind::LifeEnd { flags: Flags::NONE };
        let begun = [(0, Kind::LifeBegin), (1, Kind::Begin), (2, Kind::Begin)];
        assert_eq!(kinds, [&begun[..], &[(3, Kind::Note), (1, end), (2, end), (4, life_end)]].concat());
    }
}

#[test]
fn a_reserve_that_was_used_is_made_again_when_there_is_room() {
    let disk = SimDisk::new(7);
    let spool = spool(&disk, 64 << 20);
    spool.begin(b"begin", &[]).unwrap().finish(&[], b"end").unwrap();
    for _ in 0..3 {
        disk.fill();
        spool.note(b"a gap").unwrap();
        disk.fill();
        assert!(is_full(spool.note(b"another gap")), "it is used up");
        disk.make_room();
        spool.begin(b"begin", &[]).unwrap().finish(&[], b"end").unwrap();
    }
}

#[test]
fn recovery_closes_the_books_on_a_full_disk() {
    let disk = SimDisk::new(7);
    let spool = spool(&disk, 64 << 20);
    let entry = spool.begin(b"begin", &[]).unwrap();
    disk.fill();
    std::mem::forget((entry, spool));
    disk.kill();
    let fs: Arc<dyn FileSystem> = Arc::new(disk.clone());
    let adopted = adopt_in(&fs, Path::new("/spool")).unwrap();
    assert_eq!((adopted[0].recovered().ended_entries, adopted[0].recovered().ended_life), (1, true));
    let names = fs.names(adopted[0].dir()).unwrap();
    assert!(!names.iter().any(|name| name == "reserve"), "{names:?}");
}
