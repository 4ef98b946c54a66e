//! The contained agent: what it says is on record, it reaches nothing else, and whatever is killed comes back.

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use containers::engine::{Engine, engine, world};
use containers::images;
use containers::project::Project;
use containers::record::{exchanges, holds_all_that_was_answered, place, to};
use e2e::claude::{NEWEST, OLDEST};
use e2e::mcp_server::Era;
use e2e::mcp_server::backend::Backend;
use e2e::process;
use e2e::providers::Providers;
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
    is_joined(&project, &exchanges);

    let place = place(&project);
    let found = place.json_lines(&["search", "albatross nest"]);
    assert!(!found.is_empty(), "what was stored behind the relay is in the record");
    for exchange in &exchanges {
        let head = place.part(exchange["id"].as_str().expect("an id"), "request-head");
        assert!(!contains(&head, DUMMY_KEY.as_bytes()), "{exchange}");
    }
}

/// What belongs together: two sessions, a sub-agent below its agent, and the model's calls with the server's.
fn is_joined(project: &Project<'_>, exchanges: &[Value]) {
    let place = place(project);
    // The oldest one names its session in the body only.
    let mut sessions: Vec<&Value> = to(exchanges, "/v1/messages").iter().map(|e| &e["session_id"]).collect();
    sessions.retain(|session| !session.is_null());
    sessions.dedup();
    assert_eq!(sessions.len(), 2, "a session for each prompt, one after the other: {sessions:?}");
    let conversations = place.conversations();
    let main = |session: &Value| {
        let of_session = |c: &&Value| c["session_id"] == *session && c["parent_conversation_id"].is_null();
        let mains = conversations.iter().filter(of_session).filter(|c| c["message_count"].as_u64() > Some(4));
        mains.collect::<Vec<_>>()
    };
    let (long, library) = (main(sessions[0]), main(sessions[1]));
    assert_eq!((long.len(), library.len()), (1, 1), "{conversations:#?}");
    let below = conversations.iter().filter(|c| c["parent_conversation_id"] == long[0]["id"]).count();
    assert_eq!(below, 1, "the sub-agent below the agent that called it: {conversations:#?}");

    let shown = place.show(library[0]["id"].as_str().expect("an id"));
    let turns = shown["turns"].to_string();
    let frames = place.json_lines(&["frames"]);
    for tool in ["dewey_set_startup_context", "dewey_store_messages_bulk", "dewey_search"] {
        let is_call = |frame: &&Value| frame["name"] == tool && frame["method"] == "tools/call";
        let call = frames.iter().find(is_call).unwrap_or_else(|| panic!("no call of {tool} among {frames:#?}"));
        let bytes = place.run(["frame", call["id"].as_str().expect("an id")]).stdout;
        assert!(contains(&bytes, b"albatross"), "{}", String::from_utf8_lossy(&bytes));
        assert!(turns.contains(&format!("mcp__relay__{tool}")), "the model's side of {tool}");
        let id = call["tool_use_id"].as_str().unwrap_or_else(|| panic!("the two calls are one: {call}"));
        assert!(turns.contains(id) && call["session_id"] == *sessions[1], "{call}");
        let joined = shown["tool_calls"].as_array().expect("calls").iter().any(|joined| joined["tool_use_id"] == id);
        assert!(joined, "{shown:#}");
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

/// Over both of the spy's transports: what the servers saw and said is what is on record, message by message.
#[test]
fn every_message_between_relay_and_servers_is_on_record_byte_for_byte() {
    let engine = engine();
    let world = world().into();
    let near = Backend::ws(world, Era::Legacy, "near");
    let direct = Backend::http(world, Era::Modern, "direct");
    let servers = [
        ("ICCM_MCP_SERVERS_NEAR_WS".to_owned(), format!("ws://{}/mcp", near.address)),
        ("ICCM_MCP_SERVERS_DIRECT_HTTP".to_owned(), format!("http://{}/mcp", direct.address)),
    ];
    let project = Project::new(&engine, "frames").with("CLAUDETTE_MCP_SERVERS", "near");
    let project = project.with_environment("kgb", &servers);
    project.up();
    let add = "const fs = require('fs'), file = process.env.ICCM_RELAY_CONFIG, relay = JSON.parse(fs.readFileSync(file)); \
               relay.mcpServers.direct = {type: 'http', url: 'http://kgb:9000/mcp/direct'}; \
               fs.writeFileSync(file, JSON.stringify(relay))";
    process::run(project.exec("claudette", &["node", "-e", add]), Duration::from_secs(30)).success("a further server");
    assert!(project.ask("errands").text().contains("Both errands are run."));
    let place = place(&project);
    for (name, backend) in [("near", &near), ("direct", &direct)] {
        let (seen, said) = (backend.server.seen(), backend.server.said());
        let calls = |messages: &[String]| messages.iter().filter(|text| text.contains(&format!("own_{name}"))).count();
        assert!(calls(&seen) >= 1 && calls(&said) >= 1, "{seen:#?} {said:#?}");
        wait::until_within(Duration::from_secs(60), &format!("all messages of {name}, byte for byte"), || {
            let frames = place.json_lines(&["frames", "--limit", "1000"]);
            let of = |direction: &str| -> Vec<String> {
                let those = frames.iter().filter(|f| f["server"] == name && f["direction"] == direction);
                let bytes = |frame: &Value| place.run(["frame", frame["id"].as_str().expect("an id")]).stdout;
                sorted(those.map(|frame| String::from_utf8(bytes(frame)).expect("UTF-8")).collect())
            };
            (of("to_server") == sorted(seen.clone()) && of("to_client") == sorted(said.clone())).then_some(())
        });
    }
}

/// What was sent on several connections has no order.
fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

#[test]
fn the_agent_asks_other_models_by_fiedler_which_alone_has_their_keys() {
    let engine = engine();
    let providers = Providers::start((world(), 0).into());
    let keys = [("OPENAI_API_KEY", "sk-test-openai-0001"), ("XAI_API_KEY", "sk-test-xai-0003")];
    let mut project = Project::new(&engine, "fiedler").with("CLAUDETTE_MCP_SERVERS", "dewey, fiedler");
    project = project.with_environment("kgb", &providers.variables());
    for (name, key) in keys {
        project = project.with(name, key);
    }
    project.up();
    assert!(project.ask("fiedler").text().contains("The orchestra has played."));
    let exchanges = holds_all_that_was_answered(&project);
    let (place, sent) = (place(&project), providers.exchanges());
    assert_eq!(sent.len(), 2, "{sent:#?}");
    for theirs in &sent {
        let is_it = |exchange: &&Value| {
            place.part(exchange["id"].as_str().expect("an id"), "request-body") == theirs.request
                && place.part(exchange["id"].as_str().expect("an id"), "response-body") == theirs.response
        };
        assert!(exchanges.iter().any(|exchange| is_it(&exchange)), "{} is not on record", theirs.model);
        let has_key = keys.iter().any(|(_, key)| theirs.head.fields.iter().any(|(_, value)| value.contains(key)));
        assert!(has_key, "{:?}", theirs.head);
    }
    let frames = place.json_lines(&["frames"]);
    let call = frames.iter().find(|frame| frame["name"] == "fiedler_send").expect("the call on record");
    assert!(call["tool_use_id"].is_string() && call["server"] == "fiedler", "{call}");
    wait::until("the run among what is found", || {
        (!place.json_lines(&["search", "\"Hello from gpt-4o\""]).is_empty()).then_some(())
    });
    let environment = project.shell("claudette", "cat /proc/*/environ").text();
    for (_, key) in keys {
        assert!(!environment.contains(key) && !project.logs("kgb").contains(key));
        assert!(exchanges.iter().all(|exchange| {
            let head = place.part(exchange["id"].as_str().expect("an id"), "request-head");
            !contains(&head, key.as_bytes())
        }));
    }
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
    let world = world().to_string();
    let ip_of_api: std::net::IpAddr = project.address("api", "outside").parse().expect("an address");
    assert!(connects("api", &outside, tcp_port), "who has a way out reaches this machine");
    assert!(connects("api", &world, tcp_port), "and the world");
    for host in [&outside, &inside, &record, &world] {
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
    // Also without TLS, and to an address that KGB itself could reach.
    let plain = format!("http://{world}:{tcp_port}/take");
    let tried = project.shell(
        "claudette",
        &format!("echo all-of-it | curl --silent --show-error --max-time 5 --proxy http://kgb:8089 --data @- {plain}"),
    );
    assert!(tried.text().contains("no forward proxy"), "{tried:?}");
    tcp.set_nonblocking(true).expect("an option");
    let mut came = std::iter::from_fn(|| tcp.accept().ok());
    // Those that have a way out, from above.
    assert_eq!(came.by_ref().filter(|(_, from)| from.ip() != ip_of_api).count(), 0, "somebody else's request arrived");
    project.ask("hello");
    let tried = wait::until("the refusal on record", || {
        let exchanges = exchanges(&project);
        let tried = to(&exchanges, "secret.example:443").first().map(|exchange| (*exchange).clone());
        tried.filter(|_| to(&exchanges, "/v1/messages").len() == 1)
    });
    assert_eq!((tried["outcome"].as_str(), tried["method"].as_str()), (Some("refused"), Some("CONNECT")), "{tried}");
    let exchanges = exchanges(&project);
    let tried = *to(&exchanges, &plain).first().unwrap_or_else(|| panic!("no try of {plain} in {exchanges:#?}"));
    assert_eq!((tried["outcome"].as_str(), tried["method"].as_str()), (Some("refused"), Some("POST")), "{tried}");
    let sent = place(&project).part(tried["id"].as_str().expect("an id"), "request-body");
    assert_eq!(sent, b"all-of-it");
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
    is_on_record(project, seen, &format!("a stream that ended as {outcome}"), |exchanges| {
        exchanges.retain(|exchange| exchange["outcome"] == outcome);
    });
}

/// Waits until one of the exchanges that are left in the list begins with what was seen. Others may have been cut as well.
fn is_on_record(project: &Project<'_>, seen: &[u8], what: &str, only: impl Fn(&mut Vec<Value>)) {
    wait::until_within(Duration::from_secs(60), what, || {
        let mut cut = exchanges(project);
        only(&mut cut);
        let place = place(project);
        let recorded = |exchange: &Value| place.part(exchange["id"].as_str().expect("an id"), "response-body");
        cut.iter().any(|exchange| recorded(exchange).starts_with(seen)).then_some(())
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
    // Now the database has been made, which its image does not begin anew once it was stopped half-way.
    holds_all_that_was_answered(&project);
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
    // Now the database has been made, which its image does not begin anew once it was stopped half-way.
    holds_all_that_was_answered(&project);
    let seen = stream_under_way(&project);
    project.compose(&["restart"]);
    project.is_up();
    broken_off(&project, &seen, 1);
    project.ask("hello");
    holds_all_that_was_answered(&project);

    let seen = stream_under_way(&project);
    // Not even what somebody killed stays away when the machine comes up.
    for service in ["kgb", "postgres", "claudette"] {
        engine.docker(&["kill", &project.container(service)]);
    }
    engine.reboot();
    project.is_up();
    broken_off(&project, &seen, 2);
    project.ask("tools");
    holds_all_that_was_answered(&project);
}

/// So many streams broke off, with whatever outcome: it depends on who was stopped first. What had been seen of the last one is
/// on record.
fn broken_off(project: &Project<'_>, seen: &[u8], count: usize) {
    is_on_record(project, seen, &format!("{count} streams that broke off"), |exchanges| {
        exchanges.retain(|exchange| exchange["outcome"] != "complete" && exchange["path"] == "/v1/messages");
        if exchanges.len() < count {
            exchanges.clear();
        }
    });
}
