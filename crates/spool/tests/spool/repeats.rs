//! Bodies that repeat themselves: what is read back is always what was appended, wherever it stands.

use super::*;
use proptest::prelude::*;
use spool::{Entry, Payload};
use std::collections::BTreeMap;

fn options(segment_bytes: u64) -> Options {
    Options { segment_bytes, max_bytes: 64 << 20, durability: Durability::Process, repeating: Some(REQUEST) }
}

/// Bytes without any repetition.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(len / 8 + 1).flatten().take(len).collect()
}

fn record(spool: &Spool, body: &[u8], split: usize) {
    let entry = spool.begin(b"head", &[]).unwrap();
    for part in body.chunks(split) {
        entry.append(REQUEST, part).unwrap();
    }
    entry.finish(&[], b"end").unwrap();
}

/// The payloads of each entry's request that `reader` still has.
fn payloads(reader: &mut Reader) -> BTreeMap<u64, Vec<Payload>> {
    let mut bodies: BTreeMap<u64, Vec<Payload>> = BTreeMap::new();
    while let Some(record) = reader.next().unwrap() {
        if record.kind == Kind::Part(REQUEST) {
            bodies.entry(record.seq).or_default().push(record.payload);
        }
    }
    bodies
}

fn bodies(reader: &mut Reader) -> BTreeMap<u64, Vec<u8>> {
    let found = payloads(reader);
    let read = |(seq, payloads): (u64, Vec<Payload>)| {
        let blob = reader.blob(&payloads);
        let whole = blob.read_at(0, usize::MAX).unwrap();
        assert_eq!(whole.len() as u64, blob.size());
        let parts: Vec<u8> = payloads.iter().flat_map(|payload| reader.read(payload).unwrap()).collect();
        assert!(whole == parts, "a blob and its payloads agree");
        // Piecewise, across the limits of records and extents.
        let mut pieces = Vec::new();
        while pieces.len() < whole.len() {
            pieces.extend(blob.read_at(pieces.len() as u64, 1 + whole.len() / 7).unwrap());
        }
        assert!(whole == pieces, "a blob reads the same in pieces");
        (seq, whole)
    };
    found.into_iter().map(read).collect()
}

#[test]
fn a_body_that_comes_again_is_not_written_again() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(1 << 20), b"about").unwrap();
    let body = noise(300_000, 1);
    record(&spool, &body, 65_536);
    let before = spool.pending_bytes();
    for split in [65_536, 300_000, 10_000, 77_777] {
        record(&spool, &body, split);
    }
    let each = (spool.pending_bytes() - before) / 4;
    assert!(each < 25_000, "{each} bytes for a body of 300,000 that stood there already");
    let read = bodies(&mut Reader::follow(&spool));
    assert_eq!(read.len(), 5);
    assert!(read.values().all(|read| *read == body));
}

#[test]
fn a_growing_session_is_written_once() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(16 << 20), b"about").unwrap();
    let (tools, mut history) = (noise(30_000, 1), noise(40_000, 2));
    let mut expected = Vec::new();
    for turn in 0..20 {
        history.extend(noise(4_000, 100 + turn));
        let body = [&b"{\"model\":"[..], &history, b"{\"cache_control\":1}", &tools].concat();
        record(&spool, &body, 60_000);
        expected.push(body);
    }
    let total: usize = expected.iter().map(Vec::len).sum();
    let written = spool.pending_bytes() as usize;
    assert!(written * 6 < total, "{written} bytes for {total} of which {} are new", 74_000 + 80_000);
    assert!(bodies(&mut Reader::follow(&spool)).into_values().eq(expected));
}

