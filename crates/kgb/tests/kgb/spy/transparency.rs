//! Each side sees what a direct connection would show: the same bytes, and the same end.

use std::time::Duration;

use winni::model::{Direction, FrameForm, Outcome};

use super::rig::{SpyRig, masked, unmasked};
use crate::support::{Peer, noise};

/// What one side does.
#[derive(Clone)]
enum Step {
    Client(Vec<u8>),
    Server(Vec<u8>),
    ClientEnds,
    ServerEnds,
    ClientResets,
    ServerResets,
}

use Step::{Client, ClientEnds, ClientResets, Server, ServerEnds, ServerResets};

/// What the two sides saw: all bytes, and how it ended.
#[derive(Debug, PartialEq)]
struct Shown {
    to_server: Vec<u8>,
    server_end: &'static str,
    to_client: Vec<u8>,
    client_end: &'static str,
}

async fn play(rig: &SpyRig, directly: bool, steps: &[Step]) -> Shown {
    let (client, server) = rig.connected(directly).await;
    let (mut client, mut server) = (Some(client), Some(server));
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
    let (mut server_end, mut client_end) = ("closed itself", "closed itself");
    for step in steps {
        match step {
            Client(bytes) => {
                client.as_mut().unwrap().send(bytes).await;
                if let Some(server) = &mut server {
                    to_server.extend(server.exactly(bytes.len()).await);
                }
            }
            Server(bytes) => {
                server.as_mut().unwrap().send(bytes).await;
                if let Some(client) = &mut client {
                    to_client.extend(client.exactly(bytes.len()).await);
                }
            }
            ClientEnds => half_close(client.as_ref().unwrap()),
            ServerEnds => half_close(server.as_ref().unwrap()),
            ClientResets => client.take().unwrap().reset(),
            ServerResets => server.take().unwrap().reset(),
        }
    }
    if let Some(server) = &mut server {
        server_end = end(server, &mut to_server).await;
    }
    drop(server);
    if let Some(client) = &mut client {
        client_end = end(client, &mut to_client).await;
    }
    Shown { to_server, server_end, to_client, client_end }
}

fn half_close(peer: &Peer) {
    socket2::SockRef::from(&peer.stream).shutdown(std::net::Shutdown::Write).unwrap();
}

