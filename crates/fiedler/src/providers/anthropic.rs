//! Anthropic's messages API. Source: <https://docs.anthropic.com/en/api/messages>.

use serde_json::{Value, json};

use super::{Question, Request};

pub(super) fn request(question: &Question<'_>) -> Request {
    let mut parts: Vec<Value> = question
        .images
        .iter()
        .map(|image| {
            let source = json!({"type": "base64", "media_type": image.media_type, "data": image.base64});
            json!({"type": "image", "source": source})
        })
        .collect();
    parts.push(json!({"type": "text", "text": question.text}));
    let body = json!({
        "model": question.model.api_name,
        "max_tokens": question.max_output,
        "messages": [{"role": "user", "content": parts}],
        "stream": true,
    });
    Request { path: "/v1/messages".to_owned(), body, headers: &[("anthropic-version", "2023-06-01")] }
}
