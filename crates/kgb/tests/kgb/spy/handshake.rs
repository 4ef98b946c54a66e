//! What passes before the first frame.

use kgb::entry::Begin;
use tokio::net::TcpStream;
use winni::model::{FrameSource, Outcome};

use super::rig::{SWITCHED, SpyRig, masked, request, unmasked};
use crate::support::{KEY, Peer, Rig, files, recorded};

async fn client(rig: &SpyRig) -> Peer {
    Peer::new(TcpStream::connect(rig.spy).await.unwrap())
}

#[tokio::test]
async fn the_request_goes_on_without_the_spys_own_parameters_and_without_extensions() {
    let rig = SpyRig::start().await;
    let mut client = client(&rig).await;
    let headers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nX-Odd: 1\r\nOrigin: http://o\r\n\
                   X-Claude-Code-Session-Id: S1\r\n";
    client.send(request("/a/b?x=%20&upstream=dewey&y", headers)).await;
    let mut server = rig.accept().await;
    let host = rig.server.local_addr().unwrap();
    let expected = format!(
        "GET /a/b?x=%20&y HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Odd: 1\r\nOrigin: http://o\r\n\
         X-Claude-Code-Session-Id: S1\r\n\r\n"
    );
    let mut lines: Vec<String> = server.head().await.lines().map(str::to_owned).collect();
    let mut expected: Vec<String> = expected.lines().map(str::to_owned).collect();
    assert_eq!(lines.remove(0), expected.remove(0));
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
    server.send(SWITCHED).await;
    // Byte for byte, except that nothing is promised about the reason phrase.
    assert_eq!(client.head().await.to_lowercase(), SWITCHED.to_lowercase());
    client.send(masked(0x81, b"x")).await;
    server.exactly(masked(0x81, b"x").len()).await;
    let message = rig.seen().messages.remove(0);
    assert_eq!((message.begin.server.as_str(), message.begin.session.as_deref()), ("dewey", Some("S1")));
    assert_eq!(message.begin.source, FrameSource::Spy);
    let exchange = recorded(rig.recorder.spool().dir()).0.remove(0);
    assert_eq!(exchange.begin.id, message.begin.connection);
    assert_eq!((exchange.begin.server.as_deref(), exchange.outcome()), (Some("dewey"), Outcome::Complete));
    assert!(exchange.response_head.unwrap().starts_with("HTTP/1.1 101"));
}

#[tokio::test]
async fn the_subprotocol_of_mcp_is_answered_whether_the_server_does_or_not() {
    for (offer, answer, expected) in
        [("mcp", "", Some("mcp")), ("a, mcp", "", Some("mcp")), ("a, mcp", "a", Some("a")), ("a", "", None)]
    {
        let rig = SpyRig::start().await;
        let mut client = client(&rig).await;
        client.send(request("/?upstream=dewey", &format!("Sec-WebSocket-Protocol: {offer}\r\n"))).await;
        let mut server = rig.accept().await;
        assert!(server.head().await.contains(&format!("Sec-WebSocket-Protocol: {offer}\r\n")));
        let answer =
            if answer.is_empty() { String::new() } else { format!("Sec-WebSocket-Protocol: {answer}\r\n\r\n") };
        let answer = if answer.is_empty() {
            SWITCHED.to_owned()
        } else {
            SWITCHED.replace("\r\n\r\n", &format!("\r\n{answer}"))
        };
        server.send(answer).await;
        let head = client.head().await.to_lowercase();
        let found = head.lines().find_map(|line| line.strip_prefix("sec-websocket-protocol: "));
        assert_eq!(found, expected, "{offer}");
    }
}

