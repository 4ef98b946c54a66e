use proptest::prelude::*;

use super::*;

fn output() -> Value {
    json!([
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "First."},
            {"type": "summary_text", "text": "Second."}], "encrypted_content": "b3BhcXVl"},
        {"type": "message", "id": "m_1", "role": "assistant", "content": [
            {"type": "output_text", "text": "Hallo", "annotations": []},
            {"type": "refusal", "refusal": "No."}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "ls", "arguments": "{\"z\":1,\"a\":2}"},
        {"type": "custom_tool_call", "id": "ct_1", "call_id": "call_2", "name": "patch", "input": "*** 1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
    ])
}

fn content() -> Value {
    json!([
        {"type": "thinking", "thinking": "First.\n\nSecond.", "signature": "b3BhcXVl"},
        {"type": "text", "text": "Hallo"},
        {"type": "refusal", "refusal": "No."},
        {"type": "tool_use", "id": "call_1", "name": "ls", "input": {"z": 1, "a": 2}},
        {"type": "tool_use", "id": "call_2", "name": "patch", "input": "*** 1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
    ])
}

fn response(status: &str, output: &Value) -> Value {
    json!({"id": "resp_1", "object": "response", "status": status, "model": "gpt-x", "output": output, "error": null,
        "usage": {"input_tokens": 50, "input_tokens_details": {"cached_tokens": 20}, "output_tokens": 9}})
}

/// The stream's events up to, and without, the last one.
fn beginning() -> Vec<Value> {
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-x", "status": "in_progress", "output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1", "summary": []}}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "Fir"}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "st."}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": output()[0]}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "message", "id": "m_1", "content": []}}),
        json!({"type": "response.content_part.added", "output_index": 1, "content_index": 0, "part": {"type": "output_text", "text": ""}}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "Hal"}),
        json!({"type": "response.output_text.delta", "output_index": 1, "content_index": 0, "delta": "lo"}),
        json!({"type": "response.refusal.delta", "output_index": 1, "content_index": 1, "delta": "No."}),
        json!({"type": "response.output_item.added", "output_index": 2,
            "item": {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "ls", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 2, "delta": "{\"z\":1,"}),
    ];
    for (index, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = json!(index);
    }
    events
}

fn stream(events: &[Value]) -> Vec<u8> {
    let text = |event: &Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or("?"));
    events.iter().map(text).collect::<String>().into_bytes()
}

#[test]
fn the_last_event_of_a_stream_is_the_message() {
    let mut events = beginning();
    events.push(json!({"type": "response.completed", "response": response("completed", &output())}));
    let assembled = assemble_stream(&stream(&events));
    assert_eq!(assembled.message["content"], content());
    assert!(assembled.complete && assembled.error.is_none());
    assert_eq!((assembled.model.as_deref(), assembled.stop_reason.as_deref()), (Some("gpt-x"), Some("completed")));
    let usage = assembled.usage;
    assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.output_tokens), (Some(30), Some(20), Some(9)));
    assert_eq!((assembled.unknown_events, assembled.misplaced_events), (0, 0));
}

#[test]
fn a_stream_that_breaks_off_gives_what_had_arrived() {
    let assembled = assemble_stream(&stream(&beginning()));
    let expected = json!([
        {"type": "thinking", "thinking": "First.\n\nSecond.", "signature": "b3BhcXVl"},
        {"type": "text", "text": "Hallo"},
        {"type": "refusal", "refusal": "No."},
        {"type": "tool_use", "id": "call_1", "name": "ls", "input": {"_partial_json": "{\"z\":1,"}},
    ]);
    assert_eq!(assembled.message["content"], expected);
    assert!(!assembled.complete);
    assert_eq!(assembled.model.as_deref(), Some("gpt-x"));
}

#[test]
fn items_make_up_for_a_last_event_without_output() {
    let mut events = beginning();
    events.push(json!({"type": "response.incomplete",
        "response": {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}, "output": []}}));
    let assembled = assemble_stream(&stream(&events));
    assert_eq!(assembled.message["content"][1]["text"], "Hallo");
    assert_eq!(assembled.stop_reason.as_deref(), Some("max_output_tokens"));
    assert!(assembled.complete);
}

#[test]
fn deltas_without_their_item_are_kept_and_counted() {
    let events = [
        json!({"type": "response.output_text.delta", "output_index": 3, "content_index": 0, "delta": "x"}),
        json!({"type": "response.novel.delta", "output_index": 3, "delta": "y"}),
        json!({"type": "novelty"}),
    ];
    let assembled = assemble_stream(&stream(&events));
    assert_eq!(assembled.message["content"], json!([{"type": "text", "text": "x"}]));
    assert_eq!((assembled.misplaced_events, assembled.unknown_events), (1, 2));
    assert_eq!(assembled.unknown, [json!({"type": "novelty"})]);
}

#[test]
fn a_json_reply_gives_the_same_message() {
    let assembled = assemble_json(response("completed", &output()).to_string().as_bytes()).unwrap();
    assert_eq!(assembled.message["content"], content());
    assert!(assembled.complete);
    assert_eq!(assembled.usage.output_tokens, Some(9));
}

#[test]
fn failures_are_errors() {
    let error = json!({"code": "server_error", "message": "m"});
    let mut failed = response("failed", &json!([]));
    failed["error"] = error.clone();
    let assembled = assemble_json(failed.to_string().as_bytes()).unwrap();
    assert_eq!((assembled.error.as_ref(), assembled.complete), (Some(&error), false));
    let streamed = assemble_stream(&stream(&[json!({"type": "response.failed", "response": failed})]));
    assert_eq!((streamed.error.as_ref(), streamed.complete), (Some(&error), false));
    let event = json!({"type": "error", "code": "c", "message": "m"});
    assert_eq!(assemble_stream(&stream(std::slice::from_ref(&event))).error, Some(event));
    assert!(assemble_json(b"{\"error\":{\"message\":\"m\"}}").unwrap().error.is_some());
    assert!(assemble_json(b"{\"data\":[]}").is_none());
}

proptest! {
    #[test]
    fn damaged_streams_are_taken(at in any::<prop::sample::Index>(), bytes in proptest::collection::vec(any::<u8>(), 0..20)) {
        let mut damaged = stream(&beginning());
        let at = at.index(damaged.len());
        assemble_stream(&damaged[..at]);
        damaged.splice(at..damaged.len().min(at + bytes.len()), bytes.iter().copied());
        assemble_stream(&damaged);
        let _ = assemble_json(&bytes);
    }

    #[test]
    fn items_of_any_shape_are_taken(
        field in "type|content|summary|arguments|input",
        odd in prop::sample::select(vec![json!(null), json!(1), json!("x"), json!([]), json!([1]), json!([{}]), json!({})]),
        at in 0usize..5,
    ) {
        let mut output = output();
        output[at][&field] = odd;
        let assembled = assemble_json(response("completed", &output).to_string().as_bytes()).unwrap();
        prop_assert!(assembled.message["content"].is_array());
    }
}
