//! A recorder that is killed by `kill -9` loses nothing that it said it had.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use spool::recovery::adopt;
use spool::{Channel, Flags, Kind, Options, Spool};

const REQUEST: Channel = Channel(1);

const ROOT_VARIABLE: &str = "SPOOL_TEST_KILLED_ROOT";

fn chunk(seq: u64, index: usize) -> Vec<u8> {
    let size = (seq * 37 + index as u64 * 101) % 3000;
    (0..size).map(|byte| (byte + seq) as u8).collect()
}

/// The child: in the ordinary run of the tests it does nothing.
#[test]
fn child_records_until_it_is_killed() {
    let Some(root) = std::env::var_os(ROOT_VARIABLE) else {
        return;
    };
    let options = Options { segment_bytes: 16 << 10, ..Options::default() };
    let spool = Spool::create(Path::new(&root), options, b"child").unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let entry = spool.begin(b"head", &[]).unwrap();
                    let seq = entry.seq();
                    acknowledge(format_args!("@ {seq} 0"));
                    for index in 1..8 {
                        entry.append(REQUEST, &chunk(seq, index)).unwrap();
                        acknowledge(format_args!("@ {seq} {index}"));
                    }
                    if seq.is_multiple_of(5) {
                        std::mem::forget(entry);
                    } else {
                        entry.finish(&[], b"end").unwrap();
                        acknowledge(format_args!("@ {seq} end"));
                    }
                }
            });
        }
    });
}

/// One write per line, so that a line is whole or absent.
fn acknowledge(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Runs the child, kills it after `lines` acknowledgements; returns all that it gave: parts by entry, and who ended.
fn run_and_kill(root: &Path, lines: usize) -> (BTreeMap<u64, usize>, Vec<u64>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_records_until_it_is_killed", "--nocapture", "--test-threads=1"])
        .env(ROOT_VARIABLE, root)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut parts, mut ended, mut count) = (BTreeMap::new(), Vec::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some((seq, what)) = line.strip_prefix("@ ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let seq: u64 = seq.parse().unwrap();
        match what.parse::<usize>() {
            Ok(index) => *parts.entry(seq).or_default() = index,
            Err(_) => ended.push(seq),
        }
        count += 1;
        if count == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(count >= lines);
    (parts, ended)
}

#[test]
fn everything_acknowledged_survives_kill_9_and_the_rest_is_closed() {
    for round in 0..25 {
        let root = tempfile::tempdir().unwrap();
        let (acknowledged, acknowledged_ends) = run_and_kill(root.path(), 1 + round * 23);
        let adopted = adopt(root.path()).unwrap().remove(0);
        assert_eq!(adopted.recovered().damage, []);
        let mut reader = adopted.reader().unwrap();
        let mut records = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            records.push((record.seq, record.kind, reader.read(&record.payload).unwrap()));
        }

        let mut found: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
        let mut ends: BTreeMap<u64, Flags> = BTreeMap::new();
        for (seq, kind, payload) in &records {
            match kind {
                Kind::Begin => assert!(found.insert(*seq, Vec::new()).is_none()),
                Kind::Part(_) => found.get_mut(seq).unwrap().push(payload.clone()),
                Kind::End { flags } => assert!(ends.insert(*seq, *flags).is_none(), "ended once"),
                _ => {}
            }
        }
        for (seq, parts) in &found {
            let expected = (1..=parts.len()).map(|index| chunk(*seq, index));
            assert!(parts.iter().cloned().eq(expected), "entry {seq} is a whole prefix of what was written");
            assert!(ends.contains_key(seq), "entry {seq} has an end");
        }
        for (seq, index) in acknowledged {
            assert!(found[&seq].len() >= index, "entry {seq}: part {index} was acknowledged");
        }
        for seq in acknowledged_ends {
            assert_eq!(ends[&seq], Flags::NONE);
        }
        assert!(found.keys().copied().eq(1..=found.len() as u64), "gap-free");
        let life_end = Kind::LifeEnd { flags: Flags::RECOVERED };
        assert_eq!(records.last(), Some(&(found.len() as u64 + 1, life_end, Vec::new())));
    }
}
