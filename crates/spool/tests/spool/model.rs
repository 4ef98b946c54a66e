//! The spool against a list.
//!
//! Weighted actions put the whole behaviour on a page; after each, the spool must agree with a plain list of records.

use super::*;
use proptest::prelude::*;
use spool::{Entry, Error};

#[derive(Debug, Clone)]
enum Action {
    Begin {
        parts: Vec<usize>,
    },
    /// `entry` picks one of those that run; without any, nothing happens. So for all below.
    Append {
        entry: usize,
        parts: Vec<usize>,
    },
    Finish {
        entry: usize,
        parts: Vec<usize>,
    },
    Drop {
        entry: usize,
    },
    Note {
        size: usize,
    },
    /// Follow the log for so many records.
    Read {
        count: usize,
    },
    /// Release what the follower has left behind.
    Release,
    /// Read the whole of what is retained, live.
    ReadAll,
    /// Crash with the last `cut` bytes of the last segment lost, and recover (a copy).
    Crash {
        cut: u64,
    },
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![4 => 0..60_usize, 2 => 60..1500_usize, 1 => Just(70_000_usize)], 0..4)
}

fn action() -> impl Strategy<Value = Action> {
    let entry = any::<usize>();
    prop_oneof![
        5 => sizes().prop_map(|parts| Action::Begin { parts }),
        9 => (entry, sizes()).prop_map(|(entry, parts)| Action::Append { entry, parts }),
        4 => (entry, sizes()).prop_map(|(entry, parts)| Action::Finish { entry, parts }),
        1 => entry.prop_map(|entry| Action::Drop { entry }),
        2 => (0..400_usize).prop_map(|size| Action::Note { size }),
        4 => (0..12_usize).prop_map(|count| Action::Read { count }),
        2 => Just(Action::Release),
        1 => Just(Action::ReadAll),
        2 => prop_oneof![Just(0), 1..200_u64].prop_map(|cut| Action::Crash { cut }),
    ]
}

struct Model {
    spool: Spool,
    follower: Reader,
    running: Vec<Entry>,
    /// All records ever, and the segment of each.
    log: Vec<(Seen, u64)>,
    /// How many the follower has read, how many are released.
    followed: usize,
    released: usize,
    next_seq: u64,
    fill: u8,
    _root: tempfile::TempDir,
}

