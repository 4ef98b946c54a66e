//! Level `power`: `kill -9` and the loss of everything that was not synced, at 200 random moments under load. Nothing that
//! a client got whole is lost or damaged, nothing is doubled.
//!
//! `ICCM_TEST_KILLS` sets another number of kills. The database syncs for itself and is left as it is; for a quarter of the
//! time it is locked, so that what is not lost must have come from the spool.

use std::path::PathBuf;
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::fake_api::log::Sent;
use e2e::http::Ending;
use e2e::load::Load;
use e2e::power_cut::{Loss, PowerCut};
use e2e::process::Running;
use e2e::random::Random;
use e2e::raw_client::exchange;
use e2e::recorder::Place;
use e2e::stage::scripted;
use e2e::verify::record_holds;
use rusqlite::Connection;

/// Of so many kills in a row ...
const ROUND: usize = 40;
/// ... so many strike while nothing can be drained.
const LOCKED: usize = 10;

/// A place whose spool can lose its power, and whose database exists.
fn prepared(durability: &str) -> (Place, PowerCut, PathBuf) {
    let place = Place::new();
    let power = PowerCut::prepare(&place.data_dir().join("spool"), place.folder());
    let database = place.folder().join("iccm.db");
    let url = format!("sqlite:{}", database.display());
    let place = place.with_arguments(&["--database", &url]);
    let api = FakeApi::start();
    let first = place.kgb(&api.url());
    assert_eq!(exchange(first.address(), &scripted("first", "hello", true)).ending, Ending::Complete);
    first.stop();
    let place = place.with_variable("ICCM_DURABILITY", durability);
    let variables = power.variables();
    let place = variables.iter().fold(place, |place, (name, value)| place.with_variable(name, value));
    (place, power, database)
}

/// Holds the database until the connection is dropped.
fn lock(database: &PathBuf) -> Connection {
    let other = Connection::open(database).unwrap();
    other.busy_timeout(Duration::from_secs(30)).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    other
}

#[test]
fn nothing_that_a_client_got_is_lost_by_200_kills_with_loss_of_what_was_not_synced() {
    let kills = std::env::var("ICCM_TEST_KILLS").map_or(200, |text| text.parse().expect("ICCM_TEST_KILLS is a number"));
    let (place, power, database) = prepared("power");
    let api = FakeApi::start();
    let mut random = Random::new(20_261_123);
    let load = Load::start(4, 31, 4);
    let mut loss = Loss::default();
    let mut locked = None;
    for kill in 0..kills {
        match kill % ROUND {
            0 => locked = Some(lock(&database)),
            LOCKED => locked = None,
            _ => {}
        }
        if random.one_in(5) {
            let mut starting = Running::start(place.recorder_command("kgb", &api.url()));
            let moment = Duration::from_micros(random.between(0, 60_000) as u64);
            assert!(!load.wait_for(usize::MAX, moment));
            starting.kill();
        } else {
            let recorder = place.kgb(&api.url());
            load.aim(Some(recorder.address()));
            // Some moments are random times, others lie just after an exchange has ended.
            if random.one_in(3) {
                assert!(!load.wait_for(usize::MAX, Duration::from_micros(random.between(0, 250_000) as u64)));
            } else {
                let more = load.got_count() + random.between(1, 12);
                assert!(load.wait_for(more, Duration::from_secs(30)), "no traffic before kill {kill}");
            }
            recorder.kill();
            load.aim(None);
        }
        loss += power.strike();
    }
    drop(locked);
    let broken = load.broken_count();
    let got = load.stop();
    assert!(got.len() > kills && broken > kills / 10, "{} whole, {broken} broken: that was no load", got.len());
    assert!(loss.bytes > 0, "no loss of power took anything away: {loss:?}");

    // A request that never came whole to the API was never synced: it may be lost.
    let log: Vec<_> = api.log().into_iter().filter(|entry| entry.sent != Sent::RequestBroken).collect();
    let recorder = place.kgb(&api.url());
    let exchanges = record_holds(&place, &got, &log);
    recorder.stop();
    println!("{kills} kills: {} exchanges whole, {broken} broken, {} recorded; {loss:?}", got.len(), exchanges.len());
}

/// What is left of ten exchanges after a loss of power before anything was drained.
fn left_of_ten(durability: &str) -> (usize, Loss) {
    let (place, power, database) = prepared(durability);
    let api = FakeApi::start();
    let locked = lock(&database);
    let recorder = place.kgb(&api.url());
    for n in 0..10 {
        let seen = exchange(recorder.address(), &scripted(&format!("lost-{n}."), "hello", true));
        assert_eq!(seen.ending, Ending::Complete);
    }
    recorder.kill();
    let loss = power.strike();
    drop(locked);
    let recorder = place.kgb(&api.url());
    let recorded = place.drained(1);
    recorder.stop();
    let is_one = |exchange: &&serde_json::Value| exchange["path"].as_str().is_some_and(|path| path.contains("lost-"));
    (recorded.iter().filter(is_one).count(), loss)
}

#[test]
fn the_same_loss_takes_everything_from_level_process_and_nothing_from_level_power() {
    let (left, loss) = left_of_ten("process");
    assert_eq!(left, 0, "level process does not sync, so this test would not notice a loss: {loss:?}");
    assert!(loss.names > 0, "{loss:?}");
    let (left, loss) = left_of_ten("power");
    assert_eq!(left, 10, "{loss:?}");
}
