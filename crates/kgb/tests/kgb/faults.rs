//! What breaks, breaks for the client as it would have without the gateway, and gets the right outcome.

use std::io::ErrorKind;
use std::time::Duration;

use crate::support::{Rig, noise, soon};
use kgb::WhenSpoolFull;
use tokio::net::TcpSocket;
use winni::model::Outcome;

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";

#[tokio::test]
async fn a_refused_upstream_is_answered_in_the_apis_shape() {
    // Bound and not listening: connections are refused, and no other test gets the port meanwhile.
    let refusing = TcpSocket::new_v4().unwrap();
    refusing.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let closed = refusing.local_addr().unwrap();
    let rig = Rig::with(|_, gateway| gateway.upstream = format!("http://{closed}").parse().unwrap()).await;
    let mut client = rig.client().await;
    let body = noise(1, 400_000);
    client.send("POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n").await;
    client.send(&body).await;
    let (head, answer) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
    assert!(head.contains("\r\nx-iccm-error: upstream_unreachable\r\n"));
    let error: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(error["type"], "error");
    assert_eq!(error["error"]["type"], "api_error");
    assert!(error["error"]["message"].as_str().unwrap().contains(&closed.to_string()));
    let exchange = rig.ended().await;
    assert_eq!(exchange.outcome(), Outcome::UpstreamUnreachable);
    assert!(exchange.request_body == body, "the whole request is on record");
    assert_eq!(exchange.response_body, answer);
    assert!(head.contains(&format!("x-iccm-exchange-id: {}", exchange.begin.id)));
    // The connection can be used again.
    client.send(POST).await;
    assert!(client.message().await.0.starts_with("HTTP/1.1 502 "));
}

#[tokio::test]
async fn an_upstream_that_closes_without_a_reply_closes_the_client_without_a_reply() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    drop(upstream);
    assert_eq!(client.rest().await.unwrap(), b"");
    assert_eq!(rig.ended().await.outcome(), Outcome::UpstreamAborted);
}

#[tokio::test]
async fn an_upstream_that_resets_without_a_reply_resets_the_client() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.reset();
    assert_eq!(client.rest().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(rig.ended().await.outcome(), Outcome::UpstreamAborted);
}

/// With and without a length, closed and reset: what was sent arrives, the end does not.
#[tokio::test]
async fn a_response_that_breaks_off_breaks_the_clients_connection() {
    for framing in ["Content-Length: 100000", "Transfer-Encoding: chunked"] {
        for reset in [false, true] {
            let rig = Rig::start().await;
            let mut client = rig.client().await;
            client.send(POST).await;
            let mut upstream = rig.accept().await;
            upstream.message().await;
            upstream.send(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n")).await;
            let part = noise(3, 5000);
            let chunked = framing.contains("chunked");
            if chunked {
                upstream.send("1388\r\n").await;
            }
            upstream.send(&part).await;
            if chunked {
                upstream.send("\r\n").await;
            }
            client.head().await;
            let arrived = if chunked { client.chunks_until(5000).await } else { client.exactly(5000).await };
            assert!(arrived == part);
            if reset {
                upstream.reset();
                assert_eq!(client.rest().await.unwrap_err().kind(), ErrorKind::ConnectionReset);
            } else {
                drop(upstream);
                assert_eq!(client.rest().await.unwrap(), b"", "no terminating chunk, no other byte");
            }
            let exchange = rig.ended().await;
            assert_eq!(exchange.outcome(), Outcome::UpstreamAborted);
            assert!(exchange.response_body == part);
        }
    }
}

/// The data and the break arrive together; hyper alone would lose what it has buffered.
#[tokio::test]
async fn what_came_before_the_break_arrives() {
    for n in 0..100 {
        let rig = Rig::start().await;
        let mut client = rig.client().await;
        client.send(POST).await;
        let mut upstream = rig.accept().await;
        upstream.message().await;
        let part = noise(n, 3000);
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
        upstream.send([head.as_bytes(), &part].concat()).await;
        drop(upstream);
        client.head().await;
        assert!(client.rest().await.unwrap() == part);
        assert!(rig.ended().await.response_body == part);
    }
}

#[tokio::test]
async fn a_stream_that_ends_cleanly_but_too_early_passes_unchanged() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    let event = "event: message_start\ndata: {}\n\n";
    upstream
        .send(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\r\n0\r\n\r\n",
            event.len()
        ))
        .await;
    assert_eq!(client.message().await.1, event.as_bytes());
    assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
}

#[tokio::test]
async fn a_client_that_hangs_up_while_the_upstream_hangs_cancels_it() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    drop(client);
    let _ = upstream.rest().await;
    let exchange = rig.ended().await;
    assert_eq!(exchange.outcome(), Outcome::ClientAborted);
    assert_eq!(exchange.request_body, b"{}");
    assert!(exchange.response_head.is_none());
}