impl Model {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let options =
            Options { segment_bytes: 2048, max_bytes: 700 << 10, durability: Durability::Process, repeating: None };
        let spool = Spool::create(root.path(), options, b"about").unwrap();
        let follower = Reader::follow(&spool);
        let log = vec![(seen(0, Kind::LifeBegin, b"about"), 0)];
        Self { spool, follower, running: Vec::new(), log, followed: 0, released: 0, next_seq: 1, fill: 0, _root: root }
    }

    fn payloads(&mut self, sizes: &[usize]) -> Vec<(Channel, Vec<u8>)> {
        let mut payload = |size: &usize| {
            self.fill = self.fill.wrapping_add(1);
            (Channel(self.fill % 3), vec![self.fill; *size])
        };
        sizes.iter().map(&mut payload).collect()
    }

    fn wrote(&mut self, seq: u64, before: Option<Kind>, parts: &[(Channel, Vec<u8>)], after: Option<Kind>) {
        let segment = self.spool.written().segment;
        let parts = parts.iter().map(|(channel, bytes)| seen(seq, Kind::Part(*channel), bytes));
        let before = before.map(|kind| seen(seq, kind, b"control"));
        let after = after.map(|kind| seen(seq, kind, b"control"));
        self.log.extend(before.into_iter().chain(parts).chain(after).map(|record| (record, segment)));
    }

    fn pick(&self, entry: usize) -> Option<usize> {
        (!self.running.is_empty()).then(|| entry % self.running.len())
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::Begin { parts } => {
                let parts = self.payloads(&parts);
                match self.spool.begin(b"control", &borrowed(&parts)) {
                    Ok(entry) => {
                        assert_eq!(entry.seq(), self.next_seq);
                        self.next_seq += 1;
                        self.wrote(entry.seq(), Some(Kind::Begin), &parts, None);
                        self.running.push(entry);
                    }
                    Err(error) => assert!(matches!(error, Error::Full)),
                }
            }
            Action::Append { entry, parts } => {
                let Some(index) = self.pick(entry) else { return };
                let parts = self.payloads(&parts);
                match self.running[index].append_all(&borrowed(&parts)) {
                    Ok(_) => self.wrote(self.running[index].seq(), None, &parts, None),
                    Err(error) => assert!(matches!(error, Error::Full)),
                }
            }
            Action::Finish { entry, parts } => {
                let Some(index) = self.pick(entry) else { return };
                let parts = self.payloads(&parts);
                match self.running[index].close(&borrowed(&parts), b"control") {
                    Ok(_) => {
                        let seq = self.running.swap_remove(index).seq();
                        self.wrote(seq, None, &parts, Some(Kind::End { flags: Flags::NONE }));
                    }
                    Err(error) => assert!(matches!(error, Error::Full)),
                }
            }
            Action::Drop { entry } => {
                let Some(index) = self.pick(entry) else { return };
                let seq = self.running.swap_remove(index).seq();
                let end = seen(seq, Kind::End { flags: Flags::ABANDONED }, b"");
                self.log.push((end, self.spool.written().segment));
            }
            Action::Note { size } => {
                let payload = vec![1; size];
                match self.spool.note(&payload) {
                    Ok(seq) => {
                        assert_eq!(seq, self.next_seq);
                        self.next_seq += 1;
                        self.log.push((seen(seq, Kind::Note, &payload), self.spool.written().segment));
                    }
                    Err(error) => assert!(matches!(error, Error::Full)),
                }
            }
            Action::Read { count } => self.follow(count),
            Action::Release => self.release(),
            Action::ReadAll => assert_eq!(drain(&mut Reader::follow(&self.spool)), self.retained()),
            Action::Crash { cut } => self.crash(cut),
        }
    }

    fn retained(&self) -> Vec<Seen> {
        self.log[self.released..].iter().map(|(record, _)| record.clone()).collect()
    }

    fn follow(&mut self, count: usize) {
        for _ in 0..count {
            let read = self.follower.next().unwrap();
            let read = read.map(|record| seen(record.seq, record.kind, &self.follower.read(&record.payload).unwrap()));
            assert_eq!(read.as_ref(), self.log.get(self.followed).map(|(record, _)| record));
            self.followed += usize::from(read.is_some());
        }
    }

    fn release(&mut self) {
        let segment = self.follower.position().segment;
        self.spool.release_before(segment).unwrap();
        self.released = self.log.partition_point(|(_, of_record)| *of_record < segment);
        assert_eq!(self.spool.first_segment(), segment);
    }

    fn crash(&self, cut: u64) {
        let root = crash_copy(&self.spool);
        let Position { segment, offset } = self.spool.written();
        let file = segment_path(&root.path().join(self.spool.recorder().to_string()), segment);
        let length = offset.saturating_sub(cut).max(64);
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length).unwrap();
        // Walk back over the records of the last segment to those that still are whole.
        let mut kept = self.retained();
        let mut end = offset;
        while end > length {
            end -= 32 + kept.pop().unwrap().payload.len() as u64;
        }
        let mut expected = kept.clone();
        expected.extend(unfinished(&kept).into_iter().map(recovered_end));
        let adopted = adopt_one(root.path());
        let mut records = drain(&mut adopted.reader().unwrap());
        let life_end = records.pop().unwrap();
        assert_eq!(records, expected);
        // What is cut frees its numbers; what is released does not.
        let lost = self.retained()[kept.len()..].iter().filter(|record| is_numbered(record)).count() as u64;
        assert_eq!(life_end, recovered_life_end(self.next_seq - lost));
        assert_eq!(adopted.recovered().cut_bytes, length - end);
    }
}

fn borrowed(parts: &[(Channel, Vec<u8>)]) -> Vec<(Channel, &[u8])> {
    parts.iter().map(|(channel, bytes)| (*channel, bytes.as_slice())).collect()
}

fn is_numbered(record: &Seen) -> bool {
    matches!(record.kind, Kind::Begin | Kind::Note | Kind::LifeBegin | Kind::LifeEnd { .. })
}

/// Entries of which something is there, but no End; ascending.
fn unfinished(records: &[Seen]) -> std::collections::BTreeSet<u64> {
    let is_entry = |record: &&Seen| matches!(record.kind, Kind::Begin | Kind::Part(_));
    let mut open: std::collections::BTreeSet<_> = records.iter().filter(is_entry).map(|record| record.seq).collect();
    for record in records.iter().filter(|record| matches!(record.kind, Kind::End { .. })) {
        open.remove(&record.seq);
    }
    open
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn spool_and_list_agree(actions in prop::collection::vec(action(), 1..80)) {
        let mut model = Model::new();
        for action in actions {
            model.apply(action);
        }
        model.follow(usize::from(u16::MAX).min(model.log.len() - model.followed + 1));
        model.crash(0);
    }
}
