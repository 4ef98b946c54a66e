use proptest::prelude::*;

use super::*;

fn id_of(bytes: &[u8]) -> String {
    match Message::parse(bytes).unwrap() {
        Message::Request { id, .. } | Message::Response { id, .. } => id.get().to_owned(),
        Message::Notification { .. } => panic!("a notification has no id"),
    }
}

#[test]
fn the_kinds_of_messages_are_told_apart() {
    let parse = |text: &'static str| Message::parse(text.as_bytes());
    assert!(matches!(parse(r#"{"id":1,"method":"m"}"#), Ok(Message::Request { params: None, .. })));
    assert!(matches!(parse(r#"{"id":null,"method":"m"}"#), Ok(Message::Request { .. })));
    assert!(matches!(parse(r#"{"method":"m","params":{}}"#), Ok(Message::Notification { params: Some(_), .. })));
    assert!(matches!(parse(r#"{"id":1,"result":null}"#), Ok(Message::Response { outcome: Outcome::Result(_), .. })));
    assert!(matches!(parse(r#"{"id":1,"error":{}}"#), Ok(Message::Response { outcome: Outcome::Error(_), .. })));
    for nonsense in ["{}", "[]", "1", r#"{"id":1}"#, r#"{"id":1,"id":2,"method":"m"}"#, r#"{"id":1,"method":"m"}x"#] {
        assert!(parse(nonsense).is_err(), "{nonsense}");
    }
}

#[test]
fn a_name_that_is_written_with_escapes_is_the_same_name() {
    let Ok(Message::Request { method, id, .. }) = Message::parse(br#"{"\u0069d":7,"method":"a\/b"}"#) else {
        panic!("a request")
    };
    assert_eq!((&*method, id.get()), ("a/b", "7"));
}

#[test]
fn spellings_of_one_string_are_one_id_and_numbers_have_no_limit() {
    let key = |text: &str| IdKey::of(serde_json::from_str(text).unwrap());
    assert_eq!(key(r#""a\u0062""#), key(r#""ab""#));
    assert_ne!(key("1"), key(r#""1""#));
    assert_ne!(key("123456789012345678901234567890"), key("123456789012345678901234567891"));
    assert_eq!(key("18446744073709551616").number(), None);
    assert_eq!(key("7").number(), Some(7));
}

#[test]
fn members_are_set_and_everything_else_stays() {
    let source = br#"{ "x" : 1.50, "params" : {"name": "t", "_meta":{ }} , "id":1e400}"#;
    let Message::Request { id, params, .. } = Message::parse(br#"{"id":1,"method":"m","params":{}}"#).unwrap() else {
        panic!("a request")
    };
    // Values of another text change nothing.
    let mut edits = Edits::of(source).unwrap();
    edits.replace(id, "9").set(params.unwrap(), "a", "1");
    assert_eq!(edits.finish(), source);

    let object: &RawValue = serde_json::from_slice(source).unwrap();
    let outer = members(object).unwrap();
    let params = outer[1].value;
    let meta = members(params).unwrap()[1].value;
    let mut edits = Edits::of(source).unwrap();
    edits.set(meta, "b", "2").set(meta, "c", "3").set(params, "name", "\"u\"").replace(outer[2].value, "5");
    let expected = r#"{ "x" : 1.50, "params" : {"name": "u", "_meta":{ "b":2,"c":3}} , "id":5}"#;
    assert_eq!(String::from_utf8(edits.finish()).unwrap(), expected);
}

#[test]
fn answers_are_written_as_json() {
    let error = error("\"x\"", code::INTERNAL_ERROR, "a \"quoted\"\nline", Some("{\"k\":1}"));
    let value: serde_json::Value = serde_json::from_slice(&error).unwrap();
    assert_eq!(value["error"]["message"], "a \"quoted\"\nline");
    assert_eq!(value["error"]["data"]["k"], 1);
    assert_eq!(id_of(&result("1e3", "{}")), "1e3");
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|b| b.to_string()),
        "-?[1-9][0-9]{0,40}(\\.[0-9]{1,9})?(e[0-9]{1,3})?",
        any::<String>().prop_map(|s| text(&s)),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(|v| format!("[{}]", v.join(" , "))),
            proptest::collection::vec((any::<String>(), inner), 0..4).prop_map(|v| {
                let body: Vec<String> = v.iter().map(|(k, v)| format!("{} :{v}", text(k))).collect();
                format!("{{{}}}", body.join(","))
            }),
        ]
    })
}

proptest! {
    /// There and back gives the very same bytes, whatever the id, the parameters and the fields around them.
    #[test]
    fn replacing_an_id_and_putting_it_back_changes_nothing(id in any_json(), params in any_json(), other in any_json()) {
        let source = format!("{{\"other\": {other}, \"id\" :{id} ,\"params\":{params},\"method\":\"m\"}}");
        let Message::Request { id: parsed, .. } = Message::parse(source.as_bytes()).unwrap() else { panic!("a request") };
        prop_assert_eq!(parsed.get(), &id);
        let mut there = Edits::of(source.as_bytes()).unwrap();
        there.replace(parsed, "17");
        let sent = there.finish();
        prop_assert_eq!(id_of(&sent), "17");
        let Message::Request { id: replaced, .. } = Message::parse(&sent).unwrap() else { panic!("a request") };
        let mut back = Edits::of(&sent).unwrap();
        back.replace(replaced, id.clone());
        prop_assert_eq!(String::from_utf8(back.finish()).unwrap(), source);
    }

    /// What a relay does with a call: id and progress token go out as numbers, and come back as they were written.
    #[test]
    fn ids_and_progress_tokens_are_mapped_there_and_back(id in any_json(), token in any_json(), arguments in any_json()) {
        let source = format!(
            "{{\"id\":{id},\"method\":\"tools/call\",\"params\":{{\"_meta\":{{\"x\":1,\"progressToken\" : {token}}},\"arguments\":{arguments}}}}}"
        );
        let places = |text: &str| -> (String, String) {
            let Message::Request { id, params: Some(params), .. } = Message::parse(text.as_bytes()).unwrap() else {
                panic!("a request with parameters")
            };
            let meta = members(params).unwrap()[0].value;
            let token = members(meta).unwrap()[1].value;
            (id.get().to_owned(), token.get().to_owned())
        };
        let replace = |text: &str, with_id: &str, with_token: &str| -> String {
            let Message::Request { id, params: Some(params), .. } = Message::parse(text.as_bytes()).unwrap() else {
                panic!("a request with parameters")
            };
            let token = members(members(params).unwrap()[0].value).unwrap()[1].value;
            let mut edits = Edits::of_text(text);
            edits.replace(token, with_token).replace(id, with_id);
            String::from_utf8(edits.finish()).unwrap()
        };
        let sent = replace(&source, "17", "17");
        prop_assert_eq!(places(&sent), ("17".to_owned(), "17".to_owned()));
        prop_assert_eq!(replace(&sent, &id, &token), source);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = (Message::parse(&bytes).is_ok(), batch(&bytes).is_some());
    }
}
