//! What is written is read, by whom and when it should be.

use super::*;
use std::time::Duration;

#[test]
fn an_entry_comes_back_as_it_was_written() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), Options::default(), b"about").unwrap();
    let entry = spool.begin(b"head", &[(REQUEST, b"req")]).unwrap();
    assert_eq!(entry.seq(), 1);
    entry.append(RESPONSE, b"res").unwrap();
    assert_eq!(spool.note(b"gap").unwrap(), 2);
    let end = entry.finish(&[(RESPONSE, b"last")], b"outcome").unwrap();
    assert_eq!(end, spool.written());
    spool.end_life(b"bye").unwrap();
    assert_eq!(spool.synced(), spool.written());

    let expected = [
        seen(0, Kind::LifeBegin, b"about"),
        seen(1, Kind::Begin, b"head"),
        seen(1, Kind::Part(REQUEST), b"req"),
        seen(1, Kind::Part(RESPONSE), b"res"),
        seen(2, Kind::Note, b"gap"),
        seen(1, Kind::Part(RESPONSE), b"last"),
        seen(1, Kind::End { flags: Flags::NONE }, b"outcome"),
        seen(3, Kind::LifeEnd { flags: Flags::NONE }, b"bye"),
    ];
    assert_eq!(drain(&mut Reader::follow(&spool)), expected);
    let dir = spool.dir().to_owned();
    drop(spool);
    assert_eq!(drain(&mut Reader::open(&dir).unwrap()), expected);
    let adopted = adopt_one(root.path());
    assert_eq!(*adopted.recovered(), spool::recovery::Recovered::default(), "a life that ended needs no repair");
    assert_eq!(drain(&mut adopted.reader().unwrap()), expected);
    adopted.remove().unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn an_ended_life_takes_nothing_more() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), Options::default(), b"").unwrap();
    let entry = spool.begin(b"", &[]).unwrap();
    assert!(matches!(spool.end_life(b""), Err(spool::Error::StillRunning(1))));
    assert!(matches!(spool.remove(), Err(spool::Error::StillRunning(1))));
    entry.close(&[], b"").unwrap();
    assert!(matches!(entry.append(REQUEST, b"late"), Err(spool::Error::Closed)));
    assert!(matches!(entry.close(&[], b""), Err(spool::Error::Closed)));
    spool.end_life(b"").unwrap();
    let written = spool.written();
    assert!(matches!(spool.begin(b"", &[]), Err(spool::Error::Ended)));
    assert!(matches!(spool.note(b""), Err(spool::Error::Ended)));
    assert!(matches!(spool.end_life(b""), Err(spool::Error::Ended)));
    drop(entry);
    assert_eq!(spool.written(), written);
    spool.remove().unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_dropped_entry_is_abandoned() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), Options::default(), b"").unwrap();
    drop(spool.begin(b"head", &[]).unwrap());
    assert_eq!(spool.running(), 0);
    let last = drain(&mut Reader::follow(&spool)).pop().unwrap();
    assert_eq!(last, seen(1, Kind::End { flags: Flags::ABANDONED }, b""));
}

#[test]
fn a_part_too_large_for_one_record_is_split_and_the_split_is_marked() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    let large: Vec<u8> = (0..spool::MAX_PAYLOAD_BYTES * 2 + 5).map(|index| (index % 251) as u8).collect();
    let entry = spool.begin(b"head", &[]).unwrap();
    let end = entry.append(REQUEST, &large).unwrap();
    entry.append(REQUEST, b"next").unwrap();
    let mut reader = Reader::follow(&spool);
    let mut parts = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        if record.kind == Kind::Part(REQUEST) {
            parts.push(record);
        }
    }
    let continued: Vec<_> = parts.iter().map(|part| part.continued).collect();
    assert_eq!(continued, [false, true, true, false]);
    assert!(parts[..3].iter().all(|part| part.position.segment == end.segment), "one append lies in one segment");
    assert_eq!(parts[2].end, end);
    let payloads: Vec<_> = parts[..3].iter().map(|part| part.payload).collect();
    let blob = reader.blob(&payloads);
    assert_eq!(blob.size(), large.len() as u64);
    assert!(blob.read_at(0, usize::MAX).unwrap() == large);
    assert!(matches!(spool.note(&large), Err(spool::Error::TooLarge(_))));
}

