use proptest::prelude::*;

use super::*;

const KEY: &str = "sk-ant-test-000";

fn redactor() -> Redactor {
    Redactor::new([7; 32])
}

fn fingerprint() -> Fingerprint {
    redactor().fingerprint(KEY.as_bytes())
}

#[test]
fn a_credential_among_subprotocols_is_replaced_and_the_others_stay() {
    let redactor = Redactor::new([7; 32]);
    let clean = |value: &str| {
        redactor.header("Sec-WebSocket-Protocol", value.as_bytes()).map(|clean| String::from_utf8(clean).unwrap())
    };
    let secret = redactor.fingerprint(b"sk-1.x");
    assert_eq!(
        clean("realtime, openai-insecure-api-key.sk-1.x, mcp"),
        Some(format!("realtime, openai-insecure-api-key.[redacted-{secret}], mcp"))
    );
    assert_eq!(clean("mcp, graphql-ws"), None);
    assert_eq!(clean("openai-beta.realtime-v1"), None);
}

#[test]
fn a_fingerprint_is_sixteen_lower_case_hex_digits_and_depends_on_the_key() {
    let text = fingerprint().to_string();
    assert_eq!(text.len(), 16);
    assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
    assert_ne!(Redactor::new([8; 32]).fingerprint(KEY.as_bytes()), fingerprint());
}

#[test]
fn debug_output_shows_no_key() {
    assert_eq!(format!("{:?}", redactor()), "Redactor");
}

#[test]
fn the_same_secret_has_one_fingerprint_wherever_it_stands() {
    let redactor = redactor();
    let expected = format!("[redacted {}]", fingerprint());
    assert_eq!(redactor.header("X-Api-Key", KEY.as_bytes()), Some(expected.clone().into_bytes()));
    let bearer = redactor.header("Authorization", format!("bearer  {KEY} ").as_bytes());
    assert_eq!(bearer, Some(format!("bearer  {expected}").into_bytes()));
    assert_eq!(redactor.target(&format!("/v1?key={KEY}")), format!("/v1?key=[redacted-{}]", fingerprint()));
    let escaped = redactor.target("/v1?%6bEY=sk%2Dant-test-000").into_owned();
    assert_eq!(escaped, format!("/v1?%6bEY=[redacted-{}]", fingerprint()));
}

#[test]
fn an_unknown_scheme_is_taken_for_part_of_the_secret() {
    let value = redactor().header("authorization", b"hunter2 and more").unwrap();
    assert!(value.starts_with(b"[redacted "));
}

#[test]
fn every_known_credential_header_is_replaced() {
    let names = "x-api-key authorization proxy-authorization cookie set-cookie x-goog-api-key api-key \
                 x-amz-security-token ocp-apim-subscription-key Helicone-Auth cf-aig-authorization X-Auth-Token";
    for name in names.split_whitespace() {
        let value = redactor().header(name, KEY.as_bytes()).unwrap();
        assert_eq!(value, format!("[redacted {}]", fingerprint()).into_bytes(), "{name}");
    }
}

#[test]
fn ordinary_headers_stand_as_they_are() {
    let names = "content-type user-agent anthropic-version x-claude-code-session-id request-id sec-websocket-key \
                 idempotency-key anthropic-ratelimit-tokens-remaining accept host";
    for name in names.split_whitespace() {
        assert_eq!(redactor().header(name, b"a?key=b"), None, "{name}");
    }
}

#[test]
fn urls_in_headers_lose_only_their_credentials() {
    let value = redactor().header("Location", b"https://u:p@host/x?a=1&access_token=t#id_token=u").unwrap();
    let value = String::from_utf8(value).unwrap();
    let print = |secret: &str| redactor().fingerprint(secret.as_bytes());
    let expected = format!(
        "https://[redacted-{}]@host/x?a=1&access_token=[redacted-{}]#id_token=[redacted-{}]",
        print("u:p"),
        print("t"),
        print("u")
    );
    assert_eq!(value, expected);
    assert_eq!(redactor().header("Location", b"/login?next=%2F"), None);
}

#[test]
fn a_target_without_credentials_is_borrowed() {
    for target in ["/v1/messages?beta=true", "/", "*", "", "/key=x", "/v1?pageToken=3&monkey=1&key", "/a@b://c"] {
        assert!(matches!(redactor().target(target), Cow::Borrowed(same) if same == target), "{target}");
    }
}

#[test]
fn the_main_credential_is_chosen_by_rank_and_not_by_order() {
    let redactor = redactor();
    let print = |secret: &str| Some(redactor.fingerprint(secret.as_bytes()));
    let main = |target: &str, headers: &[(&str, &str)]| {
        redactor.main_credential(target, headers.iter().map(|(name, value)| (*name, value.as_bytes())))
    };
    assert_eq!(main("/?key=q", &[("api-key", "d"), ("Authorization", "Bearer b"), ("X-Api-Key", "a")]), print("a"));
    assert_eq!(main("/?key=q", &[("api-key", "d"), ("Authorization", "Bearer b"), ("X-Api-Key", "")]), print("b"));
    assert_eq!(main("/?key=q", &[("api-key", "d"), ("x-goog-api-key", "c")]), print("c"));
    assert_eq!(main("/?a=1&key=q", &[("cookie", "c")]), print("q"));
    assert_eq!(main("/", &[("cookie", "c")]), None);
}

proptest! {
    #[test]
    fn no_secret_survives_in_a_header(secret in "[!-~]{8,40}", scheme in "(Bearer |basic |)") {
        for name in ["authorization", "cookie", "x-api-key"] {
            let value = redactor().header(name, format!("{scheme}{secret}").as_bytes()).unwrap();
            prop_assert!(memchr::memmem::find(&value, secret.as_bytes()).is_none());
        }
    }

    #[test]
    fn no_secret_survives_in_a_query(secret in "[a-z0-9_-]{20,40}", before in "[a-z=&]{0,12}", after in "[a-z=&]{0,12}") {
        let target = format!("/v1?{before}&api_key={secret}&{after}");
        let redacted = redactor().target(&target).into_owned();
        prop_assert!(!redacted.contains(&secret));
        prop_assert!(redacted.starts_with("/v1?"));
    }

    #[test]
    fn any_bytes_are_taken(name in ".{0,20}", value in proptest::collection::vec(any::<u8>(), 0..60), target in ".{0,60}") {
        redactor().header(&name, &value);
        redactor().header("location", &value);
        redactor().header("authorization", &value);
        let redacted = redactor().target(&target).into_owned();
        prop_assert_eq!(redactor().main_credential(&target, std::iter::empty()).is_some() && redacted == target, false);
    }
}
