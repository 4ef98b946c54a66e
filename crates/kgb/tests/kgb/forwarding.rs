//! What passes through the gateway, passes unchanged, and is on record.

use crate::support::{KEY, Rig, files, noise, soon};
use winni::model::{Durability, Outcome};

#[tokio::test]
async fn a_request_reaches_the_upstream_as_it_was_sent() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let body = noise(1, 70_000);
    let head = format!(
        "POST /v1/messages?beta=true&x=%2F..%2f HTTP/1.1\r\nHost: gateway.example\r\nX-Api-Key: {KEY}\r\n\
         Accept: a\r\nX-CamelCase: MixedCase  value\r\naccept: b\r\nContent-Length: 70000\r\nUser-Agent: test\r\n\r\n"
    );
    client.send(&head).await;
    client.send(&body).await;

    let mut upstream = rig.accept().await;
    let (seen, seen_body) = upstream.message().await;
    // Repeated names stand together, as HTTP allows; nothing else is moved, added or changed but the host.
    let expected = format!(
        "POST /v1/messages?beta=true&x=%2F..%2f HTTP/1.1\r\nHost: {}\r\nX-Api-Key: {KEY}\r\nAccept: a\r\naccept: b\r\n\
         X-CamelCase: MixedCase  value\r\nContent-Length: 70000\r\nUser-Agent: test\r\n\r\n",
        rig.upstream_host()
    );
    assert_eq!(seen, expected);
    assert!(seen_body == body);

    upstream.send("HTTP/1.1 204 No Content\r\nX-Req: 1\r\n\r\n").await;
    let answer = client.head().await;
    let exchange = rig.ended().await;
    assert_eq!(
        answer,
        format!("HTTP/1.1 204 No Content\r\nX-Req: 1\r\nx-iccm-exchange-id: {}\r\n\r\n", exchange.begin.id)
    );
    assert!(exchange.request_body == body);
    assert_eq!(exchange.outcome(), Outcome::Complete);
    assert_eq!(exchange.begin.upstream, format!("http://{}", rig.upstream_host()));
    assert_eq!(exchange.begin.durability, Durability::Process);
    assert!(exchange.request_head().starts_with("POST /v1/messages?beta=true&x=%2F..%2f HTTP/1.1\r\n"));
    assert!(exchange.request_head().to_lowercase().contains("host: gateway.example\r\n"));
}

#[tokio::test]
async fn a_response_with_a_length_passes_byte_for_byte() {
    for length in [0, 1, 1000, 300_000] {
        let rig = Rig::start().await;
        let mut client = rig.client().await;
        client.send("GET /x HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let mut upstream = rig.accept().await;
        assert_eq!(upstream.head().await, format!("GET /x HTTP/1.1\r\nhost: {}\r\n\r\n", rig.upstream_host()));
        let body = noise(length as u64, length);
        upstream
            .send(format!(
                "HTTP/1.1 529 Overloaded Now\r\nContent-Length: {length}\r\nRetry-After: 3\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\
                 Content-Encoding: gzip\r\n\r\n"
            ))
            .await;
        upstream.send(&body).await;
        let (head, seen) = client.message().await;
        let exchange = rig.ended().await;
        let lines: Vec<_> = head.lines().collect();
        assert_eq!(lines[0], "HTTP/1.1 529 Overloaded Now");
        let id = format!("x-iccm-exchange-id: {}", exchange.begin.id);
        let length_line = format!("Content-Length: {length}");
        let mut headers = lines[1..lines.len() - 1].to_vec();
        headers.sort_unstable();
        assert_eq!(headers, ["Content-Encoding: gzip", length_line.as_str(), "Retry-After: 3", id.as_str()]);
        assert!(seen == body && exchange.response_body == body);
        assert_eq!(exchange.outcome(), Outcome::Complete);
        assert!(exchange.response_head.unwrap().starts_with("HTTP/1.1 529\r\n"));
    }
}

#[tokio::test]
async fn chunked_bodies_stay_chunked_in_both_directions() {
    let rig = Rig::start().await;
    for method in ["POST", "GET"] {
        let mut client = rig.client().await;
        client
            .send(format!("{method} / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"))
            .await;
        let mut upstream = rig.accept().await;
        let head = upstream.head().await;
        assert_eq!(
            head,
            format!("{method} / HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\n", rig.upstream_host())
        );
        assert_eq!(upstream.chunk().await, b"hello");
        client.send("6\r\n world\r\n0\r\n\r\n").await;
        assert_eq!(upstream.chunks().await, b" world");
        upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        assert!(client.head().await.contains("\r\nTransfer-Encoding: chunked\r\n"));
        assert_eq!(client.chunk().await, b"abc");
        upstream.send("2\r\nde\r\n0\r\n\r\n").await;
        assert_eq!(client.chunks().await, b"de");
    }
    for exchange in rig.exchanges() {
        assert_eq!(exchange.request_body, b"hello world");
        assert_eq!(exchange.response_body, b"abcde");
        assert_eq!(exchange.outcome(), Outcome::Complete);
    }
}

#[tokio::test]
async fn empty_chunked_bodies_stay_chunked() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    let mut upstream = rig.accept().await;
    assert!(upstream.head().await.contains("Transfer-Encoding: chunked"));
    assert_eq!(upstream.chunk().await, b"");
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert!(client.head().await.contains("Transfer-Encoding: chunked"));
    assert_eq!(client.chunk().await, b"");
    assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
}

