//! Google's Gemini API. Source: <https://ai.google.dev/api/generate-content>.

use serde_json::json;

use super::{Question, Request};

pub(super) fn request(question: &Question<'_>) -> Request {
    let mut parts = vec![json!({"text": question.text})];
    parts.extend(
        question.images.iter().map(|image| json!({"inlineData": {"mimeType": image.media_type, "data": image.base64}})),
    );
    let body = json!({
        "contents": [{"role": "user", "parts": parts}],
        "generationConfig": {"maxOutputTokens": question.max_output},
    });
    // Names with a slash (`tunedModels/…`) are whole already.
    let name = match question.model.api_name.contains('/') {
        true => question.model.api_name.clone(),
        false => format!("models/{}", question.model.api_name),
    };
    Request { path: format!("/v1beta/{name}:streamGenerateContent?alt=sse"), body, headers: &[] }
}

/// Why the model would not go on, where it stopped for another reason than that it had said everything.
pub(super) fn refusal(stop_reason: &str) -> Option<String> {
    let is_usual = matches!(stop_reason, "STOP" | "MAX_TOKENS" | "FINISH_REASON_UNSPECIFIED");
    (!is_usual).then(|| format!("it stopped with {stop_reason}"))
}
