use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const BODY: &str = r#" {"model":"claude-x", "messages" : [ {"role":"user","content":"a]}\"["} ,
  [1, 2],"três" ], "system":[{"type":"text","text":"s"}], "tools":[], "stream":true, "max_tokens":512,
  "temperature":0, "metadata":{"user_id":"{}"}, "x":{"messages":[9]} } "#;

fn texts(body: &str, key: ArrayKey) -> Vec<&str> {
    let spans = find(body.as_bytes()).unwrap();
    spans.elements(key).iter().map(|range| &body[range.clone()]).collect()
}

#[test]
fn elements_are_found_without_the_blanks_around_them() {
    assert_eq!(texts(BODY, ArrayKey::Messages), [r#"{"role":"user","content":"a]}\"["}"#, "[1, 2]", r#""três""#]);
    assert_eq!(texts(BODY, ArrayKey::System), [r#"{"type":"text","text":"s"}"#]);
    assert!(texts(BODY, ArrayKey::Tools).is_empty());
    let keys: Vec<_> = find(BODY.as_bytes()).unwrap().arrays.iter().map(|array| array.key).collect();
    assert_eq!(keys, [ArrayKey::Messages, ArrayKey::System, ArrayKey::Tools]);
}

#[test]
fn the_same_pass_reads_what_files_a_request() {
    let request = parse(BODY.as_bytes()).unwrap();
    assert!(matches!(request.model, Some(Cow::Borrowed("claude-x"))));
    assert!(request.stream);
    assert_eq!((request.max_tokens, request.temperature), (Some(512), Some(0.0)));
    assert_eq!(request.metadata.unwrap().get(), r#"{"user_id":"{}"}"#);
    assert!(request.output_config.is_none());
    assert!(request.system.unwrap().get().starts_with('['));
}

#[test]
fn fields_of_other_types_count_as_absent() {
    let request = parse(br#"{"model":3,"stream":"yes","max_tokens":-1,"temperature":null,"messages":"none"}"#).unwrap();
    assert!(request.model.is_none() && !request.stream && request.max_tokens.is_none());
    assert_eq!(request.spans, Spans::default());
}

#[test]
fn responses_and_gemini_bodies_have_their_arrays_too() {
    assert_eq!(texts(r#"{"contents":[{}],"input":[1,2]}"#, ArrayKey::Input), ["1", "2"]);
    assert_eq!(texts(r#"{"contents":[{}],"input":[1,2]}"#, ArrayKey::Contents), ["{}"]);
    let request = parse(br#"{"instructions":"i","input":"hello","user":"u"}"#).unwrap();
    assert_eq!((request.system.unwrap().get(), request.input.unwrap().get()), (r#""i""#, r#""hello""#));
    assert_eq!(request.session_hint.as_deref(), Some("u"));
}

#[test]
fn an_escaped_name_is_the_same_name() {
    assert_eq!(texts(r#"{"mess\u0061ges":[1]}"#, ArrayKey::Messages), ["1"]);
    assert!(find(br#"{"mess\u0061ges":[1],"messages":[]}"#).is_none());
}

#[test]
fn bodies_that_do_not_fit_are_refused() {
    let bodies: [&[u8]; 12] = [
        b"",
        b"[]",
        b"null",
        b"{\"messages\":[1]",
        b"{\"messages\":[1,]}",
        b"{\"messages\":[1]} x",
        b"{\"messages\":[1]}{}",
        b"{\"messages\":[01]}",
        b"{\"messages\":[\"\xff\"]}",
        b"\xef\xbb\xbf{}",
        b"{\"messages\":[],\"messages\":[]}",
        b"{\"system\":\"a\",\"system\":[]}",
    ];
    for body in bodies {
        assert!(find(body).is_none(), "{}", String::from_utf8_lossy(body));
    }
}

#[test]
fn what_no_value_can_hold_still_has_its_range() {
    let body = r#"{"messages":["\ud800", 1e999, -0.0, 123456789012345678901234567890]}"#;
    assert_eq!(texts(body, ArrayKey::Messages), [r#""\ud800""#, "1e999", "-0.0", "123456789012345678901234567890"]);
}

#[test]
fn depth_is_harmless() {
    let deep = format!(r#"{{"messages":[{}{}]}}"#, "[".repeat(200_000), "]".repeat(200_000));
    assert_eq!(texts(&deep, ArrayKey::Messages).len(), 1);
    assert!(find("[{\"a\":".repeat(200_000).as_bytes()).is_none());
}

#[test]
fn too_many_elements_are_refused() {
    let body = |count: usize| format!(r#"{{"input":[0{}],"tools":[1]}}"#, ",0".repeat(count - 1));
    assert_eq!(texts(&body(MAX_ELEMENTS - 1), ArrayKey::Input).len(), MAX_ELEMENTS - 1);
    assert!(find(body(MAX_ELEMENTS).as_bytes()).is_none());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        r#"["\\\[\]{},: ]{0,8}"#.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            proptest::collection::vec((".{0,6}", inner), 0..5).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

fn any_body() -> impl Strategy<Value = Value> {
    let name = prop_oneof![
        Just("messages".to_owned()),
        Just("system".to_owned()),
        Just("tools".to_owned()),
        Just("input".to_owned()),
        Just("contents".to_owned()),
        "[a-z]{1,6}",
    ];
    let value = prop_oneof![any_json(), proptest::collection::vec(any_json(), 0..6).prop_map(Value::from)];
    proptest::collection::vec((name, value), 0..8).prop_map(|fields| fields.into_iter().collect())
}

proptest! {
    #[test]
    fn gaps_and_elements_together_are_the_body(body in any_body(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let spans = find(text.as_bytes()).unwrap();
        let (mut rebuilt, mut position) = (String::new(), 0);
        for (_, range) in spans.iter() {
            prop_assert!(position <= range.start && range.start < range.end);
            rebuilt.push_str(&text[position..range.start]);
            rebuilt.push_str(&text[range.clone()]);
            position = range.end;
        }
        rebuilt.push_str(&text[position..]);
        prop_assert_eq!(rebuilt, text);
    }

    #[test]
    fn elements_are_the_values_that_a_parser_sees(body in any_body(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&body).unwrap() } else { body.to_string() };
        let whole: Value = serde_json::from_str(&text).unwrap();
        let request = parse(text.as_bytes()).unwrap();
        for (key, name) in [
            (ArrayKey::Messages, "messages"),
            (ArrayKey::System, "system"),
            (ArrayKey::Tools, "tools"),
            (ArrayKey::Input, "input"),
            (ArrayKey::Contents, "contents"),
        ] {
            let ranges = request.spans.elements(key).iter();
            let parsed: Vec<Value> = ranges.map(|range| serde_json::from_str(&text[range.clone()]).unwrap()).collect();
            let expected = whole.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
            prop_assert_eq!(parsed, expected);
        }
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn a_damaged_body_is_refused_or_cut_within_its_bounds(at in any::<prop::sample::Index>(), byte: u8) {
        let mut bytes = BODY.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Some(spans) = find(&bytes) {
            for (_, range) in spans.iter() {
                prop_assert!(bytes.get(range).is_some());
            }
        }
        prop_assert!(find(&bytes[..at.min(BODY.trim_end().len() - 1)]).is_none());
    }
}

#[test]
fn a_request_without_arrays_fits() {
    assert_eq!(find(json!({"a": 1}).to_string().as_bytes()), Some(Spans::default()));
}
