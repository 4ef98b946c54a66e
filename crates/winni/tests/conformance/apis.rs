//! Conversations with other APIs than Anthropic's: Gemini's and Ollama's, streamed and whole.

use serde_json::{Value, json};
use winni::model::*;

use crate::agent::exchange_at;
use crate::lake::{Lake, turn};

/// An API as one client speaks it.
struct Dialect {
    target: &'static str,
    content_type: &'static str,
    /// The request that resends what user and model have said in turns.
    request: fn(&[String]) -> Value,
    /// The response that says something.
    response: fn(&str) -> String,
    model: &'static str,
    /// What one exchange costs, if that is known.
    cost_usd: Option<f64>,
    is_streaming: bool,
}

fn gemini_request(said: &[String]) -> Value {
    let role = |number: usize| if number.is_multiple_of(2) { "user" } else { "model" };
    let contents: Vec<Value> = said
        .iter()
        .enumerate()
        .map(|(number, text)| json!({"role": role(number), "parts": [{"text": text}]}))
        .collect();
    json!({"contents": contents, "systemInstruction": {"parts": [{"text": "be good"}]}})
}

fn gemini_usage() -> Value {
    json!({"promptTokenCount": 30, "cachedContentTokenCount": 0, "candidatesTokenCount": 15, "thoughtsTokenCount": 5})
}

fn gemini_events(text: &str) -> String {
    let (first, last) = text.split_at(2);
    let part = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}}]});
    let end = json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": gemini_usage(), "modelVersion": "gemini-2.5-pro"});
    [part(first), part(last), end].iter().map(|event| format!("data: {event}\r\n\r\n")).collect()
}

fn gemini_whole(text: &str) -> String {
    let candidate = json!({"content": {"parts": [{"text": text}], "role": "model"}, "finishReason": "STOP"});
    json!({"candidates": [candidate], "usageMetadata": gemini_usage()}).to_string()
}

fn ollama_request(said: &[String]) -> Value {
    let role = |number: usize| if number.is_multiple_of(2) { "user" } else { "assistant" };
    let messages: Vec<Value> =
        said.iter().enumerate().map(|(number, text)| json!({"role": role(number), "content": text})).collect();
    json!({"model": "llama3.3", "messages": messages})
}

fn ollama_lines(text: &str) -> String {
    let (first, last) = text.split_at(2);
    let line =
        |text: &str| json!({"model": "llama3.3", "message": {"role": "assistant", "content": text}, "done": false});
    format!("{}\n{}\n{}", line(first), line(last), ollama_whole(""))
}

fn ollama_whole(text: &str) -> String {
    let message = json!({"role": "assistant", "content": text});
    let last =
        json!({"model": "llama3.3", "message": message, "done": true, "prompt_eval_count": 30, "eval_count": 20});
    format!("{last}\n")
}

const DIALECTS: [Dialect; 4] = [
    Dialect {
        target: "/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
        content_type: "text/event-stream",
        request: gemini_request,
        response: gemini_events,
        model: "gemini-2.5-pro",
        cost_usd: Some((30.0 * 1.25 + 20.0 * 10.0) / 1e6),
        is_streaming: true,
    },
    Dialect {
        target: "/v1beta/models/gemini-2.5-pro:generateContent",
        content_type: "application/json; charset=UTF-8",
        request: gemini_request,
        response: gemini_whole,
        model: "gemini-2.5-pro",
        cost_usd: Some((30.0 * 1.25 + 20.0 * 10.0) / 1e6),
        is_streaming: false,
    },
    Dialect {
        target: "/api/chat",
        content_type: "application/x-ndjson",
        request: ollama_request,
        response: ollama_lines,
        model: "llama3.3",
        cost_usd: None,
        is_streaming: true,
    },
    Dialect {
        target: "/api/chat",
        content_type: "application/json",
        request: ollama_request,
        response: ollama_whole,
        model: "llama3.3",
        cost_usd: None,
        is_streaming: false,
    },
];

