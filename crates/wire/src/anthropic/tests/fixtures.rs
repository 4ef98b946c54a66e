//! Real captures, where the machine has them: they hold other people's prompts and are not part of the project.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::anthropic::assemble_stream;
use crate::spans::{self, ArrayKey};

fn captures() -> Vec<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("../shared/fixtures/claude-code"))
        .find(|folder| folder.is_dir());
    let Some(folder) = found else { return Vec::new() };
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

fn exchanges(path: &Path) -> Vec<(String, String)> {
    let text = |line: &Value, side: &str| line[side]["body"].as_str().unwrap_or_default().to_owned();
    let lines = fs::read_to_string(path).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.map(|line| (text(&line, "request"), text(&line, "response"))).collect()
}

/// What a client sends back of a reply: the texts, and the tools with their inputs.
fn essence(content: &Value) -> Vec<Value> {
    let blocks = content.as_array().cloned().unwrap_or_default();
    let keep = |block: Value| match block["type"].as_str() {
        Some("text") => Some(block["text"].clone()),
        Some("tool_use") => Some(Value::from(vec![block["id"].clone(), block["name"].clone(), block["input"].clone()])),
        _ => None,
    };
    blocks.into_iter().filter_map(keep).collect()
}

#[test]
fn real_bodies_are_cut_into_their_elements() {
    for path in captures() {
        for (request, _) in exchanges(&path) {
            let whole: Value = serde_json::from_str(&request).unwrap();
            let spans = spans::find(request.as_bytes()).unwrap();
            for (key, name) in
                [(ArrayKey::Messages, "messages"), (ArrayKey::System, "system"), (ArrayKey::Tools, "tools")]
            {
                let expected = whole[name].as_array().cloned().unwrap_or_default();
                let elements = spans.elements(key).iter().map(|range| &request[range.clone()]);
                let elements: Vec<Value> = elements.map(|text| serde_json::from_str(text).unwrap()).collect();
                assert_eq!(elements, expected, "{name} in {}", path.display());
            }
        }
    }
}

#[test]
fn real_replies_are_what_the_client_sends_back_with_its_next_request() {
    let mut sent_back = 0;
    for path in captures() {
        let exchanges = exchanges(&path);
        // By the tool's id, which is unique, the reply finds its message in any later request.
        let mut by_tool: HashMap<String, Vec<Value>> = HashMap::new();
        for (request, response) in &exchanges {
            let request: Value = serde_json::from_str(request).unwrap();
            for message in request["messages"].as_array().unwrap() {
                let tool = message["content"].as_array().into_iter().flatten().find_map(|block| block["id"].as_str());
                if let Some(expected) = tool.and_then(|id| by_tool.get(id)) {
                    assert_eq!(&essence(&message["content"]), expected, "{}", path.display());
                    sent_back += 1;
                }
            }
            let reply = assemble_stream(response.as_bytes());
            assert!(reply.complete && reply.model.is_some() && reply.usage.output_tokens.is_some());
            assert_eq!((reply.unknown_events, reply.misplaced_events), (0, 0), "{}", path.display());
            let content = &reply.message["content"];
            let tool = content.as_array().unwrap().iter().find_map(|block| block["id"].as_str());
            if let Some(id) = tool {
                by_tool.insert(id.to_owned(), essence(content));
            }
        }
    }
    assert!(captures().is_empty() || sent_back > 100, "{sent_back}");
}