#[tokio::test]
async fn a_response_that_ends_with_its_connection_arrives_whole() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    let body = noise(5, 100_000);
    upstream.send("HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\n").await;
    upstream.send(&body).await;
    drop(upstream);
    let (head, seen) = client.message().await;
    assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
    assert!(seen == body);
    let exchange = rig.ended().await;
    assert!(exchange.response_body == body);
    assert_eq!(exchange.outcome(), Outcome::Complete);
}

#[tokio::test]
async fn head_and_not_modified_have_no_body_and_end_at_once() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("HEAD /api/hello HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n").await;
    assert!(client.head().await.contains("Content-Length: 77\r\n"));
    client.send("GET /etag HTTP/1.1\r\nHost: h\r\n\r\n").await;
    upstream.head().await;
    upstream.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n"));
    let exchanges = rig.exchanges();
    assert_eq!(exchanges.len(), 2);
    assert!(exchanges.iter().all(|exchange| exchange.outcome() == Outcome::Complete));
    assert!(exchanges.iter().all(|exchange| exchange.response_body.is_empty()));
}

#[tokio::test]
async fn each_chunk_arrives_before_the_upstream_sends_the_next() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST /v1/messages HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    // The head has to arrive before there is any body.
    client.head().await;
    for n in 0..100 {
        let event = format!("event: ping\ndata: {{\"n\": {n}}}\n\n");
        upstream.send(format!("{:x}\r\n{event}\r\n", event.len())).await;
        assert_eq!(client.chunk().await, event.as_bytes());
        let on_record = rig.exchanges().remove(0);
        assert!(on_record.response_body.ends_with(event.as_bytes()), "recorded before it is delivered");
        assert_eq!(on_record.chunks.len(), n + 1);
        assert!(on_record.end.is_none());
    }
    upstream.send("0\r\n\r\n").await;
    assert_eq!(client.chunk().await, b"");
    assert_eq!(rig.exchanges()[0].outcome(), Outcome::Complete);
}

#[tokio::test]
async fn connections_are_reused_on_both_sides() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let mut upstream = None;
    for n in 0..20 {
        let body = noise(n, 3000);
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3000\r\n\r\n").await;
        client.send(&body).await;
        let peer = match &mut upstream {
            None => upstream.insert(rig.accept().await),
            Some(peer) => peer,
        };
        assert!(peer.message().await.1 == body);
        peer.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").await;
        assert_eq!(client.message().await.1, b"fine");
    }
    assert_eq!(rig.exchanges().len(), 20);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client
        .send("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nGET /3 HTTP/1.1\r\nHost: h\r\n\r\n")
        .await;
    let mut upstream = rig.accept().await;
    for n in 1..=3 {
        assert!(upstream.head().await.starts_with(&format!("GET /{n} ")));
        upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{n}")).await;
    }
    for n in 1..=3 {
        assert_eq!(client.message().await.1, n.to_string().as_bytes());
    }
}

#[tokio::test]
async fn a_providers_prefix_is_removed_and_a_base_path_kept() {
    let provider = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = provider.local_addr().unwrap();
    let rig = Rig::with(|_, gateway| {
        let base = format!("http://{address}/base").parse().unwrap();
        gateway.providers.insert("openai".into(), base);
    })
    .await;
    let mut client = rig.client().await;
    client.send("GET /openai/v1/models?limit=3 HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let (stream, _) = soon(provider.accept()).await.unwrap();
    let mut seen = vec![0; 1024];
    let read = soon(tokio::io::AsyncReadExt::read(&mut { stream }, &mut seen)).await.unwrap();
    assert_eq!(
        String::from_utf8_lossy(&seen[..read]),
        format!("GET /base/v1/models?limit=3 HTTP/1.1\r\nHost: {address}\r\n\r\n")
    );
    assert!(rig.exchanges()[0].request_head().starts_with("GET /openai/v1/models?limit=3 "));
    assert_eq!(rig.exchanges()[0].begin.upstream, format!("http://{address}/base"));
}

#[tokio::test]
async fn no_credential_reaches_the_disk_or_the_metrics() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client
        .send(format!(
            "GET /v1?key={KEY}&a=b HTTP/1.1\r\nHost: h\r\nX-Api-Key: {KEY}\r\nAuthorization: Bearer {KEY}\r\nCookie: s={KEY}\r\n\r\n"
        ))
        .await;
    let mut upstream = rig.accept().await;
    assert_eq!(upstream.head().await.matches(KEY).count(), 4, "the upstream needs them");
    upstream.send(format!("HTTP/1.1 200 OK\r\nSet-Cookie: s={KEY}\r\nContent-Length: 2\r\n\r\nok")).await;
    assert!(client.message().await.0.contains(&format!("Set-Cookie: s={KEY}")));
    let exchange = rig.ended().await;
    assert_eq!(exchange.begin.key_fingerprint.as_ref().map(String::len), Some(16));
    assert!(exchange.request_head().contains("&a=b"));
    for (path, bytes) in files(rig.data.path()) {
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
    }
    assert!(!rig.recorder.render_metrics().contains(KEY));
}