#[tokio::test]
async fn an_unknown_server_is_answered_with_the_list() {
    let rig = SpyRig::start().await;
    let mut client = client(&rig).await;
    client.send(request("/?upstream=nobody", "Sec-WebSocket-Protocol: mcp\r\n")).await;
    let head = client.head().await.to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("sec-websocket-protocol: mcp\r\n"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let rest = client.rest().await.unwrap();
    let said = wire::websocket::close_payload(4001, "unknown upstream `nobody`; allowed: dewey, gone");
    assert_eq!(rest, unmasked(0x88, &said));
    let exchange = recorded(rig.recorder.spool().dir()).0.remove(0);
    assert_eq!(exchange.outcome(), Outcome::Refused);
}

#[tokio::test]
async fn what_names_no_server_is_told_what_there_is() {
    let rig = SpyRig::start().await;
    for target in ["/", "/mcp/nobody", "/v1/messages", "/?upstream=dewey"] {
        let mut client = client(&rig).await;
        client.send(format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 404"), "{target}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains("dewey") || body.contains("/mcp/NAME"), "{body}");
    }
}

#[tokio::test]
async fn a_server_that_refuses_or_is_gone_is_shown() {
    let rig = SpyRig::start().await;
    let mut refused = client(&rig).await;
    refused.send(request("/?upstream=dewey", "")).await;
    let mut server = rig.accept().await;
    server.head().await;
    server.send("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer\r\nContent-Length: 2\r\n\r\nno").await;
    let (head, body) = refused.message().await;
    assert!(head.starts_with("HTTP/1.1 401") && head.contains("WWW-Authenticate: Bearer"), "{head}");
    assert_eq!(body, b"no");
    let mut gone = client(&rig).await;
    gone.send(request("/?upstream=gone", "")).await;
    assert!(gone.message().await.0.starts_with("HTTP/1.1 502"));
    let outcomes: Vec<_> = recorded(rig.recorder.spool().dir()).0.iter().map(|exchange| exchange.outcome()).collect();
    assert_eq!(outcomes, [Outcome::Complete, Outcome::UpstreamUnreachable]);
}

#[tokio::test]
async fn no_credential_of_the_handshake_reaches_the_disk() {
    let rig = SpyRig::start().await;
    let mut client = client(&rig).await;
    let protocol = format!("Sec-WebSocket-Protocol: realtime, openai-insecure-api-key.{KEY}1, mcp\r\n");
    let headers = format!("Authorization: Bearer {KEY}2\r\nCookie: a={KEY}3\r\n{protocol}");
    client.send(request(&format!("/?upstream=dewey&api_key={KEY}4"), &headers)).await;
    let mut server = rig.accept().await;
    let head = server.head().await;
    for secret in 1..=4 {
        assert!(head.contains(&format!("{KEY}{secret}")), "it goes on: {head}");
    }
    server.send(SWITCHED).await;
    client.head().await;
    let found =
        files(rig.data.path()).into_iter().any(|(_, bytes)| bytes.windows(KEY.len()).any(|w| w == KEY.as_bytes()));
    assert!(!found, "a credential is on disk");
    let head: Begin = recorded(rig.recorder.spool().dir()).0.remove(0).begin;
    let head = String::from_utf8(head.head).unwrap();
    assert!(head.contains("realtime") && head.contains("mcp"), "what is no credential stays: {head}");
}

#[tokio::test]
async fn a_websocket_passes_the_gateway_too() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(request("/v1/realtime?model=m", "")).await;
    let mut server = rig.accept().await;
    assert!(server.head().await.starts_with("GET /v1/realtime?model=m HTTP/1.1\r\n"));
    server.send(SWITCHED).await;
    let head = client.head().await;
    assert!(head.to_lowercase().contains("x-iccm-exchange-id: "), "{head}");
    client.send(masked(0x81, br#"{"type":"session.update"}"#)).await;
    server.exactly(masked(0x81, br#"{"type":"session.update"}"#).len()).await;
    server.send(unmasked(0x81, b"{}")).await;
    client.exactly(4).await;
    let seen = super::rig::seen(rig.recorder.spool().dir());
    let sources: Vec<_> = seen.messages.iter().map(|message| message.begin.source).collect();
    assert_eq!(sources, [FrameSource::Gateway; 2]);
    assert_eq!(seen.messages[0].bytes, br#"{"type":"session.update"}"#);
}
