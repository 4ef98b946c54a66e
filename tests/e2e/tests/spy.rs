//! The spy in the whole program: what a peer saw is on record, also after `kill -9`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::random::Random;
use e2e::recorder::{Place, Recorder};
use serde_json::json;

/// A WebSocket server that sends back what comes, unmasked: an echo that a client of any kind would understand.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Ends with its client.
fn serve(mut stream: TcpStream) {
    head(&mut stream);
    let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    let _ = stream.write_all(answer.as_bytes());
    while let Some(message) = message(&mut stream) {
        if stream.write_all(&wire::websocket::server_frame(wire::websocket::Opcode::TEXT, &message)).is_err() {
            return;
        }
    }
}

fn head(stream: &mut TcpStream) -> Option<()> {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        stream.read_exact(&mut last[3..]).ok()?;
    }
    Some(())
}

/// The next whole message; `None` when the connection has ended.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let mut length = [0; 2];
    let length = match head[1] & 0x7f {
        126 => {
            stream.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        short => usize::from(short),
    };
    let mut mask = [0; 4];
    if head[1] & 0x80 != 0 {
        stream.read_exact(&mut mask).ok()?;
    }
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    payload.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Some(payload)
}

fn connect(recorder: &Recorder) -> TcpStream {
    let spy = recorder.ready["spy"].as_str().expect("a spy listens").trim_start_matches("ws://").to_owned();
    let mut stream = TcpStream::connect(spy).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "GET /?upstream=echo&session=S HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    head(&mut stream).expect("the handshake is answered");
    stream
}

fn place(server: SocketAddr) -> Place {
    Place::new()
        .with_variable("ICCM_SPY_LISTEN", "127.0.0.1:0")
        .with_variable("ICCM_MCP_SERVERS_ECHO_WS", &format!("ws://{server}/"))
}

fn call(number: usize) -> Vec<u8> {
    json!({"jsonrpc": "2.0", "id": number, "method": "echo", "params": {"pad": "x".repeat(number % 700)}})
        .to_string()
        .into_bytes()
}

/// How often each message of a direction is on record, by its number.
fn recorded(place: &Place, direction: &str) -> BTreeMap<usize, usize> {
    let mut times = BTreeMap::new();
    for frame in place.json_lines(&["frames"]) {
        if frame["direction"] == direction && frame["outcome"] == "complete" {
            *times.entry(frame["rpc_id"].as_str().unwrap().parse().unwrap()).or_default() += 1;
        }
    }
    times
}

#[test]
fn nothing_that_a_peer_saw_is_lost_or_doubled_by_kills_in_the_middle_of_traffic() {
    let (api, place) = (FakeApi::start(), place(echo()));
    let mut random = Random::new(7);
    let (mut sent, mut echoed) = (0, Vec::new());
    for _ in 0..15 {
        let recorder = place.kgb(&api.url());
        let mut stream = connect(&recorder);
        let until = random.between(1, 300);
        for _ in 0..until {
            // Not waited for: the kill meets messages on their way.
            let frame = wire::websocket::server_frame(wire::websocket::Opcode::TEXT, &call(sent));
            stream.write_all(&frame).unwrap();
            sent += 1;
        }
        for _ in 0..random.between(0, until + 1) {
            echoed.push(message(&mut stream).expect("an echo"));
        }
        recorder.kill();
        while let Some(more) = message(&mut stream) {
            echoed.push(more);
        }
    }
    let recorder = place.kgb(&api.url());
    place.drained(1);
    let (asked, answered) = (recorded(&place, "to_server"), recorded(&place, "to_client"));
    for message in &echoed {
        let message: serde_json::Value = serde_json::from_slice(message).unwrap();
        let number = message["id"].as_u64().unwrap() as usize;
        assert_eq!((asked.get(&number), answered.get(&number)), (Some(&1), Some(&1)), "message {number}");
    }
    assert!(asked.values().chain(answered.values()).all(|times| *times == 1), "none is doubled");
    assert!(echoed.len() > 200, "{} echoes were no load", echoed.len());
    recorder.stop();
}

#[test]
fn messages_are_listed_counted_and_given_back_byte_for_byte() {
    let (api, place) = (FakeApi::start(), place(echo()));
    let recorder = place.kgb(&api.url());
    let mut stream = connect(&recorder);
    for number in 0..5 {
        stream.write_all(&wire::websocket::server_frame(wire::websocket::Opcode::TEXT, &call(number))).unwrap();
        assert_eq!(message(&mut stream), Some(call(number)));
    }
    drop(stream);
    recorder.stop();
    assert_eq!(place.stats()["mcp_frames"], 10);
    let frames = place.json_lines(&["frames", "--session", "S"]);
    assert_eq!(frames.len(), 10);
    for frame in frames {
        assert_eq!((frame["server"].as_str(), frame["method"].as_str()), (Some("echo"), Some("echo")));
        let number: usize = frame["rpc_id"].as_str().unwrap().parse().unwrap();
        assert_eq!(place.run(["frame", frame["id"].as_str().unwrap()]).stdout, call(number));
    }
    let handshakes = place.exchanges();
    assert_eq!((handshakes.len(), handshakes[0]["status"].as_u64()), (1, Some(101)));
    assert_eq!(handshakes[0]["kind"], "other");
}