/// The rest, and how it ends.
async fn end(peer: &mut Peer, all: &mut Vec<u8>) -> &'static str {
    match peer.rest().await {
        Ok(rest) => {
            all.extend(rest);
            "end"
        }
        Err(_) => "reset",
    }
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// What strange peers do, each until at least one side has ended its half.
fn cases() -> Vec<(&'static str, Vec<Step>)> {
    let text = |text: &str| masked(0x81, text.as_bytes());
    let mut cases = vec![
        ("plain messages", vec![Client(text("{}")), Server(unmasked(0x81, b"{}")), ClientEnds, ServerEnds]),
        ("bad UTF-8", vec![Client(masked(0x81, b"\xff\xfe\xc0")), Server(unmasked(0x81, b"\xed\xa0\x80")), ClientEnds]),
        ("reserved bits", vec![Client(masked(0xc1, b"rsv1")), Server(unmasked(0xf2, b"all")), ServerEnds, ClientEnds]),
        ("reserved opcodes", vec![Client(masked(0x83, b"three")), Server(unmasked(0x8f, b"fifteen")), ClientEnds]),
        ("a ping of 126 bytes", vec![Client(masked(0x89, &[7; 126])), Server(unmasked(0x89, &[8; 300])), ClientEnds]),
        ("a fragmented ping", vec![Client(masked(0x09, b"pi")), Client(masked(0x80, b"ng")), ClientEnds]),
        (
            "pings within a message",
            vec![
                Client(masked(0x01, b"on")),
                Client(masked(0x89, b"?")),
                Server(unmasked(0x8a, b"?")),
                Client(masked(0x80, b"e")),
                ClientEnds,
            ],
        ),
        ("a message within a message", vec![Client(masked(0x01, b"a")), Client(masked(0x81, b"b")), ClientEnds]),
        ("a continuation of nothing", vec![Client(masked(0x80, b"?")), Server(unmasked(0x00, b"!")), ClientEnds]),
        (
            "unmasked from the client",
            vec![Client(unmasked(0x81, b"bare")), Server(masked(0x81, b"dressed")), ClientEnds],
        ),
        (
            "an impossible length",
            vec![Client([&[0x82, 0xff][..], &[0xff; 12], b"x"].concat()), Client(b"y".to_vec()), ClientEnds],
        ),
        ("lengths longer than needed", vec![Client([&[0x81, 0xfe, 0, 2, 0, 0, 0, 0][..], b"hi"].concat()), ClientEnds]),
        ("no WebSocket at all", vec![Client(noise(3, 5000)), Server(noise(4, 70_000)), ServerEnds, ClientEnds]),
        ("half a header", vec![Client(vec![0x81]), Server(vec![0x82, 0x7f, 0]), ClientEnds]),
        ("half a message", vec![Client(masked(0x81, b"whole")[..8].to_vec()), ClientEnds]),
        (
            "the server ends first",
            vec![Server(unmasked(0x81, b"bye")), ServerEnds, Client(text("still here")), ClientEnds],
        ),
        ("a reset by the client", vec![Client(text("x")), ClientResets]),
        ("a reset by the server", vec![Server(unmasked(0x81, b"x")), ServerResets]),
        ("nothing", vec![ClientEnds]),
    ];
    for code in [0, 999, 1000, 1001, 1004, 1005, 1006, 1015, 1016, 2999, 3000, 4001, 4999, 5000, 65535] {
        let frames = vec![
            Client(masked(0x88, &close(code, b"why"))),
            Server(unmasked(0x88, &close(code, b""))),
            ServerEnds,
            ClientEnds,
        ];
        cases.push(("a close code", frames));
    }
    let odd = [close(1000, &[b'x'; 124]), vec![3], Vec::new(), close(1000, b"\xff")];
    cases.extend(odd.map(|payload| ("an odd close frame", vec![Client(masked(0x88, &payload)), ClientEnds])));
    cases
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_side_sees_what_a_direct_connection_would_show() {
    let rig = SpyRig::start().await;
    for (what, steps) in cases() {
        let direct = play(&rig, true, &steps).await;
        let spied = play(&rig, false, &steps).await;
        assert_eq!(spied, direct, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_in_any_pieces_pass() {
    let rig = SpyRig::start().await;
    for seed in 1..40 {
        let (mut client, mut server) = rig.connected(false).await;
        let (mut sent, mut answered) = (Vec::new(), Vec::new());
        for round in 0..6 {
            let up = noise(seed * 100 + round, (seed * round * 37 % 4000) as usize);
            let down = noise(seed * 200 + round, (seed * round * 53 % 9000) as usize);
            client.send(&up).await;
            server.send(&down).await;
            sent.extend(up);
            answered.extend(down);
        }
        assert_eq!(server.exactly(sent.len()).await, sent, "{seed}");
        assert_eq!(client.exactly(answered.len()).await, answered, "{seed}");
    }
}

#[tokio::test]
async fn messages_are_records_with_their_exact_bytes() {
    let rig = SpyRig::start().await;
    let steps = [
        Client(masked(0x81, br#"{"id":1,"method":"tools/list"}"#)),
        Server(unmasked(0x02, b"in ")),
        Server(unmasked(0x89, b"ping")),
        Server(unmasked(0x80, b"parts")),
        Client(masked(0x01, b"half")),
        Client(masked(0x82, b"other")),
        Client(masked(0x88, &close(4000, b"enough"))),
        Server(unmasked(0x88, &close(4000, b""))),
        ServerEnds,
        ClientEnds,
    ];
    play(&rig, false, &steps).await;
    let end = rig.closed().await;
    assert_eq!(end.outcome, Outcome::Complete);
    assert_eq!((end.by_client, end.by_server), (Some((4000, "enough".into())), Some((4000, String::new()))));
    let seen = rig.seen();
    let told: Vec<_> = seen.messages.iter().map(super::rig::Message::told).collect();
    let expected: [(_, _, &[u8]); 4] = [
        (Direction::ToServer, FrameForm::Text, br#"{"id":1,"method":"tools/list"}"#),
        (Direction::ToClient, FrameForm::Binary, b"in parts"),
        (Direction::ToServer, FrameForm::Text, b"half"),
        (Direction::ToServer, FrameForm::Binary, b"other"),
    ];
    assert_eq!(told, expected);
    let outcomes: Vec<_> = seen.messages.iter().map(|message| message.outcome.unwrap()).collect();
    assert_eq!(outcomes, [Outcome::Complete, Outcome::Complete, Outcome::ClientAborted, Outcome::Complete]);
    assert!(seen.messages.iter().all(|message| message.begin.connection == end.connection_id));
}

#[tokio::test]
async fn a_message_that_breaks_off_is_on_record_as_far_as_it_came() {
    let rig = SpyRig::start().await;
    let (client, mut server) = rig.connected(false).await;
    server.send(&unmasked(0x01, b"never ")).await;
    server.send(&unmasked(0x00, b"ending")).await;
    let mut client = client;
    client.exactly(2 + 6 + 2 + 6).await;
    server.reset();
    assert!(client.rest().await.is_err());
    assert_eq!(rig.closed().await.outcome, Outcome::UpstreamAborted);
    let message = rig.seen().messages.remove(0);
    assert_eq!((message.bytes.as_slice(), message.outcome), (&b"never ending"[..], Some(Outcome::UpstreamAborted)));
}

#[tokio::test]
async fn a_shutdown_tells_both_sides_when_they_are_quiet() {
    let rig = SpyRig::start().await;
    let (mut client, mut server) = rig.connected(false).await;
    client.send(masked(0x81, b"last words")).await;
    server.exactly(masked(0x81, b"last words").len()).await;
    let asked = std::time::Instant::now();
    rig.shutdown.cancel();
    let said = wire::websocket::close_payload(1001, "iccm is stopping");
    assert_eq!(client.rest().await.unwrap(), unmasked(0x88, &said));
    let to_server = server.rest().await.unwrap();
    assert_eq!(to_server.len(), 2 + 4 + said.len());
    drop((client, server));
    crate::support::soon(rig.running).await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(9), "it did not wait for the grace to end");
    assert_eq!(super::rig::seen(rig.recorder.spool().dir()).closed[0].outcome, Outcome::RecorderStopped);
}
