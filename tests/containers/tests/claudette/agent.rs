//! The contained agent: what it says is on record, it reaches nothing else, and whatever is killed comes back.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use containers::engine::{Engine, engine};
use containers::images;
use containers::project::Project;
use containers::record::{exchanges, holds_all_that_was_answered, place, to};
use e2e::claude::{NEWEST, OLDEST};
use e2e::recorder::contains;
use e2e::{DUMMY_KEY, wait};
use serde_json::Value;

/// A tool loop with a sub-agent, and tools of Dewey's behind relay and spy.
fn works_on_record(engine: &Engine, version: &str) {
    let project = Project::new(engine, "works").with("CLAUDETTE_IMAGE", &images::claudette(version));
    project.up();
    assert!(project.ask("long").text().contains("All fourteen steps are done."));
    assert!(project.ask("library").text().contains("The library knows it all."));
    let exchanges = holds_all_that_was_answered(&project);
    assert!(to(&exchanges, "/v1/messages").len() >= 20, "{exchanges:#?}");
    assert!(project.folder().join("project/mod0.py").is_file(), "the agent works in the project's folder");

    let place = place(&project);
    let frames = place.json_lines(&["frames"]);
    for tool in ["dewey_set_startup_context", "dewey_store_messages_bulk", "dewey_search"] {
        let is_call = |frame: &&Value| frame["name"] == tool && frame["method"] == "tools/call";
        let call = frames.iter().find(is_call).unwrap_or_else(|| panic!("no call of {tool} among {frames:#?}"));
        assert!(
            !call["tool_use_id"].is_null() || version == OLDEST,
            "the model's call and the server's are one: {call}"
        );
        let bytes = place.run(["frame", call["id"].as_str().expect("an id")]).stdout;
        assert!(contains(&bytes, b"albatross"), "{}", String::from_utf8_lossy(&bytes));
    }
    let found = place.json_lines(&["search", "albatross nest"]);
    assert!(!found.is_empty(), "what was stored behind the relay is in the record");
    for exchange in &exchanges {
        let head = place.part(exchange["id"].as_str().expect("an id"), "request-head");
        assert!(!contains(&head, DUMMY_KEY.as_bytes()), "{exchange}");
    }
}

#[test]
fn the_newest_claude_code_works_in_its_container_and_all_of_it_is_on_record() {
    works_on_record(&engine(), NEWEST);
}

#[test]
fn the_oldest_claude_code_works_in_its_container_and_all_of_it_is_on_record() {
    works_on_record(&engine(), OLDEST);
}

#[test]
fn the_agent_reaches_nothing_but_the_recorder_and_its_tries_are_on_record() {
    let engine = engine();
    let project = Project::new(&engine, "reach");
    project.up();
    let (tcp, udp) = (TcpListener::bind("0.0.0.0:0").expect("a port"), UdpSocket::bind("0.0.0.0:0").expect("a port"));
    let tcp_port = tcp.local_addr().expect("an address").port();
    let udp_port = udp.local_addr().expect("an address").port();
    udp.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
    let connects = |service: &str, host: &str, port: u16| {
        project.shell(service, &format!("timeout 2 bash -c 'exec 3<>/dev/tcp/{host}/{port}'")).status.success()
    };

    // This machine, by every address that it has on the networks, and what is on the other networks.
    let gateway = |network: &str| {
        let name = format!("reach_{network}");
        engine
            .docker(&["network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", &name])
            .trim()
            .to_owned()
    };
    let (outside, inside, record) = (gateway("outside"), gateway("inside"), gateway("record"));
    assert!(connects("api", &outside, tcp_port), "who has a way out reaches this machine");
    for host in [&outside, &inside, &record] {
        assert!(!connects("claudette", host, tcp_port), "{host} is reached by TCP");
        project.shell("claudette", &format!("echo agent >/dev/udp/{host}/{udp_port}"));
    }
    project.shell("api", &format!("echo api >/dev/udp/{outside}/{udp_port}"));
    let mut word = [0; 16];
    let length = udp.recv(&mut word).expect("who has a way out reaches this machine by UDP");
    assert_eq!(&word[..length], b"api\n", "the agent's came first, so it is reached by UDP");
    let database = project.address("postgres", "record");
    assert!(!connects("claudette", &database, 5432), "the database is reached");
    assert!(!connects("claudette", &project.address("kgb", "outside"), 8089), "another network is reached");
    assert!(!connects("claudette", "kgb", 9020), "Dewey is reached past the spy");
    assert!(connects("claudette", "kgb", 8089) && connects("claudette", "kgb", 9000), "the recorder is reached");

    // Names: only those of its own network.
    let resolves = |name: &str| project.shell("claudette", &format!("timeout 5 getent hosts {name}"));
    assert!(resolves("kgb").status.success());
    for name in ["postgres", "api", "example.com", "secret.of.the.agent.example.com"] {
        assert_eq!(resolves(name).code(), 2, "{name} is resolved, or nobody says that it is not");
    }

    // What goes by the proxy variables comes to KGB, which refuses it, on record.
    let tried = project.shell("claudette", "curl --silent --show-error --max-time 5 https://secret.example/path");
    assert!(tried.stderr.contains("501"), "{tried:?}");
    project.ask("hello");
    let tried = wait::until("the refusal on record", || {
        let exchanges = exchanges(&project);
        let tried = to(&exchanges, "secret.example:443").first().map(|exchange| (*exchange).clone());
        tried.filter(|_| to(&exchanges, "/v1/messages").len() == 1)
    });
    assert_eq!((tried["outcome"].as_str(), tried["method"].as_str()), (Some("refused"), Some("CONNECT")), "{tried}");
}