/// Copies the spool at the very moment at which the last byte has arrived: what `kill -9` would leave.
#[tokio::test]
async fn the_end_is_on_record_before_the_last_byte_arrives() {
    let rig = Rig::start().await;
    for n in 0..50 {
        let mut client = rig.client().await;
        client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}").await;
        let mut upstream = rig.accept().await;
        upstream.message().await;
        let body = noise(n, 20_000);
        if n % 2 == 0 {
            upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n").await;
            upstream.send(&body).await;
        } else {
            upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4e20\r\n").await;
            upstream.send(&body).await;
            upstream.send("\r\n0\r\n\r\n").await;
        }
        assert!(client.message().await.1 == body);
        let copy = tempfile::tempdir().unwrap();
        for (path, bytes) in files(rig.recorder.spool().dir()) {
            std::fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let exchange = crate::support::recorded(copy.path()).0.pop().unwrap();
        assert_eq!(exchange.outcome(), Outcome::Complete);
        assert!(exchange.response_body == body);
    }
}

#[tokio::test]
async fn at_level_power_nothing_ends_before_it_is_synced() {
    let rig = Rig::with(|recorder, _| recorder.durability = Durability::Power).await;
    for n in 0..20 {
        let mut client = rig.client().await;
        client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
        client.send("0\r\n\r\n").await;
        let mut upstream = rig.accept().await;
        upstream.message().await;
        let synced = rig.recorder.spool().synced();
        let request_end = rig.recorder.spool().written();
        assert!(synced >= request_end, "the request's end was forwarded at {synced}, written is {request_end}");
        match n % 3 {
            0 => upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz").await,
            1 => upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n").await,
            _ => upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await,
        }
        client.message().await;
        assert!(rig.recorder.spool().synced() >= rig.recorder.spool().written());
        let exchange = rig.exchanges().pop().unwrap();
        assert_eq!(exchange.begin.durability, Durability::Power);
        assert_eq!(exchange.outcome(), Outcome::Complete);
    }
}

#[tokio::test]
async fn the_gateways_own_paths_answer_and_are_not_recorded() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    for (path, expected) in
        [("/health", "\"healthy\""), ("/ready", "\"ready\""), ("/metrics", "iccm_active_exchanges 0")]
    {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(String::from_utf8_lossy(&body).contains(expected), "{path}: {}", String::from_utf8_lossy(&body));
    }
    assert!(rig.exchanges().is_empty());
    // Anything else on these paths belongs to the upstream.
    client.send("POST /health HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    assert!(rig.accept().await.head().await.starts_with("POST /health "));
}

#[tokio::test]
async fn trailers_pass_and_are_sanitised_on_record() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTE: trailers\r\nConnection: TE\r\nContent-Length: 0\r\n\r\n").await;
    let mut upstream = rig.accept().await;
    upstream.head().await;
    upstream
        .send(format!(
            "HTTP/1.1 200 OK\r\nTrailer: x-sum, x-api-key\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\n0\r\nx-sum: 1\r\nx-api-key: {KEY}\r\n\r\n"
        ))
        .await;
    client.head().await;
    assert_eq!(client.chunk().await, b"abc");
    let end = String::from_utf8(client.until_blank_line().await).unwrap();
    assert_eq!(end.to_lowercase(), format!("0\r\nx-sum: 1\r\nx-api-key: {KEY}\r\n\r\n"));
    assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
    for (path, bytes) in files(rig.data.path()) {
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
    }
}

/// A client that asks first is told to go on, and an upstream's own word for it is not passed on a second time.
#[tokio::test]
async fn a_client_that_waits_for_100_continue_gets_it_once() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(client.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("hello").await;
    let mut upstream = rig.accept().await;
    let (head, body) = upstream.message().await;
    assert!(head.contains("\r\nExpect: 100-continue\r\n") && body == b"hello");
    upstream.send("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && body == b"ok");
    let exchange = rig.ended().await;
    assert_eq!((exchange.request_body.as_slice(), exchange.outcome()), (&b"hello"[..], Outcome::Complete));
}
