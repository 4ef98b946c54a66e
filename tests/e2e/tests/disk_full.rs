//! The spool's disk is full: each policy does what it says, the gap is on record with its size, and when there is room
//! again recording goes on by itself.

use std::path::Path;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use e2e::DUMMY_KEY;
use e2e::disk_fault::DiskFault;
use e2e::fake_api::FakeApi;
use e2e::fake_api::log::{Entry, Sent};
use e2e::http::Ending;
use e2e::raw_client::{Connection, Request, Seen, exchange};
use e2e::recorder::{Place, Recorder};
use e2e::stage::scripted;
use e2e::{sha256, wait};
use serde_json::Value;

/// How many exchanges come while the disk is full, beside the one that is running when that happens.
const DURING: usize = 12;

struct FullDisk {
    fault: DiskFault,
    place: Place,
    api: FakeApi,
    recorder: Recorder,
}

impl FullDisk {
    fn new(policy: &str) -> Self {
        let place = Place::new();
        let fault = DiskFault::prepare(&place.data_dir().join("spool"), place.folder());
        let place = fault.variables().iter().fold(place, |place, (name, value)| place.with_variable(name, value));
        let place = place.with_variable("ICCM_WHEN_SPOOL_FULL", policy);
        let api = FakeApi::start();
        let recorder = place.kgb(&api.url());
        let seen = exchange(recorder.address(), &scripted("before.", "hello", true));
        assert_eq!(seen.ending, Ending::Complete);
        Self { fault, place, api, recorder }
    }

    /// A stream of which the client has a few events; the rest waits at the gate `stream`.
    fn running_stream(&self) -> (JoinHandle<Seen>, Request) {
        let request = scripted("running.", "think", true).field("x-fake-fault", "lockstep");
        let request = request.field("x-fake-gate", "stream");
        let mut connection = Connection::open(self.recorder.address()).unwrap();
        connection.request(&request).unwrap();
        let (progress, read) = mpsc::channel();
        let reading = thread::spawn(move || {
            connection.response_seen("POST", &mut |body| {
                // The receiver is gone when the stream goes on.
                let _ = progress.send(body.len());
            })
        });
        (0..4).for_each(|_| self.api.open_gate("stream"));
        self.api.wait_at_gate("stream");
        let sent = self.api.log().pop().unwrap().response_body.len();
        while read.recv_timeout(wait::PATIENCE).expect("the events that were sent") < sent {}
        (reading, request)
    }

    fn let_the_stream_end(&self) {
        (0..60).for_each(|_| self.api.open_gate("stream"));
    }

    /// The API's entry for an exchange that it has answered.
    fn answered(&self, case: &str) -> Entry {
        self.api.wait("the end of an answer", |log| {
            log.iter().find(|entry| entry.target.ends_with(case) && entry.sent == Sent::Whole).cloned()
        })
    }

    fn ask(&self, target: &str) -> Seen {
        exchange(self.recorder.address(), &Request::new("GET", target))
    }

    /// A counter or gauge of `/metrics`.
    fn metric(&self, name: &str) -> u64 {
        let text = String::from_utf8(self.ask("/metrics").body).unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }

    fn is_not_ready_and_says_why(&self) {
        let ready = self.ask("/ready");
        let said: Value = serde_json::from_slice(&ready.body).unwrap();
        assert_eq!((ready.status(), &said["status"]), (Some(503), &Value::from("not ready")));
        let reason = said["reason"].as_str().unwrap();
        assert!(reason.starts_with("cannot record: "), "{reason}");
        assert_eq!(self.metric("iccm_cannot_record"), 1);
        assert!(self.metric("iccm_spool_errors_total") > 0);
        assert_eq!(self.ask("/health").status(), Some(200), "a recorder that cannot record is not dead");
    }

    /// There is room again: the next exchange is on record, without a restart.
    fn recovers(&self) {
        self.fault.end();
        let request = scripted("after.", "hello", true);
        let seen = exchange(self.recorder.address(), &request);
        assert_eq!((seen.status(), seen.ending.clone()), (Some(200), Ending::Complete));
        let recorded = self.place.recorded("case=after.");
        assert_eq!(recorded["outcome"], "complete");
        assert_eq!(self.place.part(recorded["id"].as_str().unwrap(), "request-body"), request.body);
        assert_eq!(self.place.part(recorded["id"].as_str().unwrap(), "response-body"), seen.body);
        assert_eq!(self.ask("/ready").status(), Some(200));
        assert_eq!(self.metric("iccm_cannot_record"), 0);
    }

    /// Stops the recorder; the record then holds `cases`, in this order of their numbers, and nothing half.
    fn holds_just(self, cases: &[&str]) -> (Place, Vec<Value>) {
        self.recorder.stop();
        let mut exchanges = self.place.exchanges();
        exchanges.sort_by_key(|exchange| exchange["seq"].as_u64());
        let paths: Vec<_> = exchanges.iter().map(|exchange| exchange["path"].as_str().unwrap()).collect();
        let case = |path: &&str| path.split("case=").nth(1).unwrap_or_default().to_owned();
        assert_eq!(paths.iter().map(case).collect::<Vec<_>>(), cases);
        assert_eq!(self.place.stats()["spool_pending_records"], 0);
        assert_eq!(self.place.files_with(DUMMY_KEY.as_bytes()), [""; 0].map(Path::new));
        (self.place, exchanges)
    }
}

