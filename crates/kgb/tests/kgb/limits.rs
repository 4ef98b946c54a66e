//! What clients may take of the gateway: time, connections, headers.

use std::time::Duration;

use crate::support::{Rig, soon};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let rig = Rig::with(|_, gateway| gateway.limits.header_read = SHORT).await;
    for begun in ["G", "GET / HTTP/1.1\r\nHost: h\r\nX-Endless: "] {
        let mut client = rig.client().await;
        client.send(begun).await;
        assert_eq!(client.rest().await.unwrap_or_default(), b"");
    }
    assert!(rig.exchanges().is_empty(), "what never became a request is none");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let rig = Rig::with(|_, gateway| {
        gateway.limits.header_read = SHORT;
        gateway.limits.idle = SHORT;
    })
    .await;
    let mut busy = rig.client().await;
    busy.send(GET).await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    // By the time that the idle one is closed, the busy one has waited for longer.
    let mut idle = rig.client().await;
    assert_eq!(idle.rest().await.unwrap(), b"");
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n").await;
    busy.head().await;
    let mut idle = rig.client().await;
    assert_eq!(idle.rest().await.unwrap(), b"");
    upstream.send("late").await;
    assert_eq!(busy.exactly(4).await, b"late");
    assert_eq!(busy.rest().await.unwrap(), b"", "idle now");
}

#[tokio::test]
async fn a_connection_beyond_the_bound_waits_until_another_one_ends() {
    let rig = Rig::with(|_, gateway| {
        gateway.limits.connections = 2;
        gateway.limits.idle = LONG;
    })
    .await;
    let health = "GET /health HTTP/1.1\r\nHost: h\r\n\r\n";
    let (mut first, mut second, mut third) = (rig.client().await, rig.client().await, rig.client().await);
    for served in [&mut first, &mut second] {
        served.send(health).await;
        assert!(served.message().await.0.starts_with("HTTP/1.1 200 "));
    }
    third.send(health).await;
    let answered = tokio::time::timeout(SHORT, third.message()).await;
    assert!(answered.is_err(), "it has no place yet");
    drop(first);
    assert!(soon(third.message()).await.0.starts_with("HTTP/1.1 200 "), "it has the first one's");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_by_the_book() {
    let rig = Rig::start().await;
    let many: String = (0..300).map(|n| format!("X-{n}: v\r\n")).collect();
    let big = format!("X-Big: {}\r\n", "b".repeat(257 * 1024));
    for headers in [many, big] {
        let mut client = rig.client().await;
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).await;
        assert!(client.head().await.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"));
    }
    let fits = format!("GET / HTTP/1.1\r\nHost: h\r\nX-Big: {}\r\n\r\n", "b".repeat(100 * 1024));
    let mut client = rig.client().await;
    client.send(&fits).await;
    assert!(rig.accept().await.head().await.len() > 100 * 1024);
}
