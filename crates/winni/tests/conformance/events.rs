//! What `iccm tail` shows.

use winni::model::*;

use crate::agent::{Agent, says, user};
use crate::lake::{Lake, text};

pub(crate) async fn exchanges_and_messages_of_both_kinds_are_told_once(mut lake: Lake) {
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("before")], &says("x"))).await;
    let start = lake.store.event_cursor().await.unwrap();
    let exchange = lake.record(agent.ask(&[user("asked")], &says("answered"))).await;
    let conversation = lake.keep("s", &["kept"]).await;
    let (mut cursor, mut told) = (start, Vec::new());
    loop {
        let (events, next) = lake.store.events(cursor, 2).await.unwrap();
        if events.is_empty() {
            assert_eq!(next, cursor);
            break;
        }
        cursor = next;
        told.extend(events.into_iter().map(|event| match event {
            Event::Exchange(e) => (e.id.to_string(), None),
            Event::Message(turn) => (text(&turn.content), turn.exchange_id),
        }));
    }
    told.sort();
    let mut expected = vec![
        (exchange.to_string(), None),
        ("asked".to_owned(), Some(exchange)),
        ("answered".to_owned(), Some(exchange)),
        ("kept".to_owned(), None),
    ];
    expected.sort();
    assert_eq!(told, expected);
    assert_eq!(lake.store.event_cursor().await.unwrap(), cursor);
    assert_eq!(lake.store.turns(conversation, 0, None).await.unwrap()[0].exchange_id, None);
}
