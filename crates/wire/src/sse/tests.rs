use proptest::prelude::*;

use super::*;

fn event(name: &str, data: &str) -> Event {
    Event { event: name.into(), data: data.into(), id: String::new(), terminated: true }
}

fn all(stream: &str) -> Vec<Event> {
    events(stream.as_bytes()).collect()
}

#[test]
fn events_end_at_blank_lines_of_any_kind() {
    let expected = vec![event("a", "1"), event("message", "2\n3"), event("b", "")];
    for line_end in ["\n", "\r", "\r\n"] {
        let stream = ["event: a", "data: 1", "", "data:2", "data: 3", "", "event:b", "data", "", ""].join(line_end);
        assert_eq!(all(&stream), expected, "{line_end:?}");
    }
}

#[test]
fn comments_retries_unknown_fields_and_events_without_data_are_no_events() {
    let stream = ": keep-alive\n\nretry: 10\n\nevent: lost\n\nDATA: x\nnonsense\n\ndata: y\n\n";
    assert_eq!(all(stream), [event("message", "y")]);
}

#[test]
fn one_blank_after_the_colon_is_removed_and_no_more() {
    assert_eq!(all("data:  x: y \n\n"), [event("message", " x: y ")]);
}

#[test]
fn a_byte_order_mark_counts_at_the_very_beginning_only() {
    assert_eq!(all("\u{feff}data: x\n\n\u{feff}data: y\n\n"), [event("message", "x")]);
}

#[test]
fn the_last_id_stays_until_another_comes() {
    let ids: Vec<_> = all("id: 7\ndata: a\n\ndata: b\n\nid: 8\0\ndata: c\n\nid\ndata: d\n\n")
        .into_iter()
        .map(|event| event.id)
        .collect();
    assert_eq!(ids, ["7", "7", "7", ""]);
}

#[test]
fn an_event_that_was_cut_short_is_handed_out_and_marked() {
    let mut parser = Parser::new();
    assert_eq!(parser.feed(b"event: a\ndata: 1\n\nevent: b\ndata: {\"x").count(), 1);
    assert_eq!(parser.finish(), Some(Event { terminated: false, ..event("b", "{\"x") }));
    assert_eq!(parser.finish(), None);
    assert_eq!(all("event: b\n"), []);
    assert_eq!(all("data: [DONE]\n"), [Event { terminated: false, ..event("message", "[DONE]") }]);
}

#[test]
fn invalid_utf8_becomes_a_replacement_character() {
    assert_eq!(events(b"data: a\xffb\n\n").next(), Some(event("message", "a\u{fffd}b")));
}

fn in_chunks(stream: &[u8], sizes: &[usize]) -> Vec<Event> {
    let mut parser = Parser::new();
    let mut found = Vec::new();
    let mut rest = stream;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, tail) = rest.split_at((*size).min(rest.len()));
        found.extend(parser.feed(chunk));
        rest = tail;
    }
    found.extend(parser.finish());
    found
}

proptest! {
    #[test]
    fn chunk_boundaries_do_not_matter(
        lines in proptest::collection::vec("(event: [a-z]{0,3}|data: ?[ -~é€😀]{0,8}|: x|id: [0-9]|\u{feff}|)(\n|\r|\r\n)", 0..20),
        sizes in proptest::collection::vec(1usize..7, 1..6),
    ) {
        let stream = lines.concat();
        prop_assert_eq!(in_chunks(stream.as_bytes(), &sizes), all(&stream));
    }

    #[test]
    fn any_bytes_are_taken_and_cut_anywhere(
        stream in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'\n'), Just(b'\r')], 0..200),
        sizes in proptest::collection::vec(1usize..7, 1..6),
    ) {
        prop_assert_eq!(in_chunks(&stream, &sizes), events(&stream).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_written_is_read_back(events in proptest::collection::vec(("[a-z_]{1,8}", "[^\r\n]{0,30}"), 0..10)) {
        let stream: String = events.iter().map(|(name, data)| format!("event: {name}\ndata: {data}\n\n")).collect();
        let expected: Vec<_> = events.iter().map(|(name, data)| event(name, data)).collect();
        prop_assert_eq!(all(&stream), expected);
    }
}
