//! Servers come, go, collide and die.

use std::time::{Duration, Instant};

use e2e::relay::{Listening, Relay, child};
use e2e::wait;
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn a_dead_server_costs_only_its_own_tools() {
    let mut doomed = Listening::start("ws", "legacy", "doomed");
    let mut relay = Relay::legacy(json!({
        "doomed": doomed.entry(), "good": child("legacy", "good"),
        "never": {"type": "ws", "url": "ws://127.0.0.1:1"}, "wrong": {"command": "no-such-program-anywhere"},
    }));
    let tools = relay.tools();
    assert!(tools.contains(&"own_good".to_owned()) && tools.contains(&"own_doomed".to_owned()), "{tools:?}");
    doomed.kill();
    relay.until_server_is("doomed", "disconnected");
    assert_eq!(relay.text("own_good", json!({})), "good");
    wait::until("the tools of the dead server to go", || {
        (!relay.tools().contains(&"own_doomed".to_owned())).then_some(())
    });
    let error = relay.call("own_doomed", json!({}))["error"].clone();
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("doomed") && message.contains("not sent"), "{message}");
    assert_eq!(error["data"]["server"], "doomed");
    assert!(relay.server("wrong")["error"].as_str().unwrap().contains("no-such-program-anywhere"));
    assert_eq!(relay.text("own_good", json!({})), "good");
}

#[test]
fn a_server_that_comes_back_is_usable_within_two_seconds() {
    for (transport, era) in [("ws", "legacy"), ("ws", "modern"), ("http", "legacy"), ("http", "modern")] {
        let mut server = Listening::start(transport, era, "back");
        let mut relay = Relay::legacy(json!({"back": server.entry()}));
        assert_eq!(relay.text("own_back", json!({})), "back");
        server.kill();
        if transport == "ws" || era == "modern" {
            relay.until_server_is("back", "disconnected");
        }
        server.start_again();
        let returned = Instant::now();
        wait::until("the server to be usable", || {
            (relay.call("own_back", json!({}))["result"]["content"][0]["text"] == "back").then_some(())
        });
        let took = returned.elapsed();
        assert!(took < Duration::from_secs(2), "{transport} {era}: {took:?}");
    }
}

#[test]
fn a_restarted_http_server_gets_the_first_call_in_a_new_session() {
    let mut server = Listening::start("http", "legacy", "back");
    let mut relay = Relay::legacy(json!({"back": server.entry()}));
    assert_eq!(relay.text("own_back", json!({})), "back");
    server.kill();
    server.start_again();
    // The old session is refused, so the call was not taken, and it is sent once more in the new one.
    assert_eq!(relay.text("own_back", json!({})), "back");
    let seen = relay.text("seen", json!({}));
    assert_eq!(seen.lines().filter(|line| line.contains("own_back")).count(), 1, "{seen}");
}

#[test]
fn calls_in_flight_fail_at_once_and_are_not_repeated() {
    let mut server = Listening::start("ws", "legacy", "one");
    let mut relay = Relay::legacy(json!({"one": server.entry(), "child": child("legacy", "child")}));
    relay.tools();
    let call = relay.send("tools/call", json!({"name": "one_slow", "arguments": {}, "_meta": {"progressToken": 1}}));
    relay.other("notifications/progress");
    let killed = Instant::now();
    server.kill();
    let message = relay.answer(call)["error"]["message"].as_str().unwrap().to_owned();
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());
    assert!(message.contains("\"one\"") && message.contains("not repeated"), "{message}");
    server.start_again();
    relay.until_server_is("one", "connected");
    assert!(!relay.text("one_seen", json!({})).contains("slow"), "the new server has not seen the old call");
    // A child that dies within a call: the call fails, the child is started again.
    let died = relay.call("child_die", json!({}))["error"]["message"].as_str().unwrap().to_owned();
    assert!(died.contains("exit status: 7"), "{died}");
    relay.until_server_is("child", "connected");
    assert_eq!(relay.text("own_child", json!({})), "child");
}

#[test]
fn a_quick_restart_is_no_change_of_the_tools() {
    let mut relay = Relay::legacy(json!({"one": child("legacy", "one")}));
    let before = relay.tools();
    relay.call("die", json!({}));
    relay.until_server_is("one", "connected");
    assert_eq!(relay.server("one")["connections"], 2);
    assert_eq!(relay.tools(), before);
    assert_eq!(relay.tool_changes(), 0);
}

#[test]
fn changes_are_told_when_and_only_when_the_list_changed() {
    let mut relay = Relay::legacy(json!({"one": child("legacy", "one")}));
    relay.tools();
    assert_eq!(relay.tool_changes(), 0);
    relay.text("same", json!({}));
    relay.text("same", json!({}));
    relay.text("grow", json!({}));
    relay.other("notifications/tools/list_changed");
    assert!(relay.tools().contains(&"grown_one_0".to_owned()));
    assert_eq!(relay.tool_changes(), 0, "told once");
}

