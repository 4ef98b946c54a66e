//! A crash can cut the log anywhere.

use super::*;

/// Everything that is written by [`write_log`], and where each record ends.
fn write_log(options: Options) -> (tempfile::TempDir, Spool, Vec<(Seen, Position)>) {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options, b"about").unwrap();
    let first = spool.begin(b"first", &[(REQUEST, b"one"), (REQUEST, b"two")]).unwrap();
    let second = spool.begin(b"second", &[]).unwrap();
    spool.note(b"a note").unwrap();
    first.finish(&[(RESPONSE, b"three")], b"end of first").unwrap();
    second.append_all(&[(REQUEST, b""), (RESPONSE, &[9; 50])]).unwrap();
    let mut reader = Reader::follow(&spool);
    let mut log = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        log.push((seen(record.seq, record.kind, &reader.read(&record.payload).unwrap()), record.end));
    }
    std::mem::forget(second);
    (root, spool, log)
}

/// What recovery must make of a log that is whole up to here.
fn closed(records: &[Seen]) -> Vec<Seen> {
    let mut all = records.to_vec();
    let begun = records.iter().filter(|record| record.kind == Kind::Begin);
    let is_ended = |seq| records.iter().any(|record| record.seq == seq && matches!(record.kind, Kind::End { .. }));
    all.extend(begun.filter(|record| !is_ended(record.seq)).map(|record| recovered_end(record.seq)));
    let next = records.iter().map(|record| record.seq + 1).max().unwrap_or(0);
    all.push(recovered_life_end(next));
    all
}

#[test]
fn a_log_cut_at_any_byte_keeps_exactly_its_whole_records() {
    let (_root, spool, log) = write_log(Options::default());
    let bytes = fs::read(segment_path(spool.dir(), 0)).unwrap();
    assert_eq!(bytes.len() as u64, log.last().unwrap().1.offset);
    for length in 64..=bytes.len() {
        let root = crash_copy(&spool);
        let file = segment_path(&root.path().join(spool.recorder().to_string()), 0);
        fs::write(&file, &bytes[..length]).unwrap();
        let whole: Vec<_> = log.iter().filter(|(_, end)| end.offset <= length as u64).collect();
        let records: Vec<_> = whole.iter().map(|(record, _)| record.clone()).collect();
        let end = whole.last().map_or(64, |(_, end)| end.offset);

        let adopted = adopt_one(root.path());
        assert_eq!(drain(&mut adopted.reader().unwrap()), closed(&records), "cut at {length}");
        assert_eq!(adopted.recovered().cut_bytes, length as u64 - end);
        assert_eq!(adopted.recovered().damage, []);
        drop(adopted);

        // Recovery can die too, anywhere in what it writes. What it wrote stays, the rest is written again.
        let recovered = fs::read(&file).unwrap();
        for again in (end as usize..=recovered.len()).step_by(7).chain([recovered.len()]) {
            fs::write(&file, &recovered[..again]).unwrap();
            drop(adopt_one(root.path()));
            assert!(fs::read(&file).unwrap() == recovered, "cut at {length}, recovery cut at {again}");
        }
    }
}

#[test]
fn a_segment_that_was_just_begun_may_be_cut_anywhere_too() {
    let (_root, spool, log) = write_log(Options { segment_bytes: 1024, ..Options::default() });
    assert_eq!(spool.written().segment, 0);
    spool.note(&[1; 900]).unwrap();
    let bytes = fs::read(segment_path(spool.dir(), 1)).unwrap();
    let before: Vec<_> = log.into_iter().map(|(record, _)| record).collect();
    let mut after = before.clone();
    after.push(seen(4, Kind::Note, &[1; 900]));
    for length in (0..200).chain(bytes.len() - 200..=bytes.len()) {
        let root = crash_copy(&spool);
        let file = segment_path(&root.path().join(spool.recorder().to_string()), 1);
        fs::write(&file, &bytes[..length]).unwrap();
        let adopted = adopt_one(root.path());
        let expected = closed(if length == bytes.len() { &after } else { &before });
        assert_eq!(drain(&mut adopted.reader().unwrap()), expected, "cut at {length}");
    }
}

#[test]
fn zeros_behind_the_log_are_cut() {
    // After a power failure a file may have its new length and not its new bytes.
    let (_root, spool, log) = write_log(Options::default());
    let root = crash_copy(&spool);
    let file = segment_path(&root.path().join(spool.recorder().to_string()), 0);
    let length = fs::metadata(&file).unwrap().len();
    fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length + 4096).unwrap();
    let records: Vec<_> = log.into_iter().map(|(record, _)| record).collect();
    let adopted = adopt_one(root.path());
    assert_eq!(drain(&mut adopted.reader().unwrap()), closed(&records));
    assert_eq!(adopted.recovered().cut_bytes, 4096);
}

#[test]
fn a_folder_without_any_record_is_removed() {
    for content in [None, Some(&[][..]), Some(&[0; 64]), Some(&[0; 5000])] {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("01900000-0000-7000-8000-000000000001");
        fs::create_dir(&dir).unwrap();
        if let Some(content) = content {
            fs::write(segment_path(&dir, 0), content).unwrap();
        }
        assert!(adopt(root.path()).unwrap().is_empty());
        assert!(!dir.exists());
    }
}
