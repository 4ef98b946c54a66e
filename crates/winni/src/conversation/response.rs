//! What a response says: the message, the usage, the model, whichever API and encoding it came in.

use std::borrow::Cow;

use wire::assembled::Assembled;
use wire::head::ResponseHead;

use super::request::Api;

/// Decoded bodies beyond this many bytes are kept but not read.
const MAX_DECODED: usize = 64 * 1024 * 1024;

/// Whether the response comes piece by piece: as events, or as lines.
pub(crate) fn is_stream(head: &ResponseHead) -> bool {
    is_event_stream(head) || is_of_type(head, "application/x-ndjson")
}

/// Whether the response is an event stream.
pub(crate) fn is_event_stream(head: &ResponseHead) -> bool {
    is_of_type(head, "text/event-stream")
}

fn is_of_type(head: &ResponseHead, kind: &str) -> bool {
    head.headers.get("content-type").is_some_and(|t| t.trim_start().starts_with(kind))
}

/// The response's body as its sender wrote it, before Content-Encoding; as much of it as decodes.
pub(crate) fn decoded<'a>(head: &ResponseHead, body: &'a [u8]) -> Cow<'a, [u8]> {
    let Some(encoding) = head.headers.get("content-encoding") else {
        return Cow::Borrowed(body);
    };
    match wire::encoding::decode(encoding, body, MAX_DECODED) {
        Ok(decoded) => decoded,
        Err(wire::encoding::DecodeError::Truncated(decoded)) => Cow::Owned(decoded),
        Err(_) => Cow::Borrowed(body),
    }
}

/// The assembled answer of a model; `None` where there is none to read.
pub(crate) fn assemble(api: Api, head: &ResponseHead, body: &[u8]) -> Option<Assembled> {
    let body = decoded(head, body);
    match (api, is_event_stream(head)) {
        (Api::Anthropic, true) => Some(wire::anthropic::assemble_stream(&body)),
        (Api::Anthropic, false) => wire::anthropic::assemble_json(&body),
        (Api::OpenAiChat, true) => Some(wire::openai::chat::assemble_stream(&body)),
        (Api::OpenAiChat, false) => wire::openai::chat::assemble_json(&body),
        (Api::OpenAiResponses, true) => Some(wire::openai::responses::assemble_stream(&body)),
        (Api::OpenAiResponses, false) => wire::openai::responses::assemble_json(&body),
        (Api::Gemini, true) => Some(wire::gemini::assemble_stream(&body)),
        (Api::Gemini, false) => wire::gemini::assemble_json(&body),
        (Api::Ollama, _) => wire::ollama::assemble(&body),
    }
}
