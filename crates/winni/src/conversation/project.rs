//! The folder that an agent works in, as it tells the model.

use serde_json::Value;
use wire::spans::{ArrayKey, Spans};

use super::text;

/// Claude Code writes `Working directory: …` into its system prompt (2.0) or ` - Primary working directory: …` into a
/// system message at the beginning (2.1).
const KEYS: [&str; 2] = ["Working directory: ", "Primary working directory: "];

/// What both have in common.
const NEEDLE: &[u8] = b"orking directory: ";

/// Messages from the beginning that are looked at; what is said later may be about anything.
const OPENING: usize = 3;

/// The project folder that a request names.
pub(crate) fn folder(body: &[u8], spans: &Spans) -> Option<String> {
    let system = spans.elements(ArrayKey::System).iter();
    let opening =
        [ArrayKey::Messages, ArrayKey::Input].into_iter().flat_map(|key| spans.elements(key).iter().take(OPENING));
    system.chain(opening).find_map(|range| {
        let element = body.get(range.clone()).filter(|bytes| memchr::memmem::find(bytes, NEEDLE).is_some())?;
        named_in(&serde_json::from_slice(element).ok()?)
    })
}

fn named_in(element: &Value) -> Option<String> {
    let content = element.get("content").unwrap_or(element);
    let words = match content {
        Value::Object(_) => text::words(&Value::Array(vec![content.clone()])),
        content => text::words(content),
    };
    words.lines().find_map(|line| {
        let line = line.trim_start().trim_start_matches("- ");
        let folder = KEYS.iter().find_map(|key| line.strip_prefix(key))?.trim();
        (!folder.is_empty() && !folder.contains('\0')).then(|| folder.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Option<String> {
        folder(body.as_bytes(), &wire::spans::parse(body.as_bytes())?.spans)
    }

    #[test]
    fn the_folder_is_found_where_each_version_names_it() {
        let old = r#"{"messages":[{"role":"user","content":"hi"}],"system":[{"type":"text","text":"You are\n<env>\nWorking directory: /home/ada/app\nIs"}]}"#;
        let new = r##"{"messages":[{"role":"system","content":[{"type":"text","text":"# Environment\n - Primary working directory: /home/ada/my app\n - Is"}]}]}"##;
        assert_eq!(of(old).as_deref(), Some("/home/ada/app"));
        assert_eq!(of(new).as_deref(), Some("/home/ada/my app"));
    }

    #[test]
    fn talk_about_a_folder_names_none() {
        let talk = r#"{"messages":[{"role":"user","content":"what is my Working directory: /x"}]}"#;
        assert_eq!(of(talk), None);
        assert_eq!(of(r#"{"messages":[{"role":"user","content":"Working directory: "}]}"#), None);
    }
}
