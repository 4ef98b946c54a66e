//! What must be true of every record.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fake_api::log::Entry;
use crate::load::Got;
use crate::recorder::Place;
use crate::{DUMMY_KEY, sha256};

/// Method, target, and the digests of both bodies.
pub type Fingerprint = (String, String, String, String);

/// Fails unless record and log hold the same exchanges, byte for byte and equally often. Gives each exchange's line with
/// the log's entry for it.
pub fn record_equals_log(place: &Place, log: &[Entry]) -> Vec<(Value, Entry)> {
    let mut entries: BTreeMap<Fingerprint, Vec<&Entry>> = BTreeMap::new();
    for entry in log {
        entries.entry(entry.fingerprint()).or_default().push(entry);
    }
    let mut pairs = Vec::new();
    let mut strangers = Vec::new();
    for exchange in place.drained(log.len()) {
        match entries.get_mut(&fingerprint(place, &exchange)).and_then(Vec::pop) {
            Some(entry) => pairs.push((exchange, entry.clone())),
            None => strangers.push(exchange),
        }
    }
    let missing: Vec<_> =
        entries.values().flatten().map(|entry| (entry.number, &entry.target, &entry.script)).collect();
    assert!(missing.is_empty() && strangers.is_empty(), "not on record: {missing:?}\non record only: {strangers:#?}");
    pairs
}

/// A recorded exchange's fingerprint, from the bytes that `iccm exchange` gives.
pub fn fingerprint(place: &Place, exchange: &Value) -> Fingerprint {
    let text = |name: &str| exchange[name].as_str().unwrap_or_else(|| panic!("no {name} in {exchange}")).to_owned();
    let id = text("id");
    let part = |part: &str| sha256(&place.part(&id, part));
    (text("method"), text("path"), part("request-body"), part("response-body"))
}

/// Fails if the key stands in any file of the data folder, or in any head that the record gives back (which may lie in the
/// files compressed).
pub fn key_is_nowhere(place: &Place) {
    assert_eq!(place.files_with(DUMMY_KEY.as_bytes()), [""; 0].map(std::path::PathBuf::from), "files with the key");
    for exchange in place.exchanges() {
        let id = exchange["id"].as_str().expect("an id");
        let head = String::from_utf8_lossy(&place.part(id, "request-head")).into_owned();
        assert!(head.lines().count() > 2, "{exchange}: {head}");
        assert!(!head.contains(DUMMY_KEY), "{exchange}: {head}");
    }
}

/// Fails unless the conversation's turns are the messages of `history`, each once, in order and numbered from 1.
pub fn turns_are(shown: &Value, history: &[Value]) {
    let turns = shown["turns"].as_array().unwrap_or_else(|| panic!("no turns in {shown}"));
    let numbers: Vec<_> = turns.iter().map(|turn| turn["turn"].as_u64().expect("a number")).collect();
    assert_eq!(numbers, (1..=turns.len() as u64).collect::<Vec<_>>(), "turns are numbered without gaps");
    let roles = |messages: &[Value]| messages.iter().map(|message| message["role"].clone()).collect::<Vec<_>>();
    assert_eq!(roles(turns), roles(history), "the roles of all turns");
    for (turn, message) in turns.iter().zip(history) {
        assert_eq!(plain(&turn["content"]), plain(&message["content"]), "turn {}", turn["turn"]);
    }
    assert_eq!(shown["message_count"], turns.len());
}

/// The line of messages after an exchange: the request's history and the answer as it was scripted.
pub fn line_after(entry: &Entry) -> Vec<Value> {
    let request = entry.json().expect("a request to the Messages API is JSON");
    let mut line = request["messages"].as_array().expect("messages").clone();
    line.push(json!({"role": "assistant", "content": answer(&entry.response_body)}));
    line
}

/// The content of a streamed answer, put together in the plainest way.
fn answer(stream: &[u8]) -> Value {
    let mut blocks: Vec<Value> = Vec::new();
    let mut inputs: BTreeMap<usize, String> = BTreeMap::new();
    let text = String::from_utf8_lossy(stream);
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")) {
        let event: Value = serde_json::from_str(data).expect("an event's data is JSON");
        let index = event["index"].as_u64().unwrap_or(0) as usize;
        if event["type"] == "content_block_start" {
            blocks.push(event["content_block"].clone());
        }
        for (from, to) in [("text", "text"), ("thinking", "thinking"), ("signature", "signature")] {
            if let Some(piece) = event["delta"][from].as_str() {
                let so_far = blocks[index][to].as_str().unwrap_or_default().to_owned();
                blocks[index][to] = Value::from(so_far + piece);
            }
        }
        if let Some(piece) = event["delta"]["partial_json"].as_str() {
            inputs.entry(index).or_default().push_str(piece);
        }
    }
    for (index, input) in inputs {
        blocks[index]["input"] = serde_json::from_str(&input).expect("a tool's input is JSON");
    }
    Value::Array(blocks)
}

