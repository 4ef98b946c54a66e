//! `iccm up`, and the commands that read what it recorded.

use std::time::{Duration, Instant};

use crate::support::{ANSWER, Place, ask, assert_fails, model_api, send_question, stderr, stdout, wait_for};
use rustix::process::Signal;
use serde_json::Value;

/// A place where one question was asked and answered, everything stored.
fn place_with_a_conversation() -> (Place, Value) {
    let place = Place::new();
    let (up, gateway) = place.up(model_api(Some(ANSWER)));
    assert!(ask(gateway).ends_with(ANSWER));
    up.signal(Signal::TERM);
    let (code, text) = up.finish();
    assert_eq!(code, Some(0), "{text}");
    let mut conversations = place.json(&["conversations", "--json"]);
    assert_eq!(conversations.len(), 1);
    (place, conversations.remove(0))
}

fn id_of(value: &Value) -> &str {
    value["id"].as_str().unwrap()
}

#[test]
fn a_conversation_is_listed_shown_and_found() {
    let (place, conversation) = place_with_a_conversation();
    let id = id_of(&conversation);
    assert!(stdout(&place.run(&["conversations"])).contains(id));

    let text = stdout(&place.run(&["show", &id[..14]]));
    assert!(text.contains("#1 user "), "{text}");
    assert!(text.contains("\nWhat is the answer?\n"), "{text}");
    assert!(text.contains("\nThe answer is fortytwo.\n"), "{text}");
    let json: Value = serde_json::from_str(&stdout(&place.run(&["show", id, "--format", "json"]))).unwrap();
    assert_eq!(json["turns"].as_array().unwrap().len(), 2);
    assert!(stdout(&place.run(&["show", id, "--format", "markdown"])).contains("## 2. assistant"));

    let hits = place.json(&["search", "fortytwo", "--json", "--since", "1h"]);
    assert_eq!(hits.len(), 1);
    assert_eq!(hits[0]["conversation_id"], conversation["id"]);
    assert!(place.json(&["search", "fortytwo", "--until", "1h", "--json"]).is_empty());
    assert!(stdout(&place.run(&["search", "fortytwo"])).contains("[fortytwo]"));
}

#[test]
fn an_exchanges_bytes_come_back_exactly() {
    let (place, _) = place_with_a_conversation();
    let exchanges = place.json(&["exchanges", "--json"]);
    let id = id_of(&exchanges[0]);
    let part = |part: &str| place.run(&["exchange", id, "--part", part]).stdout;
    assert_eq!(part("response-body"), ANSWER.as_bytes());
    let head = String::from_utf8(part("request-head")).unwrap();
    assert!(head.contains("x-api-key: [redacted "), "{head}");
    assert!(!head.contains("sk-ant-test-000"));
}

#[test]
fn stats_count_what_is_stored_and_what_waits() {
    let (place, _) = place_with_a_conversation();
    let stats = place.json(&["stats", "--json"]).remove(0);
    assert_eq!(stats["exchanges"], 1);
    assert_eq!(stats["conversations"], 1);
    assert_eq!(stats["spool_pending_records"], 0);
    assert_eq!(stats["spool_pending_bytes"], 0);
}

