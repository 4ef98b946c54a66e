use proptest::prelude::*;

use super::*;

/// What was read, with the parts of each message put together.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Message(u8, Vec<u8>, Ending),
    Open(u8, Vec<u8>),
    Control(u8, Vec<u8>),
    Unframed(Vec<u8>),
}

fn read<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> Vec<Seen> {
    let mut messages = Messages::default();
    let mut seen: Vec<Seen> = Vec::new();
    let mut open: Option<(u8, Vec<u8>)> = None;
    for chunk in chunks {
        messages.read(chunk, |event| match event {
            Event::Part { opcode, first, bytes, last } => {
                if first {
                    assert!(open.is_none(), "a message begins within another");
                    open = Some((opcode.0, Vec::new()));
                }
                let (known, all) = open.as_mut().expect("a part of a message that has begun");
                assert_eq!(*known, opcode.0);
                all.extend_from_slice(bytes);
                if let Some(last) = last {
                    let (opcode, all) = open.take().expect("it is open");
                    seen.push(Seen::Message(opcode, all, last));
                }
            }
            Event::Control { opcode, payload } => seen.push(Seen::Control(opcode.0, payload.to_vec())),
            Event::Unframed(bytes) => match seen.last_mut() {
                Some(Seen::Unframed(all)) => all.extend_from_slice(bytes),
                _ => seen.push(Seen::Unframed(bytes.to_vec())),
            },
        });
        assert_eq!(messages.open_message().is_some(), open.is_some());
    }
    seen.extend(open.map(|(opcode, bytes)| Seen::Open(opcode, bytes)));
    seen
}

/// A frame with any first byte, masked or not.
fn frame(first: u8, mask: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let mut frame = server_frame(Opcode(0), payload);
    frame[0] = first;
    if let Some(mask) = mask {
        let head = frame.len() - payload.len();
        frame[1] |= 0x80;
        frame.truncate(head);
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    }
    frame
}

fn whole(opcode: u8, payload: &[u8]) -> Seen {
    Seen::Message(opcode, payload.to_vec(), Ending::Whole)
}

#[test]
fn frames_become_messages() {
    let mask = Some([1, 2, 3, 4]);
    let stream = [
        frame(0x81, None, b"text"),
        frame(0x82, mask, &[9; 70_000]),
        frame(0x01, mask, b"in "),
        frame(0x89, mask, b"ping"),
        frame(0x00, mask, b""),
        frame(0x80, mask, b"parts"),
        frame(0x81, None, b""),
        frame(0x88, None, &close_payload(4001, "why")),
    ]
    .concat();
    let expected = [
        whole(1, b"text"),
        whole(2, &[9; 70_000]),
        Seen::Control(9, b"ping".to_vec()),
        whole(1, b"in parts"),
        whole(1, b""),
        Seen::Control(8, b"\x0f\xa1why".to_vec()),
    ];
    assert_eq!(read([stream.as_slice()]), expected);
    assert_eq!(read(stream.chunks(1)), expected);
    assert_eq!(close_reason(b"\x0f\xa1why"), (Some(4001), "why".into()));
    assert_eq!(close_reason(b"\x0f"), (None, String::new()));
}

#[test]
fn what_the_protocol_forbids_is_read_as_it_stands() {
    let stream = [
        // Reserved bits and a reserved opcode.
        frame(0xf1, None, b"reserved"),
        frame(0x83, None, b"three"),
        // A continuation of nothing.
        frame(0x80, None, b"lost"),
        // A message within a message.
        frame(0x01, None, b"half"),
        frame(0x82, None, b"other"),
        // A control frame that is fragmented and too large.
        frame(0x09, None, &[7; 300]),
    ]
    .concat();
    let expected = [
        whole(1, b"reserved"),
        whole(3, b"three"),
        whole(0, b"lost"),
        Seen::Message(1, b"half".to_vec(), Ending::Interrupted),
        whole(2, b"other"),
        Seen::Control(9, vec![7; 125]),
    ];
    assert_eq!(read([stream.as_slice()]), expected);
    assert_eq!(read(stream.chunks(3)), expected);
}

#[test]
fn an_impossible_length_ends_the_framing() {
    let mut stream = frame(0x01, None, b"open");
    stream.extend_from_slice(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    stream.extend_from_slice(b"anything");
    let seen = read([stream.as_slice()]);
    assert_eq!(seen[0], Seen::Message(1, b"open".to_vec(), Ending::Interrupted));
    assert_eq!(seen[1], Seen::Unframed([&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 1][..], b"anything"].concat()));
    assert_eq!(read(stream.chunks(1)), seen);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes_in_any_chunks_give_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..600), cuts in proptest::collection::vec(1usize..40, 1..80)) {
        let whole = read([bytes.as_slice()]);
        let (mut chunks, mut rest) = (Vec::new(), bytes.as_slice());
        for cut in cuts.into_iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, behind) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        prop_assert_eq!(read(chunks), whole);
    }

    #[test]
    fn what_was_sent_is_read(
        sent in proptest::collection::vec((1u8..=2, proptest::option::of(any::<[u8; 4]>()), proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..4)), 1..6),
        size in 1usize..50,
    ) {
        let mut stream = Vec::new();
        let mut expected = Vec::new();
        for (opcode, mask, fragments) in &sent {
            for (number, fragment) in fragments.iter().enumerate() {
                let fin = if number + 1 == fragments.len() { 0x80 } else { 0 };
                let opcode = if number == 0 { *opcode } else { 0 };
                stream.extend(frame(fin | opcode, *mask, fragment));
            }
            expected.push(whole(*opcode, &fragments.concat()));
        }
        prop_assert_eq!(read(stream.chunks(size)), expected);
    }
}
