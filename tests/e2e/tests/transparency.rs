//! What passes through the gateway passes unchanged, both ways, whatever it is; and no credential is ever written down.

use e2e::http::Ending;
use e2e::raw_client::{Connection, Request, exchange};
use e2e::recorder::Place;
use e2e::stage::{Stage, assert_same, scripted};
use e2e::{DUMMY_KEY, fake_api::FakeApi, sha256};
use serde_json::Value;

/// The fields that name the connection's other end; a proxy has to write its own.
const OF_THE_CONNECTION: [&str; 2] = ["host", "connection"];

fn end_to_end(fields: &[(String, String)]) -> Vec<(String, String)> {
    let passes = |name: &str| !OF_THE_CONNECTION.iter().any(|own| name.eq_ignore_ascii_case(own));
    fields.iter().filter(|(name, _)| passes(name)).cloned().collect()
}

#[test]
fn a_requests_head_arrives_as_it_was_sent() {
    let stage = Stage::new();
    let request = scripted("head", "hello", true)
        .field("X-Stainless-Retry-Count", "0")
        .field("x-lower-CASE", "Value with  two spaces")
        .field("anthropic-beta", "one,two")
        .field("Anthropic-Beta", "three")
        .field("Accept-Encoding", "gzip, deflate, br, zstd")
        .field("User-Agent", "claude-cli/2.1.330 (external, sdk-cli)")
        .field("x-utf8", "Gr\u{fc}\u{df}e");
    let (direct, through) = stage.both(&request);
    assert_same("head", &direct, &through);
    let (direct, behind) = (&stage.direct.log()[0], &stage.behind.log()[0]);
    assert_eq!(end_to_end(&behind.request_fields), end_to_end(&direct.request_fields), "names, values, order and case");
    assert_eq!(
        (&behind.method, &behind.target, &behind.request_body),
        (&direct.method, &direct.target, &direct.request_body)
    );
}

#[test]
fn any_method_and_any_target_pass() {
    let stage = Stage::new();
    let cases = [
        ("HEAD", "/"),
        ("HEAD", "/api/hello"),
        ("GET", "/v1/models?limit=1000"),
        ("GET", "/"),
        ("GET", "/v1/x?a=%2F&b=;c&&d==&e=%zz"),
        ("GET", "/a//b/../c/./d%20e?"),
        ("POST", "/v1/messages/count_tokens?beta=true"),
        ("DELETE", "/v1/files/file_1"),
        ("OPTIONS", "/v1/messages"),
        ("PROPFIND", "/x"),
    ];
    for (method, target) in cases {
        let request = Request::new(method, target).field("X-Api-Key", DUMMY_KEY);
        let (direct, through) = stage.both(&request);
        assert_same(&format!("{method} {target}"), &direct, &through);
    }
    let seen = |api: &FakeApi| api.log().iter().map(|e| (e.method.clone(), e.target.clone())).collect::<Vec<_>>();
    assert_eq!(seen(&stage.behind), seen(&stage.direct));
    let recorded = stage.place.drained(cases.len());
    let found: Vec<_> = recorded.iter().map(|e| (e["method"].as_str().unwrap(), e["path"].as_str().unwrap())).collect();
    assert_eq!(found, cases, "every probe is on record, its target as it was sent");
}

