use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{Conversation, ForkPoint, Timestamp, Turn};

use super::transcript::{SubAgent, Totals};
use super::*;

const START: i64 = 1_795_350_483_000_000;

fn conversation(id: u128, title: &str) -> Conversation {
    Conversation {
        id: Uuid::from_u128(id),
        session_id: "session-1".into(),
        parent_conversation_id: None,
        forked_from: Some(ForkPoint { conversation_id: Uuid::from_u128(9), turn: 4 }),
        title: Some(title.into()),
        source: "captured".into(),
        created_at: Timestamp(START),
        updated_at: Timestamp(START + 65_000_000),
        message_count: 4,
        exchange_count: 2,
        models: vec!["claude-x".into()],
        input_tokens: 1200,
        output_tokens: 34,
        cost_usd: Some(0.0123),
        metadata: json!({}),
    }
}

fn turn(number: u64, role: &str, complete: bool, content: Value) -> Turn {
    Turn {
        id: Uuid::from_u128(100 + u128::from(number)),
        conversation_id: Uuid::from_u128(1),
        turn: number,
        role: role.into(),
        content,
        complete,
        created_at: Timestamp(START + i64::try_from(number).unwrap() * 1_000_000),
        exchange_id: None,
        metadata: json!({}),
    }
}

fn transcript() -> Transcript {
    let output = (1..=20).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n");
    Transcript {
        tool_calls: Vec::new(),
        stored: Default::default(),
        conversation: conversation(1, "Fix the parser"),
        turns: vec![
            turn(1, "user", true, json!("Please fix\u{1b}[2J it")),
            turn(
                2,
                "assistant",
                true,
                json!([
                    {"type": "thinking", "thinking": "Where is it?", "signature": "s"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "cargo test"}},
                    {"type": "tool_use", "id": "t2", "name": "Task", "input": {"prompt": "a\nb"}},
                ]),
            ),
            turn(
                3,
                "user",
                true,
                json!([
                    {"type": "tool_result", "tool_use_id": "t1", "content": output},
                    {"type": "tool_result", "tool_use_id": "t2", "is_error": true,
                     "content": [{"type": "text", "text": "it failed"}]},
                ]),
            ),
            turn(4, "assistant", false, json!([{"type": "text", "text": "So"}])),
        ],
        sub_agents: vec![SubAgent { conversation: conversation(2, "Sub"), started_by: Some("t2".into()) }],
        totals: Totals { input_tokens: 1200, output_tokens: 34, cache_read_tokens: 5000, ..Totals::default() },
    }
}

fn as_text(screen: Screen, full: bool) -> String {
    let mut out = Vec::new();
    text::write(&transcript(), screen, full, &TimeZone::UTC, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_conversation_reads_well_as_text() {
    let expected = "\
Fix the parser
conversation  00000000-0000-0000-0000-000000000001
session       session-1
forked from   00000000-0000-0000-0000-000000000009 after #4
models        claude-x
time          2026-11-22 12:28:03 – 2026-11-22 12:29:08 (1m 05s)
tokens        1,200 in, 34 out, 5,000 from cache, $0.0123

#1 user 12:28:04
Please fix␛[2J it

#2 assistant 12:28:05
∴ Where is it?
I look.
→ Bash {\"command\": \"cargo test\"}
→ Task
    prompt:
    a
    b
    ↳ sub-agent: iccm show 00000000-0000-0000-0000-000000000002 (4 turns, $0.0123)

#3 user 12:28:06
← Bash
    line 1
    line 2
    line 3
    line 4
    line 5
    line 6
    line 7
    line 8
    line 9
    line 10
    line 11
    line 12
    … 8 more lines (--full shows them)
← Task error
    it failed

#4 assistant 12:28:07 (incomplete: the answer broke off)
So

4 turns, 2 exchanges, tokens: 1,200 in, 34 out, 5,000 from cache, $0.0123
";
    assert_eq!(as_text(Screen::default(), false), expected);
}

#[test]
fn full_cuts_nothing() {
    let text = as_text(Screen::default(), true);
    assert!(text.contains("line 20\n"));
    assert!(!text.contains("--full"));
}

#[test]
fn a_terminal_gets_colours_and_wrapped_lines_but_no_escapes_of_the_record() {
    let text = as_text(Screen { width: Some(40), colour: true }, false);
    assert!(text.contains("\u{1b}[2m∴ Where is it?\u{1b}[0m\n"), "{text}");
    assert!(text.contains("\u{1b}[31m error\u{1b}[0m"));
    assert!(!text.contains("\u{1b}[2J"));
    assert!(text.contains("\u{1b}[33m    00000000-0000-0000-0000-000000000002\u{1b}[0m\n"), "{text}");
}

#[test]
fn markdown_holds_everything_in_blocks_of_its_own() {
    let mut transcript = transcript();
    transcript.turns[2].content = json!([{"type": "tool_result", "tool_use_id": "t1", "content": "```\nbreak out"}]);
    let mut out = Vec::new();
    markdown::write(&transcript, &TimeZone::UTC, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.starts_with("# Fix the parser\n\n- conversation: `00000000-"), "{text}");
    assert!(
        text.contains("\n## 2. assistant · 2026-11-22 12:28:05\n\n> *thinking*\n> Where is it?\n\nI look.\n"),
        "{text}"
    );
    assert!(text.contains("\n**→ Bash**\n\n```json\n{\n  \"command\": \"cargo test\"\n}\n```\n"), "{text}");
    assert!(text.contains("\n**← Bash**\n\n````\n```\nbreak out\n````\n"), "{text}");
}

#[test]
fn json_is_one_object_with_the_fixed_fields() {
    let value = transcript().as_json();
    assert_eq!(value["id"], json!(Uuid::from_u128(1)));
    assert_eq!(value["turns"].as_array().unwrap().len(), 4);
    assert_eq!(value["turns"][0]["turn"], json!(1));
    assert_eq!(value["sub_agents"][0]["tool_use_id"], json!("t2"));
}
