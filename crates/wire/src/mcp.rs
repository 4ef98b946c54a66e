//! What a message of MCP (JSON-RPC 2.0) is about, without reading all of it.
//!
//! Guaranteed: memory does not grow with the message, for what is not looked at is skipped as it is read; an id comes
//! back as it was written, so that integers of any size, texts and fractions stay apart.
//!
//! Refused: validating. Whatever is not an object of JSON is no message; a field of another type than expected is as good
//! as absent.

use std::fmt;
use std::io::Read;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Longer ids, methods and names are no names.
const MAX_TEXT_BYTES: usize = 1024;

/// What kind of message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It has a method and an id: somebody waits for an answer.
    Request,
    /// It has a method and no id.
    Notification,
    /// It answers.
    Result,
    /// It answers that it did not work.
    Error,
    /// None of these.
    Other,
}

/// What a message says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What it is.
    pub kind: Kind,
    /// The id as it stands in the message, quotes included.
    pub id: Option<String>,
    /// The method.
    pub method: Option<String>,
    /// `params.name`: the tool or prompt that is asked for.
    pub name: Option<String>,
    /// `params._meta["claudecode/toolUseId"]`: which of the model's tool calls this serves.
    pub tool_use_id: Option<String>,
    /// `params._meta`, `claudecode/sessionId` or `sessionId`: whose session it belongs to.
    pub session_id: Option<String>,
    /// `result.isError`: the tool says that it failed.
    pub is_tool_error: bool,
}

/// Reads a message. `None`: it is no object of JSON.
pub fn read(message: impl Read) -> Option<Envelope> {
    let Fields(message) = serde_json::from_reader::<_, Fields<Message>>(message).ok()?;
    let message = message?;
    let id = message.id.map(|id| id.get().to_owned()).filter(|id| id.len() <= MAX_TEXT_BYTES);
    let method = message.method.and_then(|Text(method)| method);
    let kind = match (&method, &id) {
        (Some(_), Some(_)) => Kind::Request,
        (Some(_), None) => Kind::Notification,
        (None, _) if message.error.is_some() => Kind::Error,
        (None, _) if message.result.is_some() => Kind::Result,
        (None, _) => Kind::Other,
    };
    let params = message.params.and_then(|Fields(params)| params).unwrap_or_default();
    let meta = params.meta.and_then(|Fields(meta)| meta).unwrap_or_default();
    let result = message.result.and_then(|Fields(result)| result);
    let text = |text: Option<Text>| text.and_then(|Text(text)| text);
    Some(Envelope {
        kind,
        id,
        method,
        name: text(params.name),
        tool_use_id: text(meta.tool_use_id),
        session_id: text(meta.session_id),
        is_tool_error: result.is_some_and(|result| matches!(result.is_error, Some(Flag(true)))),
    })
}

/// The messages of a body that holds one, or a batch of them (allowed in MCP 2025-03-26 only), each as it stands.
pub fn split(body: &[u8]) -> Vec<&[u8]> {
    if body.trim_ascii_start().first() != Some(&b'[') {
        return vec![body];
    }
    let batch: Option<Vec<&RawValue>> = serde_json::from_slice(body).ok();
    batch.map_or_else(|| vec![body], |batch| batch.into_iter().map(|message| message.get().as_bytes()).collect())
}

#[derive(serde::Deserialize)]
struct Message {
    #[serde(default)]
    id: Option<Box<RawValue>>,
    #[serde(default)]
    method: Option<Text>,
    #[serde(default)]
    params: Option<Fields<Params>>,
    #[serde(default)]
    result: Option<Fields<Outcome>>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Default, serde::Deserialize)]
struct Params {
    #[serde(default)]
    name: Option<Text>,
    #[serde(default, rename = "_meta")]
    meta: Option<Fields<Meta>>,
}

#[derive(Default, serde::Deserialize)]
struct Meta {
    #[serde(default, rename = "claudecode/toolUseId")]
    tool_use_id: Option<Text>,
    #[serde(default, rename = "claudecode/sessionId", alias = "sessionId")]
    session_id: Option<Text>,
}

#[derive(serde::Deserialize)]
struct Outcome {
    #[serde(default, rename = "isError")]
    is_error: Option<Flag>,
}

