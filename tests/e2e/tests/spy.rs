//! The spy in the whole program: what a peer saw is on record, also after `kill -9`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::flood::Noise;
use e2e::random::Random;
use e2e::recorder::{Place, Recorder};
use e2e::resources::Resources;
use e2e::{hex, wait};
use serde_json::json;
use sha2::{Digest, Sha256};

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

const LARGE: u64 = 200_000_000;
/// What memory may grow by above idle.
const GROWTH: u64 = 64 << 20;

/// A binary message of noise in one frame, with the mask that leaves everything as it is where one must be there.
fn send_large(stream: &mut TcpStream, noise: Noise, masked: bool) {
    let mut frame = vec![0x82, if masked { 0xff } else { 0x7f }];
    frame.extend_from_slice(&LARGE.to_be_bytes());
    frame.extend_from_slice(&[0; 4][..if masked { 4 } else { 0 }]);
    stream.write_all(&frame).unwrap();
    noise.pieces(LARGE, 256 << 10).for_each(|piece| stream.write_all(&piece).unwrap());
}

/// Such a message's SHA-256.
fn read_large(stream: &mut TcpStream, masked: bool) -> String {
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!((head[1] & 0x7f, u64::from_be_bytes(head[2..].try_into().unwrap())), (127, LARGE));
    let mut mask = [0; 4];
    stream.read_exact(&mut mask[..if masked { 4 } else { 0 }]).unwrap();
    assert_eq!(mask, [0; 4]);
    let (mut hash, mut left, mut piece) = (Sha256::new(), LARGE, vec![0; 256 << 10]);
    while left > 0 {
        let most = piece.len().min(usize::try_from(left).unwrap());
        let count = stream.read(&mut piece[..most]).unwrap();
        assert_ne!(count, 0, "it ends too early");
        hash.update(&piece[..count]);
        left -= count as u64;
    }
    hex(&hash.finalize())
}

#[test]
fn messages_of_200_mb_pass_both_ways_are_kept_whole_and_take_no_memory() {
    let (asked, answered) = (Noise::new(11), Noise::new(12));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (api, place) = (FakeApi::start(), place(listener.local_addr().unwrap()));
    let recorder = place.kgb(&api.url());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        head(&mut stream);
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        stream.write_all(switched.as_bytes()).unwrap();
        let seen = read_large(&mut stream, true);
        send_large(&mut stream, answered, false);
        seen
    });
    let resources = Resources(recorder.pid());
    let idle = resources.resident();
    let mut client = connect(&recorder);
    send_large(&mut client, asked, true);
    assert_eq!(read_large(&mut client, false), answered.sha256(LARGE), "what the client got");
    assert_eq!(server.join().unwrap(), asked.sha256(LARGE), "what the server got");
    let traffic = resources.peak();
    drop(client);
    let frames = wait::until_within(Duration::from_secs(180), "both messages on record", || {
        let empty = place.json_lines(&["stats"]).pop()?["spool_pending_records"] == 0;
        let frames = if empty { place.json_lines(&["frames"]) } else { Vec::new() };
        (frames.len() == 2).then_some(frames)
    });
    let drained = resources.peak();
    println!("idle {idle}, highest with traffic {traffic}, with the drain {drained}");
    assert!(traffic.max(drained) < idle + GROWTH, "{idle}, {traffic}, {drained}");
    for (frame, noise) in frames.iter().zip([asked, answered]) {
        assert_eq!((&frame["bytes"], &frame["outcome"]), (&json!(LARGE), &json!("complete")));
        let kept = place.run(["frame", frame["id"].as_str().unwrap()]).stdout;
        assert_eq!(hex(&Sha256::digest(&kept)), noise.sha256(LARGE), "what is on record");
    }
    recorder.stop();
}
