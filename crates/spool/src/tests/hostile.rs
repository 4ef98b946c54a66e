//! The spool on a disk that fails and a machine that stops, at any step, also while it recovers.
//!
//! A model appends, syncs and releases until the machine stops. What must be there afterwards: with `Power` and a loss of power,
//! everything before a position that `sync` has confirmed; with a mere kill, everything whose append has returned. What may
//! be there: the append that was under way. What must not: anything else.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::sim::{Fault, SimDisk};
use super::spool_on;
use crate::filesystem::FileSystem;
use crate::recovery::{Adopted, adopt_in};
use crate::{Channel, Durability, Entry, Error, Flags, Kind, Options, Position, Reader, Spool, sync};

const BODY: Channel = Channel(1);

type Seen = (u64, Kind, Vec<u8>);

#[derive(Debug, Clone)]
enum Action {
    /// So many bytes of the body that all entries have in common come with it.
    Begin {
        len: usize,
    },
    Append {
        entry: usize,
        len: usize,
    },
    Finish {
        entry: usize,
    },
    Drop {
        entry: usize,
    },
    Note {
        len: usize,
    },
    Sync,
    /// Everything before the current segment less so many is stored.
    Release {
        back: u64,
    },
    /// The step after so many fails.
    Fault {
        after: u64,
        fault: Fault,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let len = || prop_oneof![3 => 0..400_usize, 2 => 5_000..14_000_usize];
    let fault = prop_oneof![1 => Just(Fault::Io), 2 => Just(Fault::NoSpace), 3 => Just(Fault::Short)];
    let entry = any::<usize>;
    prop_oneof![
        4 => len().prop_map(|len| Action::Begin { len }),
        6 => (entry(), len()).prop_map(|(entry, len)| Action::Append { entry, len }),
        4 => entry().prop_map(|entry| Action::Finish { entry }),
        1 => entry().prop_map(|entry| Action::Drop { entry }),
        2 => (0..3_000_usize).prop_map(|len| Action::Note { len }),
        4 => Just(Action::Sync),
        2 => (0..3_u64).prop_map(|back| Action::Release { back }),
        1 => (0..6_u64, fault).prop_map(|(after, fault)| Action::Fault { after, fault }),
    ]
}

#[derive(Debug, Clone)]
struct Plan {
    seed: u64,
    durability: Durability,
    actions: Vec<Action>,
    /// The machine stops after so many steps, and during so many steps of the recoveries that follow.
    stop_after: u64,
    recoveries_stop_after: Vec<u64>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let durability = prop_oneof![2 => Just(Durability::Power), 1 => Just(Durability::Process)];
    let actions = prop::collection::vec(action(), 1..60);
    let recoveries = prop::collection::vec(0..12_u64, 0..4);
    (1..u64::MAX, durability, actions, 0..150_u64, recoveries).prop_map(
        |(seed, durability, actions, stop_after, recoveries_stop_after)| Plan {
            seed,
            durability,
            actions,
            stop_after,
            recoveries_stop_after,
        },
    )
}

/// One machine with one recorder.
struct Machine {
    disk: SimDisk,
    spool: Spool,
    entries: Vec<(Entry, usize)>,
    /// What was appended, and the segment in which it stands.
    log: Vec<(Seen, u64)>,
    /// What was being appended when the machine stopped or the spool was poisoned.
    under_way: Vec<Seen>,
    /// What was appended in vain. Its bytes were cut away again; before the next sync a loss of power may bring them back.
    in_vain: Vec<Seen>,
    over: bool,
    /// So many of the log's records, and this position, are confirmed to be on the disk.
    synced: (usize, Position),
    released_before: u64,
}

fn root() -> &'static Path {
    Path::new("/spool")
}

fn text() -> Vec<u8> {
    (0..3_000_u32).flat_map(|line| (line.wrapping_mul(2_654_435_761)).to_le_bytes()).collect()
}

impl Machine {
    /// `None`: it stopped before the spool was created.
    fn start(plan: &Plan) -> Option<Self> {
        let disk = SimDisk::new(plan.seed);
        disk.stop_after(plan.stop_after);
        let options =
            Options { segment_bytes: 16 << 10, max_bytes: 1 << 20, durability: plan.durability, repeating: Some(BODY) };
        let spool = spool_on(Arc::new(disk.clone()), root(), options).ok()?;
        let log = vec![((0, Kind::LifeBegin, b"about".to_vec()), 0)];
        let synced = if plan.durability == Durability::Power { 1 } else { 0 };
        let synced = (synced, spool.synced());
        Some(Self {
            disk,
            spool,
            entries: Vec::new(),
            log,
            under_way: Vec::new(),
            in_vain: Vec::new(),
            over: false,
            synced,
            released_before: 0,
        })
    }

    /// What an append has come to. Returns whether its records are in the log.
    fn outcome<T>(&mut self, result: Result<T, Error>, records: Vec<Seen>) -> Option<T> {
        match result {
            Ok(value) => {
                let segment = self.spool.written().segment;
                self.log.extend(records.into_iter().map(|record| (record, segment)));
                Some(value)
            }
            Err(error) => {
                if self.disk.has_stopped() || matches!(error, Error::Poisoned) {
                    self.under_way = records;
                    self.over = true;
                } else {
                    self.in_vain.extend(records);
                }
                None
            }
        }
    }

