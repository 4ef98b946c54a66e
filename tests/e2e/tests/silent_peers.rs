//! Peers of a WebSocket that are gone without a word: no end, no reset, no acknowledgement.
//!
//! The case runs in a network of its own (`unshare --net`), where the peer's address is taken away while the connection
//! stands: from then on nothing that is sent there arrives, and nothing comes from there. It wants root, or user
//! namespaces that anybody may make; without them it fails.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::fake_api::FakeApi;
use e2e::process;
use e2e::recorder::{Place, Recorder};
use rustix::process::getuid;
use serde_json::Value;
use socket2::{Domain, Socket, Type};

/// The peer that will vanish is here.
const ELSEWHERE: &str = "10.9.9.9";
/// What `peer_timeout_seconds` is set to.
const SILENCE: Duration = Duration::from_secs(3);
/// TCP's timers are coarse, and the machine is busy.
const TOLERANCE: Duration = Duration::from_secs(9);

#[test]
fn a_peer_that_vanished_is_found_within_the_configured_time() {
    let mut command = Command::new("unshare");
    command.args(if getuid().is_root() { &["--net"][..] } else { &["--net", "--map-root-user"] });
    command.arg(std::env::current_exe().unwrap()).args([
        "--ignored",
        "--exact",
        "within_a_network_of_its_own",
        "--nocapture",
    ]);
    let finished = process::run(command, Duration::from_secs(120));
    let text = finished.success("the cases in a network of their own").text();
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "takes addresses away; a_peer_that_vanished_is_found_within_the_configured_time runs it where nobody else is"]
fn within_a_network_of_its_own() {
    ip(&["link", "set", "lo", "up"]);
    for (vanishing, in_flight) in [("server", false), ("server", true), ("client", false), ("client", true)] {
        vanishes(vanishing, in_flight);
    }
}

fn ip(words: &[&str]) {
    process::run(
        {
            let mut command = Command::new("ip");
            command.args(words);
            command
        },
        Duration::from_secs(10),
    )
    .success(&format!("ip {words:?}"));
}

/// `in_flight`: something was sent to the peer that it can not have got.
fn vanishes(vanishing: &str, in_flight: bool) {
    ip(&["address", "add", &format!("{ELSEWHERE}/32"), "dev", "lo"]);
    let (server_at, client_at) =
        if vanishing == "server" { (ELSEWHERE, "127.0.0.1") } else { ("127.0.0.1", ELSEWHERE) };
    let listener = TcpListener::bind((server_at, 0)).unwrap();
    let (api, place) = (FakeApi::start(), Place::new());
    let place = place
        .with_variable("ICCM_SPY_LISTEN", "127.0.0.1:0")
        .with_variable("ICCM_PEER_TIMEOUT_SECONDS", &SILENCE.as_secs().to_string())
        .with_variable("ICCM_MCP_SERVERS_ECHO_WS", &format!("ws://{}/", listener.local_addr().unwrap()));
    let recorder = place.kgb(&api.url());
    let (mut client, mut server) = connected(&recorder, client_at, &listener);
    pass(&mut client, &mut server);
    pass(&mut server, &mut client);

    ip(&["address", "del", &format!("{ELSEWHERE}/32"), "dev", "lo"]);
    let mut staying = if vanishing == "server" { &client } else { &server };
    let began = Instant::now();
    if in_flight {
        staying.write_all(b"\x81\x01y").unwrap();
    }
    staying.set_read_timeout(Some(SILENCE + TOLERANCE)).unwrap();
    let end = staying.read(&mut [0; 16]);
    let took = began.elapsed();
    assert!(
        matches!(&end, Ok(0)) || end.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset),
        "{vanishing}, {in_flight}: {end:?} after {took:?}"
    );
    println!(
        "the {vanishing} vanished, {}: found after {took:.1?}",
        if in_flight { "bytes in flight" } else { "idle" }
    );
    assert!(took >= SILENCE / 2, "{took:?}: that was something else");
    recorder.stop();
}

/// Both ends of a connection through the spy.
fn connected(recorder: &Recorder, from: &str, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let spy: SocketAddr = word(&recorder.ready["spy"]).trim_start_matches("ws://").parse().unwrap();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::new(from.parse().unwrap(), 0).into()).unwrap();
    socket.connect(&spy.into()).unwrap();
    let mut client = TcpStream::from(socket);
    let request = "GET /?upstream=echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    client.write_all(request.as_bytes()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    head(&mut server);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    server.write_all(answer.as_bytes()).unwrap();
    head(&mut client);
    (client, server)
}

fn word(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn head(stream: &mut TcpStream) {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        stream.read_exact(&mut last[3..]).unwrap();
    }
}

/// A message arrives.
fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"\x81\x01x").unwrap();
    let mut seen = [0; 3];
    to.read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"\x81\x01x");
}
