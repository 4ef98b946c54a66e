//! Ollama's own API: a JSON object a line. Source: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

use serde_json::{Value, json};

use super::{Question, Reading, Request, error_text};

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

#[derive(Default)]
pub(super) struct Answer(Reading);

impl Answer {
    pub(super) fn push(&mut self, line: &[u8]) {
        // An empty line, or half an object where the stream broke off.
        let Ok(part) = serde_json::from_slice::<Value>(line) else {
            return;
        };
        let reading = &mut self.0;
        if let Some(error) = part.get("error") {
            reading.error = Some(error_text(error));
        }
        reading.text.push_str(part["message"]["content"].as_str().unwrap_or_default());
        if part["done"] == json!(true) {
            reading.is_complete = true;
            reading.stop_reason = part["done_reason"].as_str().map(str::to_owned);
            reading.prompt_tokens = part["prompt_eval_count"].as_u64();
            reading.completion_tokens = part["eval_count"].as_u64();
        }
    }

    pub(super) fn finish(self) -> Reading {
        self.0
    }
}