#[test]
fn pass_unrecorded_lets_traffic_pass_and_puts_the_gap_on_record_with_its_size() {
    let disk = FullDisk::new("pass-unrecorded");
    let (stream, asked) = disk.running_stream();
    disk.fault.begin("full");
    let mut bytes = 0;
    for n in 0..DURING {
        // One in three is larger than any buffer on the way.
        let mut request = scripted(&format!("during-{n}."), "hello", n % 2 == 0);
        request.body.resize(request.body.len() + (n % 3 / 2) * 700_000, b' ');
        let seen = exchange(disk.recorder.address(), &request);
        assert_eq!((seen.status(), &seen.ending), (Some(200), &Ending::Complete), "during-{n}");
        let entry = disk.answered(&format!("during-{n}."));
        assert!(entry.request_body == request.body && entry.response_body == seen.body, "during-{n}: byte for byte");
        bytes += request.body.len() + seen.body.len();
    }
    disk.is_not_ready_and_says_why();
    disk.let_the_stream_end();
    let streamed = stream.join().unwrap();
    assert_eq!(streamed.ending, Ending::Complete, "a running stream passes to its end");
    assert_eq!(sha256(&streamed.body), sha256(&disk.answered("running.").response_body));

    let unrecorded = DURING as u64 + 1;
    wait::until("the count of what passed", || {
        (disk.metric("iccm_unrecorded_exchanges_total") == unrecorded).then_some(())
    });
    let counted_bytes = disk.metric("iccm_unrecorded_bytes_total");
    assert!(
        counted_bytes > bytes as u64,
        "{counted_bytes} bytes counted, {bytes} in the bodies of new exchanges alone"
    );
    disk.recovers();
    assert_eq!(disk.metric("iccm_unrecorded_exchanges_total"), unrecorded, "nothing more is missing");

    let (place, exchanges) = disk.holds_just(&["before.", "running.", "after."]);
    assert_eq!(place.stats()["unrecorded"], unrecorded);
    assert_eq!(gap_bytes(&place), counted_bytes, "the gap's size is on record");
    // The one that was running has its request, what came before the disk was full, and does not pretend to be whole.
    let running = &exchanges[1];
    let id = running["id"].as_str().unwrap();
    assert_eq!(running["outcome"], "recorder_crashed", "{running}");
    assert_eq!(place.part(id, "request-body"), asked.body);
    let kept = place.part(id, "response-body");
    assert!(!kept.is_empty() && kept.len() < streamed.body.len() && streamed.body.starts_with(&kept), "{}", kept.len());
}

/// The spool keeps room for that on the disk, and gives it up for nothing else.
#[test]
fn a_gap_is_on_record_although_the_recorder_died_while_the_disk_was_full() {
    let disk = FullDisk::new("pass-unrecorded");
    disk.fault.begin("full");
    for n in 0..DURING {
        let seen = exchange(disk.recorder.address(), &scripted(&format!("during-{n}."), "hello", true));
        assert_eq!((seen.status(), &seen.ending), (Some(200), &Ending::Complete), "during-{n}");
    }
    let passed = disk.metric("iccm_unrecorded_exchanges_total");
    assert_eq!(passed, DURING as u64, "what was kept back is not for exchanges");
    let FullDisk { fault, place, api, recorder } = disk;
    recorder.kill();
    fault.end();
    let next = place.kgb(&api.url());
    let noted = wait::until("the gap", || place.stats()["unrecorded"].as_u64().filter(|noted| *noted > 0));
    assert!(noted <= passed, "{noted} of {passed}");
    next.stop();
    assert_eq!(place.exchanges().len(), 1, "before.");
}

#[test]
fn refuse_answers_503_in_the_apis_shape_and_forwards_nothing() {
    let disk = FullDisk::new("refuse");
    let (stream, _) = disk.running_stream();
    disk.fault.begin("full");
    for n in 0..DURING {
        let mut request = scripted(&format!("during-{n}."), "hello", n % 2 == 0);
        request.body.resize(request.body.len() + (n % 3 / 2) * 700_000, b' ');
        let seen = exchange(disk.recorder.address(), &request);
        assert_eq!((seen.status(), seen.get("x-iccm-error")), (Some(503), Some("refused")), "during-{n}");
        let body: Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!((&body["type"], &body["error"]["type"]), (&Value::from("error"), &Value::from("api_error")));
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("cannot be recorded") && message.contains("pass-unrecorded"), "{message}");
    }
    let forwarded = disk.api.log().iter().filter(|entry| entry.target.contains("during")).count();
    assert_eq!(forwarded, 0, "what is refused is not forwarded");
    disk.is_not_ready_and_says_why();
    assert_eq!(disk.metric("iccm_refused_unrecordable_total"), DURING as u64);
    disk.let_the_stream_end();
    let cut = stream.join().unwrap();
    assert!(matches!(cut.ending, Ending::Closed | Ending::Reset), "a running stream is cut: {:?}", cut.ending);
    disk.recovers();

    let (place, exchanges) = disk.holds_just(&["before.", "running.", "after."]);
    assert_eq!(place.stats()["unrecorded"], 0, "nothing passed unrecorded");
    let running = &exchanges[1];
    assert_eq!(running["outcome"], "refused", "{running}");
    assert_eq!(place.part(running["id"].as_str().unwrap(), "response-body"), cut.body, "all that the client got");
}

/// The bytes of all gaps on record. No command shows them yet, so they are read where they lie: of a record of kind 2
/// the detail's field of that name.
fn gap_bytes(place: &Place) -> u64 {
    let database = rusqlite::Connection::open(place.data_dir().join("iccm.db")).unwrap();
    let mut query = database.prepare("SELECT detail FROM record WHERE kind = 2").unwrap();
    let details = query.query_map([], |row| row.get::<_, Vec<u8>>(0)).unwrap();
    details.map(|detail| serde_json::from_slice::<Value>(&detail.unwrap()).unwrap()["bytes"].as_u64().unwrap()).sum()
}
