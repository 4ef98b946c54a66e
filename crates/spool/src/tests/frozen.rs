//! Format version 1 is frozen. `tests/fixtures/v1` was written by the first release of it: it must stay readable, and the same
//! calls must go on giving the same bytes. A change that fails here needs a new version, with a fixture of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{read_all, spool_on};
use crate::filesystem::Disk;
use crate::recovery::adopt;
use crate::{Channel, Durability, Flags, Kind, Options, Reader, Spool};

const RECORDER: &str = "01900000-0000-7000-8000-000000000001";
const OPTIONS: Options =
    Options { segment_bytes: 1024, max_bytes: 1 << 20, durability: Durability::Process, repeating: None };

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1").join(RECORDER)
}

/// A folder in which records refer to bytes of others. Which bytes a writer finds again is not part of the format, so this one
/// is only read.
fn fixture_with_references() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1-references").join(RECORDER)
}

/// A body that comes three times, each time with a little more of it, over two segments.
fn script_with_references(spool: &Spool) {
    for end in [&b""[..], b" and more", b" and more and more"] {
        let entry = spool.begin(b"begins", &[(Channel(1), &[&text()[..], end].concat())]).unwrap();
        entry.finish(&[], b"ends").unwrap();
        spool.note(&text()[..4_000]).unwrap();
    }
}

fn text() -> Vec<u8> {
    (0..1_500).flat_map(|line: u32| format!("{line:06}\n").into_bytes()).collect()
}

/// Every kind of record, every flag but those of recovery, several segments, and an entry that is never finished.
fn script(spool: &Spool) {
    let (request, response) = (Channel(1), Channel(2));
    let first = spool.begin(b"first begins", &[(request, b"hello"), (request, b"")]).unwrap();
    let second = spool.begin(b"second begins", &[]).unwrap();
    first.append(response, &[0x5a; 700]).unwrap();
    second.append_all(&[(request, &[0xff; 300]), (response, b"\0\r\n")]).unwrap();
    spool.note(b"a note").unwrap();
    first.finish(&[(response, b"bye")], b"first ends").unwrap();
    drop(second);
    let third = spool.begin(b"third begins", &[(Channel(255), &[1; 1200])]).unwrap();
    std::mem::forget(third);
}

fn expected() -> Vec<(u64, Kind, Vec<u8>)> {
    let part = |channel| Kind::Part(Channel(channel));
    vec![
        (0, Kind::LifeBegin, b"about".to_vec()),
        (1, Kind::Begin, b"first begins".to_vec()),
        (1, part(1), b"hello".to_vec()),
        (1, part(1), vec![]),
        (2, Kind::Begin, b"second begins".to_vec()),
        (1, part(2), vec![0x5a; 700]),
        (2, part(1), vec![0xff; 300]),
        (2, part(2), b"\0\r\n".to_vec()),
        (3, Kind::Note, b"a note".to_vec()),
        (1, part(2), b"bye".to_vec()),
        (1, Kind::End { flags: Flags::NONE }, b"first ends".to_vec()),
        (2, Kind::End { flags: Flags::ABANDONED }, vec![]),
        (4, Kind::Begin, b"third begins".to_vec()),
        (4, part(255), vec![1; 1200]),
    ]
}

fn segments(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    files.sort_by_key(std::fs::DirEntry::file_name);
    let named = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
    let files = files.into_iter().filter(|entry| named(entry).ends_with(".seg"));
    files.map(|entry| (named(&entry), std::fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn a_folder_of_version_1_is_read() {
    assert_eq!(read_all(Reader::open(&fixture()).unwrap()), expected());
}

#[test]
fn the_same_calls_write_the_same_bytes() {
    let root = tempfile::tempdir().unwrap();
    let spool = spool_on(Arc::new(Disk), root.path(), OPTIONS).unwrap();
    script(&spool);
    let (mut written, mut frozen) = (segments(spool.dir()), segments(&fixture()));
    assert_eq!(written.len(), 3);
    // The fixture is older than the field that says how long the previous segment was; it has 0 there, for unknown.
    for (_, bytes) in written.iter_mut().chain(&mut frozen) {
        bytes[56..64].fill(0);
    }
    assert!(written == frozen, "the bytes written differ from {}", fixture().display());
}

#[test]
fn a_folder_of_version_1_is_recovered() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join(RECORDER);
    std::fs::create_dir(&dir).unwrap();
    for (name, bytes) in segments(&fixture()) {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
    let adopted = adopt(root.path()).unwrap();
    let flags = Flags::RECOVERED;
    let mut all = expected();
    all.extend([(4, Kind::End { flags }, vec![]), (5, Kind::LifeEnd { flags }, vec![])]);
    assert_eq!(read_all(adopted[0].reader().unwrap()), all);
    assert_eq!(adopted[0].recorder().to_string(), RECORDER);
}

/// Writes the fixture; for a new one, by hand.
#[test]
#[ignore = "writes into the source tree"]
fn write_the_fixture_with_references() {
    let root = fixture_with_references().parent().unwrap().to_owned();
    std::fs::create_dir_all(&root).unwrap();
    let options = Options { segment_bytes: 16_000, repeating: Some(Channel(1)), ..OPTIONS };
    let spool = spool_on(Arc::new(Disk), &root, options).unwrap();
    script_with_references(&spool);
    spool.end_life(b"over").unwrap();
    std::fs::remove_file(spool.dir().join("lock")).unwrap();
}

#[test]
fn a_folder_with_references_is_read_and_adopted() {
    let dir = fixture_with_references();
    let mut expected = vec![(0, Kind::LifeBegin, b"about".to_vec())];
    for (index, end) in [&b""[..], b" and more", b" and more and more"].into_iter().enumerate() {
        let seq = 1 + 2 * index as u64;
        expected.push((seq, Kind::Begin, b"begins".to_vec()));
        expected.push((seq, Kind::Part(Channel(1)), [&text()[..], end].concat()));
        expected.push((seq, Kind::End { flags: Flags::NONE }, b"ends".to_vec()));
        expected.push((seq + 1, Kind::Note, text()[..4_000].to_vec()));
    }
    expected.push((7, Kind::LifeEnd { flags: Flags::NONE }, b"over".to_vec()));
    assert_eq!(read_all(Reader::open(&dir).unwrap()), expected);
    let stored: usize = segments(&dir).iter().map(|(_, bytes)| bytes.len()).sum();
    assert!(stored < 2 * text().len() + 12_000, "{stored} bytes: the body stands there once");

    let root = tempfile::tempdir().unwrap();
    let copy = root.path().join(RECORDER);
    std::fs::create_dir(&copy).unwrap();
    for (name, bytes) in segments(&dir) {
        std::fs::write(copy.join(name), bytes).unwrap();
    }
    let adopted = adopt(root.path()).unwrap();
    assert_eq!(adopted[0].recovered(), &crate::recovery::Recovered::default());
    assert_eq!(read_all(adopted[0].reader().unwrap()), expected);
}

#[test]
fn times_are_read_back() {
    let mut reader = Reader::open(&fixture()).unwrap();
    let first = reader.next().unwrap().unwrap();
    let second = reader.next().unwrap().unwrap();
    assert_eq!((first.mono_ns, second.mono_ns), (0, 1_000_000));
    assert_eq!(second.unix_ns, 1_700_000_000_001_000_000);
}