    fn next_seq(&self) -> u64 {
        self.log.iter().filter(|(record, _)| is_numbered(record)).count() as u64
    }

    fn apply(&mut self, action: Action) {
        let seq = self.next_seq();
        let picked = |entry: usize| (!self.entries.is_empty()).then(|| entry % self.entries.len());
        let part = |seq, from: usize, len: usize| {
            let text = text();
            let from = from.min(text.len());
            (seq, Kind::Part(BODY), text[from..text.len().min(from + len)].to_vec())
        };
        match action {
            Action::Begin { len } => {
                let part = part(seq, 0, len);
                let begun = self.spool.begin(b"begin", &[(BODY, &part.2)]);
                let len = part.2.len();
                if let Some(entry) = self.outcome(begun, vec![(seq, Kind::Begin, b"begin".to_vec()), part]) {
                    assert_eq!(entry.seq(), seq, "a failed begin takes no number");
                    self.entries.push((entry, len));
                }
            }
            Action::Append { entry, len } => {
                let Some(index) = picked(entry) else { return };
                let (entry, at) = &self.entries[index];
                let part = part(entry.seq(), *at, len);
                let (appended, len) = (entry.append(BODY, &part.2), part.2.len());
                if self.outcome(appended, vec![part]).is_some() {
                    self.entries[index].1 += len;
                }
            }
            Action::Finish { entry } => {
                let Some(index) = picked(entry) else { return };
                let entry = &self.entries[index].0;
                let record = (entry.seq(), Kind::End { flags: Flags::NONE }, b"end".to_vec());
                let closed = entry.close(&[], b"end");
                if self.outcome(closed, vec![record]).is_some() {
                    self.entries.swap_remove(index);
                }
            }
            Action::Drop { entry } => {
                let Some(index) = picked(entry) else { return };
                let before = self.spool.written();
                let (entry, _) = self.entries.swap_remove(index);
                let record = (entry.seq(), Kind::End { flags: Flags::ABANDONED }, Vec::new());
                drop(entry);
                // A drop tells nobody whether it could write its End.
                let written = self.spool.written() > before;
                self.outcome(if written { Ok(()) } else { self.failed() }, vec![record]);
            }
            Action::Note { len } => {
                let record = (seq, Kind::Note, vec![7; len]);
                let noted = self.spool.note(&record.2);
                self.outcome(noted, vec![record]);
            }
            Action::Sync => self.sync(),
            Action::Release { back } => {
                let segment = self.spool.written().segment.saturating_sub(back);
                self.released_before = self.released_before.max(segment);
                let released = self.spool.release_before(segment);
                self.over |= released.is_err() && self.disk.has_stopped();
            }
            Action::Fault { after, fault } => self.disk.fail_after(after, fault),
        }
    }

    fn failed(&self) -> Result<(), Error> {
        if self.spool.is_poisoned() { Err(Error::Poisoned) } else { Err(Error::Full) }
    }

    /// A pass of the sync thread, without the thread: what happens at which step must not depend on luck.
    fn sync(&mut self) {
        let (records, end) = (self.log.len(), self.spool.written());
        // With nothing new to sync the disk is left alone, and what was cut away may still come back.
        let works = self.spool.synced() < end;
        match sync::sync_now(self.spool.shared()) {
            Ok(()) => {
                assert!(self.spool.synced() >= end);
                self.synced = (records, end);
                if works {
                    self.in_vain.clear();
                }
            }
            Err(error) => {
                assert!(matches!(error, Error::Poisoned));
                self.over = true;
            }
        }
    }

    /// Every later call says so.
    fn check_poison(&self) {
        assert!(matches!(self.spool.note(b"x"), Err(Error::Poisoned)));
        assert!(matches!(self.spool.begin(b"x", &[]).map(drop), Err(Error::Poisoned)));
        assert!(matches!(sync::sync_now(self.spool.shared()), Err(Error::Poisoned)));
        assert!(self.entries.iter().all(|(entry, _)| matches!(entry.append(BODY, b"x"), Err(Error::Poisoned))));
    }
}

fn is_numbered((_, kind, _): &Seen) -> bool {
    matches!(kind, Kind::LifeBegin | Kind::Begin | Kind::Note | Kind::LifeEnd { .. })
}

fn is_recovered((_, kind, _): &Seen) -> bool {
    matches!(kind, Kind::End { flags } | Kind::LifeEnd { flags } if flags.contains(Flags::RECOVERED))
}

/// Records without their bytes.
fn brief(records: &[Seen]) -> Vec<(u64, Kind, usize)> {
    records.iter().map(|(seq, kind, payload)| (*seq, *kind, payload.len())).collect()
}

/// All records that can be read.
fn readable(mut reader: Reader) -> Vec<Seen> {
    let mut records = Vec::new();
    loop {
        match reader.next() {
            Ok(Some(record)) => match reader.read(&record.payload) {
                Ok(payload) => records.push((record.seq, record.kind, payload)),
                Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{error}"),
            },
            Ok(None) => return records,
            Err(error) => assert!(matches!(error, Error::Damaged { .. }), "{error}"),
        }
    }
}