/// A stream that stands still in its middle, what its client in the container had seen of it when it did.
fn stream_under_way(project: &Project<'_>) -> Vec<u8> {
    let request = r#"{"model":"claude-sonnet-4-5","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"SCRIPT:hello"}]}"#;
    let script = format!(
        "rm -f seen; (curl --silent --no-buffer --output seen -H 'x-api-key: {DUMMY_KEY}' -H 'x-fake-fault: stall_mid_stream' \
         -H 'content-type: application/json' --data '{request}' http://kgb:8089/v1/messages >/dev/null 2>&1 &)"
    );
    project.shell("claudette", &script).success("curl in the background");
    let file = project.folder().join("project/seen");
    wait::until("the first half of a stream", || {
        let seen = std::fs::read(&file).unwrap_or_default();
        // Of the five events before the text's end at least one; it stalls after the half.
        contains(&seen, b"content_block_start").then_some(())
    });
    std::fs::read(&file).expect("what was seen")
}

/// The outcome of the stream that was cut; what had been seen of it is on record.
fn cut_stream(project: &Project<'_>, seen: &[u8], outcome: &str) {
    wait::until_within(Duration::from_secs(60), &format!("a stream that ended as {outcome}"), || {
        let exchanges = exchanges(project);
        let cut = exchanges.iter().rev().find(|exchange| exchange["outcome"] == outcome)?;
        let recorded = place(project).part(cut["id"].as_str().expect("an id"), "response-body");
        assert!(recorded.starts_with(seen), "seen and not on record: {}", String::from_utf8_lossy(seen));
        Some(())
    });
}

#[test]
fn a_recorder_that_crashes_comes_back_and_loses_nothing_that_was_delivered() {
    let engine = engine();
    let project = Project::new(&engine, "crash");
    project.up();
    let seen = stream_under_way(&project);
    let before = project.restarts("kgb");
    project.crash("kgb");
    project.comes_back("kgb", before);
    project.is_up();
    cut_stream(&project, &seen, "recorder_crashed");

    // The real agent in its work, as it retries.
    let agent = project.asking("long PACE:30");
    wait::until_within(Duration::from_secs(60), "four answers", || (project.api_log().len() >= 5).then_some(()));
    let before = project.restarts("kgb");
    project.crash("kgb");
    let answer = agent.finish(Duration::from_secs(120)).success("Claude Code whose recorder crashed");
    assert!(answer.text().contains("All fourteen steps are done."));
    project.comes_back("kgb", before);

    // `docker kill` is an order, which Docker does not undo by itself; `up` does.
    let seen = stream_under_way(&project);
    engine.docker(&["kill", &project.container("kgb")]);
    project.up();
    cut_stream(&project, &seen, "recorder_crashed");
    holds_all_that_was_answered(&project);
}

#[test]
fn a_database_that_crashes_stops_no_agent_and_gets_everything_when_it_is_back() {
    let engine = engine();
    let project = Project::new(&engine, "database");
    project.up();
    project.ask("hello");
    let before = project.restarts("postgres");
    project.crash("postgres");
    assert!(project.ask("long").text().contains("All fourteen steps are done."));
    project.comes_back("postgres", before);
    engine.docker(&["kill", &project.container("postgres")]);
    assert!(project.ask("tools").text().contains("Both tools have run."), "the database is away");
    project.up();
    let exchanges = holds_all_that_was_answered(&project);
    assert!(to(&exchanges, "/v1/messages").len() >= 20);
}

#[test]
fn an_agent_that_crashes_comes_back_and_its_broken_stream_is_on_record() {
    let engine = engine();
    let project = Project::new(&engine, "agent");
    project.up();
    let seen = stream_under_way(&project);
    let before = project.restarts("claudette");
    project.crash("claudette");
    project.comes_back("claudette", before);
    project.is_up();
    cut_stream(&project, &seen, "client_aborted");
    assert!(project.ask("tools").text().contains("Both tools have run."));
    engine.docker(&["kill", &project.container("claudette")]);
    project.up();
    project.ask("hello");
    holds_all_that_was_answered(&project);
}

#[test]
fn a_restart_and_a_reboot_lose_nothing_and_all_comes_back_by_itself() {
    let engine = engine();
    let project = Project::new(&engine, "reboot");
    project.up();
    project.ask("tools");
    let seen = stream_under_way(&project);
    project.compose(&["restart"]);
    project.is_up();
    broken_off(&project, &seen, 1);
    project.ask("hello");
    holds_all_that_was_answered(&project);

    let seen = stream_under_way(&project);
    engine.reboot();
    project.is_up();
    broken_off(&project, &seen, 2);
    project.ask("tools");
    holds_all_that_was_answered(&project);
}

/// So many streams broke off, with whatever outcome: it depends on who was stopped first. What had been seen of the last one is
/// on record.
fn broken_off(project: &Project<'_>, seen: &[u8], count: usize) {
    wait::until_within(Duration::from_secs(60), &format!("{count} streams that broke off"), || {
        let exchanges = exchanges(project);
        let mut cut = to(&exchanges, "/v1/messages");
        cut.retain(|exchange| exchange["outcome"] != "complete");
        let last = cut.get(count.checked_sub(1)?)?;
        let recorded = place(project).part(last["id"].as_str().expect("an id"), "response-body");
        assert!(recorded.starts_with(seen), "seen and not on record: {last}");
        Some(())
    });
}