pub(crate) async fn gemini_and_ollama_read_like_any_other_api_and_every_body_comes_back(mut lake: Lake) {
    let mut clock = 1_795_343_812_000_000;
    for (number, dialect) in DIALECTS.iter().enumerate() {
        let mut said: Vec<String> = Vec::new();
        let mut exchanges = Vec::new();
        for round in 0..3 {
            clock += 1_000_000;
            said.push(format!("question {round} of {number}"));
            let (request, answer) = ((dialect.request)(&said).to_string(), format!("answer {round} of {number}"));
            let response = (dialect.response)(&answer);
            let at = Timestamp(clock);
            let body = request.clone().into_bytes();
            let mut exchange = exchange_at(at, dialect.target, &[], body, response.as_bytes(), Outcome::Complete);
            let head = exchange.response_head.as_mut().unwrap();
            head.headers.0 = vec![("content-type".into(), dialect.content_type.as_bytes().to_vec())];
            exchanges.push((lake.record(exchange).await, request, response));
            said.push(answer);
        }
        for (id, request, response) in exchanges {
            assert_eq!(lake.part(id, Part::RequestBody).await, request.as_bytes());
            assert_eq!(lake.part(id, Part::ResponseBody).await, response.as_bytes());
            let kept = lake.store.exchange(id).await.unwrap().unwrap();
            assert_eq!((kept.kind, kept.streaming), (Kind::Message, dialect.is_streaming), "{}", dialect.target);
            assert_eq!(kept.model.as_deref(), Some(dialect.model));
            assert_eq!((kept.input_tokens, kept.output_tokens), (Some(30), Some(20)));
            assert_eq!(kept.cost_usd.is_some(), dialect.cost_usd.is_some());
            let difference = kept.cost_usd.unwrap_or(0.0) - dialect.cost_usd.unwrap_or(0.0);
            assert!(difference.abs() < 1e-9, "{:?}", kept.cost_usd);
        }
        let conversations = lake.conversations().await;
        assert_eq!(conversations.len(), number + 1, "three exchanges are one line");
        let conversation = &conversations[number];
        assert_eq!((conversation.message_count, conversation.exchange_count), (6, 3));
        assert_eq!(conversation.title.as_deref(), Some(format!("question 0 of {number}").as_str()));
        let role = |number: usize| if number.is_multiple_of(2) { "user" } else { "assistant" };
        let expected: Vec<_> =
            said.iter().enumerate().map(|(number, text)| turn(number as u64 + 1, role(number), text)).collect();
        assert_eq!(lake.said(conversation.id).await, expected);
    }
    lake.index().await;
    assert_eq!(lake.found("\"answer 2 of 0\"").await, ["answer 2 of 0"]);
    assert_eq!(lake.found("\"answer 1 of 3\"").await, ["answer 1 of 3"]);
}

pub(crate) async fn a_gemini_answer_that_breaks_off_is_kept_as_far_as_it_came(mut lake: Lake) {
    let said = ["question".to_owned()];
    let whole = gemini_events("answer");
    // In the middle of the second event.
    let cut = &whole[..whole.rfind("swer").unwrap()];
    let body = gemini_request(&said).to_string().into_bytes();
    let at = Timestamp(1_795_343_812_000_000);
    let mut exchange = exchange_at(at, DIALECTS[0].target, &[], body, cut.as_bytes(), Outcome::UpstreamAborted);
    let head = exchange.response_head.as_mut().unwrap();
    head.headers.0 = vec![("content-type".into(), b"text/event-stream".to_vec())];
    let id = lake.record(exchange).await;
    assert_eq!(lake.part(id, Part::ResponseBody).await, cut.as_bytes());
    let kept = lake.store.exchange(id).await.unwrap().unwrap();
    assert_eq!((kept.model.as_deref(), kept.output_tokens), (Some("gemini-2.5-pro"), None));
    let turns = lake.store.turns(kept.conversation_id.unwrap(), 0, None).await.unwrap();
    assert_eq!((turns.len(), turns[1].complete), (2, false));
    assert_eq!(crate::lake::text(&turns[1].content), "an");
}