fn recover(disk: &SimDisk) -> Vec<Adopted> {
    adopt_in(&(Arc::new(disk.clone()) as Arc<dyn FileSystem>), root()).unwrap_or_default()
}

fn go_down(disk: &SimDisk, durability: Durability) {
    match durability {
        Durability::Power => disk.lose_power(),
        Durability::Process => disk.kill(),
    }
}

fn check(plan: Plan) {
    let Some(mut machine) = Machine::start(&plan) else { return };
    for action in plan.actions {
        machine.apply(action);
        if machine.over {
            break;
        }
    }
    if machine.spool.is_poisoned() {
        machine.check_poison();
    }
    let Machine { disk, spool, entries, log, under_way, in_vain, synced, released_before, .. } = machine;
    disk.stop_after(0);
    let _ = disk.create_dir(Path::new("/stop"));
    drop((entries, spool));
    go_down(&disk, plan.durability);
    for steps in plan.recoveries_stop_after {
        disk.stop_after(steps);
        drop(recover(&disk));
        go_down(&disk, plan.durability);
    }

    let mut adopted = recover(&disk);
    let must = if plan.durability == Durability::Power { synced.0 } else { log.len() };
    let Some(one) = adopted.pop() else {
        assert_eq!(must, 0, "the folder is gone: {:?}", disk.names(root()));
        return;
    };
    let records = readable(one.reader().unwrap());
    let released = log.iter().take_while(|(_, segment)| *segment < released_before).count();
    let expected: Vec<Seen> = log.into_iter().map(|(record, _)| record).chain(under_way).collect();
    let found: Vec<Seen> = records.iter().filter(|record| !is_recovered(record)).cloned().collect();
    let damage = &one.recovered().damage;
    if damage.is_empty() {
        let agreed = |from: usize| expected[from..].iter().zip(&found).take_while(|(one, other)| one == other).count();
        let all = 0..=released.min(expected.len());
        let from = all.max_by_key(|from| agreed(*from)).unwrap_or(0);
        let rest = &found[agreed(from)..];
        let found_text = brief(&found);
        assert!(from + agreed(from) >= must, "{found_text:?} of {:?}, confirmed {must}", brief(&expected));
        assert!(rest.is_empty() || plan.durability == Durability::Power && !in_vain.is_empty(), "{found_text:?}");
        assert!(rest.iter().all(|record| in_vain.contains(record) || expected.contains(record)), "nothing is made up");
        let first = expected[..from].iter().filter(|record| is_numbered(record)).count() as u64;
        let numbers = records.iter().filter(|record| is_numbered(record)).map(|(seq, ..)| *seq);
        assert!(numbers.eq(first..=records.last().unwrap().0), "the numbers have no gap: {found_text:?}");
        assert_eq!(records.last().unwrap().1, Kind::LifeEnd { flags: Flags::RECOVERED });
    } else {
        assert_eq!(plan.durability, Durability::Power, "a kill damages nothing");
        assert!(damage.iter().all(|damage| damage.position >= synced.1 || damage.position.segment < released_before));
        let known = |record| expected.contains(record) || in_vain.contains(record);
        assert!(found.iter().all(known), "nothing is made up");
        let confirmed = &expected[released.min(must)..must];
        assert!(confirmed.iter().all(|record| found.contains(record)), "what was confirmed is there");
    }
    let damage = damage.clone();
    drop(one);
    go_down(&disk, plan.durability);
    let again = recover(&disk).pop().unwrap();
    assert_eq!(readable(again.reader().unwrap()), records, "a second recovery finds what the first has left");
    let recovered = again.recovered();
    assert_eq!((recovered.ended_entries, recovered.ended_life, recovered.cut_bytes), (0, false, 0));
    assert_eq!(recovered.damage, damage);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn what_was_promised_is_there_after_any_failure(plan in plan()) {
        check(plan);
    }
}

#[test]
fn a_segment_whose_creation_failed_and_that_comes_back_takes_nothing_with_it() {
    use Action::*;
    let actions = vec![
        Fault { after: 1, fault: super::sim::Fault::Short },
        Fault { after: 0, fault: super::sim::Fault::Short },
        Begin { len: 7900 },
        Begin { len: 7398 },
        Finish { entry: 0 },
        Finish { entry: 0 },
        Begin { len: 275 },
        Fault { after: 4, fault: super::sim::Fault::Io },
        Append { entry: 0, len: 5000 },
        Append { entry: 0, len: 246 },
        Begin { len: 136 },
        Append { entry: 1022424652558844474, len: 6098 },
        Fault { after: 4, fault: super::sim::Fault::Io },
        Begin { len: 0 },
        Finish { entry: 6409679203310042779 },
        Sync,
        Append { entry: 1176212972795046044, len: 5994 },
    ];
    check(Plan {
        seed: 14008491603278520198,
        durability: Durability::Power,
        actions,
        stop_after: 30,
        recoveries_stop_after: vec![],
    });
}
