//! WebSocket frames: whatever the bytes, the same messages come out however they are cut, and they are those that a plain
//! reading of the whole stream gives. What JSON-RPC is read from them never fails.

use e2e::random::Random;
use wire::websocket::{Ending, Event, Messages, Opcode, server_frame};

use crate::harness;
use crate::mutate::{mutate, pieces};

const WORDS: [&[u8]; 10] = [
    b"\x81\x00",
    b"\x80\x00",
    b"\x01\x02hi",
    b"\x88\x02\x03\xe8",
    b"\x89\x00",
    b"\x82\x7e\x00\x05",
    b"\x82\x7f\x00\x00\x00\x00\x00\x00\x00\x03",
    b"\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x03",
    b"\x81\x82\x01\x02\x03\x04",
    br#"{"id":1,"method":"tools/call","params":{"_meta":{"claudecode/toolUseId":"t"}}}"#,
];

fn stream(random: &mut Random) -> Vec<u8> {
    let mut stream = Vec::new();
    for _ in 0..random.between(1, 8) {
        let payload: Vec<u8> = (0..random.between(0, 200)).map(|_| random.next_u64() as u8).collect();
        let mut frame = server_frame(Opcode([0, 1, 2, 8, 9, 10][random.between(0, 6)]), &payload);
        frame[0] &= if random.one_in(3) { 0x7f } else { 0xff };
        stream.extend(frame);
    }
    stream
}

/// Opcode, bytes, and how it ends; of the open one, which is the last, it does not.
type Message = (u8, Vec<u8>, Option<Ending>);
/// The messages, and what has no framing.
type Read = (Vec<Message>, Vec<u8>);

fn piecewise(chunks: &[&[u8]]) -> Read {
    let mut reader = Messages::default();
    let (mut messages, mut unframed): Read = Default::default();
    for chunk in chunks {
        reader.read(chunk, |event| match event {
            Event::Part { opcode, first, bytes, last } => {
                if first {
                    messages.push((opcode.0, Vec::new(), None));
                }
                let (_, all, ending) = messages.last_mut().expect("a message has begun");
                all.extend_from_slice(bytes);
                *ending = last;
            }
            Event::Control { payload, .. } => assert!(payload.len() <= 125),
            Event::Unframed(bytes) => unframed.extend_from_slice(bytes),
        });
    }
    (messages, unframed)
}

/// The specification, read frame by frame from the whole stream.
fn plainly(stream: &[u8]) -> Read {
    let mut messages: Vec<Message> = Vec::new();
    let mut at = 0;
    let mut is_open = false;
    while let [first, second, ..] = stream[at..] {
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some(length) = stream.get(at + 2..at + 2 + extended) else { break };
        let length = match extended {
            0 => u64::from(second & 0x7f),
            _ => length.iter().fold(0, |sum, byte| sum * 256 + u64::from(*byte)),
        };
        if length >= 1 << 63 {
            if is_open {
                messages.last_mut().expect("it is open").2 = Some(Ending::Interrupted);
            }
            return (messages, stream[at..].to_vec());
        }
        let mask = if second & 0x80 != 0 { 4 } else { 0 };
        let Some(key) = stream.get(at + 2 + extended..at + 2 + extended + mask) else { break };
        let start = at + 2 + extended + mask;
        let end = start.saturating_add(length as usize).min(stream.len());
        // Of a frame's payload that has not begun nothing can be said yet.
        if end == start && length > 0 {
            break;
        }
        let clear = stream[start..end].iter().enumerate();
        let clear = clear.map(|(i, byte)| if key.is_empty() { *byte } else { byte ^ key[i % 4] });
        let opcode = first & 0x0f;
        if opcode < 8 {
            if opcode != 0 || !is_open {
                if is_open {
                    messages.last_mut().expect("it is open").2 = Some(Ending::Interrupted);
                }
                messages.push((opcode, Vec::new(), None));
                is_open = true;
            }
            let message = messages.last_mut().expect("one is open");
            message.1.extend(clear);
            if first & 0x80 != 0 && (end - start) as u64 == length {
                message.2 = Some(Ending::Whole);
                is_open = false;
            }
        }
        at = end;
        if ((end - start) as u64) < length {
            break;
        }
    }
    (messages, Vec::new())
}

#[test]
fn frames_are_read_as_the_specification_says_however_they_are_cut() {
    harness::run("websocket", 20_000, |random| {
        let mut stream = stream(random);
        mutate(&mut stream, &WORDS, random);
        let expected = plainly(&stream);
        assert_eq!(piecewise(&[&stream]), expected, "{stream:x?}");
        assert_eq!(piecewise(&pieces(&stream, random)), expected, "{stream:x?}");
        for (_, message, _) in &expected.0 {
            wire::mcp::read(message.as_slice());
            assert!(!wire::mcp::split(message).is_empty() || message.starts_with(b"["));
        }
    });
}
