//! The span finder against serde_json: what it finds are the elements of the arrays, and it finds them in every body that
//! fits.

use std::collections::BTreeMap;

use e2e::generator::{self, Client, Shape};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use wire::spans::{self, ArrayKey};

use crate::mutate::mutate;
use crate::{harness, json};

const KEYS: [(&str, ArrayKey); 5] = [
    ("messages", ArrayKey::Messages),
    ("system", ArrayKey::System),
    ("tools", ArrayKey::Tools),
    ("input", ArrayKey::Input),
    ("contents", ArrayKey::Contents),
];

pub(crate) const WORDS: [&[u8]; 22] = [
    b"\"messages\":[",
    b"\"system\":\"x\",",
    b"\"tools\":[],",
    b"\"input\":[1,{}],",
    b"\"contents\":null,",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"\"",
    b"\\u006d",
    b"\\ud800",
    b"\\\"",
    b" \n\t",
    b"1e999",
    b"-0.0",
    b"\"role\":\"user\",",
    b"\"cache_control\":{\"type\":\"ephemeral\"},",
    b"null",
    b"\"content\":[{\"type\":\"text\",\"text\":\"t\"}]",
];

/// How often each top-level key stands in an object.
#[derive(Default)]
struct Keys(BTreeMap<String, usize>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Count;
        impl<'de> Visitor<'de> for Count {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Keys::default();
                while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                    *keys.0.entry(key).or_default() += 1;
                }
                Ok(keys)
            }
        }
        deserializer.deserialize_map(Count)
    }
}

/// Whether there was something to compare with.
fn check(body: &[u8]) -> bool {
    let found = spans::find(body);
    let text = || String::from_utf8_lossy(body).into_owned();
    if let Some(spans) = &found {
        let mut end = 0;
        for (_, range) in spans.iter() {
            assert!(
                range.start >= end && range.end > range.start && range.end <= body.len(),
                "{range:?} in {}",
                text()
            );
            assert_eq!(body[range.clone()].trim_ascii().len(), range.len(), "blanks around {range:?} in {}", text());
            end = range.end;
        }
    }
    // serde_json refuses more than we must (depth, lone surrogates, huge numbers), so only what it reads is compared.
    let Ok(value @ Value::Object(_)) = serde_json::from_slice(body) else { return false };
    let keys: Keys = serde_json::from_slice(body).unwrap();
    let Some(spans) = found else {
        let twice = KEYS.iter().any(|(name, _)| keys.0.get(*name).is_some_and(|count| *count > 1));
        assert!(twice, "this fits, and nothing was found: {}", text());
        return true;
    };
    for (name, key) in KEYS {
        let elements = value[name].as_array().map(Vec::as_slice).unwrap_or_default();
        let ranges = spans.elements(key);
        assert_eq!(ranges.len(), elements.len(), "{name} in {}", text());
        for (range, element) in ranges.iter().zip(elements) {
            let at: Value = serde_json::from_slice(&body[range.clone()]).unwrap();
            assert_eq!(&at, element, "{name} at {range:?} in {}", text());
        }
    }
    true
}

#[test]
fn the_spans_of_a_body_are_the_elements_that_serde_json_finds() {
    let session = generator::session(5, &Shape::mixed(Client::Newest, 6));
    let (mut inputs, mut compared) = (0, 0);
    harness::run("spans", 30_000, |random| {
        // Most are small, so that most changes strike where it matters.
        let mut body = if random.one_in(50) {
            let n = random.between(0, session.exchanges.len());
            session.exchanges[n].recorded.request_body.clone()
        } else {
            json::object(random).into_bytes()
        };
        if random.one_in(3) {
            mutate(&mut body, &WORDS, random);
        }
        inputs += 1;
        compared += usize::from(check(&body));
        // Never a panic on anything else that reads it.
        wire::anthropic::assemble_json(&body);
    });
    println!("spans: {compared} of {inputs} compared");
    assert!(compared > inputs / 4, "{compared} of {inputs} were JSON: the others compare nothing");
}
