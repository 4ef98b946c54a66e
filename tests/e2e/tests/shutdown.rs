//! SIGTERM under load: running streams end or are cut with their outcome on record, the recorder exits 0 in time, nothing
//! is lost or doubled.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use e2e::fake_api::FakeApi;
use e2e::http::Ending;
use e2e::load::Load;
use e2e::random::Random;
use e2e::raw_client::{Connection, Request, Seen};
use e2e::recorder::{Place, Recorder};
use e2e::stage::scripted;
use e2e::verify::record_holds;
use e2e::wait;

const ROUNDS: usize = 20;
/// How long running exchanges may go on after the signal (the gateway's default).
const GRACE: Duration = Duration::from_secs(10);
/// What the end may take beside: cutting, draining, and a machine with two busy processors.
const ALLOWANCE: Duration = Duration::from_secs(15);

/// A client's stream that is under way: its first bytes have come.
struct Stream(thread::JoinHandle<Seen>);

impl Stream {
    fn begin(recorder: &Recorder, request: Request) -> Self {
        let address = recorder.address();
        let (first, begun) = mpsc::channel();
        let client = thread::spawn(move || {
            let mut connection = Connection::open(address).unwrap();
            connection.request(&request).unwrap();
            connection.response_seen("POST", &mut |_| {
                // Only the first one is waited for.
                let _ = first.send(());
            })
        });
        begun.recv_timeout(wait::PATIENCE).expect("the first bytes of a stream");
        Self(client)
    }

    fn end(self) -> Seen {
        self.0.join().unwrap()
    }
}

#[test]
fn sigterm_under_load_lets_every_stream_end_and_loses_nothing() {
    let (place, api) = (Place::new(), FakeApi::start());
    let load = Load::start(4, 70, 6);
    let mut random = Random::new(20_261_124);
    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let recorder = place.kgb(&api.url());
        load.aim(Some(recorder.address()));
        let more = load.got_count() + random.between(1, 30);
        assert!(load.wait_for(more, wait::PATIENCE), "no traffic in round {round}: {}", recorder.stderr());
        let request = scripted(&format!("round-{round}."), "think", true).field("x-fake-pace-ms", "25");
        let stream = Stream::begin(&recorder, request);
        // Some moments are random times, others lie just after the beginning of a stream.
        if random.one_in(2) {
            assert!(!load.wait_for(usize::MAX, Duration::from_micros(random.between(0, 100_000) as u64)));
        }
        let asked = Instant::now();
        recorder.stop();
        slowest = slowest.max(asked.elapsed());
        load.aim(None);
        assert_eq!(stream.end().ending, Ending::Complete, "a stream that ends within the grace is not cut: {round}");
    }
    let broken = load.broken_count();
    let got = load.stop();
    assert!(slowest < GRACE + ALLOWANCE, "the slowest end took {slowest:?}");
    assert!(got.len() > ROUNDS * 5, "{} whole, {broken} broken: that was no load", got.len());

    // All of it is stored by the recorder that got it: the end of a life waits for the drain.
    assert_eq!(place.stats()["spool_pending_records"], 0);
    let exchanges = record_holds(&place, &got, &api.log());
    for exchange in &exchanges {
        let outcome = exchange["outcome"].as_str().unwrap();
        assert!(["complete", "client_aborted"].contains(&outcome), "{exchange}");
    }
    println!(
        "{ROUNDS} ends, the slowest took {slowest:.1?}: {} whole, {broken} broken, {} recorded",
        got.len(),
        exchanges.len()
    );
}

#[test]
fn a_stream_that_outlives_the_grace_is_cut_and_on_record_as_such() {
    let (place, api) = (Place::new(), FakeApi::start());
    let recorder = place.kgb(&api.url());
    let stalled = scripted("stalled.", "think", true).field("x-fake-fault", "stall_mid_stream");
    let ends = scripted("ends.", "think", true).field("x-fake-pace-ms", "25");
    let (stalled, ends) = (Stream::begin(&recorder, stalled), Stream::begin(&recorder, ends));
    let asked = Instant::now();
    recorder.stop();
    let took = asked.elapsed();
    assert!(took >= GRACE / 2 && took < GRACE + ALLOWANCE, "the end took {took:?}");
    let (stalled, ends) = (stalled.end(), ends.end());
    assert_eq!(ends.ending, Ending::Complete);
    assert!(matches!(stalled.ending, Ending::Closed | Ending::Reset), "{:?}", stalled.ending);

    let exchanges = place.drained(2);
    let find =
        |case: &str| exchanges.iter().find(|exchange| exchange["path"].as_str().unwrap().contains(case)).unwrap();
    assert_eq!(find("ends.")["outcome"], "complete");
    let cut = find("stalled.");
    assert_eq!(cut["outcome"], "recorder_stopped", "{cut}");
    assert_eq!(place.part(cut["id"].as_str().unwrap(), "response-body"), stalled.body, "all that the client got");
    println!("the end took {took:.1?}");
}
