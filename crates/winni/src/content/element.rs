//! One element of a request's `messages`, `system` or `tools`, in a form that stays the same from turn to turn.
//!
//! Agents move `cache_control` to their newest message with every turn, and the message that loses it also flips from a
//! block array to a plain string. [`normalise`] takes both out and says what it took as a list of insertions, so that
//! [`restore`] gives the exact bytes again. It works on bytes and never needs to understand them: whatever it takes
//! out, the insertions put back, so a wrong guess costs bytes and never correctness.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::varint::{self, Input};

/// Texts that are taken out so often that a manifest names them by number. Frozen: append only.
const KNOWN: [&[u8]; 8] = [
    b"",
    br#","cache_control":{"type":"ephemeral"}"#,
    br#"[{"type":"text","text":"#,
    b"}]",
    br#","cache_control":{"type":"ephemeral","ttl":"1h"}"#,
    br#","cache_control":{"type":"ephemeral","ttl":"5m"}"#,
    br#", "cache_control": {"type": "ephemeral"}"#,
    br#","cache_control":{"ttl":"1h","type":"ephemeral"}"#,
];

/// Bytes to be put back at an offset of the text as it is at that step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Insertion {
    offset: usize,
    bytes: Vec<u8>,
}

/// The element without its `cache_control`, a sole text block as a plain string, and what [`restore`] needs to undo it.
/// The last insertion was taken out last, so it is put back first.
pub(crate) fn normalise(element: &[u8]) -> (Vec<u8>, Vec<Insertion>) {
    let mut text = element.to_vec();
    let mut taken = Vec::new();
    take_cache_controls(&mut text, &mut taken);
    take_sole_text_block(&mut text, &mut taken);
    (text, taken)
}

/// The exact bytes that [`normalise`] was given; `None` if the insertions do not fit the text.
pub(crate) fn restore(normal: &[u8], taken: &[Insertion]) -> Option<Vec<u8>> {
    let mut text = normal.to_vec();
    for insertion in taken.iter().rev() {
        if insertion.offset > text.len() {
            return None;
        }
        text.splice(insertion.offset..insertion.offset, insertion.bytes.iter().copied());
    }
    Some(text)
}

fn take_cache_controls(text: &mut Vec<u8>, taken: &mut Vec<Insertion>) {
    for start in CACHE_CONTROL.iter() {
        let mut from = 0;
        while let Some(offset) = find(text, start, from) {
            let Some(length) = text[offset..].iter().position(|&b| b == b'}').map(|p| p + 1) else {
                break;
            };
            taken.push(Insertion { offset, bytes: text.drain(offset..offset + length).collect() });
            from = offset;
        }
    }
}

fn take_sole_text_block(text: &mut Vec<u8>, taken: &mut Vec<Insertion>) {
    let open = KNOWN[2];
    let close = KNOWN[3];
    let Some(at) = find(text, &SOLE_TEXT, 0) else { return };
    let string = at + SOLE_TEXT.needle().len();
    let Some(end) = string_end(text, string) else { return };
    if !text[end..].starts_with(close) {
        return;
    }
    text.drain(end..end + close.len());
    taken.push(Insertion { offset: end, bytes: close.to_vec() });
    let offset = string - open.len();
    text.drain(offset..string);
    taken.push(Insertion { offset, bytes: open.to_vec() });
}

/// The offset after the JSON string that begins at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    if text.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The texts that are looked for in every element: preparing a search costs more than searching a short element.
static CACHE_CONTROL: LazyLock<[Finder<'static>; 2]> =
    LazyLock::new(|| [Finder::new(br#","cache_control":{"#), Finder::new(br#", "cache_control": {"#)]);
static SOLE_TEXT: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(br#""content":[{"type":"text","text":"#));

fn find(text: &[u8], needle: &Finder<'_>, from: usize) -> Option<usize> {
    needle.find(text.get(from..)?).map(|p| from + p)
}

pub(crate) fn encode(taken: &[Insertion], out: &mut Vec<u8>) {
    varint::put(out, taken.len() as u64);
    for insertion in taken {
        varint::put(out, insertion.offset as u64);
        match KNOWN.iter().position(|&k| k == insertion.bytes) {
            Some(number) if number > 0 => varint::put(out, number as u64),
            _ => {
                varint::put(out, 0);
                varint::put_bytes(out, &insertion.bytes);
            }
        }
    }
}

pub(crate) fn decode(input: &mut Input<'_>) -> Option<Vec<Insertion>> {
    let count = input.count()?;
    (0..count)
        .map(|_| {
            let offset = input.size()?;
            let bytes = match input.size()? {
                0 => input.bytes()?,
                number => KNOWN.get(number)?,
            };
            Some(Insertion { offset, bytes: bytes.to_vec() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(element: &[u8]) -> (Vec<u8>, Vec<Insertion>) {
        let (normal, taken) = normalise(element);
        assert_eq!(restore(&normal, &taken).as_deref(), Some(element));
        let mut out = Vec::new();
        encode(&taken, &mut out);
        assert_eq!(decode(&mut Input::new(&out)).as_ref(), Some(&taken));
        (normal, taken)
    }

    #[test]
    fn a_message_with_and_without_its_cache_control_has_one_normal_form() {
        let newest =
            br#"{"role":"user","content":[{"type":"text","text":"a \"q\" [","cache_control":{"type":"ephemeral"}}]}"#;
        let array = br#"{"role":"user","content":[{"type":"text","text":"a \"q\" ["}]}"#;
        let plain = br#"{"role":"user","content":"a \"q\" ["}"#;
        assert_eq!(round_trip(newest).0, plain);
        assert_eq!(round_trip(array).0, plain);
        assert_eq!(round_trip(plain), (plain.to_vec(), vec![]));
    }

    #[test]
    fn every_cache_control_is_taken_and_put_back() {
        let element = br#"{"a":[{"x":1,"cache_control":{"type":"ephemeral","ttl":"1h"}},{"y":2,"cache_control":{"type":"new"}}]}"#;
        let (normal, taken) = round_trip(element);
        assert_eq!(normal, br#"{"a":[{"x":1},{"y":2}]}"#);
        assert_eq!(taken.len(), 2);
    }

    #[test]
    fn several_blocks_stay_an_array() {
        let element = br#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#;
        assert_eq!(round_trip(element).0, element);
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(
            parts in proptest::collection::vec(prop_oneof![
                Just(br#","cache_control":{"#.to_vec()), Just(br#""content":[{"type":"text","text":"#.to_vec()),
                Just(b"}]".to_vec()), Just(b"\"".to_vec()), Just(b"\\".to_vec()), Just(b"}".to_vec()),
                proptest::collection::vec(any::<u8>(), 0..6),
            ], 0..12)
        ) {
            round_trip(&parts.concat());
        }

        #[test]
        fn insertions_that_do_not_fit_are_refused(bytes: Vec<u8>, text: Vec<u8>) {
            if let Some(taken) = decode(&mut Input::new(&bytes)) {
                let _restored_or_refused = restore(&text, &taken);
            }
        }
    }
}
