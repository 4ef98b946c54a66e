//! Ollama's own API: a JSON object a line. Source: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use serde_json::json;

use super::{Question, Request};

pub(super) fn request(question: &Question<'_>) -> Request {
    let mut message = json!({"role": "user", "content": question.text});
    if !question.images.is_empty() {
        message["images"] = question.images.iter().map(|image| image.base64.as_str()).collect();
    }
    let body = json!({
        "model": question.model.api_name,
        "messages": [message],
        "stream": true,
        "options": {"num_predict": question.max_output},
    });
    Request { path: "/api/chat".to_owned(), body, headers: &[] }
}