/// From the first turn on, in frames that end anywhere, and with a beginning that is never the same.
#[test]
fn a_small_history_that_grows_is_written_once_too() {
    for (frame, stamp) in [(8_000, 0), (16_000, 0), (65_536, 0), (8_000, 200), (65_536, 200)] {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::create(root.path(), options(16 << 20), b"about").unwrap();
        let history = noise(96_000, 1);
        let mut expected = Vec::new();
        for turn in 1..=24 {
            let body = [&noise(stamp, turn as u64)[..], &history[..turn * 4_000]].concat();
            record(&spool, &body, frame);
            expected.push(body);
        }
        let total: usize = expected.iter().map(Vec::len).sum();
        let percent = spool.pending_bytes() as usize * 100 / total;
        println!("frames of {frame}, {stamp} new bytes in front: {percent} % written, 8 % are new");
        assert!(percent < if stamp == 0 { 15 } else { 45 }, "frames of {frame}, stamp of {stamp}: {percent} %");
        assert!(bodies(&mut Reader::follow(&spool)).into_values().eq(expected));
    }
}

#[test]
fn only_the_chosen_channel_is_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(1 << 20), b"about").unwrap();
    let body = noise(50_000, 1);
    for _ in 0..3 {
        let entry = spool.begin(b"head", &[(RESPONSE, &body)]).unwrap();
        entry.finish(&[], b"end").unwrap();
    }
    assert!(spool.pending_bytes() > 150_000);
}

#[test]
fn a_segment_stays_as_long_as_one_that_is_wanted_refers_to_it_and_not_longer() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(200_000), b"about").unwrap();
    let files = |dir: &Path| (0..99).filter(|number| segment_path(dir, *number).exists()).collect::<Vec<u64>>();
    let body = noise(100_000, 1);
    record(&spool, &body, 50_000);
    spool.note(&noise(120_000, 2)).unwrap();
    assert_eq!(spool.written().segment, 1);
    record(&spool, &body, 50_000);
    spool.note(&noise(150_000, 3)).unwrap();
    assert_eq!(spool.written().segment, 2);
    spool.release_before(1).unwrap();
    assert_eq!((spool.first_segment(), files(spool.dir())), (1, vec![0, 1, 2]), "segment 1 refers to segment 0");
    assert!(bodies(&mut Reader::follow(&spool)).into_values().eq([body.clone()]));

    // The same from what a crash leaves.
    let copy = crash_copy(&spool);
    let adopted = adopt_one(copy.path());
    assert!(adopted.recovered().damage.is_empty());
    adopted.release_before(1).unwrap();
    assert_eq!(files(adopted.dir()), [0, 1, 2]);
    assert_eq!(adopted.reader().unwrap().position().segment, 1);
    let mut reader = adopted.reader().unwrap();
    assert!(bodies(&mut reader).into_values().eq([body.clone()]));
    adopted.release_before(2).unwrap();
    assert_eq!(files(adopted.dir()), [2]);

    // What is only kept for others keeps nothing itself.
    record(&spool, &body, 50_000);
    spool.release_before(2).unwrap();
    let kept = files(spool.dir());
    assert_eq!(kept, [0, 1, 2], "segment 2 refers to what segment 0 holds");
    spool.note(&noise(190_000, 4)).unwrap();
    spool.release_before(3).unwrap();
    assert_eq!(files(spool.dir()), [3]);
}

#[test]
fn a_folder_is_read_from_where_its_references_lead_somewhere() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(100_000), b"about").unwrap();
    let (one, two) = (noise(60_000, 1), noise(60_000, 2));
    record(&spool, &one, 60_000);
    spool.note(&noise(35_000, 3)).unwrap();
    // Segment 1 refers to 0, segment 2 to 1 only.
    record(&spool, &[&one[..], &two].concat(), 120_000);
    spool.note(&noise(50_000, 3)).unwrap();
    record(&spool, &two, 60_000);
    let of_two = spool.written().segment;
    assert_eq!(of_two, 2);
    spool.release_before(2).unwrap();
    assert!(!segment_path(spool.dir(), 0).exists());
    assert!(segment_path(spool.dir(), 1).exists());
    let copy = crash_copy(&spool);
    let adopted = adopt_one(copy.path());
    assert!(adopted.recovered().damage.is_empty(), "what was released is not missing");
    assert!(bodies(&mut adopted.reader().unwrap()).into_values().eq([two]));
}