/// An object's known fields; `None` for anything else.
struct Fields<T>(Option<T>);
/// A text of reasonable length; `None` for anything else.
struct Text(Option<String>);
/// Whether it is `true`.
struct Flag(bool);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Fields<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<T>(std::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Lenient<'de> for Object<T> {
            type Found = T;
            fn map<A: MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }
        }
        deserializer.deserialize_any(Any(Object(std::marker::PhantomData))).map(Self)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Short;
        impl Lenient<'_> for Short {
            type Found = String;
            fn text(self, text: &str) -> Option<String> {
                (text.len() <= MAX_TEXT_BYTES).then(|| text.to_owned())
            }
        }
        deserializer.deserialize_any(Any(Short)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Flag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct True;
        impl Lenient<'_> for True {
            type Found = ();
            fn bool(self, flag: bool) -> Option<()> {
                flag.then_some(())
            }
        }
        Ok(Self(deserializer.deserialize_any(Any(True))?.is_some()))
    }
}

/// What is looked for; everything else is skipped.
trait Lenient<'de>: Sized {
    type Found;
    fn text(self, _: &str) -> Option<Self::Found> {
        None
    }
    fn bool(self, _: bool) -> Option<Self::Found> {
        None
    }
    fn map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<Self::Found>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Takes a value of any type.
struct Any<L>(L);

impl<'de, L: Lenient<'de>> Visitor<'de> for Any<L> {
    type Value = Option<L::Found>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(self.0.text(text))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(self.0.bool(flag))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        self.0.map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(message: &str) -> Envelope {
        read(message.as_bytes()).unwrap()
    }

    #[test]
    fn a_tool_call_names_its_tool_and_the_models_call() {
        let call = of(
            r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"store","arguments":{"name":"x"},"_meta":{"claudecode/toolUseId":"toolu_1","progressToken":3}}}"#,
        );
        assert_eq!(
            (call.kind, call.id.as_deref(), call.method.as_deref()),
            (Kind::Request, Some("7"), Some("tools/call"))
        );
        assert_eq!((call.name.as_deref(), call.tool_use_id.as_deref()), (Some("store"), Some("toolu_1")));
    }

    #[test]
    fn ids_stay_as_they_were_written() {
        for id in ["7", "\"7\"", "123456789012345678901234567890", "1.5", "\"\\u00e4\""] {
            assert_eq!(of(&format!(r#"{{"id":{id},"result":{{}}}}"#)).id.as_deref(), Some(id));
        }
        assert_eq!(of(r#"{"id":null,"method":"m"}"#).kind, Kind::Notification);
    }

    #[test]
    fn answers_are_told_apart() {
        assert!(of(r#"{"id":1,"result":{"isError":true,"content":[]}}"#).is_tool_error);
        assert!(!of(r#"{"id":1,"result":{"isError":"true"}}"#).is_tool_error);
        assert_eq!(of(r#"{"id":1,"result":5}"#).kind, Kind::Result);
        assert_eq!(of(r#"{"id":1,"error":{"code":-1}}"#).kind, Kind::Error);
        assert_eq!(of(r#"{"type":"session.update"}"#).kind, Kind::Other);
    }

    #[test]
    fn fields_of_other_types_are_as_good_as_absent() {
        let odd = of(r#"{"id":1,"method":["m"],"params":[1,{"_meta":2}],"error":null}"#);
        assert_eq!((odd.kind, odd.method, odd.name), (Kind::Other, None, None));
        assert_eq!(of(r#"{"method":"m","params":{"name":4,"_meta":"x"}}"#).name, None);
        assert_eq!(read(&b"[1]"[..]), None);
        assert_eq!(read(&b"{\"id\":1"[..]), None);
        assert_eq!(of(&format!(r#"{{"method":"{}"}}"#, "m".repeat(2000))).method, None);
    }

    #[test]
    fn a_batch_is_split_and_anything_else_is_not() {
        assert_eq!(split(br#" [{"id":1}, {"id" : 2}]"#), [&br#"{"id":1}"#[..], br#"{"id" : 2}"#]);
        assert_eq!(split(b"{}"), [b"{}"]);
        assert_eq!(split(b"[1,"), [b"[1,"]);
    }
}
