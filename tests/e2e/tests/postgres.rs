//! A recorder whose record is in PostgreSQL: whatever happens to the server, traffic goes on, and everything gets there once.

use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::load::Load;
use e2e::mcp::Mcp;
use e2e::postgres::{Cluster, PASSWORD};
use e2e::recorder::{Place, Recorder};
use e2e::verify::record_holds;
use e2e::wait;
use serde_json::json;

/// How much passes while the server is away, and while it is there.
const DURING: usize = 20;

fn traffic_goes_on(load: &Load, recorder: &Recorder) {
    let so_far = load.got_count();
    assert!(load.wait_for(so_far + DURING, Duration::from_secs(60)), "no traffic: {}", recorder.stderr());
    assert_eq!(load.broken_count(), 0, "{}", recorder.stderr());
}

#[test]
fn a_killed_server_stops_no_traffic_and_gets_everything_once() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    let place = Place::new().with_arguments(&["--database", database.url()]);
    let (api, load) = (FakeApi::start(), Load::start(2, 20, 40));
    let recorder = place.kgb(&api.url());
    load.aim(Some(recorder.address()));
    traffic_goes_on(&load, &recorder);
    place.drained_to(10);
    for round in 0..3 {
        cluster.kill();
        traffic_goes_on(&load, &recorder);
        // Once it comes back amid traffic. What passes while it starts is as much as the machine is slow, and is all read back
        // below, so that it is enough.
        load.aim((round == 0).then(|| recorder.address()));
        cluster.start_server();
        load.aim(Some(recorder.address()));
        traffic_goes_on(&load, &recorder);
    }
    load.aim(None);
    let got = load.stop();
    record_holds(&place, &got, &api.log());
    let said = recorder.stderr();
    recorder.stop();
    assert!(said.contains("cannot drain"), "the server was never missed: {said}");
    assert!(!said.contains(PASSWORD), "{said}");
    assert_eq!(place.stats()["unrecorded"], 0);
}

#[test]
fn a_server_that_is_away_at_the_start_is_waited_for_and_gets_everything() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    cluster.stop();
    let place = Place::new().with_arguments(&["--database", database.url()]);
    let (api, load) = (FakeApi::start(), Load::start(2, 20, 40));
    let up = place.recorder("up", &api.url(), &[]);
    load.aim(Some(up.address()));
    traffic_goes_on(&load, &up);
    let dewey = Mcp::of_url(&up.ready["dewey"]);
    let context = json!({"name": "a", "content": "b"});
    let refused = dewey.call("dewey_set_startup_context", &context);
    assert!(refused.is_error && refused.text.contains("not available now; try again later"), "{}", refused.text);
    assert!(!refused.text.contains(PASSWORD), "{}", refused.text);
    load.aim(None);
    cluster.start_server();
    load.aim(Some(up.address()));
    traffic_goes_on(&load, &up);
    wait::until_within(Duration::from_secs(60), "Dewey to reach the database", || {
        (!dewey.call("dewey_set_startup_context", &context).is_error).then_some(())
    });
    load.aim(None);
    let got = load.stop();
    record_holds(&place, &got, &api.log());
    assert!(!up.stderr().contains(PASSWORD), "{}", up.stderr());
    up.stop();
    assert_eq!(place.stats()["unrecorded"], 0);
}

#[test]
fn no_word_of_a_server_that_cannot_be_reached_repeats_the_password() {
    let mut cluster = Cluster::start(&[]);
    let database = cluster.database();
    cluster.stop();
    let place = Place::new().with_arguments(&["--database", database.url()]);
    for words in [&["doctor"][..], &["stats"], &["conversations"]] {
        let finished = e2e::process::run(place.command(words), Duration::from_secs(60));
        assert!(!finished.status.success(), "{words:?} cannot work");
        let said = String::from_utf8_lossy(&finished.stdout).into_owned() + &finished.stderr;
        assert!(said.contains(&format!("127.0.0.1:{}", cluster.port())), "{words:?} says where: {said}");
        assert!(!said.contains(PASSWORD), "{words:?}: {said}");
    }
}
