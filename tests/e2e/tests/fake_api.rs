//! The fake API and the real Claude Code, without a recorder between them: what the other tests stand on.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::claude::{Home, MIDDLE, NEWEST, OLDEST};
use e2e::fake_api::log::{Entry, Sent};
use e2e::fake_api::reply::FAULTS;
use e2e::fake_api::script::LONG_STEPS;
use e2e::fake_api::{FakeApi, Options};
use e2e::http::Ending;
use e2e::raw_client::{Connection, Request, exchange};
use e2e::stage::faulty;

fn scripts(log: &[Entry]) -> BTreeMap<String, Vec<usize>> {
    let mut steps: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (name, step) in log.iter().filter_map(|entry| entry.script.clone()) {
        steps.entry(name).or_default().push(step);
    }
    steps
}

fn a_long_session_runs_to_its_end(version: &str) {
    let api = FakeApi::start();
    let home = Home::new(version);
    let run = home.ask_directly(&api.url(), &home.prompt("long"), &[]);
    assert_eq!(run.result()["result"], "All fourteen steps are done.");
    let log = api.log();
    let steps = scripts(&log);
    assert_eq!(steps["long"], (0..LONG_STEPS).collect::<Vec<_>>(), "each step once and in order");
    assert_eq!(steps["read"], [0, 1], "the sub-agent's two steps");
    assert!(log.iter().all(|entry| entry.sent == Sent::Whole), "nothing broke off");
}

#[test]
fn claude_code_2_1_330_plays_the_long_script() {
    a_long_session_runs_to_its_end(NEWEST);
}

#[test]
fn claude_code_2_1_197_plays_the_long_script() {
    a_long_session_runs_to_its_end(MIDDLE);
}

#[test]
fn claude_code_2_0_5_plays_the_long_script() {
    a_long_session_runs_to_its_end(OLDEST);
}

#[test]
fn a_fault_by_marker_is_retried_by_claude_code_and_then_succeeds() {
    for fault in ["status_529", "fin_mid_stream", "reset_mid_stream"] {
        let api = FakeApi::start();
        let home = Home::new(NEWEST);
        let run = home.ask_directly(&api.url(), &format!("SCRIPT:hello FAULT:{fault} Hi."), &[]);
        assert_eq!(run.result()["result"], "This is the answer of the script hello.");
        let faults: Vec<_> =
            api.log().into_iter().filter(|entry| entry.script.is_some()).map(|entry| entry.fault).collect();
        assert_eq!(faults, [Some(fault.to_owned()), None], "one spoilt answer and one good one");
    }
}

#[test]
fn a_compressed_stream_is_understood_by_claude_code() {
    let api = FakeApi::start();
    let home = Home::new(NEWEST);
    let run = home.ask_directly(&api.url(), "SCRIPT:hello ENCODING:gzip Hi.", &[]);
    assert_eq!(run.result()["result"], "This is the answer of the script hello.");
}

#[test]
fn the_same_seed_and_session_give_the_same_bytes() {
    let body = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"SCRIPT:think"}]}"#;
    let answers = |seed: u64| {
        let api = FakeApi::with(Options { seed, ..Options::default() });
        let seen: Vec<_> = (0..2).map(|_| exchange(api.address(), &Request::message(body))).collect();
        assert!(seen.iter().all(|seen| seen.ending == Ending::Complete && seen.status() == Some(200)));
        seen.into_iter().map(|seen| seen.body).collect::<Vec<_>>()
    };
    let (first, again, other) = (answers(7), answers(7), answers(8));
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert_ne!(first[0], first[1], "two answers never share their ids");
}

#[test]
fn the_log_has_the_bytes_that_the_client_saw() {
    let api = FakeApi::start();
    let body = r#"{"model":"m","messages":[{"role":"user","content":"SCRIPT:hello"}]}"#;
    let seen = exchange(api.address(), &Request::message(body));
    let entry = api.wait("the exchange's end", |log| log.first().filter(|entry| entry.sent == Sent::Whole).cloned());
    assert_eq!((entry.request_body.as_slice(), &entry.response_body), (body.as_bytes(), &seen.body));
    assert_eq!(seen.head.unwrap().fields, entry.response_fields);
}

#[test]
fn every_fault_is_on_the_wire_what_its_name_says() {
    let api = FakeApi::start();
    for fault in FAULTS {
        api.open_gate("always");
        let stream = !matches!(fault, "fin_mid_length" | "close_delimited");
        let request = faulty(fault, stream).field("x-fake-gate", "always");
        if fault == "lockstep" {
            (0..100).for_each(|_| api.open_gate("always"));
        }
        let mut connection = Connection::open(api.address()).unwrap();
        connection.listen_for(Duration::from_millis(500));
        connection.request(&request).unwrap();
        let seen = connection.response("POST");
        let expected = match fault {
            "close_without_reply" | "half_head" | "fin_mid_stream" | "fin_mid_length" => Ending::Closed,
            "reset_without_reply" | "reset_mid_stream" => Ending::Reset,
            "hang" | "stall_mid_stream" => Ending::Silence,
            _ => Ending::Complete,
        };
        assert_eq!(seen.ending, expected, "{fault}");
        if let Some(status) = fault.strip_prefix("status_") {
            assert_eq!(seen.status().unwrap().to_string(), status);
        }
        let whole = String::from_utf8_lossy(&seen.body).contains("message_stop");
        let good = matches!(fault, "pings" | "lockstep");
        assert_eq!(whole, good, "{fault}: {}", String::from_utf8_lossy(&seen.body));
    }
}
