//! Google's Gemini API. Source: <https://ai.google.dev/api/generate-content>.
//!
//! A stream is a series of responses, each with the next parts; the last has a `finishReason`. A prompt that is blocked is
//! answered without candidates.

use serde_json::{Value, json};

use super::{Question, Reading, Request, error_text};

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

#[derive(Default)]
pub(super) struct Answer(Reading);

impl Answer {
    pub(super) fn push(&mut self, data: &[u8]) {
        // Half a response, where the stream broke off.
        let Ok(response) = serde_json::from_slice::<Value>(data) else {
            return;
        };
        self.add(&response);
    }

    /// The answer in one JSON text: a response, or, without `alt=sse`, an array of them.
    pub(super) fn of_whole(mut self, body: &[u8]) -> Reading {
        match serde_json::from_slice::<Value>(body) {
            Ok(Value::Array(responses)) => responses.iter().for_each(|response| self.add(response)),
            Ok(response) => self.add(&response),
            Err(_) => {}
        }
        self.finish()
    }

    pub(super) fn finish(self) -> Reading {
        self.0
    }

    fn add(&mut self, response: &Value) {
        let reading = &mut self.0;
        if let Some(error) = response.get("error").filter(|error| !error.is_null()) {
            reading.error = Some(error_text(error));
        }
        if let Some(reason) = response["promptFeedback"]["blockReason"].as_str() {
            reading.refusal = Some(format!("the prompt was blocked ({reason})"));
            reading.is_complete = true;
        }
        let candidate = &response["candidates"][0];
        for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
            // Thoughts are summaries of the reasoning and no part of the answer.
            if part["thought"] != json!(true) {
                reading.text.push_str(part["text"].as_str().unwrap_or_default());
            }
        }
        if let Some(reason) = candidate["finishReason"].as_str() {
            reading.is_complete = true;
            reading.stop_reason = Some(reason.to_owned());
            if !matches!(reason, "STOP" | "MAX_TOKENS" | "FINISH_REASON_UNSPECIFIED") {
                reading.refusal = Some(format!("it stopped with {reason}"));
            }
        }
        let usage = &response["usageMetadata"];
        let tokens = |field: &str| usage[field].as_u64();
        reading.prompt_tokens = tokens("promptTokenCount").or(reading.prompt_tokens);
        if let Some(answered) = tokens("candidatesTokenCount") {
            reading.completion_tokens = Some(answered + tokens("thoughtsTokenCount").unwrap_or(0));
        }
    }
}
