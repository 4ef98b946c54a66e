//! Upstreams behind a proxy: tunnels for TLS, absolute form without, and the proxy's password nowhere.

use kgb::gateway::{GatewayConfig, Proxies, probe};
use tokio::net::{TcpListener, TcpStream};
use winni::model::Outcome;

use crate::support::{Peer, Rig, files, soon};
use crate::tls_upstream::{Authority, Demands, serve};

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: 5\r\n\r\nhello";
/// A name that only the proxy can resolve.
const REMOTE: &str = "api.remote.test";
const PASSWORD: &str = "hunter2secret";

fn proxy_at(listener: &TcpListener) -> Option<String> {
    Some(format!("http://agent:{PASSWORD}@{}", listener.local_addr().unwrap()))
}

/// `agent:` and the password, as the proxy is shown them.
const CREDENTIALS: &str = "Basic YWdlbnQ6aHVudGVyMnNlY3JldA==";

#[track_caller]
fn assert_secret_stays(rig: &Rig) {
    for (path, bytes) in files(rig.data.path()) {
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains(PASSWORD) && !text.contains(CREDENTIALS), "{}", path.display());
    }
}

#[tokio::test]
async fn an_upstream_with_tls_is_reached_through_a_tunnel() {
    let authority = Authority::new();
    for alpn in [&["h2"], &["http/1.1"]] {
        let upstream = serve(&authority, Demands { name: REMOTE, alpn, client_certificate: false }).await;
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rig = Rig::with(|_, gateway| {
            gateway.upstream = format!("https://{REMOTE}:{}", upstream.port()).parse().unwrap();
            gateway.tls.ca_file = Some(authority.file());
            gateway.proxies = Proxies { https: proxy_at(&proxy), ..Proxies::default() };
        })
        .await;
        let mut client = rig.client().await;
        client.send(POST).await;
        let mut asked = Peer::new(soon(proxy.accept()).await.unwrap().0);
        let place = format!("{REMOTE}:{}", upstream.port());
        assert_eq!(
            asked.head().await,
            format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nProxy-Authorization: {CREDENTIALS}\r\n\r\n")
        );
        asked.send("HTTP/1.1 200 Connection established\r\n\r\n").await;
        let mut onward = TcpStream::connect(upstream).await.unwrap();
        let tunnel = tokio::spawn(async move { tokio::io::copy_bidirectional(&mut asked.stream, &mut onward).await });
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(body.ends_with(b" hello"));
        assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
        assert_secret_stays(&rig);
        tunnel.abort();
    }
}

/// What `iccm doctor` says of an upstream is what exchanges will meet.
#[tokio::test]
async fn a_probe_goes_the_way_of_the_exchanges() {
    let authority = Authority::new();
    let upstream = serve(&authority, Demands { name: REMOTE, alpn: &["http/1.1"], client_certificate: false }).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{REMOTE}:{}", upstream.port()).parse().unwrap();
    let mut config = GatewayConfig::new(url);
    config.proxies = Proxies { https: proxy_at(&proxy), ..Proxies::default() };
    let through = async |config: &GatewayConfig| {
        let tunnel = async {
            let mut asked = Peer::new(soon(proxy.accept()).await.unwrap().0);
            assert!(asked.head().await.contains(CREDENTIALS));
            asked.send("HTTP/1.1 200 Connection established\r\n\r\n").await;
            let mut onward = TcpStream::connect(upstream).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut asked.stream, &mut onward).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            answer = soon(probe(config)) => answer,
            () = tunnel => unreachable!(),
        }
    };
    let unknown = through(&config).await.unwrap_err();
    assert!(unknown.advice.contains("upstream_ca_file"), "{unknown}: {}", unknown.advice);
    config.tls.ca_file = Some(authority.file());
    assert!(through(&config).await.is_ok());
    drop(proxy);
    let unreachable = soon(probe(&config)).await.unwrap_err();
    assert!(unreachable.advice.contains("NO_PROXY") && !unreachable.why.contains(PASSWORD), "{unreachable}");
}

#[tokio::test]
async fn an_upstream_without_tls_is_asked_for_in_absolute_form() {
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let rig = Rig::with(|_, gateway| {
        gateway.upstream = format!("http://{REMOTE}:8000/base").parse().unwrap();
        gateway.proxies = Proxies { all: proxy_at(&proxy), ..Proxies::default() };
    })
    .await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut asked = Peer::new(soon(proxy.accept()).await.unwrap().0);
    let (head, body) = asked.message().await;
    let expected = format!(
        "POST http://{REMOTE}:8000/base/v1/messages HTTP/1.1\r\nHost: {REMOTE}:8000\r\nContent-Length: 5\r\n\
         proxy-authorization: {CREDENTIALS}\r\n\r\n"
    );
    assert_eq!((head, body), (expected, b"hello".to_vec()));
    asked.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.message().await.1, b"ok");
    assert_eq!(rig.ended().await.outcome(), Outcome::Complete);
    assert_secret_stays(&rig);
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    for answer in ["HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n"]
    {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let rig = Rig::with(|_, gateway| {
            gateway.upstream = format!("https://{REMOTE}").parse().unwrap();
            gateway.proxies = Proxies { https: proxy_at(&proxy), ..Proxies::default() };
        })
        .await;
        let mut client = rig.client().await;
        client.send(POST).await;
        let mut asked = Peer::new(soon(proxy.accept()).await.unwrap().0);
        assert!(asked.head().await.starts_with(&format!("CONNECT {REMOTE}:443 ")));
        asked.send(answer).await;
        let (head, body) = client.message().await;
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(&proxy.local_addr().unwrap().to_string()) && body.contains("NO_PROXY"), "{body}");
        assert!(!body.contains(PASSWORD), "{body}");
        assert_eq!(rig.ended().await.outcome(), Outcome::UpstreamUnreachable);
        assert_secret_stays(&rig);
    }
}

#[tokio::test]
async fn an_upstream_on_this_machine_is_reached_past_the_proxy() {
    // A proxy that is not there: whoever asks it fails.
    let proxies = Proxies { all: Some("http://proxy.invalid:1".into()), ..Proxies::default() };
    let rig = Rig::with(|_, gateway| gateway.proxies = proxies).await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let mut upstream = rig.accept().await;
    assert!(upstream.message().await.0.starts_with("POST /v1/messages HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    assert_eq!(client.message().await.1, b"ok");
}

#[tokio::test]
async fn a_proxy_of_another_kind_is_refused_by_its_variable() {
    let rig = Rig::with(|_, gateway| {
        gateway.upstream = format!("https://{REMOTE}").parse().unwrap();
        gateway.proxies = Proxies { all: Some(format!("socks5://agent:{PASSWORD}@127.0.0.1:1")), ..Proxies::default() };
    })
    .await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
    let body = String::from_utf8(body).unwrap();
    assert!(body.contains("ALL_PROXY") && !body.contains(PASSWORD), "{body}");
}