/// A message's content in one form: blocks, without cache marks.
fn plain(content: &Value) -> Value {
    let Value::Array(blocks) = content else {
        return json!([{"type": "text", "text": content}]);
    };
    let unmarked = |block: &Value| {
        let mut block = block.clone();
        if let Some(fields) = block.as_object_mut() {
            fields.remove("cache_control");
        }
        block
    };
    blocks.iter().map(unmarked).collect()
}

/// Fails unless the record holds everything that a load got, whole and undamaged, and everything that the API saw, once.
/// Bodies are compared for all of `got`.
pub fn record_holds(place: &Place, got: &[Got], log: &[Entry]) -> Vec<Value> {
    let exchanges = place.drained(got.len());
    let case = |target: &str| target.split("case=").nth(1).unwrap_or(target).to_owned();
    let mut by_case: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    let mut places = BTreeMap::new();
    for exchange in &exchanges {
        by_case.entry(case(exchange["path"].as_str().expect("a path"))).or_default().push(exchange);
        assert!(exchange["outcome"].is_string(), "no outcome: {exchange}");
        let place = (exchange["recorder"].to_string(), exchange["seq"].as_u64());
        if let Some(other) = places.insert(place, exchange) {
            panic!("two exchanges at one place of a sequence: {other} and {exchange}");
        }
    }
    for (case, found) in &by_case {
        assert_eq!(found.len(), 1, "{case} is recorded {} times: {found:?}", found.len());
    }
    let lost: Vec<_> = log.iter().map(|entry| case(&entry.target)).filter(|case| !by_case.contains_key(case)).collect();
    assert!(lost.is_empty(), "{} requests reached the API and are not on record: {lost:?}", lost.len());
    for got in got {
        let found =
            by_case.get(&got.case).unwrap_or_else(|| panic!("a client got all of {got:?}; it is not on record"));
        let exchange = found[0];
        assert_eq!((&exchange["id"], &exchange["outcome"]), (&json!(got.id), &json!("complete")), "{exchange}");
        let sizes = (exchange["request_bytes"].as_u64(), exchange["response_bytes"].as_u64());
        assert_eq!(sizes, (Some(got.request_bytes as u64), Some(got.response_bytes as u64)), "{exchange}");
    }
    bodies_are_whole(place, got);
    exchanges
}

/// Compares the bodies of all of `got`, on as many threads as there are processors.
fn bodies_are_whole(place: &Place, got: &[Got]) {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for part in got.chunks(got.len().div_ceil(threads).max(1)) {
            scope.spawn(move || {
                for got in part {
                    let digest = |part: &str| sha256(&place.part(&got.id, part));
                    assert_eq!(digest("request-body"), got.request_sha256, "the request of {got:?}");
                    assert_eq!(digest("response-body"), got.response_sha256, "the response of {got:?}");
                }
            });
        }
    });
}

/// Fails unless both databases answer every reading command alike.
pub fn answers_are_equal(place: &Place, one: &str, other: &str) {
    let (ones, others) = (answers(place, one), answers(place, other));
    for (one, other) in ones.iter().zip(&others) {
        assert_eq!(one, other);
    }
    assert_eq!(ones.len(), others.len());
}

/// Everything that the reading commands say of the record in a database. Its ranks are its own; hits come sorted.
pub fn answers(place: &Place, database: &str) -> Vec<Value> {
    let with = |words: &[&str]| place.json_lines(&[words, &["--database", database]].concat());
    let mut all = with(&["exchanges"]);
    for conversation in with(&["conversations", "--limit", "1000"]) {
        let id = conversation["id"].as_str().expect("an id").to_owned();
        let shown = place.run(["show", &id, "--format", "json", "--database", database]).text();
        all.extend([conversation, serde_json::from_str(&shown).expect("JSON")]);
    }
    all.extend(with(&["frames"]));
    for query in ["answer", "\"the answer\"", "role:user please*", "tool:Read", "the -answer", "has:error"] {
        let mut hits = with(&["search", query, "--limit", "1000"]);
        hits.sort_by_key(|hit| hit["message_id"].as_str().map(str::to_owned));
        hits.iter_mut().for_each(|hit| hit["rank"] = Value::Null);
        all.extend(hits);
    }
    all.extend(with(&["stats"]));
    all
}