#[test]
fn erasing_needs_a_yes() {
    let (place, conversation) = place_with_a_conversation();
    let id = id_of(&conversation);
    assert_fails(&place.run(&["delete", id]), 1, &["--yes"]);
    let output = place.run(&["delete", id, "--yes"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(place.json(&["search", "fortytwo", "--json"]).is_empty());
}

#[test]
fn ids_that_mean_nothing_are_explained() {
    let (place, _) = place_with_a_conversation();
    assert_fails(&place.run(&["show", "ffff"]), 1, &["no conversation's id begins with ffff"]);
    assert_fails(&place.run(&["exchange", "hello", "--part", "request-head"]), 1, &["`hello` is no exchange's id"]);
    let unknown = "00000000-0000-7000-8000-000000000000";
    assert_fails(&place.run(&["show", unknown]), 1, &["there is no conversation 00000000-"]);
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let (place, conversation) = place_with_a_conversation();
    let id = id_of(&conversation);
    let exchange = place.json(&["exchanges", "--json"]).remove(0);
    let commands: [&[&str]; 4] = [
        &["conversations"],
        &["show", id],
        &["exchanges", "--json"],
        &["exchange", id_of(&exchange), "--part", "response-body"],
    ];
    for words in commands {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = place.command(words).stdout(writer).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{words:?}");
    }
}

#[test]
fn tail_follows_the_record_until_it_is_interrupted() {
    let place = Place::new();
    let (up, gateway) = place.up(model_api(Some(ANSWER)));
    let mut tail = place.start(&["tail", "--json"]);
    // A question that is recorded before `tail` looks is rightly not told; so it is asked until one is.
    let asking = std::thread::spawn({
        let until = Instant::now() + Duration::from_secs(3);
        move || {
            while Instant::now() < until {
                ask(gateway);
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    });
    let event: Value = serde_json::from_str(&tail.line()).unwrap();
    assert!(event["event"] == "exchange" || event["event"] == "message", "{event}");
    asking.join().unwrap();
    tail.signal(Signal::INT);
    assert_eq!(tail.finish(), (Some(0), String::new()));
    drop(up);
}

#[test]
fn a_port_that_is_taken_is_explained() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = place.run(&["up", "--gateway-listen", &address]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let last = text.lines().last().unwrap();
    assert!(last.contains(&format!("cannot listen on {address}")) && last.contains("choose another"), "{text}");
}

#[test]
fn a_database_that_cannot_be_opened_does_not_stop_the_recorder() {
    let place = Place::new();
    let upstream = format!("http://{}", model_api(Some(ANSWER)));
    let blocked = place.folder.path().join("blocked");
    std::fs::write(&blocked, "a file where a folder is needed").unwrap();
    let url = format!("sqlite:{}", blocked.join("iccm.db").display());
    let words =
        ["up", "--json", "--gateway-listen", "127.0.0.1:0", "--upstream", &upstream, "--database", &url, "--data-dir"];
    let data_dir = place.data_dir();
    let mut up = place.start(&[&words[..], &[data_dir.to_str().unwrap()]].concat());
    let gateway = up.ready();
    assert!(ask(gateway).ends_with(ANSWER));

    // Once the database can be opened, what waits is stored, without a restart.
    std::fs::remove_file(&blocked).unwrap();
    std::fs::create_dir(&blocked).unwrap();
    let stored = wait_for("the exchange in the database", || {
        let output = place.run(&["exchanges", "--json", "--database", &url]);
        (output.status.success() && !output.stdout.is_empty()).then(|| stdout(&output))
    });
    assert!(stored.contains(r#""outcome":"complete""#), "{stored}");
    up.signal(Signal::TERM);
    let (code, text) = up.finish();
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("the database is not open; recording goes on into the spool"), "{text}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    let (up, gateway) = place.up(model_api(None));
    let _asking = send_question(gateway);
    wait_for("a running exchange", || {
        let stats = place.json(&["stats", "--json"]).remove(0);
        (stats["spool_pending_records"] != 0).then_some(())
    });
    up.signal(Signal::TERM);
    // It takes no new requests any more: the first signal has been heard.
    wait_for("a gateway that is closed", || std::net::TcpStream::connect(gateway).err());
    let began = Instant::now();
    up.signal(Signal::TERM);
    assert_eq!(up.finish().0, Some(130));
    assert!(began.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_address_for_a_part_that_is_not_there_is_taken_and_told() {
    let place = Place::new();
    let words = ["up", "--json", "--gateway-listen", "127.0.0.1:0", "--web-listen", "127.0.0.1:0"];
    let mut up = place.start(&words);
    up.ready();
    up.signal(Signal::TERM);
    let (code, said) = up.finish();
    assert_eq!(code, Some(0));
    assert!(said.contains("--web-listen has no effect"), "{said}");
}

#[test]
fn a_taken_address_of_dewey_is_an_error_where_it_was_asked_for() {
    let place = Place::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let words = ["up", "--gateway-listen", "127.0.0.1:0", "--dewey-listen", &address];
    let output = place.run(&words);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("Dewey cannot start: cannot listen on {address}")), "{said}");
}

#[test]
fn the_doctor_tells_what_is_in_order_and_what_is_not() {
    let place = Place::new();
    let upstream = format!("http://{}", model_api(Some("")));
    let findings = |upstream: &str, code: i32| -> Vec<Value> {
        let listen = ["--gateway-listen", "127.0.0.1:0", "--dewey-listen", "127.0.0.1:0"];
        let words = [&["doctor", "--json", "--upstream", upstream], &listen[..]].concat();
        let output = place.run(&words);
        assert_eq!(output.status.code(), Some(code), "{}", stdout(&output));
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let level = |findings: &[Value], check: &str| {
        findings.iter().find(|finding| finding["check"] == check).unwrap()["level"].as_str().unwrap().to_owned()
    };
    let good = findings(&upstream, 0);
    for check in ["configuration", "data folder", "database", "gateway", "dewey", "upstream", "client set-up"] {
        assert_eq!(level(&good, check), "good", "{good:?}");
    }
    let bad = findings("http://127.0.0.1:9", 1);
    assert_eq!(level(&bad, "upstream"), "broken");
    assert!(!place.data_dir().exists());
}

#[test]
fn the_doctor_knows_a_running_recorder() {
    let place = Place::new();
    let upstream = model_api(Some(""));
    let (_up, gateway) = place.up(upstream);
    let words = ["doctor", "--upstream", &format!("http://{upstream}"), "--gateway-listen", &gateway.to_string()];
    let text = stdout(&place.run(&words));
    assert!(text.contains(&format!("✓ gateway       an iccm is answering on {gateway}")), "{text}");
    // The recorder's beginning is an item, too, and is stored a moment after it is ready.
    wait_for("a recorder that waits for nothing", || {
        stdout(&place.run(&words)).contains("1 living recorder, 0 records waiting").then_some(())
    });
}

#[test]
fn a_hangup_reads_the_file_again_and_drops_no_connection() {
    const OTHER: &str = r#"{"type":"message","other":true}"#;
    let place = Place::new();
    let file = place.folder.path().join("iccm.toml");
    let write = |upstream| std::fs::write(&file, format!("upstream = 'http://{upstream}'")).unwrap();
    write(model_api(None));
    let mut up = place.start(&["up", "--json", "--gateway-listen", "127.0.0.1:0"]);
    let gateway = up.ready();
    let mut running = send_question(gateway);
    let active = || ask_metrics(gateway).contains("\niccm_active_exchanges 1\n").then_some(());
    wait_for("the exchange's beginning", active);
    write(model_api(Some(OTHER)));
    up.signal(Signal::HUP);
    // Asked one at a time until the new upstream answers; the old one never would, so these give up soon.
    wait_for("the new upstream", || {
        let stream = send_question(gateway);
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut text = String::new();
        let _ = std::io::Read::read_to_string(&mut &stream, &mut text);
        text.ends_with(OTHER).then_some(())
    });
    // What is wrong changes nothing.
    std::fs::write(&file, "upstraem = 'x'").unwrap();
    up.signal(Signal::HUP);
    assert!(ask(gateway).ends_with(OTHER));
    running.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let waits = std::io::Read::read(&mut running, &mut [0; 1]).unwrap_err();
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock, "the first exchange still runs");
    drop(running);
    up.signal(Signal::TERM);
    let (code, text) = up.finish();
    assert_eq!(code, Some(0), "{text}");
}

fn ask_metrics(gateway: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(gateway).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
