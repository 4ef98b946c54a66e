//! A gateway that is changed, or ended, while it is at work.

use std::collections::BTreeMap;
use std::time::Duration;

use kgb::gateway::GatewayConfig;
use tokio::net::TcpListener;
use winni::model::Outcome;

use crate::support::{Peer, Recorded, Rig, noise, recorded, soon};

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
const STREAMS: usize = 32;

/// Every stream is ended within the grace period or cut with its outcome on record; what a client has seen is on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_under_load_loses_nothing() {
    let rig = Rig::with(|_, gateway| gateway.grace = Duration::from_secs(1)).await;
    let mut clients = Vec::new();
    for n in 0..STREAMS {
        let mut client = rig.client().await;
        clients.push(tokio::spawn(async move {
            client.send(POST.replace("/v1/messages", &format!("/{n}"))).await;
            // A connection that is cut is an end like any other here.
            let seen = client.rest().await.unwrap_or_default();
            (n, seen)
        }));
    }
    let mut upstreams = Vec::new();
    for n in 0..STREAMS {
        let mut upstream = rig.accept().await;
        upstream.message().await;
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
        upstreams.push(tokio::spawn(stream_to(upstream, n % 2 == 0)));
    }
    rig.shutdown.cancel();
    soon(rig.running).await.unwrap();
    upstreams.iter().for_each(tokio::task::JoinHandle::abort);
    let exchanges: BTreeMap<String, Recorded> = recorded(rig.recorder.spool().dir())
        .0
        .into_iter()
        .map(|exchange| (exchange.request_head().split(' ').nth(1).unwrap().to_owned(), exchange))
        .collect();
    assert_eq!(exchanges.len(), STREAMS);
    let (mut complete, mut cut) = (0, 0);
    for client in clients {
        let (n, seen) = soon(client).await.unwrap();
        let exchange = &exchanges[&format!("/{n}")];
        let seen = Peer::body_of(&seen);
        assert!(exchange.response_body.starts_with(&seen), "what was seen is on record");
        match exchange.outcome() {
            Outcome::Complete => {
                assert!(exchange.response_body == seen, "a whole answer arrived whole");
                complete += 1;
            }
            Outcome::RecorderStopped => cut += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((complete, cut), (STREAMS / 2, STREAMS / 2));
    rig.recorder.end_life().unwrap();
}

/// Chunk after chunk: twenty, or without end.
async fn stream_to(mut upstream: Peer, ends: bool) {
    for n in 0.. {
        let chunk = [b"3e8\r\n".as_slice(), &noise(n, 1000), b"\r\n"].concat();
        if tokio::io::AsyncWriteExt::write_all(&mut upstream.stream, &chunk).await.is_err() {
            return;
        }
        if ends && n == 20 {
            upstream.send("0\r\n\r\n").await;
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_reload_sends_new_requests_elsewhere_and_lets_running_ones_end() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut old = rig.accept().await;
    old.message().await;
    old.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nfrom").await;
    client.head().await;
    assert_eq!(client.exactly(4).await, b"from");

    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", elsewhere.local_addr().unwrap());
    let mut config = GatewayConfig::new(base.parse().unwrap());
    config.providers.insert("local".into(), format!("{base}/llm").parse().unwrap());
    rig.handle.reload(&config).unwrap();

    let mut other = rig.client().await;
    other.send(POST.replace("/v1/", "/local/v1/")).await;
    let mut new = Peer::new(soon(elsewhere.accept()).await.unwrap().0);
    assert!(new.message().await.0.starts_with("POST /llm/v1/messages HTTP/1.1\r\n"));
    // Closed, because whether the next request finds this connection depends on the threads.
    new.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nnew").await;
    drop(new);
    assert_eq!(other.message().await.1, b"new");

    old.send(" old").await;
    assert_eq!(client.exactly(4).await, b" old", "what ran goes on where it began");
    // The same connection of the client; its next request goes the new way.
    client.send(POST).await;
    let mut new = Peer::new(soon(elsewhere.accept()).await.unwrap().0);
    assert!(new.message().await.0.starts_with("POST /v1/messages HTTP/1.1\r\n"));
    new.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nnew").await;
    assert_eq!(client.message().await.1, b"new");
    assert!(rig.exchanges().iter().all(|exchange| exchange.outcome() == Outcome::Complete));
}

#[tokio::test]
async fn a_reload_with_an_error_changes_nothing() {
    let rig = Rig::start().await;
    let mut config = GatewayConfig::new("http://elsewhere.invalid".parse().unwrap());
    config.tls.ca_file = Some("/nowhere/ca.pem".into());
    assert!(rig.handle.reload(&config).unwrap_err().to_string().contains("/nowhere/ca.pem"));
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.message().await.1, b"ok");
}