#[test]
fn a_blob_gives_any_range_of_its_pieces() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    let entry = spool.begin(b"head", &[]).unwrap();
    let mut whole = Vec::new();
    for length in [0, 1, 700, 0, 900, 3, 1500, 2] {
        let chunk: Vec<u8> = (0..length).map(|_| whole.len() as u8).collect();
        entry.append_all(&[(REQUEST, &chunk), (RESPONSE, b"between")]).unwrap();
        whole.extend(chunk);
    }
    let mut reader = Reader::follow(&spool);
    let mut payloads = Vec::new();
    while let Some(record) = reader.next().unwrap() {
        payloads.extend((record.kind == Kind::Part(REQUEST)).then_some(record.payload));
    }
    assert!(payloads.last().unwrap().segment > 2);
    let blob = reader.blob(&payloads);
    for offset in (0..whole.len() + 3).step_by(97).chain([699, 700, 701, 702, 1600, 1601, 1602]) {
        for max in [0, 1, 2, 700, 901, 5000, usize::MAX] {
            let from = offset.min(whole.len());
            let to = offset.saturating_add(max).min(whole.len());
            assert_eq!(blob.read_at(offset as u64, max).unwrap(), &whole[from..to], "{max} at {offset}");
        }
    }
    assert_eq!(reader.blob(&[]).read_at(0, 10).unwrap(), b"");
    spool.release_before(u64::MAX).unwrap();
    assert_eq!(blob.read_at(0, 10).unwrap_err().kind(), std::io::ErrorKind::NotFound);
}

#[tokio::test]
async fn a_follower_sees_each_record_once_it_is_written_and_is_woken_for_it() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    let mut reader = Reader::follow(&spool);
    assert_eq!(drain(&mut reader).len(), 1);
    assert_eq!(reader.position(), spool.written());
    let waiter = tokio::spawn({
        let (spool, position) = (spool.clone(), reader.position());
        async move { spool.wait_beyond(position).await }
    });
    let idle = tokio::time::timeout(Duration::from_millis(20), spool.wait_beyond(reader.position())).await;
    assert!(idle.is_err(), "there is nothing to be woken for");
    for size in [10, 2000, 10, 900, 900] {
        spool.note(&vec![1; size]).unwrap();
        assert_eq!(drain(&mut reader).len(), 1);
        assert_eq!(reader.position(), spool.written());
    }
    assert!(waiter.await.unwrap().offset > 0);
    spool.end_life(b"").unwrap();
    assert_eq!(drain(&mut reader).len(), 1);
    assert_eq!(spool.wait_beyond(spool.written()).await, spool.written(), "after the end nobody waits for more");
}

#[test]
fn a_reader_resumes_where_a_record_ended() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    for index in 0..20_u8 {
        spool.note(&[index; 300]).unwrap();
    }
    let mut reader = Reader::follow(&spool);
    let all = drain(&mut reader);
    reader.rewind().unwrap();
    let mut ends = vec![reader.position()];
    while let Some(record) = reader.next().unwrap() {
        ends.push(record.end);
    }
    assert_eq!(ends.len(), all.len() + 1);
    for (index, end) in ends.into_iter().enumerate() {
        reader.resume_at(end);
        assert_eq!(drain(&mut reader), all[index..]);
    }
}

#[test]
fn a_release_takes_whole_segments_and_never_the_last() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    for index in 0..20_u8 {
        spool.note(&[index; 300]).unwrap();
    }
    let last = spool.written().segment;
    assert!(last > 4);
    spool.release_before(3).unwrap();
    assert!(!segment_path(spool.dir(), 2).exists() && segment_path(spool.dir(), 3).exists());
    let mut reader = Reader::follow(&spool);
    assert_eq!(reader.next().unwrap().unwrap().position.segment, 3);
    spool.release_before(u64::MAX).unwrap();
    assert_eq!(spool.first_segment(), last);
    assert_eq!(spool.pending_bytes(), spool.written().offset);
    let next = spool.note(b"next").unwrap();
    drop((reader, spool));

    // The sequence survives the release of all that was numbered before.
    let adopted = adopt_one(root.path());
    let records = drain(&mut adopted.reader().unwrap());
    assert_eq!(records.last(), Some(&recovered_life_end(next + 1)));
    adopted.release_before(u64::MAX).unwrap();
    assert!(segment_path(adopted.dir(), last).exists());
    assert_eq!(adopted.pending_bytes().unwrap(), fs::metadata(segment_path(adopted.dir(), last)).unwrap().len());
}
