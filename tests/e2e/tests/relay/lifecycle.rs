//! Beginning and end: processes, secrets, and what is left.

use std::time::Duration;

use e2e::relay::{Listening, Relay, child, descendants, is_running};
use e2e::resources::Resources;
use e2e::wait;
use rustix::process::Signal;
use serde_json::json;

/// A relay whose child has started a process that left its group; all process ids below it.
fn family() -> (Relay, Vec<u32>) {
    let mut relay = Relay::legacy(json!({"one": child("legacy", "one"), "two": child("modern", "two")}));
    relay.tools();
    let stray: u32 = relay.text("one_orphan", json!({})).parse().unwrap();
    let below = descendants(relay.pid());
    assert!(below.contains(&stray) && below.len() >= 5, "{below:?}");
    (relay, below)
}

fn all_gone(pids: &[u32], after: &str) {
    wait::until(&format!("the end of all processes after {after}"), || {
        pids.iter().all(|pid| !is_running(*pid)).then_some(())
    });
}

#[test]
fn the_end_of_the_clients_stream_ends_everything() {
    let (mut relay, below) = family();
    relay.hang_up();
    let finished = relay.running().end(Duration::from_secs(10));
    assert_eq!(finished.code(), 0, "{}", finished.stderr);
    all_gone(&below, "the end of the client's stream");
}

#[test]
fn sigterm_ends_everything() {
    let (mut relay, below) = family();
    relay.running().signal(Signal::TERM);
    assert_eq!(relay.running().end(Duration::from_secs(10)).code(), 0);
    all_gone(&below, "SIGTERM");
}

#[test]
fn kill_dash_nine_leaves_no_orphan() {
    let (mut relay, below) = family();
    relay.running().kill();
    all_gone(&below, "kill -9");
}

#[test]
fn what_was_asked_before_the_stream_ended_is_answered() {
    let mut relay = Relay::start(json!({"one": child("legacy", "one")}), &[]);
    relay.initialize(json!({}));
    let (list, call) = (relay.send("tools/list", json!({})), relay.send("ping", json!({})));
    relay.hang_up();
    relay.answer(call);
    let answer = match relay.others.iter().position(|message| message["id"] == list) {
        Some(index) => relay.others.remove(index),
        None => relay.answer(list),
    };
    assert!(answer.to_string().contains("own_one"), "{answer}");
}

#[test]
fn secrets_of_the_relay_reach_a_child_only_by_name() {
    let variables = [
        ("CLAUDE_CODE_MESSAGING_TOKEN", "secret-1"),
        ("ANTHROPIC_API_KEY", "secret-2"),
        ("MINE", "secret-3"),
        ("LC_ALL", "C"),
    ];
    let mut entry = child("legacy", "one");
    entry["env"] = json!({"GIVEN": "${MINE}", "PLAIN": "x"});
    let mut relay = Relay::start(json!({"one": entry}), &variables);
    relay.initialize(json!({}));
    relay.tools();
    let env = relay.text("env", json!({}));
    assert!(!env.contains("secret-1") && !env.contains("secret-2") && !env.contains("MINE="), "{env}");
    assert!(env.contains("GIVEN=secret-3") && env.contains("PLAIN=x") && env.contains("LC_ALL=C"), "{env}");
}

#[test]
fn ten_thousand_calls_over_eight_servers_leak_nothing() {
    let listening: Vec<Listening> = [("ws", "legacy"), ("ws", "modern"), ("http", "legacy"), ("http", "modern")]
        .iter()
        .enumerate()
        .map(|(n, (transport, era))| Listening::start(transport, era, &format!("s{n}")))
        .collect();
    let mut servers: serde_json::Map<String, serde_json::Value> =
        listening.iter().enumerate().map(|(n, server)| (format!("s{n}"), server.entry())).collect();
    servers.extend(
        (4..8).map(|n| (format!("s{n}"), child(if n % 2 == 0 { "legacy" } else { "modern" }, &format!("s{n}")))),
    );
    let mut relay = Relay::legacy(servers.into());
    relay.tools();
    let resources = Resources(relay.pid());
    let round = |relay: &mut Relay, calls: usize| {
        for batch in 0..calls / 80 {
            // Ten at once to each; the tool's name tells the server.
            let ids: Vec<(u64, usize)> = (0..80)
                .map(|n| {
                    (
                        relay.send("tools/call", json!({"name": format!("own_s{}", n % 8), "arguments": {"n": batch}})),
                        n % 8,
                    )
                })
                .collect();
            let mut open: std::collections::HashMap<u64, usize> = ids.into_iter().collect();
            while !open.is_empty() {
                let message: serde_json::Value = serde_json::from_str(&relay.line()).unwrap();
                let server = open.remove(&message["id"].as_u64().unwrap()).expect("each is answered once");
                assert_eq!(message["result"]["content"][0]["text"], format!("s{server}"), "{message}");
            }
        }
    };
    round(&mut relay, 2_000);
    let (memory, children) = (resources.resident(), descendants(relay.pid()).len());
    let descriptors = resources.descriptors();
    round(&mut relay, 10_000);
    assert_eq!(descendants(relay.pid()).len(), children);
    let status: serde_json::Value = serde_json::from_str(&relay.text("relay_get_status", json!({}))).unwrap();
    assert_eq!((&status["calls"], &status["in_flight"]), (&json!(12_000), &json!(0)));
    assert!(resources.resident() < memory + 8 * 1024 * 1024, "{memory} → {}", resources.resident());
    // Connections of the HTTP pool come and go.
    assert!(resources.descriptors() <= descriptors + 24, "{descriptors} → {}", resources.descriptors());
}
