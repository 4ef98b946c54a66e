use super::*;

fn request(text: &str) -> Request {
    match parse(text.as_bytes()) {
        Payload::One(Ok(Incoming::Request(request))) => request,
        other => panic!("{text}: {other:?}"),
    }
}

#[track_caller]
fn refused(text: &str) -> Value {
    match parse(text.as_bytes()) {
        Payload::One(Err(malformed)) => serde_json::from_str(&malformed.0).unwrap(),
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn an_id_comes_back_as_it_was_written() {
    for id in ["0", "-1", "1.5", "123456789012345678901234567890", r#""a\u00e9""#, r#""\ud800""#] {
        let request = request(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#));
        assert_eq!(result_answer(&request.id, "{}"), format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#));
    }
}

#[test]
fn params_that_no_string_can_hold_do_not_lose_the_request() {
    let request =
        request(r#"{"id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":"\ud800","n":1e999}}}"#);
    assert_eq!(request.params.unwrap().get(), r#"{"name":"x","arguments":{"a":"\ud800","n":1e999}}"#);
}

#[test]
fn what_is_no_request_is_refused_and_says_why() {
    assert_eq!(refused("{")["error"]["code"], PARSE_ERROR);
    assert_eq!(refused("")["error"]["code"], PARSE_ERROR);
    assert_eq!(refused("[1, 2")["error"]["code"], PARSE_ERROR);
    assert_eq!(refused("7")["error"]["code"], INVALID_REQUEST);
    assert_eq!(refused(r#"{"id":null,"method":"ping"}"#)["error"]["code"], INVALID_REQUEST);
    assert_eq!(refused(r#"{"id":{},"method":"ping"}"#)["id"], Value::Null);
    assert_eq!(refused(r#"{"id":1}"#)["id"], 1);
    assert_eq!(refused(r#"{"id":1,"id":2,"method":"ping"}"#)["error"]["code"], INVALID_REQUEST);
    assert_eq!(refused(r#"{"id":1,"method":5}"#)["error"]["code"], INVALID_REQUEST);
}

#[test]
fn notifications_and_answers_want_nothing() {
    for text in [r#"{"method":"notifications/initialized"}"#, r#"{"id":1,"result":{}}"#, r#"{"id":1,"error":{}}"#] {
        assert!(matches!(parse(text.as_bytes()), Payload::One(Ok(Incoming::Ignored))), "{text}");
    }
    let text = r#"{"method":"notifications/cancelled","params":{"requestId":"x","reason":"enough"}}"#;
    let Payload::One(Ok(Incoming::Cancelled(id))) = parse(text.as_bytes()) else { panic!("a cancellation") };
    assert_eq!(id.json(), r#""x""#);
}

#[test]
fn an_array_is_a_batch_of_its_parts() {
    let Payload::Batch(parts) = parse(br#" [{"id":1,"method":"ping"},7,{"method":"x"}]"#) else { panic!("a batch") };
    assert!(matches!(parts[..], [Ok(Incoming::Request(_)), Err(_), Ok(Incoming::Ignored)]));
}
