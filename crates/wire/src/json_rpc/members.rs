//! The members of an object and the items of an array, as the text that they are.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member of an object.
#[derive(Clone, Debug)]
pub struct Member<'a> {
    /// Its name, unescaped.
    pub name: Cow<'a, str>,
    /// Its value, as written.
    pub value: &'a RawValue,
}

/// An object's members in their order, doubles included; `None` if the value is no object.
pub fn members(object: &RawValue) -> Option<Vec<Member<'_>>> {
    serde_json::Deserializer::from_str(object.get()).deserialize_map(Members).ok()
}

/// An array's items; `None` if the value is no array.
pub fn items(array: &RawValue) -> Option<Vec<&RawValue>> {
    serde_json::from_str(array.get()).ok()
}

/// The text of a JSON string; `None` if the value is something else.
pub fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let written = value.get();
    if !written.starts_with('"') {
        return None;
    }
    match written.get(1..written.len() - 1) {
        Some(plain) if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str(written).ok().map(Cow::Owned),
    }
}

/// A text as JSON.
pub fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            found.push(Member { name, value: map.next_value()? });
        }
        Ok(found)
    }
}

/// A name, borrowed where it needs no unescaping.
struct Name;

impl<'de> serde::de::DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
