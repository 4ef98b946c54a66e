//! Large messages, slow readers, and Streamable HTTP.

use std::time::Duration;

use winni::model::{Direction, Outcome};

use super::rig::{SpyRig, unmasked};
use crate::support::{Peer, noise, recorded, soon};

const MESSAGE_BYTES: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_message_is_recorded_as_it_comes() {
    let rig = SpyRig::start().await;
    let (mut client, mut server) = rig.connected(false).await;
    let payload = noise(9, MESSAGE_BYTES);
    let frame = unmasked(0x82, &payload);
    let (first, rest) = frame.split_at(frame.len() / 2);
    let (_, received) = tokio::join!(server.send(first), client.exactly(first.len()));
    assert!(received == first);
    let half = rig.seen().messages.remove(0);
    assert_eq!(half.bytes, payload[..half.bytes.len()]);
    assert!(half.bytes.len() >= first.len() - 10 && half.outcome.is_none(), "what was passed on is on record");
    let (_, received) = tokio::join!(server.send(rest), client.exactly(rest.len()));
    assert!(received == rest);
    let message = rig.seen().messages.remove(0);
    assert!(message.bytes == payload && message.outcome == Some(Outcome::Complete));
    assert!(message.parts > 100, "{} parts", message.parts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_stops_its_server() {
    let rig = SpyRig::start().await;
    let (mut client, mut server) = rig.connected(false).await;
    let frame = unmasked(0x82, &noise(5, 64 << 20));
    let sending = async {
        let mut sent = 0;
        for chunk in frame.chunks(64 << 10) {
            if tokio::time::timeout(Duration::from_millis(500), server.stream.writable()).await.is_err() {
                break;
            }
            match tokio::time::timeout(
                Duration::from_millis(500),
                tokio::io::AsyncWriteExt::write_all(&mut server.stream, chunk),
            )
            .await
            {
                Ok(written) => written.unwrap(),
                Err(_) => break,
            }
            sent += chunk.len();
        }
        sent
    };
    let sent = soon(sending).await;
    assert!(sent < 40 << 20, "{sent} bytes were taken of a server whose client reads nothing");
    let recorded = rig.seen().bytes(Direction::ToClient).len();
    assert!(recorded <= sent + (64 << 10), "{recorded}");
    assert_eq!(client.exactly(sent / 2).await, frame[..sent / 2]);
}

#[tokio::test]
async fn streamable_http_passes_with_its_own_headers() {
    let rig = SpyRig::start().await;
    let mut client = Peer::new(tokio::net::TcpStream::connect(rig.spy).await.unwrap());
    for (method, body) in [("POST", r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#), ("GET", ""), ("DELETE", "")] {
        let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
        client
            .send(format!(
                "{method} /mcp/dewey HTTP/1.1\r\nHost: spy\r\nMcp-Session-Id: S\r\nMCP-Protocol-Version: 2025-11-25\r\n\
                 Last-Event-ID: 7\r\n{length}\r\n{body}"
            ))
            .await;
        let mut server = rig.accept().await;
        let (head, received) = server.message().await;
        assert!(head.starts_with(&format!("{method} /mcp HTTP/1.1\r\n")), "{head}");
        for header in ["Mcp-Session-Id: S", "MCP-Protocol-Version: 2025-11-25", "Last-Event-ID: 7"] {
            assert!(head.contains(header), "{header} in {head}");
        }
        assert_eq!(received, body.as_bytes());
        server
            .send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nMcp-Session-Id: S\r\nTransfer-Encoding: chunked\r\n\
                 Connection: close\r\n\r\n8\r\ndata: 1\n\r\n",
            )
            .await;
        assert!(client.head().await.contains("Mcp-Session-Id: S"));
        assert_eq!(client.chunk().await, b"data: 1\n", "at once");
        server.send("1\r\n\n\r\n0\r\n\r\n").await;
        client.chunks().await;
    }
    let exchanges = recorded(rig.recorder.spool().dir()).0;
    let servers: Vec<_> = exchanges.iter().map(|exchange| exchange.begin.server.as_deref()).collect();
    assert_eq!(servers, [Some("dewey"); 3]);
    assert!(exchanges.iter().all(|exchange| exchange.outcome() == Outcome::Complete));
}
