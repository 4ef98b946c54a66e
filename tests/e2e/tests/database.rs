//! Whatever happens to the database, traffic goes on; and when the database is well again, everything gets there.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use e2e::disk_fault::DiskFault;
use e2e::fake_api::FakeApi;
use e2e::load::{Got, Load};
use e2e::recorder::{Place, Recorder};
use e2e::verify::record_holds;
use rusqlite::{Connection, TransactionBehavior};

/// How much passes while the database is in trouble.
const DURING: usize = 60;

/// Longer than any reasonable busy timeout: waiting for the lock must not be all that helps.
const LOCKED_FOR: Duration = Duration::from_secs(12);

/// A recorder under load whose database lies in a folder of its own.
struct Trouble {
    place: Place,
    api: FakeApi,
    database: PathBuf,
    load: Load,
    fault: DiskFault,
}

impl Trouble {
    fn new() -> Self {
        let place = Place::new();
        let folder = place.folder().join("database");
        let fault = DiskFault::prepare(&folder, place.folder());
        let database = folder.canonicalize().expect("an existing folder").join("iccm.db");
        let url = format!("sqlite:{}", database.display());
        let place = fault
            .variables()
            .iter()
            .fold(place.with_arguments(&["--database", &url]), |place, (name, value)| place.with_variable(name, value));
        Self { place, api: FakeApi::start(), database, load: Load::start(3, 50, 5), fault }
    }

    /// Starts the recorder and the load, and waits until something has reached the database.
    fn begin(&self) -> Recorder {
        let recorder = self.place.kgb(&self.api.url());
        self.load.aim(Some(recorder.address()));
        assert!(self.load.wait_for(30, Duration::from_secs(30)), "traffic: {}", recorder.stderr());
        self.place.drained_to(10);
        recorder
    }

    /// Traffic goes on: so many exchanges more, none of them broken.
    fn traffic_goes_on(&self, recorder: &Recorder) {
        let so_far = self.load.got_count();
        let passed = self.load.wait_for(so_far + DURING, Duration::from_secs(60));
        assert!(passed, "{} of {DURING} exchanges came through: {}", self.load.got_count() - so_far, recorder.stderr());
        assert_eq!(self.load.broken_count(), 0, "{}", recorder.stderr());
    }

    /// Everything that `wanted` picks is on record, byte for byte; the recorder stops in good order.
    fn everything_is_drained(self, recorder: Recorder, wanted: impl Fn(&Got) -> bool) {
        self.load.aim(None);
        let got: Vec<_> = self.load.stop().into_iter().filter(wanted).collect();
        let cases: Vec<_> = got.iter().map(|got| format!("case={}", got.case)).collect();
        let log: Vec<_> = self.api.log().into_iter().filter(|e| cases.iter().any(|c| e.target.ends_with(c))).collect();
        assert!(got.len() >= DURING / 2 && log.len() == got.len(), "{} and {}", got.len(), log.len());
        record_holds(&self.place, &got, &log);
        recorder.stop();
        assert_eq!(self.place.stats()["unrecorded"], 0);
    }
}

#[test]
fn a_locked_database_does_not_stop_traffic_and_gets_everything_afterwards() {
    let trouble = Trouble::new();
    let recorder = trouble.begin();
    let mut other = Connection::open(&trouble.database).unwrap();
    other.busy_timeout(Duration::from_secs(30)).unwrap();
    let lock = other.transaction_with_behavior(TransactionBehavior::Exclusive).unwrap();
    let locked = Instant::now();
    trouble.traffic_goes_on(&recorder);
    trouble.load.aim(None);
    // How long the lock is held is the test's input; nothing is waited for.
    assert!(!trouble.load.wait_for(usize::MAX, LOCKED_FOR.saturating_sub(locked.elapsed())));
    trouble.load.aim(Some(recorder.address()));
    trouble.traffic_goes_on(&recorder);
    lock.rollback().unwrap();
    trouble.everything_is_drained(recorder, |_| true);
}

fn a_failing_disk(fault: &str) {
    let trouble = Trouble::new();
    let recorder = trouble.begin();
    trouble.fault.begin(fault);
    trouble.fault.wait_until_it_hurts();
    trouble.traffic_goes_on(&recorder);
    trouble.fault.end();
    trouble.everything_is_drained(recorder, |_| true);
}

#[test]
fn a_database_on_a_full_disk_does_not_stop_traffic_and_gets_everything_afterwards() {
    a_failing_disk("full");
}

#[test]
fn a_database_that_becomes_read_only_does_not_stop_traffic_and_gets_everything_afterwards() {
    a_failing_disk("read-only");
}

#[test]
fn a_database_that_is_read_only_from_the_start_does_not_stop_traffic() {
    let trouble = Trouble::new();
    trouble.begin().stop();
    trouble.fault.begin("read-only");
    let recorder = trouble.place.kgb(&trouble.api.url());
    trouble.load.aim(Some(recorder.address()));
    let broken = trouble.load.broken_count();
    let so_far = trouble.load.got_count();
    assert!(trouble.load.wait_for(so_far + DURING, Duration::from_secs(60)), "no traffic: {}", recorder.stderr());
    // The clients of the recorder that was stopped before may have been cut; nobody else.
    assert!(trouble.load.broken_count() <= broken + 3, "{}", recorder.stderr());
    trouble.fault.end();
    let got = trouble.load.stop();
    record_holds(&trouble.place, &got, &trouble.api.log());
    recorder.stop();
}

#[test]
fn a_database_that_is_deleted_is_made_anew_and_gets_everything_from_then_on() {
    let trouble = Trouble::new();
    let recorder = trouble.begin();
    let before: Vec<_> = trouble.api.log().into_iter().map(|entry| entry.target).collect();
    delete(&trouble.database);
    trouble.traffic_goes_on(&recorder);
    // What had reached the database before is gone with it; what began afterwards must not be.
    let began_before = |got: &Got| before.iter().any(|target| target.ends_with(&format!("case={}", got.case)));
    trouble.everything_is_drained(recorder, |got| !began_before(got));
}

fn delete(database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{suffix}", database.display()));
        if file.exists() {
            std::fs::remove_file(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        }
    }
    assert!(!database.exists());
}
