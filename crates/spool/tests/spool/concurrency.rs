//! Many threads, one log.

use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const THREADS: u64 = 8;
const ENTRIES: u64 = 60;

fn chunk(thread: u64, entry: u64, index: u64) -> Vec<u8> {
    let size = (thread * 31 + entry * 17 + index * 113) % 700;
    format!("{thread}/{entry}/{index}/").into_bytes().into_iter().chain((0..size).map(|byte| byte as u8)).collect()
}

fn record_entries(spool: &Spool, thread: u64) {
    for number in 0..ENTRIES {
        let head = format!("{thread}/{number}");
        let entry = spool.begin(head.as_bytes(), &[(REQUEST, &chunk(thread, number, 0))]).unwrap();
        for index in 1..6 {
            entry.append(RESPONSE, &chunk(thread, number, index)).unwrap();
        }
        entry.finish(&[(RESPONSE, &chunk(thread, number, 6))], head.as_bytes()).unwrap();
    }
}

#[test]
fn entries_of_many_threads_come_back_whole_while_they_are_written() {
    let root = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 64 << 10, ..Options::default() };
    let spool = Spool::create(root.path(), options, b"").unwrap();
    let done = AtomicBool::new(false);
    let records = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reader = Reader::follow(&spool);
            let mut records = Vec::new();
            loop {
                // In this order: what is written before `done` is set is read after it is seen.
                let last_round = done.load(Ordering::Acquire);
                let more = drain(&mut reader);
                let is_over = last_round && more.is_empty();
                records.extend(more);
                if is_over {
                    return records;
                }
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let spool = spool.clone();
                scope.spawn(move || record_entries(&spool, thread))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::Release);
        reader.join().unwrap()
    });

    assert_eq!(records, drain(&mut Reader::follow(&spool)));
    let begun: Vec<_> = records.iter().filter(|record| record.kind == Kind::Begin).map(|record| record.seq).collect();
    assert_eq!(begun, (1..=THREADS * ENTRIES).collect::<Vec<_>>(), "gap-free and in order");
    let mut entries: BTreeMap<u64, Vec<&Seen>> = BTreeMap::new();
    records.iter().for_each(|record| entries.entry(record.seq).or_default().push(record));
    for (_, entry) in entries.into_iter().skip(1) {
        let head = String::from_utf8(entry[0].payload.clone()).unwrap();
        let (thread, number) = head.split_once('/').unwrap();
        let (thread, number) = (thread.parse().unwrap(), number.parse().unwrap());
        assert_eq!(entry.len(), 9);
        for index in 0..7 {
            let channel = if index == 0 { REQUEST } else { RESPONSE };
            assert_eq!(entry[index as usize + 1].kind, Kind::Part(channel));
            assert_eq!(entry[index as usize + 1].payload, chunk(thread, number, index));
        }
        assert_eq!(entry[8].kind, Kind::End { flags: Flags::NONE });
    }
}

#[test]
fn one_entry_may_be_shared_by_threads() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), small_segments(), b"").unwrap();
    let entry = Arc::new(spool.begin(b"head", &[]).unwrap());
    std::thread::scope(|scope| {
        for channel in [REQUEST, RESPONSE] {
            let entry = entry.clone();
            scope.spawn(move || {
                for index in 0..200_u8 {
                    entry.append(channel, &[index]).unwrap();
                }
            });
        }
    });
    entry.close(&[], b"").unwrap();
    let records = drain(&mut Reader::follow(&spool));
    for channel in [REQUEST, RESPONSE] {
        let of_channel = records.iter().filter(|record| record.kind == Kind::Part(channel));
        let bytes: Vec<u8> = of_channel.flat_map(|record| record.payload.clone()).collect();
        assert_eq!(bytes, (0..200).collect::<Vec<u8>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_sync_covers_what_was_written_and_serves_everybody() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), Options { durability: Durability::Power, ..small_segments() }, b"").unwrap();
    assert_eq!(spool.synced(), spool.written());
    let mut tasks = Vec::new();
    for _ in 0..32 {
        let spool = spool.clone();
        tasks.push(tokio::spawn(async move {
            for _ in 0..10 {
                let entry = spool.begin(b"head", &[(REQUEST, &[1; 100])]).unwrap();
                spool.sync_to(entry.begun()).await.unwrap();
                assert!(spool.synced() >= entry.begun() && spool.written() >= spool.synced());
                let end = entry.finish(&[], b"end").unwrap();
                spool.sync_to(end).await.unwrap();
                assert!(spool.synced() >= end);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(spool.synced(), spool.written());
    spool.sync_to(Position { segment: u64::MAX, offset: 0 }).await.unwrap();
}
