//! Where the parts of a request body stand, as exact byte ranges.
//!
//! An agent resends its whole history with every turn, so a body is stored as its repeated parts and what lies between
//! them. The parts are the elements of the top-level arrays that all known model APIs use for what repeats:
//! `messages`, `system`, `tools`, `input` (OpenAI's responses) and `contents` (Gemini).
//!
//! Guaranteed: every range is that of one whole JSON value without the blanks around it, ranges are disjoint and
//! ascend, and cutting a body at them loses no byte. The work is linear in the body and does not recurse, so any depth
//! of nesting is safe here; note that `serde_json` may still refuse to build a `Value` from an element (deeper than 128
//! levels, a lone surrogate in a string, a number beyond `f64`).
//!
//! Refused (the body *does not fit*, and is better kept whole): what is not UTF-8 or not one JSON object, a body that
//! has one of those five names twice (which of them counts would be a guess), and more than [`MAX_ELEMENTS`] elements.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The most elements that a body may have in all its arrays together. Conversations stay far below; what lies above is
/// a list of numbers or words, for which a range each would outweigh the data.
pub const MAX_ELEMENTS: usize = 65_536;

/// The top-level arrays whose elements are found. The numbers are stored in manifests and never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ArrayKey {
    /// `messages`: the history (Anthropic, OpenAI chat).
    Messages = 0,
    /// `system`: the system prompt's blocks (Anthropic).
    System = 1,
    /// `tools`: the tools' definitions.
    Tools = 2,
    /// `input`: the history (OpenAI responses).
    Input = 3,
    /// `contents`: the history (Gemini).
    Contents = 4,
}

/// One of the top-level arrays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArraySpan {
    /// Which one it is.
    pub key: ArrayKey,
    /// The byte range in the body of each of its elements, ascending.
    pub elements: Vec<Range<usize>>,
}

/// The arrays of a body in document order. Names whose value is no array are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spans {
    /// As they stand in the body, each key at most once; empty arrays included.
    pub arrays: Vec<ArraySpan>,
}

impl Spans {
    /// The element ranges of that array; none when the body has no such array.
    pub fn elements(&self, key: ArrayKey) -> &[Range<usize>] {
        self.arrays.iter().find(|array| array.key == key).map_or(&[], |array| &array.elements)
    }

    /// All elements with their array's key, in document order.
    pub fn iter(&self) -> impl Iterator<Item = (ArrayKey, Range<usize>)> {
        self.arrays.iter().flat_map(|array| array.elements.iter().map(|range| (array.key, range.clone())))
    }
}

/// The spans of a body; `None` when it does not fit.
pub fn find(body: &[u8]) -> Option<Spans> {
    parse(body).map(|request| request.spans)
}

/// What of a request's body decides how it is filed, read in the same pass as the spans and borrowed from the body.
/// A field of an unexpected type counts as absent; of a name that comes twice, the last one counts.
#[derive(Debug, Default)]
pub struct Request<'a> {
    /// The requested model.
    pub model: Option<Cow<'a, str>>,
    /// Whether a stream is asked for.
    pub stream: bool,
    /// The bound on output tokens, under any of the names that the APIs have for it.
    pub max_tokens: Option<u64>,
    /// The sampling temperature.
    pub temperature: Option<f64>,
    /// `system`, or `instructions` (OpenAI responses): a string, or an array, whose blocks `spans` has as well.
    pub system: Option<&'a RawValue>,
    /// `input`, a string or an array (OpenAI responses).
    pub input: Option<&'a RawValue>,
    /// `metadata`, where Claude Code puts its session id.
    pub metadata: Option<&'a RawValue>,
    /// `output_config`, whose `format` gives side calls away.
    pub output_config: Option<&'a RawValue>,
    /// `thinking`.
    pub thinking: Option<&'a RawValue>,
    /// `tool_choice`.
    pub tool_choice: Option<&'a RawValue>,
    /// `previous_response_id`: the history is with the server (OpenAI responses).
    pub previous_response_id: Option<Cow<'a, str>>,
    /// `prompt_cache_key`, or `user`: what OpenAI's clients have in place of a session id.
    pub session_hint: Option<Cow<'a, str>>,
    /// The arrays' elements; `tools`, for example, are as many as `spans.elements(ArrayKey::Tools)`.
    pub spans: Spans,
}

/// Reads a request's body; `None` when it does not fit (see the module's opening).
pub fn parse(body: &[u8]) -> Option<Request<'_>> {
    let text = std::str::from_utf8(body).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let request = json.deserialize_map(TopLevel { text, left: MAX_ELEMENTS }).ok()?;
    json.end().ok()?;
    Some(request)
}

