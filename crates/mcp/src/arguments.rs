//! A tool's arguments, read parameter by parameter.
//!
//! Guaranteed: each error names the parameter and says what it must be. Nothing is converted: `"5"` is no integer, and a
//! string that no Unicode text can hold (a lone surrogate) is no string. `null` counts as absent.
//!
//! Refused everywhere: U+0000, which not every database can store.

use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::service::{Tool, ToolError};

/// The arguments of one call.
#[derive(Debug)]
pub struct Arguments(Vec<(String, Box<RawValue>)>);

impl Arguments {
    /// Reads an object of a tool's parameters.
    pub(crate) fn parse(raw: Option<&RawValue>, tool: &Tool) -> Result<Self, ToolError> {
        let text = raw.map_or("{}", RawValue::get);
        let text = if text == "null" { "{}" } else { text };
        // The parser's own words would repeat a string, however long it is.
        if !text.starts_with('{') {
            return Err(ToolError::new("the arguments must be a JSON object"));
        }
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let given = deserializer
            .deserialize_map(Fields)
            .map_err(|error| ToolError::new(format!("the arguments must be a JSON object: {error}")))?;
        if let Some((name, _)) = given.iter().find(|(name, _)| !tool.parameters().any(|known| known == name)) {
            let known: Vec<&str> = tool.parameters().collect();
            return Err(ToolError::parameter(
                &beginning(name),
                format!("is no parameter of {}; it has: {}", tool.name, known.join(", ")),
            ));
        }
        let arguments = Self(given.into_iter().filter(|(_, value)| value.get() != "null").collect());
        match tool.required().find(|name| !arguments.has(name)) {
            Some(missing) => Err(ToolError::parameter(missing, "is missing; it is required")),
            None => Ok(arguments),
        }
    }

    /// Whether it was given.
    pub fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    /// The JSON text that was given.
    pub fn raw(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// A string of at most `max_bytes`, not empty.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn text(&self, name: &str, max_bytes: usize) -> Result<Option<String>, ToolError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let text = string(raw).map_err(|problem| ToolError::parameter(name, problem))?;
        if text.is_empty() {
            return Err(ToolError::parameter(name, "must be a string that is not empty"));
        }
        if text.len() > max_bytes {
            return Err(ToolError::parameter(name, format!("must have at most {max_bytes} bytes, not {}", text.len())));
        }
        Ok(Some(text))
    }

    /// Like [`Arguments::text`], for a parameter that the tool requires.
    ///
    /// # Errors
    /// If it is absent or anything else.
    pub fn required_text(&self, name: &str, max_bytes: usize) -> Result<String, ToolError> {
        self.text(name, max_bytes)?.ok_or_else(|| ToolError::parameter(name, "is missing; it is required"))
    }

    /// One of some words.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, ToolError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let given = string(raw).ok();
        let found = words.iter().find(|(word, _)| given.as_deref() == Some(*word));
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        match found {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => Err(ToolError::parameter(name, format!("must be one of {}, not {}", known(), shown(raw)))),
        }
    }

    /// An integer within a range.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ToolError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let (least, most) = (range.start(), range.end());
        let bounds = match *most {
            u64::MAX => format!("must be an integer from {least} on"),
            most => format!("must be an integer from {least} to {most}"),
        };
        let wrong = || ToolError::parameter(name, format!("{bounds}, not {}", shown(raw)));
        let number: Value = serde_json::from_str(raw.get()).map_err(|_| wrong())?;
        whole(&number).filter(|number| range.contains(number)).map(Some).ok_or_else(wrong)
    }

    /// `true` or `false`; `default` where it is absent.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn boolean(&self, name: &str, default: bool) -> Result<bool, ToolError> {
        match self.raw(name).map(|raw| (raw, raw.get())) {
            None => Ok(default),
            Some((_, "true")) => Ok(true),
            Some((_, "false")) => Ok(false),
            Some((raw, _)) => Err(ToolError::parameter(name, format!("must be true or false, not {}", shown(raw)))),
        }
    }

    /// A UUID.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn uuid(&self, name: &str) -> Result<Option<Uuid>, ToolError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        let id = string(raw).ok().filter(|text| text.len() <= 45).and_then(|text| text.parse().ok());
        let wrong = || ToolError::parameter(name, format!("must be an id (a UUID), not {}", shown(raw)));
        id.map(Some).ok_or_else(wrong)
    }

    /// Like [`Arguments::uuid`], for a parameter that the tool requires.
    ///
    /// # Errors
    /// If it is absent or anything else.
    pub fn required_uuid(&self, name: &str) -> Result<Uuid, ToolError> {
        self.uuid(name)?.ok_or_else(|| ToolError::parameter(name, "is missing; it is required"))
    }

    /// A JSON object of at most `max_bytes` of text.
    ///
    /// # Errors
    /// If it is anything else.
    pub fn object(&self, name: &str, max_bytes: usize) -> Result<Option<Value>, ToolError> {
        let Some(raw) = self.raw(name) else {
            return Ok(None);
        };
        if !raw.get().starts_with('{') {
            return Err(ToolError::parameter(name, format!("must be a JSON object, not {}", shown(raw))));
        }
        if raw.get().len() > max_bytes {
            let size = raw.get().len();
            return Err(ToolError::parameter(name, format!("must have at most {max_bytes} bytes, not {size}")));
        }
        kept_value(raw).map(Some).map_err(|problem| ToolError::parameter(name, problem))
    }
}

/// Any JSON value that can be kept: Unicode throughout, without U+0000, nested at most as deep as the parser goes.
///
/// # Errors
/// What the value must be, to stand after its name.
pub fn kept_value(raw: &RawValue) -> Result<Value, String> {
    let value: Value = serde_json::from_str(raw.get()).map_err(|error| format!("must be valid JSON: {error}"))?;
    if has_nul(&value) { Err(NUL.to_owned()) } else { Ok(value) }
}

const NUL: &str = "must not contain U+0000 (NUL)";

fn string(raw: &RawValue) -> Result<String, String> {
    if !raw.get().starts_with('"') {
        return Err(format!("must be a string, not {}", shown(raw)));
    }
    let text: String = serde_json::from_str(raw.get()).map_err(|e| format!("must be a string of Unicode text: {e}"))?;
    if text.contains('\0') { Err(NUL.to_owned()) } else { Ok(text) }
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// An integer, also where it is written as `20.0`, which some clients do.
fn whole(number: &Value) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let as_float = || number.as_f64().filter(|n| n.fract() == 0.0 && (0.0..EXACT).contains(n));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked just above")]
    number.as_u64().or_else(|| as_float().map(|n| n as u64))
}

/// What was given, short enough for a message.
fn shown(raw: &RawValue) -> String {
    const SHOWN_CHARACTERS: usize = 60;
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "an array".to_owned(),
        _ => match text.char_indices().nth(SHOWN_CHARACTERS) {
            Some((end, _)) => format!("{}…", &text[..end]),
            None => text.to_owned(),
        },
    }
}

/// Enough of a name to know it by.
fn beginning(name: &str) -> String {
    name.chars().take(40).collect()
}

/// Reads an object's fields, each at most once.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Vec<(String, Box<RawValue>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields: Self::Value = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(serde::de::Error::custom(format_args!("`{}` is given twice", beginning(&name))));
            }
            // More than any tool has: nobody means it, and the search for doubles above is quadratic.
            if fields.len() >= 100 {
                return Err(serde::de::Error::custom("it has more than 100 fields"));
            }
            fields.push((name, map.next_value()?));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests;
