//! Damaged segments: reading and recovering them never panics, never goes on for ever, and never gives anything that was
//! not written.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use e2e::random::Random;
use spool::{Channel, Kind, Options, Reader, Spool, recovery};

use crate::harness;
use crate::mutate::mutate;

/// A log of several segments, as a recorder that died left it, and all payloads in it.
struct Log {
    name: String,
    segments: Vec<(String, Vec<u8>)>,
    payloads: HashSet<Vec<u8>>,
}

impl Log {
    fn write() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 128 << 10, repeating: Some(Channel(1)), ..Options::default() };
        let spool = Spool::create(root.path(), options, b"about").unwrap();
        let mut random = Random::new(9);
        let mut payloads: HashSet<Vec<u8>> = [b"about".to_vec(), Vec::new()].into();
        let mut payload = |random: &mut Random| {
            let bytes: Vec<u8> = (0..random.between(0, 300)).map(|_| random.next_u64() as u8).collect();
            payloads.insert(bytes.clone());
            bytes
        };
        let mut running = Vec::new();
        // Resent with every entry, so that the log refers to what stands in it already.
        let mut history = Vec::new();
        for n in 0..24 {
            let entry = spool.begin(&payload(&mut random), &[(Channel(1), &payload(&mut random))]).unwrap();
            history.extend((0..4_000).map(|_| random.next_u64() as u8));
            for frame in history.chunks(8_000) {
                entry.append(Channel(1), frame).unwrap();
            }
            entry.append(Channel(3), &payload(&mut random)).unwrap();
            if n % 5 == 0 {
                spool.note(&payload(&mut random)).unwrap();
            }
            match n % 3 {
                0 => running.push(entry),
                _ => drop(entry.finish(&[(Channel(3), &payload(&mut random))], &payload(&mut random)).unwrap()),
            }
        }
        let name = spool.recorder().to_string();
        let resent = |n: usize| history[..n * 4_000].chunks(8_000).map(<[u8]>::to_vec);
        payloads.extend((1..=24).flat_map(resent));
        let (plain, on_disk) = ((1..=24).sum::<u64>() * 4_000, spool.pending_bytes());
        assert!(on_disk < plain / 2, "nothing was referred to: {on_disk} bytes on disk");
        // Copied while it lives: as kill -9 leaves it.
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().unwrap();
            name.ends_with(".seg").then(|| (name, fs::read(entry.path()).unwrap()))
        };
        let segments = fs::read_dir(spool.dir()).unwrap().filter_map(|entry| read(entry.unwrap())).collect();
        Self { name, segments, payloads }
    }

    /// Writes a damaged copy below `root`.
    fn damaged(&self, root: &Path, random: &mut Random) {
        let folder = root.join(&self.name);
        fs::create_dir_all(&folder).unwrap();
        let victim = random.between(0, self.segments.len());
        for (n, (name, bytes)) in self.segments.iter().enumerate() {
            let mut bytes = bytes.clone();
            if n == victim || random.one_in(4) {
                mutate(&mut bytes, &[b"ICCMSPL\n", &[0; 32], &[0xff; 4], &[0; 4]], random);
            }
            if n != victim || !random.one_in(10) {
                fs::write(folder.join(name), bytes).unwrap();
            }
        }
    }

    /// Reads to the end, or to an error; all that is found was written. Gives how much that was.
    fn read(&self, mut reader: Reader) -> usize {
        for found in 0..10_000 {
            match reader.next() {
                Ok(Some(record)) => {
                    let Ok(payload) = reader.read(&record.payload) else { continue };
                    let whose = !matches!(record.kind, Kind::End { .. } | Kind::LifeEnd { .. });
                    assert!(!whose || self.payloads.contains(&payload), "{record:?} was never written: {payload:?}");
                }
                Ok(None) | Err(_) => return found,
            }
        }
        panic!("a reader that finds no end");
    }
}

#[test]
fn damaged_segments_are_read_and_recovered_without_panic_and_without_inventions() {
    let log = Log::write();
    assert!(log.segments.len() > 1, "{} segments", log.segments.len());
    let (mut inputs, mut found) = (0, 0);
    harness::run("segments", 200, |random| {
        let root = tempfile::tempdir().unwrap();
        log.damaged(root.path(), random);
        if let Ok(reader) = Reader::open(&root.path().join(&log.name)) {
            found += log.read(reader);
        }
        inputs += 1;
        let recovered = |round: &str| {
            let adopted = recovery::adopt(root.path()).unwrap();
            for adopted in &adopted {
                match adopted.reader() {
                    Ok(reader) => drop(log.read(reader)),
                    Err(error) => panic!("{round}: recovered and not readable: {error}"),
                }
            }
            adopted.iter().map(|adopted| adopted.recovered().clone()).collect::<Vec<_>>()
        };
        let first = recovered("first");
        let again = recovered("second");
        assert_eq!(again.len(), first.len(), "what is recovered once is recovered again");
        for found in again {
            let idle = (found.ended_entries, found.ended_life, found.cut_bytes);
            assert_eq!(idle, (0, false, 0), "a second recovery finds nothing to do");
        }
    });
    println!("segments: {found} records read from {inputs} damaged logs");
    assert!(found > inputs * 10, "{found} records were read from {inputs} logs");
}
