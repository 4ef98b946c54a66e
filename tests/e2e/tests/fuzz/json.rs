//! JSON that nobody would write, but anybody may send.

use e2e::random::Random;
use serde_json::Value;

const STRINGS: [&str; 12] = [
    "",
    "a",
    "user",
    "text",
    "ephemeral",
    "\\\"",
    "\\\\",
    "\\u006d",
    "\\ud83d\\ude00",
    "\\ud800",
    "grüße 🙂",
    "[1,{\\\"a\\\":2}]",
];
const KEYS: [&str; 16] = [
    "messages",
    "system",
    "tools",
    "input",
    "contents",
    "mess\\u0061ges",
    "model",
    "role",
    "content",
    "type",
    "text",
    "stream",
    "max_tokens",
    "cache_control",
    "metadata",
    "x",
];
const SCALARS: [&str; 10] = ["null", "true", "false", "0", "-0.0", "1e5", "12345678901234567890", "0.1", "1E-7", "-1"];
const BLANKS: [&str; 8] = ["", "", "", "", " ", "\n", "\t ", "\r\n  "];

/// The text of an object with keys that matter, some of them twice, and blanks anywhere.
pub(crate) fn object(random: &mut Random) -> String {
    let mut out = String::new();
    collection(&mut out, 3, true, random);
    out
}

fn value(out: &mut String, depth: usize, random: &mut Random) {
    match random.between(0, 5) {
        0 => out.push_str(random.pick(&SCALARS)),
        1 => out.push_str(&format!("\"{}\"", random.pick(&STRINGS))),
        _ if depth == 0 => out.push_str("{}"),
        kind => collection(out, depth - 1, kind == 2, random),
    }
}

fn collection(out: &mut String, depth: usize, is_object: bool, random: &mut Random) {
    out.push(if is_object { '{' } else { '[' });
    for n in 0..random.between(0, 5) {
        out.push_str(if n > 0 { "," } else { "" });
        out.push_str(random.pick(&BLANKS));
        if is_object {
            out.push_str(&format!("\"{}\"{}:{}", random.pick(&KEYS), random.pick(&BLANKS), random.pick(&BLANKS)));
        }
        value(out, depth, random);
        out.push_str(random.pick(&BLANKS));
    }
    out.push(if is_object { '}' } else { ']' });
}

/// The same body with some of its values replaced, removed, or there twice; compact, or with blanks.
pub(crate) fn spoilt(body: &[u8], random: &mut Random) -> Option<Vec<u8>> {
    let mut json: Value = serde_json::from_slice(body).ok()?;
    for _ in 0..random.between(1, 5) {
        spoil(&mut json, random);
    }
    let written = if random.one_in(4) { serde_json::to_vec_pretty(&json) } else { serde_json::to_vec(&json) };
    written.ok()
}

fn spoil(json: &mut Value, random: &mut Random) {
    let stop = random.one_in(4);
    match json {
        Value::Array(items) if !items.is_empty() && !stop => {
            let at = random.between(0, items.len());
            match random.between(0, 6) {
                0 => drop(items.remove(at)),
                1 => items.insert(at, items[at].clone()),
                2 => items.swap(at, 0),
                _ => spoil(&mut items[at], random),
            }
        }
        Value::Object(fields) if !fields.is_empty() && !stop => {
            let at = random.between(0, fields.len());
            let key = fields.keys().nth(at).cloned().unwrap_or_default();
            match random.between(0, 6) {
                0 => drop(fields.shift_remove(&key)),
                1 => drop(fields.insert("cache_control".to_owned(), serde_json::json!({"type": "ephemeral"}))),
                _ => spoil(&mut fields[&key], random),
            }
        }
        other => *other = serde_json::from_str(&object(random)).unwrap_or(Value::Null),
    }
}