#[test]
fn a_reference_to_bytes_that_rotted_is_damage() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(100_000), b"about").unwrap();
    let body = noise(60_000, 1);
    record(&spool, &body, 60_000);
    spool.note(&noise(60_000, 2)).unwrap();
    record(&spool, &body, 60_000);
    let first = segment_path(spool.dir(), 0);
    let mut bytes = fs::read(&first).unwrap();
    bytes[30_000] ^= 1;
    fs::write(&first, bytes).unwrap();
    let mut reader = Reader::follow(&spool);
    for payloads in payloads(&mut reader).values() {
        assert!(matches!(reader.read(&payloads[0]), Err(spool::Error::Damaged { .. })));
    }
    let copy = crash_copy(&spool);
    let adopted = adopt_one(copy.path());
    let damaged: Vec<_> = adopted.recovered().damage.iter().map(|damage| damage.position.segment).collect();
    assert_eq!(damaged, [0, spool.written().segment], "the bytes, and the record that refers to them");
}

#[test]
fn each_flipped_bit_of_a_table_of_references_is_found() {
    let root = tempfile::tempdir().unwrap();
    let spool = Spool::create(root.path(), options(64 << 10), b"about").unwrap();
    let body = noise(20_000, 1);
    record(&spool, &body, 20_000);
    let begin = spool.begin(b"head", &[]).unwrap().begun();
    let entry = spool.begin(b"head", &[]).unwrap();
    entry.append(REQUEST, &body).unwrap();
    entry.finish(&[], b"end").unwrap();
    spool.note(&noise(60_000, 2)).unwrap();
    assert_eq!(spool.written().segment, 1, "the table is not in the tail");
    let table = begin.offset as usize + 32 + 36 + 32;
    let file = segment_path(spool.dir(), 0);
    let sound = fs::read(&file).unwrap();
    for byte in table..table + 40 {
        let mut bytes = sound.clone();
        bytes[byte] ^= 1 << (byte % 8);
        fs::write(&file, bytes).unwrap();
        let mut reader = Reader::follow(&spool);
        let mut damaged = 0;
        loop {
            match reader.next() {
                Ok(None) => break,
                Ok(Some(record)) => drop(reader.read(&record.payload).inspect_err(|_| damaged += 1)),
                Err(spool::Error::Damaged { .. }) => damaged += 1,
                Err(other) => unreachable!("{other}"),
            }
        }
        assert_eq!(damaged, 1, "byte {byte}");
    }
}

#[derive(Debug, Clone)]
enum Edit {
    Insert { at: usize, len: usize },
    Remove { at: usize, len: usize },
    Append { len: usize },
}

#[derive(Debug, Clone)]
enum Action {
    /// A body that one of the sessions has after some edits, cut at random; `abandon`: dropped in the middle.
    Body { session: usize, edits: Vec<Edit>, cuts: Vec<usize>, abandon: bool },
    /// Unrelated bytes, to move the log on.
    Noise { len: usize },
    /// Everything before the current segment less so many is stored.
    Release { back: u64 },
    /// What a crash leaves is recovered, and released step by step.
    Adopt,
}

