use serde_json::json;

use super::*;

fn headers(kind: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind))])
}

/// Read in pieces of each size: where a stream is cut into packets must not matter.
fn reading(api: Api, kind: &'static str, bytes: &[u8]) -> Reading {
    let of_pieces = |size: usize| {
        let mut reader = Reader::new(api, &headers(kind));
        bytes.chunks(size).for_each(|piece| reader.push(piece));
        reader.finish()
    };
    let whole = of_pieces(bytes.len());
    for size in 1..40 {
        assert_eq!(of_pieces(size), whole, "in pieces of {size}");
    }
    whole
}

const GEMINI: &[u8] = b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"Hel\"}]}}]}\r\n\r\n\
data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo \xc3\xbc\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":3,\"candidatesTokenCount\":2,\"thoughtsTokenCount\":5}}\r\n\r\n";

#[test]
fn a_stream_of_gemini_is_read_without_its_thoughts() {
    let read = reading(Api::Gemini, "text/event-stream", GEMINI);
    assert_eq!((read.text.as_str(), read.is_complete), ("Hello ü", true));
    assert_eq!((read.prompt_tokens, read.completion_tokens), (Some(3), Some(7)));
    let cut = reading(Api::Gemini, "text/event-stream", &GEMINI[..120]);
    assert_eq!((cut.text.as_str(), cut.is_complete), ("Hel", false));
}

#[test]
fn gemini_blocks_prompts_and_answers() {
    let blocked = reading(Api::Gemini, "application/json", br#"{"promptFeedback":{"blockReason":"SAFETY"}}"#);
    assert!(blocked.refusal.unwrap().contains("SAFETY"));
    let stopped = br#"[{"candidates":[{"content":{"parts":[{"text":"a"}]},"finishReason":"RECITATION"}]}]"#;
    assert!(reading(Api::Gemini, "application/json", stopped).refusal.unwrap().contains("RECITATION"));
}

#[test]
fn ollama_is_read_line_by_line_with_errors_within() {
    let good = b"{\"message\":{\"content\":\"Hel\"},\"done\":false}\n{\"message\":{\"content\":\"lo\"},\"done\":true,\"done_reason\":\"length\",\"prompt_eval_count\":3,\"eval_count\":2}";
    let read = reading(Api::Ollama, "application/x-ndjson", good);
    assert_eq!((read.text.as_str(), read.is_complete, read.is_cut_at_limit()), ("Hello", true, true));
    let broken = b"{\"message\":{\"content\":\"Hel\"},\"done\":false}\n{\"error\":\"out of memory\"}\n";
    assert_eq!(reading(Api::Ollama, "application/x-ndjson", broken).error.as_deref(), Some("out of memory"));
}

#[test]
fn an_api_that_does_not_stream_is_understood() {
    let chat = br#"{"choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":2}}"#;
    let read = reading(Api::OpenaiChat, "application/json", chat);
    assert_eq!((read.text.as_str(), read.is_complete, read.prompt_tokens), ("Hello", true, Some(3)));
    let claude = br#"{"type":"message","role":"assistant","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"cache_read_input_tokens":4,"output_tokens":2}}"#;
    let read = reading(Api::Anthropic, "application/json", claude);
    assert_eq!((read.text.as_str(), read.is_complete, read.prompt_tokens), ("Hello", true, Some(7)));
    assert_eq!(reading(Api::OpenaiChat, "application/json", b"<html>"), Reading::default());
}

#[test]
fn what_an_error_says_is_found_in_every_shape() {
    for error in [json!("x"), json!({"message": "x"}), json!({"error": {"message": "x"}}), json!([{"error": "x"}])] {
        assert_eq!(error_text(&error), "x");
    }
}
