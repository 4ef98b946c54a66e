//! Bits that rot, files that vanish: never silently wrong.

use super::*;
use spool::Error;

/// Three segments of notes; returns the records too.
fn three_segments() -> (tempfile::TempDir, Spool, Vec<Seen>) {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"about").unwrap();
    for index in 0..8_u8 {
        spool.note(&[index; 300]).unwrap();
    }
    assert_eq!(spool.written().segment, 3);
    let records = drain(&mut Reader::follow(&spool));
    (root, spool, records)
}

/// All that can be read, and how often something could not.
fn drain_damaged(reader: &mut Reader) -> (Vec<Seen>, usize) {
    let (mut all, mut damaged) = (Vec::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(record)) => match reader.read(&record.payload) {
                Ok(payload) => all.push(seen(record.seq, record.kind, &payload)),
                Err(Error::Damaged { .. }) => damaged += 1,
                Err(other) => unreachable!("{other}"),
            },
            Ok(None) => return (all, damaged),
            Err(Error::Damaged { .. }) => damaged += 1,
            Err(other) => unreachable!("{other}"),
        }
    }
}

fn flip(file: &Path, byte: usize, bit: u8) {
    let mut bytes = fs::read(file).unwrap();
    bytes[byte] ^= 1 << bit;
    fs::write(file, bytes).unwrap();
}

#[test]
fn each_flipped_bit_of_an_earlier_segment_is_found_and_the_rest_kept() {
    let (_root, spool, records) = three_segments();
    let length = fs::metadata(segment_path(spool.dir(), 1)).unwrap().len() as usize;
    for byte in 0..length {
        // The version is checked behind its checksum, so a flip there is damage too.
        let root = crash_copy(&spool);
        flip(&segment_path(&root.path().join(spool.recorder().to_string()), 1), byte, (byte % 8) as u8);
        let adopted = adopt_one(root.path());
        assert_eq!(adopted.recovered().damage.len(), 1, "byte {byte}");
        assert_eq!(adopted.recovered().damage[0].position.segment, 1);
        let (read, damaged) = drain_damaged(&mut adopted.reader().unwrap());
        assert_eq!(damaged, 1, "byte {byte}");
        assert!(read.iter().all(|record| records.contains(record) || *record == recovered_life_end(9)));
        let elsewhere = records.iter().filter(|record| record.seq < 3 || record.seq > 4);
        assert!(elsewhere.into_iter().all(|record| read.contains(record)), "other segments are not affected");
    }
}

#[test]
fn each_flipped_bit_of_the_last_segment_cuts_there() {
    let (_root, spool, records) = three_segments();
    let length = fs::metadata(segment_path(spool.dir(), 3)).unwrap().len() as usize;
    for byte in 64..length {
        let root = crash_copy(&spool);
        flip(&segment_path(&root.path().join(spool.recorder().to_string()), 3), byte, (byte % 8) as u8);
        let adopted = adopt_one(root.path());
        let intact = records.len() - if byte < 64 + 332 { 2 } else { 1 };
        let mut expected = records[..intact].to_vec();
        expected.push(recovered_life_end(intact as u64));
        assert_eq!(drain(&mut adopted.reader().unwrap()), expected, "byte {byte}");
        assert!(adopted.recovered().cut_bytes > 0);
    }
}

#[test]
fn a_last_segment_with_a_damaged_header_is_left_and_the_books_closed_behind_it() {
    let (_root, spool, records) = three_segments();
    for byte in 0..64 {
        let root = crash_copy(&spool);
        let file = segment_path(&root.path().join(spool.recorder().to_string()), 3);
        flip(&file, byte, 3);
        let damaged = fs::read(&file).unwrap();
        for _ in 0..2 {
            let adopted = adopt_one(root.path());
            assert_eq!(adopted.recovered().damage.len(), 1);
            let (read, damage) = drain_damaged(&mut adopted.reader().unwrap());
            assert_eq!((read.len(), damage), (records.len() - 2 + 1, 1));
            assert!(matches!(read.last().unwrap().kind, Kind::LifeEnd { flags: Flags::RECOVERED }));
        }
        assert!(fs::read(&file).unwrap() == damaged);
    }
}

#[test]
fn a_missing_segment_is_reported() {
    let (_root, spool, records) = three_segments();
    let root = crash_copy(&spool);
    fs::remove_file(segment_path(&root.path().join(spool.recorder().to_string()), 1)).unwrap();
    let adopted = adopt_one(root.path());
    assert_eq!(adopted.recovered().damage[0].position, end_of(1, 0));
    let (read, damage) = drain_damaged(&mut adopted.reader().unwrap());
    let others = records.iter().filter(|record| record.seq < 3 || record.seq > 4).count();
    assert_eq!((read.len(), damage), (others + 1, 1));
}

#[test]
fn what_is_not_ours_or_not_understood_is_left_alone() {
    let (_root, spool, _) = three_segments();
    // Another recorder's segment.
    let root = crash_copy(&spool);
    let dir = root.path().join(spool.recorder().to_string());
    let other = root.path().join("01900000-0000-7000-8000-000000000001");
    fs::rename(&dir, &other).unwrap();
    assert!(adopt(root.path()).unwrap().is_empty());
    assert!(segment_path(&other, 3).exists());
    // No header is readable at all.
    let root = crash_copy(&spool);
    let dir = root.path().join(spool.recorder().to_string());
    (0..4).for_each(|number| flip(&segment_path(&dir, number), 3, 0));
    assert!(adopt(root.path()).unwrap().is_empty());
    assert!(segment_path(&dir, 3).exists());
}

#[test]
fn a_later_version_is_refused_and_left_alone() {
    let (_root, spool, _) = three_segments();
    let root = crash_copy(&spool);
    let file = segment_path(&root.path().join(spool.recorder().to_string()), 0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    fs::write(&file, &bytes).unwrap();
    assert!(adopt(root.path()).unwrap().is_empty());
    assert!(fs::read(&file).unwrap() == bytes);
    let mut reader = Reader::open(file.parent().unwrap()).unwrap();
    assert!(matches!(reader.next(), Err(Error::Version(2))));
}

#[test]
fn a_follower_never_gets_a_payload_that_changed_on_disk() {
    let (_root, spool, _) = three_segments();
    let mut reader = Reader::follow(&spool);
    let mut payloads = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        payloads.push(record.payload);
    }
    let victim = payloads[2];
    flip(&segment_path(spool.dir(), victim.segment), victim.offset as usize + 7, 1);
    let blob = reader.blob(&[victim]);
    assert!(matches!(Reader::follow(&spool).read(&victim), Err(Error::Damaged { .. })));
    assert_eq!(blob.read_at(0, 300).unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}