fn edit() -> impl Strategy<Value = Edit> {
    let any = any::<usize>();
    prop_oneof![
        (any, 1..9_000_usize).prop_map(|(at, len)| Edit::Insert { at, len }),
        (any, 1..3_000_usize).prop_map(|(at, len)| Edit::Remove { at, len }),
        (1..20_000_usize).prop_map(|len| Edit::Append { len }),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let cuts = prop::collection::vec(prop_oneof![1..200_usize, 1_000..70_000_usize], 1..5);
    let body = (0..3_usize, prop::collection::vec(edit(), 0..3), cuts, prop::bool::weighted(0.1));
    prop_oneof![
        8 => body.prop_map(|(session, edits, cuts, abandon)| Action::Body { session, edits, cuts, abandon }),
        2 => (1..90_000_usize).prop_map(|len| Action::Noise { len }),
        2 => (0..4_u64).prop_map(|back| Action::Release { back }),
        1 => Just(Action::Adopt),
    ]
}

/// The spool against a map of bodies.
struct Model {
    spool: Spool,
    sessions: [Vec<u8>; 3],
    /// Each entry's body, and the segment in which the entry begins.
    bodies: BTreeMap<u64, (Vec<u8>, u64)>,
    seed: u64,
    _root: tempfile::TempDir,
}

impl Model {
    fn new(segment_bytes: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let spool = Spool::create(root.path(), options(segment_bytes), b"about").unwrap();
        let sessions = [noise(50_000, 1), noise(3_000, 2), vec![b' '; 70_000]];
        Self { spool, sessions, bodies: BTreeMap::new(), seed: 1000, _root: root }
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        self.seed += 1;
        noise(len, self.seed)
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Body { session, edits, cuts, abandon } => {
                edits.into_iter().for_each(|edit| self.edit(session, edit));
                self.record(session, &cuts, abandon);
            }
            Action::Noise { len } => {
                let noise = self.noise(len);
                self.spool.note(&noise).unwrap();
            }
            Action::Release { back } => {
                let segment = self.spool.written().segment.saturating_sub(back);
                self.spool.release_before(segment).unwrap();
                let first = self.spool.first_segment();
                self.bodies.retain(|_, (_, begun)| *begun >= first);
            }
            Action::Adopt => self.adopt(),
        }
        let read = bodies(&mut Reader::follow(&self.spool));
        assert!(self.bodies.iter().all(|(seq, (body, _))| read.get(seq).map_or(body.is_empty(), |read| read == body)));
    }

    fn edit(&mut self, session: usize, edit: Edit) {
        let new = match edit {
            Edit::Insert { len, .. } | Edit::Append { len } => self.noise(len),
            Edit::Remove { .. } => Vec::new(),
        };
        let body = &mut self.sessions[session];
        let (at, removed) = match edit {
            Edit::Insert { at, .. } => (at % (body.len() + 1), 0),
            Edit::Remove { at, len } => (at % (body.len() + 1), len),
            Edit::Append { .. } => (body.len(), 0),
        };
        let end = body.len().min(at + removed);
        body.splice(at..end, new);
    }

    fn record(&mut self, session: usize, cuts: &[usize], abandon: bool) {
        let body = self.sessions[session].clone();
        let begun = |entry: &Entry| entry.begun().segment;
        let first = body.len().min(cuts[0]);
        let entry = self.spool.begin(b"head", &[(REQUEST, &body[..first])]).unwrap();
        let (seq, segment) = (entry.seq(), begun(&entry));
        let mut at = first;
        for cut in cuts.iter().cycle() {
            if at == body.len() || abandon && at > body.len() / 2 {
                break;
            }
            // A tiny cut is not repeated for a whole body.
            let len = (body.len() - at).min(if at > 2_000 { (*cut).max(5_000) } else { *cut });
            let (one, other) = body[at..at + len].split_at(len / 3);
            entry.append_all(&[(REQUEST, one), (RESPONSE, b"between"), (REQUEST, other)]).unwrap();
            at += len;
        }
        if abandon {
            drop(entry);
        } else {
            entry.finish(&[], b"end").unwrap();
        }
        self.bodies.insert(seq, (body[..at].to_vec(), segment));
    }

    /// What an adopter reads, however far it has released.
    fn adopt(&self) {
        let root = crash_copy(&self.spool);
        let adopted = adopt_one(root.path());
        assert_eq!(adopted.recovered().damage, []);
        for released in self.spool.first_segment()..=self.spool.written().segment {
            adopted.release_before(released).unwrap();
            let read = bodies(&mut adopted.reader().unwrap());
            let wanted = self.bodies.iter().filter(|(_, (_, begun))| *begun >= released);
            for (seq, (body, _)) in wanted {
                assert!(read.get(seq).map_or(body.is_empty(), |read| read == body), "entry {seq}");
            }
        }
        drop(adopted);
        let again = adopt_one(root.path());
        assert_eq!(again.recovered().damage, [], "and an adoption after that finds nothing amiss");
        bodies(&mut again.reader().unwrap());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_was_appended(
        segment_bytes in prop_oneof![20_000..60_000_u64, 100_000..900_000_u64],
        actions in prop::collection::vec(action(), 1..30),
    ) {
        let mut model = Model::new(segment_bytes);
        for action in actions {
            model.apply(action);
        }
        model.adopt();
    }
}
