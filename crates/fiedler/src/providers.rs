//! How each kind of API is asked and how its answers are read.
//!
//! Guaranteed: an answer can be read at any point of its stream, so that what came before a break is kept; an API that
//! does not stream although it was asked to is understood, too.
//! Refused: a key anywhere but in a header.

mod anthropic;
mod gemini;
mod ollama;
mod openai;

use http::HeaderMap;
use serde_json::Value;
use wire::assembled::Assembled;
use wire::sse;

use crate::files::{Content, Image};
use crate::models::{Api, Model};

/// What a model is asked.
pub(crate) struct Question<'a> {
    pub(crate) model: &'a Model,
    /// Prompt and text files in one.
    pub(crate) text: &'a str,
    pub(crate) images: Vec<&'a Image>,
    /// Tokens that the answer may have.
    pub(crate) max_output: u64,
}

/// What is sent, without the key.
pub(crate) struct Request {
    /// After the provider's base.
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Further headers.
    pub(crate) headers: &'static [(&'static str, &'static str)],
}

impl Api {
    pub(crate) fn request(self, question: &Question<'_>) -> Request {
        match self {
            Api::OpenaiChat => openai::chat_request(question),
            Api::OpenaiResponses => openai::responses_request(question),
            Api::Gemini => gemini::request(question),
            Api::Anthropic => anthropic::request(question),
            Api::Ollama => ollama::request(question),
        }
    }

    /// The header that the key goes into, and what stands before the key there.
    pub(crate) fn key_header(self) -> (&'static str, &'static str) {
        match self {
            Api::Gemini => ("x-goog-api-key", ""),
            Api::Anthropic => ("x-api-key", ""),
            Api::OpenaiChat | Api::OpenaiResponses | Api::Ollama => ("authorization", "Bearer "),
        }
    }
}

/// What an answer comes to, whole or not.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    pub(crate) text: String,
    /// Why the model would not answer, where the API says that it would not.
    pub(crate) refusal: Option<String>,
    /// An error inside an answer that began well.
    pub(crate) error: Option<String>,
    /// Why the model stopped, in the API's own word.
    pub(crate) stop_reason: Option<String>,
    /// The answer reached its own end.
    pub(crate) is_complete: bool,
    pub(crate) prompt_tokens: Option<u64>,
    pub(crate) completion_tokens: Option<u64>,
}

impl Reading {
    /// Whether the answer was cut because it had reached the number of tokens that it may have.
    pub(crate) fn is_cut_at_limit(&self) -> bool {
        let reason = self.stop_reason.as_deref().unwrap_or_default();
        ["length", "max_tokens", "MAX_TOKENS", "max_output_tokens"].contains(&reason)
    }
}

/// Reads an answer as it comes.
pub(crate) struct Reader {
    framing: Framing,
    answer: Answer,
    /// Everything, where the answer is one JSON text.
    whole: Vec<u8>,
}

enum Framing {
    Events(sse::Parser),
    /// A JSON text a line.
    Lines(Vec<u8>),
    Whole,
}

enum Answer {
    Chat(Box<wire::openai::chat::Assembler>),
    Responses(Box<wire::openai::responses::Assembler>),
    Anthropic(Box<wire::anthropic::Assembler>),
    Gemini(Box<wire::gemini::Assembler>),
    Ollama(Box<wire::ollama::Assembler>),
}

impl Reader {
    /// A reader for the answer that begins with these headers.
    pub(crate) fn new(api: Api, headers: &HeaderMap) -> Self {
        let kind = headers.get(http::header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let framing = match (api, kind.as_str()) {
            (Api::Ollama, _) => Framing::Lines(Vec::new()),
            (_, "application/json") => Framing::Whole,
            _ => Framing::Events(sse::Parser::new()),
        };
        let answer = match api {
            Api::OpenaiChat => Answer::Chat(Box::default()),
            Api::OpenaiResponses => Answer::Responses(Box::default()),
            Api::Gemini => Answer::Gemini(Box::default()),
            Api::Anthropic => Answer::Anthropic(Box::default()),
            Api::Ollama => Answer::Ollama(Box::default()),
        };
        Self { framing, answer, whole: Vec::new() }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match &mut self.framing {
            Framing::Events(parser) => parser.feed(bytes).for_each(|event| self.answer.push(&event)),
            Framing::Lines(line) => {
                line.extend_from_slice(bytes);
                while let Some(end) = line.iter().position(|byte| *byte == b'\n') {
                    let rest = line.split_off(end + 1);
                    self.answer.push_json(&std::mem::replace(line, rest));
                }
            }
            Framing::Whole => self.whole.extend_from_slice(bytes),
        }
    }

    /// What it comes to, wherever it stands.
    pub(crate) fn finish(mut self) -> Reading {
        match &mut self.framing {
            Framing::Events(parser) => {
                if let Some(event) = parser.finish() {
                    self.answer.push(&event);
                }
            }
            Framing::Lines(line) => {
                let line = std::mem::take(line);
                self.answer.push_json(&line);
            }
            Framing::Whole => return self.answer.of_whole(&self.whole),
        }
        self.answer.finish()
    }
}

impl Answer {
    fn push(&mut self, event: &sse::Event) {
        match self {
            Answer::Chat(answer) => answer.push(event),
            Answer::Responses(answer) => answer.push(event),
            Answer::Anthropic(answer) => answer.push(event),
            Answer::Gemini(answer) => answer.push(event),
            Answer::Ollama(answer) => answer.push(event.data.as_bytes()),
        }
    }

