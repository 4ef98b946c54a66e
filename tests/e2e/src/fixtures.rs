//! Captures of real clients that may stand beside the checkout (`../shared/fixtures`). They are not part of the
//! project; what needs them runs where they are, in addition to what is generated.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::fake_api::replay::Recorded;

/// The folder with the captures, if it stands beside the checkout or beside one of the folders above it.
pub fn folder() -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("shared/fixtures"))
        .find(|candidate| candidate.is_dir())
}

/// The exchanges of one capture, in order. A line that is not an exchange fails.
pub fn exchanges(path: &Path) -> Vec<Recorded> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(|line| exchange(&serde_json::from_str(line).expect("a capture's line is JSON"))).collect()
}

fn exchange(line: &Value) -> Recorded {
    let (request, response) = (&line["request"], &line["response"]);
    let path = request["path"].as_str().expect("request.path");
    let target = match request["query"].as_str() {
        Some(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    };
    Recorded {
        method: request["method"].as_str().expect("request.method").to_owned(),
        target,
        request_headers: headers(&request["headers"]),
        request_body: body(&request["body"]),
        status: response["status"].as_u64().expect("response.status") as u16,
        response_headers: headers(&response["headers"]),
        response_body: body(&response["body"]),
    }
}

fn headers(list: &Value) -> Vec<(String, String)> {
    let pair = |pair: &Value| {
        let text = |i: usize| pair[i].as_str().expect("a header is two strings").to_owned();
        (text(0), text(1))
    };
    list.as_array().map(|list| list.iter().map(pair).collect()).unwrap_or_default()
}

fn body(text: &Value) -> Vec<u8> {
    text.as_str().unwrap_or_default().as_bytes().to_vec()
}