#[tokio::test]
async fn a_client_that_hangs_up_during_the_response_cancels_the_upstream() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await, b"abc");
    client.reset();
    let _ = upstream.rest().await;
    let exchange = rig.ended().await;
    assert_eq!(exchange.outcome(), Outcome::ClientAborted);
    assert_eq!(exchange.response_body, b"abc");
}

/// All on one thread: when the gateway looks, the client is gone already.
#[tokio::test]
async fn a_client_that_is_gone_when_its_request_is_read_is_on_record() {
    let rig = Rig::start().await;
    for n in 0..60 {
        let mut client = rig.client().await;
        client.send(if n % 2 == 0 { "GET /gone HTTP/1.1\r\nHost: h\r\n\r\n" } else { POST }).await;
        if n % 3 == 0 {
            client.reset();
        }
    }
    let gone = rig.all_ended(60).await;
    assert!(gone.iter().all(|exchange| exchange.outcome() == Outcome::ClientAborted));
    // A head that did not come whole is no request, and a connection without one is no exchange.
    let mut client = rig.client().await;
    client.send("GET /half HTTP/1.1\r\nHost: h\r\n").await;
    drop(client);
    drop(rig.client().await);
    rig.shutdown.cancel();
    assert_eq!(rig.exchanges().len(), 60);
}

#[tokio::test]
async fn a_client_that_stops_in_the_middle_of_its_request_is_recorded_as_such() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let rig = Rig::start().await;
        let mut client = rig.client().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n")).await;
        let mut upstream = rig.accept().await;
        upstream.head().await;
        client.send(if framing.contains("chunked") { "3\r\nabc\r\n" } else { "abc" }).await;
        upstream.exactly(3).await;
        drop(client);
        let rest = upstream.rest().await.unwrap_or_default();
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the upstream must not take it for a whole request");
        let exchange = rig.ended().await;
        assert_eq!(exchange.outcome(), Outcome::ClientAborted);
        assert_eq!(exchange.request_body, b"abc");
    }
}

#[tokio::test]
async fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000000\r\n\r\n").await;
    client.send(noise(1, 1000)).await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig").await;
    drop(upstream);
    client.send(noise(2, 2_999_000)).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 413 Too Large\r\n"));
    assert_eq!(body, b"big");
    assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
}

#[tokio::test]
async fn upgrades_and_connect_are_refused_on_purpose() {
    let rig = Rig::start().await;
    for request in [
        "GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
        "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        let mut client = rig.client().await;
        client.send(request).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
        assert!(head.contains("\r\nx-iccm-error: refused\r\n"));
        assert!(String::from_utf8_lossy(&body).contains("api_error"));
    }
    assert!(rig.exchanges().iter().all(|exchange| exchange.outcome() == Outcome::Refused));
    let first_lines: Vec<_> =
        rig.exchanges().iter().map(|exchange| exchange.request_head().lines().next().unwrap().to_owned()).collect();
    assert_eq!(first_lines, ["GET /x HTTP/1.1", "CONNECT a.example:443 HTTP/1.1", "OPTIONS * HTTP/1.1"]);
}

#[tokio::test]
async fn what_is_meant_for_somebody_else_goes_nowhere_and_is_on_record_with_all_that_came() {
    let rig = Rig::start().await;
    let own = rig.gateway;
    let targets = [
        "http://other.example/take?it=all".to_owned(),
        // Not even the gateway's own paths, nor a WebSocket.
        "http://other.example/health".to_owned(),
        format!("http://other.example:{}/v1/messages", own.port()),
        "http://127.0.0.1:1/v1/messages".to_owned(),
        "http://me:mine@other.example/".to_owned(),
    ];
    for target in &targets {
        let mut client = rig.client().await;
        let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        client.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\n{upgrade}Content-Length: 6\r\n\r\nsecret")).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 501 Not Implemented\r\n"), "{head}");
        assert!(String::from_utf8_lossy(&body).contains("no forward proxy"), "{body:?}");
    }
    let exchanges = rig.all_ended(targets.len()).await;
    for (exchange, target) in exchanges.iter().zip(&targets) {
        assert_eq!((exchange.outcome(), &exchange.request_body[..]), (Outcome::Refused, &b"secret"[..]));
        let recorded = exchange.request_head().lines().next().unwrap().to_owned();
        assert!(!recorded.contains("mine"), "{recorded}");
        assert!(recorded == format!("GET {target} HTTP/1.1") || target.contains("mine"), "{recorded}");
    }
    // Its own address is no other one's. The only request that goes on.
    let mut client = rig.client().await;
    client.send(format!("GET http://{own}/v1/x?y HTTP/1.1\r\nHost: h\r\n\r\n")).await;
    assert!(rig.accept().await.head().await.starts_with("GET /v1/x?y HTTP/1.1\r\n"));
    drop(client);
    assert!(rig.all_ended(targets.len() + 1).await.iter().any(|e| e.request_head().starts_with("GET /v1/x?y ")));
}

