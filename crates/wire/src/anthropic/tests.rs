use proptest::prelude::*;

use super::*;

mod fixtures;

fn stream(events: &[Value]) -> Vec<u8> {
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("?"));
    events.iter().map(text).collect::<String>().into_bytes()
}

fn start() -> Value {
    json!({"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
        "stop_reason": null, "stop_sequence": null,
        "usage": {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100,
            "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 15}, "output_tokens": 1}
    }})
}

fn block(index: u64, block: Value) -> Value {
    json!({"type": "content_block_start", "index": index, "content_block": block})
}

fn delta(index: u64, delta: Value) -> Value {
    json!({"type": "content_block_delta", "index": index, "delta": delta})
}

fn stop(index: u64) -> Value {
    json!({"type": "content_block_stop", "index": index})
}

fn end() -> [Value; 2] {
    [
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": null},
            "usage": {"output_tokens": 42, "input_tokens": null}}),
        json!({"type": "message_stop"}),
    ]
}

/// Every kind of block and delta that is known, with pings in between.
fn rich() -> Vec<Value> {
    let mut events = vec![
        start(),
        json!({"type": "ping"}),
        block(0, json!({"type": "thinking", "thinking": "", "signature": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "Hm"})),
        delta(0, json!({"type": "thinking_delta", "thinking": "m…"})),
        delta(0, json!({"type": "signature_delta", "signature": "c2ln"})),
        stop(0),
        block(1, json!({"type": "redacted_thinking", "data": "b3BhcXVl"})),
        stop(1),
        block(2, json!({"type": "text", "text": ""})),
        delta(2, json!({"type": "text_delta", "text": "Grüße, "})),
        delta(2, json!({"type": "citations_delta", "citation": {"type": "page", "url": "u"}})),
        delta(2, json!({"type": "text_delta", "text": "😀"})),
        stop(2),
        block(3, json!({"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}})),
        delta(3, json!({"type": "input_json_delta", "partial_json": ""})),
        json!({"type": "ping"}),
        delta(3, json!({"type": "input_json_delta", "partial_json": "{\"zeta\": [1, 2], \"al"})),
        delta(3, json!({"type": "input_json_delta", "partial_json": "pha\": \"x\"}"})),
        stop(3),
        block(4, json!({"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}})),
        delta(4, json!({"type": "input_json_delta", "partial_json": "{\"query\":\"q\"}"})),
        stop(4),
        block(5, json!({"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]})),
        stop(5),
        block(6, json!({"type": "compaction", "content": null})),
        delta(6, json!({"type": "compaction_delta", "content": "short"})),
        stop(6),
        block(7, json!({"type": "tool_use", "id": "toolu_2", "name": "List", "input": {}})),
        stop(7),
    ];
    events.extend(end());
    events
}

#[test]
fn every_kind_of_block_is_put_together() {
    let assembled = assemble_stream(&stream(&rich()));
    let expected = json!([
        {"type": "thinking", "thinking": "Hmm…", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "b3BhcXVl"},
        {"type": "text", "text": "Grüße, 😀", "citations": [{"type": "page", "url": "u"}]},
        {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {"zeta": [1, 2], "alpha": "x"}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"url": "u"}]},
        {"type": "compaction", "content": "short"},
        {"type": "tool_use", "id": "toolu_2", "name": "List", "input": {}},
    ]);
    assert_eq!(assembled.message["content"], expected);
    assert_eq!(assembled.message["role"], "assistant");
    assert_eq!((assembled.unknown_events, assembled.misplaced_events), (0, 0));
    assert!(assembled.complete && assembled.error.is_none());
    assert_eq!(assembled.model.as_deref(), Some("claude-x"));
    assert_eq!(assembled.stop_reason.as_deref(), Some("tool_use"));
    let keys: Vec<_> = assembled.message["content"][3]["input"].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["zeta", "alpha"], "the model's own order");
}

#[test]
fn usage_is_the_start_amended_by_the_delta() {
    let expected = Usage {
        input_tokens: Some(3),
        output_tokens: Some(42),
        cache_read_tokens: Some(100),
        cache_write_tokens: Some(20),
        cache_write_1h_tokens: Some(15),
    };
    assert_eq!(assemble_stream(&stream(&rich())).usage, expected);
    let amended =
        json!({"type": "message_delta", "delta": {}, "usage": {"input_tokens": 9, "cache_read_input_tokens": 0}});
    let usage = assemble_stream(&stream(&[start(), amended])).usage;
    assert_eq!(usage, Usage { input_tokens: Some(9), cache_read_tokens: Some(0), output_tokens: Some(1), ..expected });
    let by_time = json!({"cache_creation": {"ephemeral_5m_input_tokens": 5}});
    assert_eq!(super::usage(&by_time).cache_write_tokens, Some(5));
    assert_eq!(super::usage(&json!({"input_tokens": -1.5})), Usage::default());
}

#[test]
fn a_stream_that_breaks_off_gives_what_had_arrived() {
    let whole = stream(&rich());
    let cut = memchr::memmem::find(&whole, b"pha\\\"").unwrap();
    let assembled = assemble_stream(&whole[..cut]);
    assert!(!assembled.complete);
    assert_eq!(assembled.unknown_events, 0, "half an event is not an unknown one");
    let content = assembled.message["content"].as_array().unwrap();
    assert_eq!(content.len(), 4);
    assert_eq!(content[3]["input"], json!({PARTIAL: "{\"zeta\": [1, 2], \"al"}));
    assert_eq!(assembled.usage.input_tokens, Some(3));
}

const PARTIAL: &str = crate::assembled::PARTIAL_JSON;

#[test]
fn nothing_at_all_is_an_empty_message() {
    let assembled = assemble_stream(b"");
    assert_eq!(assembled.message, json!({"role": "assistant", "content": []}));
    assert!(!assembled.complete);
}

#[test]
fn an_error_inside_a_stream_is_reported_beside_the_message() {
    let error = json!({"type": "overloaded_error", "message": "Overloaded"});
    let events = [start(), block(0, json!({"type": "text", "text": "So"})), json!({"type": "error", "error": error})];
    let assembled = assemble_stream(&stream(&events));
    assert_eq!(assembled.error, Some(error));
    assert!(!assembled.complete);
    assert_eq!(assembled.message["content"][0]["text"], "So");
}

#[test]
fn unknown_events_and_deltas_are_counted_and_kept() {
    let novel = json!({"type": "novel_delta", "novel": 1});
    let events =
        [start(), block(0, json!({"type": "novel"})), delta(0, novel.clone()), json!({"type": "novelty", "x": 2})];
    let mut bytes = stream(&events);
    bytes.extend_from_slice(b"data: no json\n\n");
    let assembled = assemble_stream(&bytes);
    assert_eq!(assembled.unknown_events, 3);
    assert_eq!(assembled.unknown, [json!({"type": "novelty", "x": 2})]);
    assert_eq!(assembled.message["content"], json!([{"type": "novel", UNKNOWN_DELTAS: [novel]}]));
}

#[test]
fn blocks_out_of_order_are_tolerated_and_counted() {
    let text = |text: &str| json!({"type": "text_delta", "text": text});
    let events = [
        block(1, json!({"type": "text", "text": ""})),
        start(),
        delta(1, text("second")),
        delta(0, text("first")),
        delta(0, text("!")),
        block(1, json!({"type": "text", "text": "third"})),
        start(),
        stop(9),
    ];
    let assembled = assemble_stream(&stream(&events));
    let texts: Vec<_> = assembled.message["content"].as_array().unwrap().iter().map(|block| &block["text"]).collect();
    assert_eq!(texts, ["first!", "second", "third"]);
    // The block before the start, the delta without a block, the block that began twice, the second start, the stop.
    assert_eq!(assembled.misplaced_events, 5);
}

#[test]
fn a_json_reply_is_taken_as_it_is() {
    let body = json!({"id": "msg_2", "type": "message", "role": "assistant", "model": "claude-x", "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 1, "output_tokens": 2}});
    let assembled = assemble_json(body.to_string().as_bytes()).unwrap();
    assert!(assembled.complete);
    assert_eq!(assembled.message, body);
    assert_eq!((assembled.usage.input_tokens, assembled.usage.output_tokens), (Some(1), Some(2)));
    assert_eq!(assembled.stop_reason.as_deref(), Some("end_turn"));
}

#[test]
fn an_error_reply_is_an_error_and_other_json_is_no_reply() {
    let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"m"},"request_id":"req_1"}"#;
    let assembled = assemble_json(body).unwrap();
    assert_eq!(assembled.error, Some(json!({"type": "rate_limit_error", "message": "m"})));
    assert!(!assembled.complete);
    for body in [&b"{\"input_tokens\":7}"[..], b"[]", b"", b"<html>", b"{\"type\":3}", b"\xff"] {
        assert!(assemble_json(body).is_none());
    }
}

/// A value of the kind that stands in events, or anything else.
fn odd_event() -> impl Strategy<Value = Value> {
    let odd = prop_oneof![
        Just(json!(null)),
        Just(json!([])),
        Just(json!({})),
        Just(json!(-1)),
        Just(json!(1.5)),
        Just(json!("x")),
        Just(json!({"type": "text_delta", "text": null})),
        Just(json!({"usage": [], "content": {}, "type": "text"})),
    ];
    let kind = prop::sample::select(rich()).prop_map(|event| event["type"].clone());
    let field = prop::sample::select(vec!["index", "delta", "content_block", "message", "usage", "error", "type"]);
    (kind, field, odd, prop::sample::select(rich())).prop_map(|(kind, field, odd, mut event)| {
        event["type"] = kind;
        event[field] = odd;
        event
    })
}

proptest! {
    #[test]
    fn a_cut_at_any_byte_gives_a_beginning(at in any::<prop::sample::Index>()) {
        let whole = stream(&rich());
        let at = at.index(whole.len());
        let (cut, full) = (assemble_stream(&whole[..at]), assemble_stream(&whole));
        // Only the blank line at the very end may be missing from a message that is complete.
        prop_assert!(!cut.complete || at >= whole.len() - 2);
        prop_assert_eq!(cut.unknown_events + cut.misplaced_events, 0);
        let blocks = |assembled: &Assembled| assembled.message["content"].as_array().unwrap().clone();
        let (cut, full) = (blocks(&cut), blocks(&full));
        let whole_ones = cut.len().saturating_sub(1);
        prop_assert!(cut.len() <= full.len());
        prop_assert_eq!(&cut[..whole_ones], &full[..whole_ones]);
    }

    #[test]
    fn events_of_any_shape_in_any_order_are_taken(events in proptest::collection::vec(prop_oneof![odd_event(), prop::sample::select(rich())], 0..30)) {
        let assembled = assemble_stream(&stream(&events));
        prop_assert!(assembled.message["content"].is_array());
    }

    #[test]
    fn the_short_way_gives_what_the_long_way_gives(
        events in proptest::collection::vec(prop_oneof![odd_event(), prop::sample::select(rich())], 0..30),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..3, prop::sample::select(vec![
            &b""[..], b"\n", b"\r", b"\r\n", b"\xef\xbb\xbf", b"data: ", b"x", b"\n\n", b"\\", b"\xff", b",\"a\":1",
        ])), 0..4),
    ) {
        let mut bytes = stream(&events);
        for (at, length, put) in edits {
            let from = at.index(bytes.len() + 1);
            let to = (from + length).min(bytes.len());
            bytes.splice(from..to, put.iter().copied());
        }
        let mut long = Assembler::default();
        sse::events(&bytes).for_each(|event| long.push_any(&event));
        prop_assert_eq!(assemble_stream(&bytes), long.finish());
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        assemble_stream(&bytes);
        let _ = assemble_json(&bytes);
    }
}
