use proptest::prelude::*;

use super::*;

fn request() -> RequestHead {
    let field = |name: &str, value: &[u8]| (name.to_owned(), value.to_vec());
    RequestHead {
        method: "POST".into(),
        target: "/v1/messages?beta=true".into(),
        version: "HTTP/1.1".into(),
        headers: Headers(vec![
            field("Host", b"api.example.com"),
            field("X-Empty", b""),
            field("x-odd", b"a: b \xff"),
            field("X-Odd", b"second"),
        ]),
    }
}

#[test]
fn a_request_head_is_recorded_as_http_text() {
    let expected = b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: api.example.com\r\nX-Empty: \r\nx-odd: a: b \xff\r\nX-Odd: second\r\n";
    assert_eq!(request().encode(), expected);
    assert_eq!(RequestHead::decode(expected), Ok(request()));
    assert_eq!(request().header_lines(), b"Host: api.example.com\nX-Empty: \nx-odd: a: b \xff\nX-Odd: second\n");
}

#[test]
fn a_response_head_is_recorded_as_http_text() {
    let head = ResponseHead { status: 529, version: "HTTP/2.0".into(), headers: request().headers };
    assert!(head.encode().starts_with(b"HTTP/2.0 529\r\nHost: "));
    assert_eq!(ResponseHead::decode(&head.encode()), Ok(head.clone()));
    assert_eq!(head.header_lines(), request().header_lines());
}

#[test]
fn names_are_found_in_any_case_and_the_first_one_wins() {
    let headers = request().headers;
    assert_eq!(headers.get("HOST"), Some("api.example.com"));
    assert_eq!(headers.get("x-empty"), Some(""));
    assert_eq!(headers.get("X-Odd"), None, "the first one is not UTF-8");
    assert_eq!(headers.get("absent"), None);
    assert_eq!(headers.iter().count(), 4);
}

#[test]
fn damaged_heads_are_refused_by_name() {
    assert_eq!(RequestHead::decode(b""), Err(HeadError::Unterminated));
    assert_eq!(RequestHead::decode(b"GET / HTTP/1.1"), Err(HeadError::Unterminated));
    assert_eq!(RequestHead::decode(b"GET /\r\n"), Err(HeadError::StartLine));
    assert_eq!(RequestHead::decode(b"GET / HTTP/1.1\r\nnothing\r\n"), Err(HeadError::HeaderLine));
    assert_eq!(ResponseHead::decode(b"HTTP/1.1 99999\r\n"), Err(HeadError::StartLine));
    assert_eq!(ResponseHead::decode(b"HTTP/1.1 200 OK\r\n"), Err(HeadError::StartLine));
}

#[test]
fn a_line_end_inside_a_value_cannot_forge_a_header() {
    let mut head = request();
    head.headers.0[0].1 = b"x\r\nx-forged: 1".to_vec();
    assert_eq!(RequestHead::decode(&head.encode()).unwrap().headers.get("x-forged"), None);
}

#[test]
fn the_hot_path_writes_what_encode_writes_and_names_the_key() {
    let redactor = Redactor::new([3; 32]);
    let secret = "sk-ant-test-000";
    let target = format!("/v1?key={secret}");
    let bearer = format!("Bearer {secret}");
    let fields = [("Host", "h"), ("Authorization", bearer.as_str()), ("Cookie", secret), ("X-A", "b")];
    let mut out = b"before".to_vec();
    let headers = fields.iter().map(|(name, value)| (*name, value.as_bytes()));
    let main = write_request_head(&mut out, "GET", &target, "HTTP/1.1", headers, &redactor);
    assert_eq!(main, Some(redactor.fingerprint(secret.as_bytes())));

    let print = redactor.fingerprint(secret.as_bytes());
    let written = std::str::from_utf8(&out).unwrap().strip_prefix("before").unwrap();
    let expected = format!(
        "GET /v1?key=[redacted-{print}] HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer [redacted {print}]\r\n\
         Cookie: [redacted {print}]\r\nX-A: b\r\n"
    );
    assert_eq!(written, expected);
    assert_eq!(RequestHead::decode(written.as_bytes()).unwrap().encode(), written.as_bytes());
}

#[test]
fn a_response_head_loses_its_cookies() {
    let mut out = Vec::new();
    let fields: [(&str, &[u8]); 2] = [("Set-Cookie", b"session=s3cret; Path=/"), ("request-id", b"req_1")];
    write_response_head(&mut out, 200, "HTTP/1.1", fields.into_iter(), &Redactor::new([3; 32]));
    assert!(memchr::memmem::find(&out, b"s3cret").is_none());
    assert_eq!(ResponseHead::decode(&out).unwrap().headers.get("Request-Id"), Some("req_1"));
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = RequestHead::decode(&bytes);
        let _ = ResponseHead::decode(&bytes);
    }

    #[test]
    fn what_was_encoded_is_decoded(
        target in "/[!-~]{0,30}",
        fields in proptest::collection::vec(("[A-Za-z-]{1,12}", proptest::collection::vec(32u8.., 0..20)), 0..8),
    ) {
        let headers = Headers(fields);
        let head = RequestHead { method: "GET".into(), target, version: "HTTP/1.1".into(), headers };
        prop_assert_eq!(RequestHead::decode(&head.encode()), Ok(head));
    }
}