#[derive(serde::Deserialize, Clone, Copy, PartialEq)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Messages,
    System,
    Tools,
    Input,
    Contents,
    Instructions,
    Model,
    Stream,
    #[serde(alias = "max_completion_tokens", alias = "max_output_tokens")]
    MaxTokens,
    Temperature,
    Metadata,
    OutputConfig,
    Thinking,
    ToolChoice,
    PreviousResponseId,
    #[serde(alias = "user")]
    PromptCacheKey,
    #[serde(other)]
    Other,
}

impl Name {
    fn array_key(self) -> Option<ArrayKey> {
        match self {
            Name::Messages => Some(ArrayKey::Messages),
            Name::System => Some(ArrayKey::System),
            Name::Tools => Some(ArrayKey::Tools),
            Name::Input => Some(ArrayKey::Input),
            Name::Contents => Some(ArrayKey::Contents),
            _ => None,
        }
    }
}

/// Visits the body's object. Every value is skipped as raw text first, because that checks its syntax and nothing
/// else: strings and numbers that no Rust type can hold are still bytes that must come back.
struct TopLevel<'a> {
    text: &'a str,
    left: usize,
}

impl<'a> Visitor<'a> for TopLevel<'a> {
    type Value = Request<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request object")
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<Request<'a>, A::Error> {
        let mut request = Request::default();
        let mut seen = Vec::new();
        while let Some(name) = map.next_key::<Name>()? {
            if name == Name::Other {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value::<&RawValue>()?;
            if let Some(key) = name.array_key() {
                if seen.contains(&key) {
                    return Err(de::Error::custom("a key that must be unique comes twice"));
                }
                seen.push(key);
                self.read_array(key, value, &mut request.spans).map_err(de::Error::custom)?;
            }
            request.set(name, value);
        }
        Ok(request)
    }
}

impl<'a> TopLevel<'a> {
    fn read_array(&mut self, key: ArrayKey, value: &'a RawValue, spans: &mut Spans) -> Result<(), serde_json::Error> {
        if !value.get().starts_with('[') {
            return Ok(());
        }
        let elements = Elements { text: self.text, limit: self.left };
        let elements = elements.deserialize(&mut serde_json::Deserializer::from_str(value.get()))?;
        self.left -= elements.len();
        spans.arrays.push(ArraySpan { key, elements });
        Ok(())
    }
}

struct Elements<'a> {
    text: &'a str,
    limit: usize,
}

impl<'a> DeserializeSeed<'a> for Elements<'a> {
    type Value = Vec<Range<usize>>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'a> Visitor<'a> for Elements<'a> {
    type Value = Vec<Range<usize>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut ranges = Vec::new();
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if ranges.len() == self.limit {
                return Err(de::Error::custom("too many elements"));
            }
            ranges.push(range_in(self.text, element.get()).ok_or_else(|| de::Error::custom("not borrowed"))?);
        }
        Ok(ranges)
    }
}

/// Where `part`, which is borrowed from `text`, stands in it.
fn range_in(text: &str, part: &str) -> Option<Range<usize>> {
    let start = (part.as_ptr() as usize).checked_sub(text.as_ptr() as usize)?;
    let end = start.checked_add(part.len())?;
    (end <= text.len()).then_some(start..end)
}

impl<'a> Request<'a> {
    fn set(&mut self, name: Name, value: &'a RawValue) {
        match name {
            Name::System | Name::Instructions => self.system = Some(value),
            Name::Input => self.input = Some(value),
            Name::Metadata => self.metadata = Some(value),
            Name::OutputConfig => self.output_config = Some(value),
            Name::Thinking => self.thinking = Some(value),
            Name::ToolChoice => self.tool_choice = Some(value),
            Name::Model => self.model = read::<Text<'_>>(value).map(|text| text.0),
            Name::PreviousResponseId => self.previous_response_id = read::<Text<'_>>(value).map(|text| text.0),
            Name::PromptCacheKey => self.session_hint = read::<Text<'_>>(value).map(|text| text.0),
            Name::Stream => self.stream = read(value).unwrap_or(false),
            Name::MaxTokens => self.max_tokens = read(value),
            Name::Temperature => self.temperature = read(value),
            Name::Messages | Name::Tools | Name::Contents | Name::Other => {}
        }
    }
}

#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn read<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Option<T> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests;
