use proptest::prelude::*;

use super::*;

const KEY: &str = "sk-test-9";

fn clean(message: &str) -> String {
    String::from_utf8(without_tool_key(message.as_bytes()).into_owned()).unwrap()
}

/// The same in pieces that end at these places.
fn in_pieces(message: &[u8], ends: &[usize]) -> Vec<u8> {
    let mut filter = ToolKeyFilter::default();
    let mut kept = Vec::new();
    let mut start = 0;
    for end in ends.iter().copied().chain([message.len()]) {
        kept.extend_from_slice(&filter.pass(&message[start..end]));
        start = end;
    }
    kept
}

fn call(name: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"_meta":{{"x":[{{}}]}},"name":"{name}","arguments":{arguments}}}}}"#
    )
}

/// Calls, and what is kept of them.
fn calls() -> Vec<(String, String)> {
    let same = |make: &dyn Fn(&str) -> String| (make(KEY), make("[redacted]"));
    let named =
        |name: &'static str| same(&move |key| call(name, &format!(r#"{{"api_key" : "{key}","provider":"xai"}}"#)));
    let first = |name: &'static str| {
        same(&move |key| {
            format!(r#"{{"params":{{"arguments":{{"provider":"xai","api_key":"{key}"}},"name":"{name}"}},"id":1}}"#)
        })
    };
    let set = "fiedler_set_key";
    let escaped = r"fiedler_set_\u006bey";
    vec![
        named(set),
        named(escaped),
        named("far__fiedler_set_key"),
        first(set),
        first(escaped),
        // What cannot be known yet is not kept.
        first("other"),
        (call(set, r#"{"api_key":"a\"b\\","provider":"x"}"#), call(set, r#"{"api_key":"[redacted]","provider":"x"}"#)),
        same(&|key| call(set, &format!(r#"{{"api\u005fkey":"{key}"}}"#))),
        same(&|key| call(set, &format!(r#"{{"provider":"xai","apikey":"{key}"}}"#))),
        same(&|key| call(set, &format!(r#"{{"api_key":["{key}",["{key}"],1],"provider":"xai"}}"#))),
        same(&|key| call(set, &format!(r#"["{key}"]"#))),
        same(&|key| call(set, &format!(r#""{key}""#))),
        same(&|key| {
            let (one, other) =
                (call(set, &format!(r#"{{"api_key":"{key}"}}"#)), call("other", r#"{"api_key":"stays"}"#));
            format!(" [ {other},{one},{other}, {one} ]")
        }),
        same(&|key| format!("{}\n{}", call("other", "{}"), call(set, &format!(r#"{{"api_key":"{key}"}}"#)))),
    ]
}

#[test]
fn the_key_goes_and_the_rest_stays() {
    for (message, kept) in calls() {
        assert_eq!(clean(&message), kept);
    }
}

#[test]
fn the_pieces_of_a_message_are_kept_as_the_whole_is_wherever_it_is_cut() {
    for (message, kept) in calls() {
        for first in 0..=message.len() {
            assert_eq!(in_pieces(message.as_bytes(), &[first]), kept.as_bytes(), "{first}");
        }
        let every: Vec<usize> = (1..message.len()).collect();
        assert_eq!(in_pieces(message.as_bytes(), &every), kept.as_bytes());
    }
}

#[test]
fn a_message_that_breaks_off_gives_nothing_of_the_key() {
    for (message, _) in calls() {
        for end in 0..=message.len() {
            let kept = clean(&message[..end]);
            assert!(!kept.contains(&KEY[..4]), "{kept}");
        }
    }
}

#[test]
fn nothing_else_is_touched() {
    for message in [
        &call("other", r#"{"api_key":"stays","provider":"fiedler_set_key"}"#),
        &call("fiedler_set_key_2", r#"{"api_key":"stays"}"#),
        r#"{"method":"tools/call","params":{"arguments":{"deep":{"api_key":"stays"}},"name":"other"}}"#,
        r#"{"result":{"tools":[{"name":"fiedler_set_key","inputSchema":{"properties":{"api_key":{"type":"string"}}}}]}}"#,
        r#"{"name":"fiedler_set_key","arguments":{"api_key":"of no call"}}"#,
        r#"{"params":[{"name":"fiedler_set_key","arguments":{"api_key":"of no call"}}]}"#,
        r#"{"params":{"name":"fiedler_set_key"}}"#,
        r#"}}}]]"::"{{[""#,
        "",
    ] {
        assert_eq!(clean(message), message);
        assert!(matches!(without_tool_key(message.as_bytes()), Cow::Borrowed(_)));
    }
}

/// What messages are made of, and what they are not.
const TOKENS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\"params\":{",
    b"\"name\":\"fiedler_set_key\",",
    b"\"name\":\"other\"",
    b"\"arguments\":{",
    b"\"api_key\":\"",
    b"x",
    b"\xff",
];

proptest! {
    #[test]
    fn any_bytes_in_any_pieces_are_kept_as_in_one(
        bytes in proptest::collection::vec(
            prop::sample::select(TOKENS),
            0..40,
        ).prop_map(|parts| parts.concat()),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        prop_assert_eq!(in_pieces(&bytes, &ends), without_tool_key(&bytes).into_owned());
    }

    #[test]
    fn a_key_is_found_in_any_order_and_shape_that_a_parser_takes(
        blank in "[ \n\t]{0,3}",
        swap in any::<bool>(),
        key in "sk-[a-z0-9]{12}",
        before in "[a-z\\[\\]{}:, ]{0,8}",
    ) {
        let arguments = format!(r#""arguments"{blank}:{blank}{{"provider":"{before}"{blank},"api_key"{blank}:{blank}"{key}"{blank}}}"#);
        let name = format!(r#""name"{blank}:{blank}"fiedler_set_key""#);
        let inner = if swap { format!("{arguments}{blank},{name}") } else { format!("{name},{blank}{arguments}") };
        let message = format!(r#"{{"x":"{before}"{blank},"params"{blank}:{blank}{{{inner}}}{blank}}}"#);
        let kept = clean(&message);
        prop_assert_eq!(kept.replace("[redacted]", &key), message);
    }
}
