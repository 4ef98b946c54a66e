//! A credential that the gateway keeps: clients send a word in its place.

use kgb::gateway::{GatewayConfig, PLACEHOLDER};

use crate::support::{KEY, Rig, files};

/// A rig whose gateway keeps [`KEY`], and whose provider `other` is the same upstream.
async fn rig(key: &tempfile::NamedTempFile) -> Rig {
    std::fs::write(key.path(), format!("{KEY}\n")).unwrap();
    Rig::with(|_, config: &mut GatewayConfig| {
        config.credential_file = Some(key.path().to_owned());
        config.providers.insert("other".into(), config.upstream.clone());
    })
    .await
}

#[tokio::test]
async fn the_upstream_gets_the_gateways_credential_and_the_record_its_fingerprint() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rig = rig(&file).await;
    let mut fingerprints = Vec::new();
    for (sent, gets) in [
        (format!("X-Api-Key: {PLACEHOLDER}"), format!("X-Api-Key: {KEY}\r\n")),
        (format!("Authorization: Bearer {PLACEHOLDER}"), format!("Authorization: Bearer {KEY}\r\n")),
        (format!("X-Api-Key: {KEY}"), format!("X-Api-Key: {KEY}\r\n")),
    ] {
        let mut client = rig.client().await;
        client.send(format!("GET /v1 HTTP/1.1\r\nHost: h\r\n{sent}\r\nAccept: a\r\n\r\n")).await;
        let mut upstream = rig.accept().await;
        let head = upstream.head().await;
        assert!(head.contains(&format!("{gets}Accept: a\r\n")), "{head}");
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
        let (head, _) = client.message().await;
        assert!(!head.contains(KEY), "{head}");
        let exchange = rig.all_ended(fingerprints.len() + 1).await.pop().unwrap();
        assert!(!exchange.request_head().contains(PLACEHOLDER), "{}", exchange.request_head());
        fingerprints.push(exchange.begin.key_fingerprint.unwrap());
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1, "whose key it is can be told, whoever sent it");
    for (path, bytes) in files(rig.data.path()) {
        assert!(!bytes.windows(KEY.len()).any(|window| window == KEY.as_bytes()), "{}", path.display());
    }
    assert!(!rig.recorder.render_metrics().contains(KEY));
}

#[tokio::test]
async fn no_other_upstream_gets_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let rig = rig(&file).await;
    let mut client = rig.client().await;
    client.send(format!("GET /other/v1 HTTP/1.1\r\nHost: h\r\nX-Api-Key: {PLACEHOLDER}\r\n\r\n")).await;
    let head = rig.accept().await.head().await;
    assert!(head.contains(PLACEHOLDER) && !head.contains(KEY), "{head}");
}