#[test]
fn large_bodies_pass_and_are_recorded_whole_both_ways() {
    let stage = Stage::new();
    let body: Vec<u8> = (0..24_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (case, chunked) in [("sized", false), ("chunked", true)] {
        let mut request = Request::new("POST", &format!("/echo?case={case}")).body(body.clone());
        if chunked {
            request.body = body.chunks(100_000).flat_map(chunk).chain(*b"0\r\n\r\n").collect();
            request = request.field("Transfer-Encoding", "chunked");
        }
        let seen = exchange(stage.recorder.address(), &request);
        assert_eq!(
            (seen.status(), &seen.ending, seen.body.len()),
            (Some(200), &Ending::Complete, body.len()),
            "{case}"
        );
        assert!(seen.body == body, "{case}: the echo is what was sent");
        let recorded = stage.place.recorded(&format!("case={case}"));
        let id = recorded["id"].as_str().unwrap();
        for part in ["request-body", "response-body"] {
            assert_eq!(sha256(&stage.place.part(id, part)), sha256(&body), "{case}: {part}");
        }
    }
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

#[test]
fn whole_and_compressed_answers_pass_as_they_are() {
    let stage = Stage::new();
    for (case, stream, encoding) in [("whole", false, ""), ("gzip-stream", true, "gzip"), ("gzip-whole", false, "gzip")]
    {
        let request = scripted(case, "think", stream).field("x-fake-encoding", encoding);
        let (direct, through) = stage.both(&request);
        assert_same(case, &direct, &through);
        assert_eq!(direct.get("content-encoding").unwrap_or_default(), encoding);
        let recorded = stage.place.recorded(&format!("case={case}"));
        assert_eq!(stage.place.part(recorded["id"].as_str().unwrap(), "response-body"), direct.body, "{case}");
        assert_eq!(recorded["model"], "claude-opus-5-5", "{case}: read in clear: {recorded}");
        assert!(recorded["output_tokens"].as_u64().is_some_and(|n| n > 0), "{case}: {recorded}");
        assert_eq!(recorded["streaming"], stream, "{case}");
    }
}

#[test]
fn requests_follow_each_other_on_one_connection() {
    let stage = Stage::new();
    let mut connection = Connection::open(stage.recorder.address()).unwrap();
    for n in 0..20 {
        connection.request(&scripted(&format!("kept-{n}."), "hello", n % 2 == 0)).unwrap();
        assert_eq!(connection.response("POST").ending, Ending::Complete, "request {n}");
    }
    let connections = stage.behind.log().iter().map(|entry| entry.connection).max().unwrap() + 1;
    assert!(connections < 20, "the gateway keeps its connections to the upstream: {connections} for 20 requests");
    assert_eq!(stage.place.drained(20).len(), 20);
}

#[test]
fn a_client_that_waits_for_100_continue_gets_through() {
    let stage = Stage::new();
    let request = scripted("expect", "hello", false).field("Expect", "100-continue");
    let head = Request { body: Vec::new(), ..request.clone() }.field("Content-Length", &request.body.len().to_string());
    let mut connection = Connection::open(stage.recorder.address()).unwrap();
    connection.request(&head).unwrap();
    let interim = connection.response("POST");
    assert_eq!(interim.status(), Some(100), "{interim:?}");
    connection.send(&request.body).unwrap();
    let seen = connection.response("POST");
    assert_eq!((seen.status(), seen.ending), (Some(200), Ending::Complete));
    assert_eq!(stage.behind.log()[0].request_body, request.body);
}

#[test]
fn a_provider_prefix_goes_to_that_provider_without_the_prefix() {
    let (anthropic, openai) = (FakeApi::start(), FakeApi::start());
    let place = Place::new().with_variable("ICCM_PROVIDERS_OPENAI_UPSTREAM", &openai.url());
    let recorder = place.kgb(&anthropic.url());
    let request = Request::new("POST", "/openai/v1/chat/completions?x=1").body(r#"{"model":"gpt-5"}"#);
    exchange(recorder.address(), &request);
    exchange(recorder.address(), &Request::new("GET", "/openaiish/v1/models"));
    assert_eq!(openai.log()[0].target, "/v1/chat/completions?x=1");
    assert_eq!(anthropic.log()[0].target, "/openaiish/v1/models");
    let recorded = place.recorded("chat/completions");
    assert_eq!(recorded["upstream"].as_str().unwrap().trim_end_matches('/'), openai.url(), "{recorded}");
}

#[test]
fn the_gateways_own_paths_answer_for_themselves_and_are_not_recorded() {
    let stage = Stage::new();
    let health = exchange(stage.recorder.address(), &Request::new("GET", "/health"));
    let body: Value = serde_json::from_slice(&health.body).unwrap();
    assert_eq!((health.status(), &body["status"]), (Some(200), &Value::from("healthy")));
    assert_eq!(exchange(stage.recorder.address(), &Request::new("GET", "/ready")).status(), Some(200));
    assert_eq!(exchange(stage.recorder.address(), &Request::new("GET", "/metrics")).status(), Some(200));
    exchange(stage.recorder.address(), &scripted("recorded", "hello", true));
    let exchanges = stage.place.drained(1);
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    assert_eq!(stage.behind.log().len(), 1, "none of them reached the upstream");
}

#[test]
fn no_credential_is_in_any_file_and_the_same_key_has_the_same_fingerprint() {
    let stage = Stage::new();
    let secrets =
        ["sk-ant-test-000", "bearer-secret-1", "cookie-secret-2", "goog-secret-3", "query-secret-4", "proxy-secret-5"];
    let plain = |case: &str| {
        let mut request = scripted(case, "hello", true);
        request.fields.retain(|(name, _)| !name.eq_ignore_ascii_case("x-api-key"));
        request
    };
    let requests = [
        plain("a").field("X-Api-Key", secrets[0]),
        plain("b").field("Authorization", &format!("Bearer {}", secrets[0])),
        plain("c")
            .field("authorization", &format!("Bearer {}", secrets[1]))
            .field("Cookie", &format!("s={}", secrets[2])),
        plain("d").field("x-goog-api-key", secrets[3]).field("Proxy-Authorization", &format!("Basic {}", secrets[5])),
        Request { target: format!("/v1/models?case=e&key={}&x=1", secrets[4]), ..Request::new("GET", "") },
    ];
    for request in &requests {
        let seen = exchange(stage.recorder.address(), request);
        assert_eq!(seen.ending, Ending::Complete);
    }
    let sent = stage.behind.log();
    assert!(sent[4].target.contains(secrets[4]), "the upstream gets what was sent");
    assert_eq!(sent[1].request_field("authorization"), Some(&*format!("Bearer {}", secrets[0])));
    let nowhere = |when: &str| {
        for secret in secrets {
            let files = stage.place.files_with(secret.as_bytes());
            assert!(files.is_empty(), "{when}: {secret} stands in {files:?}");
        }
    };
    nowhere("in the spool");
    let recorded = stage.place.drained(requests.len());
    for exchange in &recorded {
        let head = stage.place.part(exchange["id"].as_str().unwrap(), "request-head");
        let head = String::from_utf8_lossy(&head).into_owned() + exchange["path"].as_str().unwrap();
        assert!(secrets.iter().all(|secret| !head.contains(secret)), "{head}");
    }
    nowhere("in the database");
    assert!(secrets.iter().all(|secret| !stage.recorder.stderr().contains(secret)), "{}", stage.recorder.stderr());
    let fingerprint = |i: usize| recorded[i]["key_fingerprint"].as_str().unwrap_or_else(|| panic!("{}", recorded[i]));
    assert_eq!(fingerprint(0), fingerprint(1), "one key, as x-api-key and as a bearer");
    assert_ne!(fingerprint(0), fingerprint(2));
    assert_ne!(fingerprint(3), fingerprint(4));
}
