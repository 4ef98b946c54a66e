//! Upstreams behind TLS: reached as they want to be, verified always, refused with a reason.

use kgb::gateway::{Gateway, GatewayConfig};
use kgb::{Recorder, RecorderConfig};
use winni::model::Outcome;

use crate::support::Rig;
use crate::tls_upstream::{Authority, Demands, LOCAL, serve};

const POST: &str = "POST /v1/messages HTTP/1.1\r\nHost: gateway.example\r\nContent-Length: 5\r\n\r\nhello";
const BOTH: Demands = Demands { name: LOCAL, alpn: &["h2", "http/1.1"], client_certificate: false };

/// What the client is answered, and the exchange's outcome.
async fn ask(change: impl FnOnce(&mut GatewayConfig)) -> (String, String, Outcome) {
    let rig = Rig::with(|_, gateway| change(gateway)).await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let (head, body) = client.message().await;
    (head, String::from_utf8(body).unwrap(), rig.ended().await.outcome())
}

#[tokio::test]
async fn an_upstream_that_is_particular_about_names_answers_in_each_protocol() {
    let authority = Authority::new();
    let kinds: [(&[&str], &str); 4] =
        [(&["h2", "http/1.1"], "HTTP/2.0"), (&["h2"], "HTTP/2.0"), (&["http/1.1"], "HTTP/1.1"), (&[], "HTTP/1.1")];
    for (alpn, protocol) in kinds {
        let address = serve(&authority, Demands { alpn, ..BOTH }).await;
        let (head, body, outcome) = ask(|gateway| {
            gateway.upstream = format!("https://{LOCAL}:{}", address.port()).parse().unwrap();
            gateway.tls.ca_file = Some(authority.file());
        })
        .await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{alpn:?}: {head}{body}");
        assert_eq!(body, format!("{protocol} hello"));
        assert_eq!(outcome, Outcome::Complete);
    }
}

/// The test's own test: the upstream does refuse who does not name it, as an address in the URL cannot be named.
#[tokio::test]
async fn an_upstream_that_is_not_named_refuses_and_its_answer_passes() {
    let authority = Authority::new();
    let address = serve(&authority, BOTH).await;
    let (head, body, outcome) = ask(|gateway| {
        gateway.upstream = format!("https://{address}").parse().unwrap();
        gateway.tls.ca_file = Some(authority.file());
    })
    .await;
    assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n") && !head.contains("x-iccm-error"), "{head}");
    assert_eq!((body.as_str(), outcome), ("error 1010", Outcome::Complete));
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_the_reason_says_what_to_do() {
    let (authority, other) = (Authority::new(), Authority::new());
    let address = serve(&authority, BOTH).await;
    for ca_file in [None, Some(other.file())] {
        let (head, body, outcome) = ask(|gateway| {
            gateway.upstream = format!("https://{LOCAL}:{}", address.port()).parse().unwrap();
            gateway.tls.ca_file = ca_file;
        })
        .await;
        assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
        assert!(head.contains("\r\nx-iccm-error: upstream_unreachable\r\n"), "{head}");
        assert!(body.contains("api_error") && body.contains("ICCM_UPSTREAM_CA_FILE"), "{body}");
        assert_eq!(outcome, Outcome::UpstreamUnreachable);
    }
}

#[tokio::test]
async fn an_upstream_that_does_not_speak_tls_is_told_from_one_that_cannot_be_reached() {
    let rig = Rig::with(|_, gateway| {
        gateway.upstream = gateway.upstream.as_str().replace("http:", "https:").parse().unwrap();
    })
    .await;
    let mut client = rig.client().await;
    client.send(POST).await;
    rig.accept().await.send("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{head}");
    assert!(String::from_utf8_lossy(&body).contains("use http://"));
}

#[tokio::test]
async fn an_upstream_that_demands_a_certificate_gets_it() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity("gateway.example");
    let address = serve(&authority, Demands { client_certificate: true, ..BOTH }).await;
    let upstream = format!("https://{LOCAL}:{}", address.port());
    let (head, body, _) = ask(|gateway| {
        gateway.upstream = upstream.parse().unwrap();
        gateway.tls.ca_file = Some(authority.file());
        gateway.tls.client_cert = Some(certificate);
        gateway.tls.client_key = Some(key);
    })
    .await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    assert_eq!(body, "HTTP/2.0 hello");

    // Without one nothing passes: the upstream ends the connection, and so do we.
    let rig = Rig::with(|_, gateway| {
        gateway.upstream = upstream.parse().unwrap();
        gateway.tls.ca_file = Some(authority.file());
    })
    .await;
    let mut client = rig.client().await;
    client.send(POST).await;
    let answer = client.rest().await.unwrap_or_default();
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert_ne!(rig.ended().await.outcome(), Outcome::Complete);
}

#[tokio::test]
async fn files_that_cannot_be_used_are_named_at_the_start() {
    let authority = Authority::new();
    let (certificate, key) = authority.identity("gateway.example");
    let (empty, missing) = (authority.write("empty.pem", "no certificate\n"), authority.file().with_extension("gone"));
    let broken = authority.write("broken.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    type Change = Box<dyn FnOnce(&mut GatewayConfig)>;
    let cases: Vec<(&str, Change)> = vec![
        ("empty.pem", Box::new(move |gateway| gateway.tls.ca_file = Some(empty))),
        ("ca.gone", Box::new(move |gateway| gateway.tls.ca_file = Some(missing))),
        ("broken.pem", Box::new(move |gateway| gateway.tls.ca_file = Some(broken))),
        ("upstream_client_key", {
            let certificate = certificate.clone();
            Box::new(move |gateway| gateway.tls.client_cert = Some(certificate))
        }),
        ("client.key", {
            Box::new(move |gateway| {
                gateway.tls.client_key = Some(certificate);
                gateway.tls.client_cert = Some(key);
            })
        }),
    ];
    for (named, change) in cases {
        let data = tempfile::tempdir().unwrap();
        let recorder = Recorder::start(RecorderConfig::new(data.path())).unwrap();
        let mut config = GatewayConfig::new("https://api.example".parse().unwrap());
        change(&mut config);
        let Err(error) = Gateway::bind("127.0.0.1:0".parse().unwrap(), config, recorder).await else {
            panic!("{named} was accepted");
        };
        assert!(error.to_string().contains(named), "{error}");
    }
}