/// Big enough for a recorder to start, small enough to be filled.
fn tiny(recorder: &mut kgb::RecorderConfig) {
    recorder.segment_bytes = 64 << 10;
    recorder.max_spool_bytes = 256 << 10;
}

async fn post(rig: &Rig, size: usize) -> (String, Vec<u8>) {
    let mut client = rig.client().await;
    let body = noise(size as u64, size);
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {size}\r\n\r\n")).await;
    let answering = async {
        let mut upstream = rig.accept().await;
        assert!(upstream.message().await.1 == body);
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        upstream
    };
    let asking = async {
        client.send(&body).await;
        client.message().await
    };
    tokio::select! {
        biased;
        answer = asking => answer,
        _ = async { let _held = answering.await; std::future::pending::<()>().await } => unreachable!(),
    }
}

#[tokio::test]
async fn when_the_spool_is_full_traffic_passes_and_the_gap_goes_on_record() {
    let rig = Rig::with(|recorder, _| tiny(recorder)).await;
    // The second does not fit: it is cut off in the middle of its record, not in the middle of its way.
    for more in 0..4 {
        let (head, body) = post(&rig, 100_000 + 2 * more).await;
        assert!(head.starts_with("HTTP/1.1 200 OK"));
        assert_eq!(body, b"ok");
    }
    assert!(rig.recorder.readiness().is_err());
    let metrics = rig.recorder.render_metrics();
    assert!(metrics.contains("iccm_cannot_record 1"), "{metrics}");
    let exchanges = rig.exchanges();
    let lost: Vec<_> = exchanges.iter().filter(|exchange| exchange.end.unwrap().missing_bytes > 0).collect();
    assert!(!lost.is_empty());
    let mut gaps = rig.gaps();
    assert!(!gaps.is_empty(), "what is missing so far is on record");
    rig.recorder.spool().release_before(u64::MAX).unwrap();
    post(&rig, 100).await;
    assert!(rig.recorder.readiness().is_ok());
    rig.shutdown.cancel();
    soon(rig.running).await.unwrap();
    rig.recorder.end_life().unwrap();
    // A gap in the segment that was being written is still there.
    let left = crate::support::recorded(rig.recorder.spool().dir()).1;
    gaps.extend(left.into_iter().filter(|gap| !gaps.contains(gap)).collect::<Vec<_>>());
    let missing: u64 = gaps.iter().map(|gap| gap.exchanges).sum();
    let bytes: u64 = gaps.iter().map(|gap| gap.bytes).sum();
    let metrics = rig.recorder.render_metrics();
    assert!((2..=4).contains(&missing) && bytes > 100_000, "{gaps:?}");
    assert!(metrics.contains(&format!("iccm_unrecorded_exchanges_total {missing}")), "{metrics}");
    assert!(metrics.contains(&format!("iccm_unrecorded_bytes_total {bytes}")), "{metrics}");
}

#[tokio::test]
async fn when_policy_says_so_what_cannot_be_recorded_is_refused() {
    let rig = Rig::with(|recorder, _| {
        tiny(recorder);
        recorder.when_spool_full = WhenSpoolFull::Refuse;
    })
    .await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(noise(1, 100_000)).await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    client.send(noise(2, 400_000)).await;
    // One that is running is cut in both directions.
    let _ = upstream.rest().await;
    let _ = client.rest().await;
    let exchange = rig.ended().await;
    assert_eq!(exchange.outcome(), Outcome::Refused);

    // A new one is refused in the API's shape.
    for size in [1000, 1] {
        while let Ok(entry) = rig.recorder.spool().begin(&vec![0; size], &[]) {
            std::mem::forget(entry);
        }
    }
    let mut client = rig.client().await;
    client.send(POST).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
    assert!(head.contains("\r\nx-iccm-error: refused\r\n"));
    assert!(String::from_utf8_lossy(&body).contains("api_error"));
    client.send("GET /ready HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.message().await.0.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn a_shutdown_lets_exchanges_end_and_cuts_what_does_not() {
    let rig = Rig::with(|_, gateway| gateway.grace = Duration::from_millis(1500)).await;
    let mut ends = rig.client().await;
    let mut hangs = rig.client().await;
    let mut idle = rig.client().await;
    ends.send(POST).await;
    let mut first = rig.accept().await;
    first.message().await;
    hangs.send(POST).await;
    let mut second = rig.accept().await;
    second.message().await;
    rig.shutdown.cancel();
    assert_eq!(idle.rest().await.unwrap(), b"", "an idle connection is closed at once");
    first.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(ends.message().await.1, b"ok");
    let _ = hangs.rest().await;
    soon(rig.running).await.unwrap();
    let outcomes: Vec<_> =
        crate::support::recorded(rig.recorder.spool().dir()).0.iter().map(crate::support::Recorded::outcome).collect();
    assert_eq!(outcomes, [Outcome::Complete, Outcome::RecorderStopped]);
}
