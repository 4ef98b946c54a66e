use winni::model::{Direction, FrameForm, FrameSource};

use super::*;

fn begin() -> Begin {
    Begin {
        id: Uuid::now_v7(),
        at: Timestamp(1_700_000_000_000_001),
        durability: Durability::Power,
        upstream: "https://api.example.com/base".into(),
        server: None,
        key_fingerprint: Some("0123456789abcdef".into()),
        head: b"POST /v1/messages HTTP/1.1\r\nhost: x\r\n".to_vec(),
    }
}

fn message(direction: Direction, source: FrameSource, form: FrameForm) -> MessageBegin {
    MessageBegin {
        id: Uuid::now_v7(),
        connection: Uuid::now_v7(),
        at: Timestamp(17),
        durability: Durability::Process,
        direction,
        source,
        form,
        server: "dewey".into(),
        session: Some("s".into()),
    }
}

#[test]
fn a_message_is_told_from_an_exchange() {
    let message = message(Direction::ToServer, FrameSource::Spy, FrameForm::Text).encode();
    assert!(MessageBegin::is_one(&message));
    assert!(!MessageBegin::is_one(&begin().encode()));
    assert_eq!(Begin::decode(&message), Err(EntryError::Version(2)));
    for length in 0..message.len() {
        assert!(MessageBegin::decode(&message[..length]).is_err(), "{length}");
    }
}

#[test]
fn what_was_encoded_is_decoded() {
    let with_key = begin();
    assert_eq!(Begin::decode(&with_key.encode()).unwrap(), with_key);
    let without_key = Begin { key_fingerprint: None, ..begin() };
    assert_eq!(Begin::decode(&without_key.encode()).unwrap(), without_key);
    let of_the_spy = Begin { server: Some("dewey".into()), ..begin() };
    assert_eq!(Begin::decode(&of_the_spy.encode()).unwrap(), of_the_spy);
    for outcome in Outcome::ALL {
        let end = End { outcome, at: Timestamp(-5), missing_bytes: 7 };
        assert_eq!(End::decode(&end.encode()), Ok(end));
    }
    let note = Note::Gap(Gap { from: Timestamp(1), until: Timestamp(2), exchanges: 3, bytes: 4 });
    assert_eq!(Note::decode(&note.encode()), Ok(note));
    let closed = Note::Closed(ConnectionEnd {
        connection_id: Uuid::now_v7(),
        at: Timestamp(3),
        outcome: Outcome::Complete,
        by_client: Some((1000, "done ä".into())),
        by_server: None,
    });
    assert_eq!(Note::decode(&closed.encode()), Ok(closed));
    for (direction, source, form) in [
        (Direction::ToServer, FrameSource::Spy, FrameForm::Text),
        (Direction::ToClient, FrameSource::Gateway, FrameForm::Reserved(7)),
        (Direction::ToClient, FrameSource::Relay, FrameForm::Unframed),
    ] {
        let message = message(direction, source, form);
        assert_eq!(MessageBegin::decode(&message.encode()).unwrap(), message);
    }
    let life = Life { at: Timestamp(9), about: "iccm 0.1 on ä".into() };
    assert_eq!(Life::decode(&life.encode()), Ok(life));
}

#[test]
fn a_cut_payload_is_an_error_at_every_length() {
    let end = End { outcome: Outcome::Complete, at: Timestamp(1), missing_bytes: 0 }.encode();
    for length in 0..end.len() {
        assert!(matches!(End::decode(&end[..length]), Err(EntryError::Short(_))));
    }
    let begin = begin().encode();
    let fixed = begin.len() - 39;
    for length in 0..fixed {
        assert!(Begin::decode(&begin[..length]).is_err(), "{length}");
    }
}

#[test]
fn unknown_versions_and_values_are_refused() {
    assert_eq!(End::decode(&[9]), Err(EntryError::Version(9)));
    let mut end = End { outcome: Outcome::Complete, at: Timestamp(1), missing_bytes: 0 }.encode();
    end[1] = 200;
    assert_eq!(End::decode(&end), Err(EntryError::Unknown("outcome")));
    assert_eq!(Note::decode(&[1, 77]), Err(EntryError::Unknown("kind")));
}
