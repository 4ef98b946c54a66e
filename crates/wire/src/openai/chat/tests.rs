use proptest::prelude::*;

use super::*;
use crate::assembled::OTHER_CHOICES;

const STREAM: &str = r#"data: {"id":"c1","object":"chat.completion.chunk","model":"gpt-x","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}

data: {"id":"c1","choices":[{"index":0,"delta":{"reasoning_content":"So… "},"finish_reason":null}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"content":"Hal"}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"content":"lo"}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"id":"call_a","type":"function","function":{"name":"ls","arguments":""}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":1,"id":"call_b","type":"function","function":{"name":"cat","arguments":"{\"path\": \"x\","}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}},{"index":1,"function":{"arguments":"\"at\":1}"}}]}}]}

data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}

data: {"id":"c1","choices":[],"usage":{"prompt_tokens":100,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":64}}}

data: [DONE]

"#;

#[test]
fn a_stream_is_put_together() {
    let assembled = assemble_stream(STREAM.as_bytes());
    let expected = json!([
        {"type": "thinking", "thinking": "So… "},
        {"type": "text", "text": "Hallo"},
        {"type": "tool_use", "id": "call_a", "name": "ls", "input": {}},
        {"type": "tool_use", "id": "call_b", "name": "cat", "input": {"path": "x", "at": 1}},
    ]);
    assert_eq!(assembled.message["content"], expected);
    assert_eq!(assembled.message["id"], "c1");
    assert_eq!(assembled.model.as_deref(), Some("gpt-x"));
    assert_eq!(assembled.stop_reason.as_deref(), Some("tool_calls"));
    assert_eq!(assembled.usage.input_tokens, Some(36), "cached input is counted once");
    assert_eq!((assembled.usage.output_tokens, assembled.usage.cache_read_tokens), (Some(7), Some(64)));
    assert!(assembled.complete);
    assert_eq!((assembled.unknown_events, assembled.misplaced_events), (0, 0));
}

#[test]
fn a_stream_that_breaks_off_inside_the_arguments_keeps_their_text() {
    let cut =
        STREAM.find(r#"data: {"id":"c1","choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function""#).unwrap();
    let assembled = assemble_stream(&STREAM.as_bytes()[..cut + 60]);
    assert!(!assembled.complete);
    assert_eq!(assembled.message["content"][3]["input"], json!({"_partial_json": "{\"path\": \"x\","}));
    assert_eq!(assembled.unknown_events, 0);
}

#[test]
fn a_whole_completion_gives_the_same_blocks() {
    let body = json!({
        "id": "c2", "object": "chat.completion", "model": "gpt-x",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi", "refusal": null,
                "tool_calls": [{"id": "call_a", "type": "function", "function": {"name": "ls", "arguments": "{}"}},
                    {"id": "call_b", "type": "function", "function": {"name": "cat", "arguments": "{\"a\":1}"}}]}},
            {"index": 1, "finish_reason": "stop", "message": {"role": "assistant", "content": "ho"}},
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 6},
    });
    let assembled = assemble_json(body.to_string().as_bytes()).unwrap();
    let expected = json!([
        {"type": "text", "text": "hi"},
        {"type": "tool_use", "id": "call_a", "name": "ls", "input": {}},
        {"type": "tool_use", "id": "call_b", "name": "cat", "input": {"a": 1}},
    ]);
    assert_eq!(assembled.message["content"], expected);
    assert_eq!(assembled.message[OTHER_CHOICES], json!([[{"type": "text", "text": "ho"}]]));
    assert_eq!((assembled.usage.input_tokens, assembled.usage.cache_read_tokens), (Some(5), None));
    assert!(assembled.complete);
}

#[test]
fn the_single_function_call_of_old_is_a_tool_too() {
    let body = br#"{"choices":[{"message":{"content":null,"function_call":{"name":"f","arguments":"{\"a\":1}"}}}]}"#;
    let content = &assemble_json(body).unwrap().message["content"];
    assert_eq!(*content, json!([{"type": "tool_use", "id": null, "name": "f", "input": {"a": 1}}]));
}

#[test]
fn errors_are_reported_and_other_json_is_no_reply() {
    let error = json!({"message": "quota", "type": "insufficient_quota"});
    let assembled = assemble_json(json!({"error": error}).to_string().as_bytes()).unwrap();
    assert_eq!((assembled.error.as_ref(), assembled.complete), (Some(&error), false));
    let streamed = format!("data: {}\n\n", json!({"error": error}));
    assert_eq!(assemble_stream(streamed.as_bytes()).error, Some(error));
    for body in [&b"{\"data\":[]}"[..], b"[]", b"", b"<html>", b"{\"error\":null}"] {
        assert!(assemble_json(body).is_none());
    }
}

proptest! {
    #[test]
    fn a_cut_at_any_byte_gives_a_beginning(at in any::<prop::sample::Index>()) {
        let at = at.index(STREAM.len());
        let assembled = assemble_stream(&STREAM.as_bytes()[..at]);
        let text = assembled.message["content"].as_array().unwrap().iter().find(|block| block["type"] == "text");
        prop_assert!(text.is_none_or(|text| "Hallo".starts_with(text["text"].as_str().unwrap())));
        prop_assert_eq!(assembled.unknown_events, 0);
    }

    #[test]
    fn damaged_streams_are_taken(at in any::<prop::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut stream = STREAM.as_bytes().to_vec();
        let at = at.index(stream.len());
        stream.splice(at..stream.len().min(at + bytes.len()), bytes.iter().copied());
        assemble_stream(&stream);
        assemble_stream(&bytes);
        let _ = assemble_json(&bytes);
    }
}
