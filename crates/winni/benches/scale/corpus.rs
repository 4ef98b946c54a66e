//! Messages and exchanges whose words are as frequent as words are.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{CapturedExchange, NewMessage, Role};

use crate::captured;

/// Distinct words; the n-th is n times as rare as the first.
const VOCABULARY: usize = 50_000;

pub(crate) struct Corpus {
    state: u64,
}

impl Corpus {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }

    fn word(&mut self) -> String {
        let share = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        word((VOCABULARY as f64).powf(share) as usize)
    }

    fn text(&mut self, words: usize) -> String {
        (0..words).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }

    /// A message as it stands at a turn: a question, an answer, a tool's call, its result.
    pub(crate) fn message(&mut self, turn: u64) -> NewMessage {
        let text = |corpus: &mut Self, words| json!(corpus.text(words));
        let (role, content) = match turn % 4 {
            0 => (Role::User, text(self, 25)),
            1 => {
                let input = json!({"command": self.text(8)});
                let said = json!({"type": "text", "text": self.text(30)});
                (Role::Assistant, json!([said, {"type": "tool_use", "id": "t", "name": "Bash", "input": input}]))
            }
            2 => (Role::User, json!([{"type": "tool_result", "tool_use_id": "t", "content": self.text(150)}])),
            _ => (Role::Assistant, text(self, 70)),
        };
        NewMessage { role, content, turn: None, metadata: json!({}), created_at: None }
    }

    /// What people look for, from the rarest to the most common.
    pub(crate) fn queries(&mut self) -> Vec<String> {
        let w = word;
        let mut queries = vec![
            w(40_000),
            w(20_000),
            w(5_000),
            w(1_000),
            w(200),
            format!("{} {}", w(300), w(900)),
            format!("{} {} {}", w(50), w(100), w(150)),
            format!("\"{} {}\"", w(10), w(20)),
            format!("{} -{}", w(2_000), w(3)),
            format!("{}*", &w(9_000)[..5]),
            format!("{} role:user", w(700)),
            format!("{} tool:Bash", w(700)),
            format!("{} session:\"session 3\"", w(30)),
            format!("{} since:1h", w(1_500)),
            format!("{} role:assistant has:error", w(40)),
            "session:\"session 5\" role:user".to_owned(),
            w(25),
            w(8),
            w(2),
        ];
        queries.extend((0..11).map(|_| format!("{} {}", w(100 + self.below(400)), w(2_000 + self.below(20_000)))));
        queries
    }
}

/// The n-th word: four syllables that tell it from all others.
fn word(n: usize) -> String {
    const SYLLABLES: [&str; 16] =
        ["ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va"];
    let mixed = (n as u64).wrapping_mul(0x9e37_79b9) & 0xf_ffff;
    (0..5).map(|place| SYLLABLES[(mixed >> (4 * place)) as usize & 15]).collect()
}

/// Exchanges of agents that work side by side: each asks, is answered, and resends what was said with what it says next. Two of
/// three answers call a tool, and the tool's result is said next.
pub(crate) struct Agents {
    histories: Vec<(String, Vec<Value>)>,
}

/// Agents at work at a time, and questions that each of them asks.
const SIDE_BY_SIDE: usize = 6;
const QUESTIONS: usize = 12;

impl Agents {
    pub(crate) fn new() -> Self {
        Self { histories: Vec::new() }
    }

    /// The next exchange; it brings two messages.
    pub(crate) fn exchange(&mut self, corpus: &mut Corpus) -> CapturedExchange {
        self.histories.retain(|(_, history)| history.len() < 2 * QUESTIONS);
        if self.histories.len() < SIDE_BY_SIDE {
            self.histories.push((Uuid::now_v7().to_string(), Vec::new()));
        }
        let turn = corpus.below(self.histories.len());
        let (session, history) = &mut self.histories[turn];
        let said = match history.last().map(|answer| &answer["content"][1]["id"]) {
            Some(Value::String(call)) => {
                json!([{"type": "tool_result", "tool_use_id": call, "content": corpus.text(60)}])
            }
            _ => json!(corpus.text(60)),
        };
        history.push(json!({"role": "user", "content": said}));
        let mut answer = vec![json!({"type": "text", "text": corpus.text(50)})];
        if corpus.below(3) > 0 {
            let id = format!("toolu_{:016x}", corpus.next());
            answer.push(json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": corpus.text(10)}}));
        }
        let exchange = exchange(session, history, &answer);
        history.push(json!({"role": "assistant", "content": answer}));
        exchange
    }
}

fn exchange(session: &str, history: &[Value], answer: &[Value]) -> CapturedExchange {
    let request = json!({"model": "claude-sonnet-4-5", "messages": history,
        "system": [{"type": "text", "text": "Be helpful."}], "tools": [{"name": "Bash"}], "max_tokens": 1000, "stream": true});
    let mut events = vec![captured::message_start()];
    for (index, block) in answer.iter().enumerate() {
        events.extend(streamed(index, block));
    }
    events.push(json!({"type": "message_stop"}));
    let named = ("x-claude-code-session-id", session);
    captured::exchange(named, request.to_string().into_bytes(), captured::stream(&events))
}

/// The events in which a block of an answer comes.
fn streamed(index: usize, block: &Value) -> Vec<Value> {
    let mut begun = block.clone();
    let (whole, kind, field) = match block["type"].as_str() {
        Some("text") => (block["text"].as_str().unwrap_or_default().to_owned(), "text_delta", "text"),
        _ => (block["input"].to_string(), "input_json_delta", "partial_json"),
    };
    match kind {
        "text_delta" => begun["text"] = "".into(),
        _ => begun["input"] = json!({}),
    }
    let mut events = vec![json!({"type": "content_block_start", "index": index, "content_block": begun})];
    events.extend(whole.split_inclusive(' ').collect::<Vec<_>>().chunks(10).map(|words| {
        let delta = json!({"type": kind, field: words.concat()});
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }));
    events.push(json!({"type": "content_block_stop", "index": index}));
    events
}
