//! `kill -9` at 200 random moments under load: nothing that a client got is lost, nothing is doubled.
//!
//! `ICCM_TEST_KILLS` sets another number of kills, e.g. for a long run.

use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::load::Load;
use e2e::process::Running;
use e2e::random::Random;
use e2e::recorder::Place;
use e2e::verify::record_holds;

#[test]
fn nothing_that_a_client_got_is_lost_or_doubled_by_200_kills_at_random_moments() {
    let kills = std::env::var("ICCM_TEST_KILLS").map_or(200, |text| text.parse().expect("ICCM_TEST_KILLS is a number"));
    let (place, api) = (Place::new(), FakeApi::start());
    let mut random = Random::new(20_261_122);
    let load = Load::start(4, 1, 4);
    for kill in 0..kills {
        // One in five dies while it starts, and so while it recovers what its predecessors left.
        if random.one_in(5) {
            let mut starting = Running::start(place.recorder_command("kgb", &api.url()));
            random_moment(&load, &mut random, 60);
            starting.kill();
            continue;
        }
        let recorder = place.kgb(&api.url());
        load.aim(Some(recorder.address()));
        // Some moments are random times, others lie just after an exchange has ended.
        if random.one_in(2) {
            random_moment(&load, &mut random, 250);
        } else {
            let more = random.between(1, 12);
            assert!(load.wait_for(load.got_count() + more, Duration::from_secs(30)), "no traffic before kill {kill}");
        }
        recorder.kill();
        load.aim(None);
    }
    let broken = load.broken_count();
    let got = load.stop();
    let log = api.log();
    assert!(got.len() > kills && broken > kills / 10, "{} whole, {broken} broken: that was no load", got.len());

    let recorder = place.kgb(&api.url());
    let exchanges = record_holds(&place, &got, &log);
    recorder.stop();
    let crashed = exchanges.iter().filter(|exchange| exchange["outcome"] == "recorder_crashed").count();
    assert!(crashed > 0, "no kill struck in the middle of an exchange");
    println!("{kills} kills: {} exchanges whole, {broken} broken, {} recorded", got.len(), exchanges.len());
    println!("{crashed} of them are recorder_crashed; the API saw {}", log.len());
}

/// Lets up to so many milliseconds pass. The time is the test's input and waits for nothing.
fn random_moment(load: &Load, random: &mut Random, up_to_ms: usize) {
    let moment = Duration::from_micros(random.between(0, up_to_ms * 1000) as u64);
    let never = usize::MAX;
    assert!(!load.wait_for(never, moment));
}
