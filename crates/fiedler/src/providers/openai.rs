//! OpenAI's two APIs, as OpenAI, Together, xAI and most self-hosted servers speak them.
//!
//! Source: <https://platform.openai.com/docs/api-reference/chat/create>, <https://docs.together.ai/reference/chat-completions-1>,
//! <https://docs.x.ai/docs/api-reference>.

use serde_json::{Value, json};

use super::{Question, Request};

pub(super) fn chat_request(question: &Question<'_>) -> Request {
    // OpenAI's reasoning models refuse `max_tokens`; many others know nothing else.
    let limit = match question.model.provider.name.as_str() {
        "openai" | "xai" => "max_completion_tokens",
        _ => "max_tokens",
    };
    let body = json!({
        "model": question.model.api_name,
        "messages": [{"role": "user", "content": content(question, "text", "image_url")}],
        limit: question.max_output,
        "stream": true,
        "stream_options": {"include_usage": true},
    });
    Request { path: path(question, "chat/completions"), body, headers: &[] }
}

pub(super) fn responses_request(question: &Question<'_>) -> Request {
    let body = json!({
        "model": question.model.api_name,
        "input": [{"role": "user", "content": content(question, "input_text", "input_image")}],
        "max_output_tokens": question.max_output,
        "stream": true,
    });
    Request { path: path(question, "responses"), body, headers: &[] }
}

/// A base URL that has a path has its version in it, as clients of this API expect; a bare host has not.
fn path(question: &Question<'_>, end: &str) -> String {
    let has_path = question.model.provider.base_url.as_ref().is_some_and(|url| url.path() != "/");
    if has_path { format!("/{end}") } else { format!("/v1/{end}") }
}

fn content(question: &Question<'_>, text: &str, image: &str) -> Value {
    if question.images.is_empty() && text == "text" {
        return json!(question.text);
    }
    let mut parts = vec![json!({"type": text, "text": question.text})];
    parts.extend(question.images.iter().map(|picture| {
        let url = picture.data_url();
        let url = if image == "image_url" { json!({"url": url}) } else { json!(url) };
        json!({"type": image, "image_url": url})
    }));
    Value::Array(parts)
}