#[test]
fn names_that_collide_carry_their_server_and_the_others_do_not() {
    let mut relay = Relay::legacy(json!({"b": child("legacy", "b"), "a": child("modern", "a")}));
    let tools = relay.tools();
    assert!(tools[..5].iter().all(|name| name.starts_with("relay_")), "{tools:?}");
    assert!(tools.contains(&"own_a".to_owned()) && tools.contains(&"a_echo".to_owned()), "{tools:?}");
    assert!(!tools.contains(&"echo".to_owned()));
    assert!(relay.text("b_echo", json!({"k": 1})).contains(r#""name":"echo""#), "the server knows it by its own name");
    let message = relay.call("echo", json!({}))["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("a_echo, b_echo"), "{message}");
    assert_eq!(relay.tools(), tools, "the order is always the same");
}

#[test]
fn a_name_that_is_too_long_is_told() {
    let long = "n".repeat(60);
    let mut relay = Relay::legacy(
        json!({&long: {"command": e2e::relay::mcp_server_binary(), "args": ["stdio", "legacy", "x".repeat(120)]}}),
    );
    assert!(!relay.tools().iter().any(|name| name.starts_with("own_")));
    let problems = relay.server(&long)["problems"].to_string();
    assert!(problems.contains("own_xxx") && problems.contains("116"), "{problems}");
}

#[test]
fn the_file_is_watched_and_servers_that_did_not_change_are_left_alone() {
    let mut relay = Relay::legacy(json!({"stays": child("legacy", "stays"), "goes": child("legacy", "goes")}));
    relay.tools();
    let file = relay.file();
    let new = json!({"mcpServers": {"stays": child("legacy", "stays"), "comes": child("modern", "comes")}});
    std::fs::write(&file, new.to_string()).unwrap();
    relay.other("notifications/tools/list_changed");
    wait::until("the new server's tools", || {
        let tools = relay.tools();
        (tools.contains(&"own_comes".to_owned()) && !tools.contains(&"own_goes".to_owned())).then_some(())
    });
    assert_eq!(relay.server("stays")["connections"], 1);
    // Half a file, as an editor may leave it for a moment, changes nothing.
    std::fs::write(&file, "{\"mcpServers\": {").unwrap();
    let status = wait::until("the wrong file to be told", || {
        let status: Value = serde_json::from_str(&relay.text("relay_get_status", json!({}))).unwrap();
        status["config_error"].is_string().then_some(status)
    });
    assert_eq!(status["connected"], 2);
    assert_eq!(relay.text("own_comes", json!({})), "comes");
}

#[test]
fn the_relays_own_tools_change_the_file_and_take_effect() {
    let mut relay = Relay::legacy(json!({}));
    assert_eq!(relay.tools().len(), 5);
    let program = e2e::relay::mcp_server_binary();
    let added =
        relay.text("relay_add_server", json!({"name": "new", "command": program, "args": ["stdio", "legacy", "new"]}));
    let added: Value = serde_json::from_str(&added).unwrap();
    assert_eq!((&added["state"], &added["tools"]), (&json!("connected"), &json!(11)));
    assert_eq!(relay.tool_changes(), 1, "told before the answer");
    assert_eq!(relay.text("own_new", json!({})), "new");
    let file: Value = serde_json::from_slice(&std::fs::read(relay.file()).unwrap()).unwrap();
    assert_eq!(file["mcpServers"]["new"]["args"][2], "new");

    let before = relay.server("new")["connections"].clone();
    relay.text("relay_reconnect_server", json!({"name": "new"}));
    assert_ne!(relay.server("new")["connections"], before);

    let server = Listening::start("ws", "legacy", "far");
    relay.text("relay_add_server", json!({"name": "far", "url": server.entry()["url"]}));
    assert_eq!(relay.text("own_far", json!({})), "far");
    relay.text("relay_remove_server", json!({"name": "new"}));
    assert!(!relay.tools().contains(&"own_new".to_owned()));
    let file: Value = serde_json::from_slice(&std::fs::read(relay.file()).unwrap()).unwrap();
    assert_eq!(file["mcpServers"].as_object().unwrap().keys().collect::<Vec<_>>(), ["far"]);
}

#[test]
fn wrong_input_names_the_parameter_and_changes_nothing() {
    let mut relay = Relay::legacy(json!({"one": child("legacy", "one")}));
    let before = std::fs::read(relay.file()).unwrap();
    for (tool, arguments, says) in [
        ("relay_add_server", json!({"url": "ws://x"}), "name"),
        ("relay_add_server", json!({"name": "x"}), "url or command"),
        ("relay_add_server", json!({"name": "x", "url": "ws://x", "command": "y"}), "not both"),
        ("relay_add_server", json!({"name": "a b", "command": "y"}), "name"),
        ("relay_add_server", json!({"name": "x", "url": "ftp://x"}), "http://"),
        ("relay_add_server", json!({"name": "one", "command": "y"}), "taken"),
        ("relay_add_server", json!({"name": "x", "command": "y", "argz": []}), "argz"),
        ("relay_remove_server", json!({"name": "none"}), "none"),
        ("relay_reconnect_server", json!({}), "name"),
    ] {
        let answer = relay.call(tool, arguments.clone());
        assert_eq!(answer["result"]["isError"], true, "{tool} {arguments}");
        let text = answer["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.contains(says), "{tool} {arguments}: {text}");
    }
    assert_eq!(std::fs::read(relay.file()).unwrap(), before);
}

#[test]
fn a_server_that_falls_silent_is_found_in_the_configured_time_and_taken_back() {
    let silent = Listening::start("ws", "legacy", "silent");
    let mut relay = Relay::legacy(json!({"silent": silent.entry(), "other": child("legacy", "other")}));
    let file = json!({"mcpServers": {"silent": silent.entry(), "other": child("legacy", "other")}, "relay": {"silenceMs": 1200}});
    std::fs::write(relay.file(), file.to_string()).unwrap();
    relay.until_server_is("silent", "connected");
    // It is alive for TCP: its system acknowledges what comes, and it says nothing.
    silent.signal(Signal::STOP);
    let began = Instant::now();
    wait::until("the silence to be noticed", || (relay.server("silent")["state"] != "connected").then_some(()));
    // A connection that stands notices the new setting within five seconds.
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    assert_eq!(relay.text("own_other", json!({})), "other", "nobody else is affected");
    silent.signal(Signal::CONT);
    relay.until_server_is("silent", "connected");
    assert_eq!(relay.text("own_silent", json!({})), "silent");
}
