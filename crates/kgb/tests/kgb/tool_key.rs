//! A key that a client hands over in a call passes, and is recorded nowhere: over WebSocket and HTTP, however it is cut.

use winni::model::Direction;

use crate::spy::rig::{SpyRig, masked};
use crate::support::{Peer, Rig, files, recorded};

const KEY: &str = "sk-test-tool-007";

/// Calls that hand the key over; the first is the usual one.
fn calls(key: &str) -> [String; 3] {
    let call = |name: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{{"provider":"xai","api_key":"{key}"}}}}}}"#
        )
    };
    let backwards = format!(
        r#"{{"params":{{"arguments":{{"api\u005fkey":"{key}"}},"name":"fiedler_set_key"}},"method":"tools/call","id":2}}"#
    );
    let batch = format!("[{},{backwards}]", call(r"fiedler_set_\u006bey"));
    [call("fiedler_set_key"), backwards, batch]
}

fn assert_absent(data: &std::path::Path) {
    for (path, bytes) in files(data) {
        // Half of a key is too much, too.
        let found = bytes.windows(8).any(|window| KEY.as_bytes().windows(8).any(|piece| piece == window));
        assert!(!found, "{}", path.display());
    }
}

/// Sends the bytes cut at a place, the second piece when the first has arrived.
async fn in_two(client: &mut Peer, server: &mut Peer, bytes: &[u8], at: usize) {
    for piece in [&bytes[..at], &bytes[at..]] {
        client.send(piece).await;
        assert_eq!(server.exactly(piece.len()).await, piece, "it passes at once, as it is");
    }
}

#[tokio::test]
async fn a_key_over_websocket_is_not_recorded_wherever_its_message_is_cut() {
    let rig = SpyRig::start().await;
    let mut expected = Vec::new();
    let (mut client, mut server) = rig.connected(false).await;
    for (call, clean) in calls(KEY).iter().zip(calls("[redacted]")) {
        let frame = masked(0x81, call.as_bytes());
        for at in 0..=frame.len() {
            in_two(&mut client, &mut server, &frame, at).await;
            expected.push(clean.clone());
        }
        // Two frames of one message, and a ping between them.
        for at in 0..=call.len() {
            let (first, last) = call.as_bytes().split_at(at);
            let frames = [masked(0x01, first), masked(0x89, b"still there?"), masked(0x80, last)].concat();
            in_two(&mut client, &mut server, &frames, frames.len() / 2).await;
            expected.push(clean.clone());
        }
    }
    // One that its client does not finish.
    let frame = masked(0x81, calls(KEY)[0].as_bytes());
    client.send(&frame[..frame.len() - 8]).await;
    server.exactly(frame.len() - 8).await;
    drop((client, server));
    rig.closed().await;
    let seen = rig.seen();
    let kept: Vec<_> = seen.messages.iter().map(|message| String::from_utf8_lossy(&message.bytes)).collect();
    let (broken, whole) = kept.split_last().unwrap();
    assert!(whole == expected);
    assert!(calls("[redacted]")[0].starts_with(&**broken) && broken.contains("redacted"), "{broken}");
    assert!(seen.messages.iter().all(|message| message.begin.direction == Direction::ToServer));
    assert_absent(rig.data.path());
}

/// What the head of a POST to an MCP server says.
fn head(path: &str, fields: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: h\r\n{fields}Content-Length: {length}\r\n\r\n")
}

/// POSTs on one connection, each cut at every place.
async fn posts(mut client: Peer, accept: impl AsyncFn() -> Peer, path: &str, fields: &str) -> Vec<String> {
    let mut server = None;
    let mut expected = Vec::new();
    for (call, clean) in calls(KEY).iter().zip(calls("[redacted]")) {
        for at in 0..=call.len() {
            client.send([head(path, fields, call.len()).as_bytes(), &call.as_bytes()[..at]].concat()).await;
            if server.is_none() {
                server = Some(accept().await);
            }
            let server = server.as_mut().unwrap();
            server.head().await;
            assert_eq!(server.exactly(at).await, &call.as_bytes()[..at]);
            client.send(&call.as_bytes()[at..]).await;
            assert_eq!(server.exactly(call.len() - at).await, &call.as_bytes()[at..]);
            server.send("HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n").await;
            client.head().await;
            expected.push(clean.clone());
        }
    }
    expected
}

#[tokio::test]
async fn a_key_over_streamable_http_is_not_recorded_wherever_its_body_is_cut() {
    let rig = SpyRig::start().await;
    let client = Peer::new(tokio::net::TcpStream::connect(rig.spy).await.unwrap());
    let expected = posts(client, async || rig.accept().await, "/mcp/dewey", "").await;
    let kept = recorded(rig.recorder.spool().dir()).0;
    assert!(kept.iter().map(|exchange| String::from_utf8_lossy(&exchange.request_body)).eq(expected));
    assert_absent(rig.data.path());
}

#[tokio::test]
async fn a_key_for_an_mcp_server_behind_the_gateway_is_not_recorded() {
    let takes_both = "Accept: application/json, text/event-stream\r\n";
    for (path, fields) in [("/mcp", ""), ("/x", "Mcp-Session-Id: 1\r\n"), ("/x?y", takes_both)] {
        let rig = Rig::start().await;
        let expected = posts(rig.client().await, async || rig.accept().await, path, fields).await;
        let kept = rig.all_ended(expected.len()).await;
        assert!(kept.iter().map(|exchange| String::from_utf8_lossy(&exchange.request_body)).eq(expected), "{path}");
        assert_absent(rig.data.path());
    }
}

#[tokio::test]
async fn a_key_for_a_server_that_is_not_there_is_not_recorded() {
    let rig = Rig::with(|_, forwarding| forwarding.upstream = "http://127.0.0.1:9".parse().unwrap()).await;
    for at in [0, 100, 128, 136, 140] {
        let mut client = rig.client().await;
        let call = &calls(KEY)[0];
        client.send([head("/mcp", "", call.len()).as_bytes(), &call.as_bytes()[..at]].concat()).await;
        client.send(&call.as_bytes()[at..]).await;
        assert!(client.head().await.starts_with("HTTP/1.1 502"));
    }
    let kept = rig.all_ended(5).await;
    assert!(kept.iter().all(|exchange| exchange.request_body == calls("[redacted]")[0].as_bytes()));
    assert_absent(rig.data.path());
}

#[tokio::test]
async fn what_a_model_is_told_is_recorded_as_it_is() {
    let rig = Rig::start().await;
    let (mut client, body) = (rig.client().await, &calls(KEY)[0]);
    client.send([&head("/v1/messages", "Accept: application/json\r\n", body.len()), body.as_str()].concat()).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    client.head().await;
    assert_eq!(rig.ended().await.request_body, body.as_bytes());
}