    fn push_json(&mut self, line: &[u8]) {
        if let Answer::Ollama(answer) = self {
            answer.push(line);
        }
    }

    fn of_whole(self, body: &[u8]) -> Reading {
        let assembled = match self {
            Answer::Chat(_) => wire::openai::chat::assemble_json(body),
            Answer::Responses(_) => wire::openai::responses::assemble_json(body),
            Answer::Anthropic(_) => wire::anthropic::assemble_json(body),
            Answer::Gemini(_) => return wire::gemini::assemble_json(body).map(of_gemini).unwrap_or_default(),
            Answer::Ollama(_) => wire::ollama::assemble(body),
        };
        assembled.map(of_assembled).unwrap_or_default()
    }

    fn finish(self) -> Reading {
        match self {
            Answer::Chat(answer) => of_assembled(answer.finish()),
            Answer::Responses(answer) => of_assembled(answer.finish()),
            Answer::Anthropic(answer) => of_assembled(answer.finish()),
            Answer::Gemini(answer) => of_gemini(answer.finish()),
            Answer::Ollama(answer) => of_assembled(answer.finish()),
        }
    }
}

/// What the shared assemblers give: blocks in Anthropic's form.
fn of_assembled(assembled: Assembled) -> Reading {
    let blocks = assembled.message.get("content").and_then(Value::as_array).cloned().unwrap_or_default();
    let of_kind = |kind: &str, field: &str| -> String {
        let texts = blocks.iter().filter(|block| block["type"] == kind);
        texts.filter_map(|block| block[field].as_str()).collect()
    };
    let text = of_kind("text", "text");
    let refusal = Some(of_kind("refusal", "refusal")).filter(|refusal| !refusal.is_empty());
    let stopped = assembled.stop_reason.as_deref();
    let refused = matches!(stopped, Some("refusal" | "content_filter"));
    let usage = assembled.usage;
    let cached = usage.cache_read_tokens.unwrap_or(0) + usage.cache_write_tokens.unwrap_or(0);
    Reading {
        refusal: refusal.or_else(|| refused.then(|| format!("it stopped with {}", stopped.unwrap_or_default()))),
        text,
        error: assembled.error.as_ref().map(error_text),
        is_complete: assembled.complete,
        prompt_tokens: usage.input_tokens.map(|tokens| tokens + cached),
        completion_tokens: usage.output_tokens,
        stop_reason: assembled.stop_reason,
    }
}

fn of_gemini(assembled: Assembled) -> Reading {
    let read = of_assembled(assembled);
    let stopped = read.stop_reason.as_deref().and_then(gemini::refusal);
    Reading { refusal: read.refusal.or(stopped), ..read }
}

/// The sentence in an API's error, whatever its shape.
pub(crate) fn error_text(error: &Value) -> String {
    let sentence = match error {
        Value::String(text) => Some(text.as_str()),
        Value::Array(errors) => return errors.first().map(error_text).unwrap_or_default(),
        _ => error.get("message").and_then(Value::as_str),
    };
    match (sentence, error.get("error")) {
        (Some(sentence), _) => sentence.to_owned(),
        (None, Some(inner)) => error_text(inner),
        (None, None) => error.to_string(),
    }
}

/// Images in the form that a protocol wants, as far as they are images.
pub(crate) fn image_of(content: &Content) -> Option<&Image> {
    match content {
        Content::Image(image) => Some(image),
        Content::Text(_) => None,
    }
}

#[cfg(test)]
mod tests;
