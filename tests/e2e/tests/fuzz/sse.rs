//! Event streams: what comes out does not depend on how the bytes were cut, and is what a plain reading of the standard
//! gives. Whatever came, an answer can be put together.

use e2e::fake_api::answer::{Answer, Block};
use e2e::random::Random;
use serde_json::json;
use wire::sse::{Event, Parser};

use crate::harness;
use crate::mutate::{mutate, pieces};

const WORDS: [&[u8]; 14] = [
    b"\n\n",
    b"\r\n\r\n",
    b"\r",
    b"\r\n",
    b"data: ",
    b"data:",
    b"data",
    b"event: ping\n",
    b"id: 7\n",
    b"id: \0\n",
    b": comment\n",
    b"\xef\xbb\xbf",
    b"retry: 10\n",
    b"\"type\":\"error\"",
];

fn stream(random: &mut Random) -> Vec<u8> {
    let answer = Answer {
        id: random.hex(24),
        model: "claude-opus-5-5".to_owned(),
        blocks: vec![
            Block::Thinking("Zuerst überlegen.".to_owned()),
            Block::text("Step 1.\n"),
            Block::tool("Bash", json!({"command": "echo \"grüße\""})),
        ],
        request_bytes: 400,
    };
    let stream = answer.events().concat();
    let end = random.pick(&["\n", "\r\n", "\r"]);
    String::from_utf8(stream).unwrap().replace('\n', end).into_bytes()
}

/// The standard, read line by line from the whole stream.
fn plainly(stream: &[u8]) -> Vec<Event> {
    let text = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < text.len() {
        match text[at] {
            b'\r' | b'\n' => {
                at += usize::from(text[at..].starts_with(b"\r\n"));
                lines.push(std::mem::take(&mut line));
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    let unended = !line.is_empty();
    lines.extend(unended.then_some(line));
    let (mut events, mut event, mut data, mut id) = (Vec::new(), String::new(), Vec::new(), String::new());
    let mut dispatch = |event: &mut String, data: &mut Vec<String>, id: &str, terminated| {
        let event = std::mem::take(event);
        if !data.is_empty() {
            let event = if event.is_empty() { "message".to_owned() } else { event };
            events.push(Event { event, data: data.join("\n"), id: id.to_owned(), terminated });
            data.clear();
        }
    };
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value)).into_owned();
        match &line[..colon] {
            b"" if line.is_empty() => dispatch(&mut event, &mut data, &id, true),
            b"event" => event = value,
            b"data" => data.push(value),
            b"id" if !value.contains('\0') => id = value,
            _ => {}
        }
    }
    dispatch(&mut event, &mut data, &id, false);
    events
}

#[test]
fn a_stream_is_read_as_the_standard_says_however_it_is_cut() {
    harness::run("sse", 20_000, |random| {
        let mut stream = stream(random);
        mutate(&mut stream, &WORDS, random);
        let mut parser = Parser::new();
        let mut events: Vec<Event> = pieces(&stream, random).into_iter().flat_map(|piece| parser.feed(piece)).collect();
        events.extend(parser.finish());
        assert_eq!(events, plainly(&stream), "{:?}", String::from_utf8_lossy(&stream));
        wire::anthropic::assemble_stream(&stream);
        wire::openai::chat::assemble_stream(&stream);
        wire::openai::responses::assemble_stream(&stream);
        wire::gemini::assemble_stream(&stream);
        wire::ollama::assemble(&stream);
    });
}
