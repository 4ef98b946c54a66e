//! Turn numbers under concurrent writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use winni::model::*;
use winni::store::{Error, Store};

use crate::lake::{Lake, message};

const WRITERS: usize = 32;

/// How long they write: rare moments want some time.
const TIME: Duration = Duration::from_secs(10);

/// Stores messages one by one, retrying while others hold the database; the turns that it got.
async fn write(store: Arc<dyn Store>, into: Uuid, writer: usize) -> Vec<u64> {
    let begun = Instant::now();
    let mut turns = Vec::new();
    while begun.elapsed() < TIME {
        let n = turns.len();
        loop {
            let messages = vec![message(Role::User, &format!("{writer} {n}"))];
            match store.store_messages(Destination::Existing(into), messages).await {
                Ok((_, stored)) => break turns.push(stored[0].turn),
                Err(Error::Unavailable(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    turns
}

pub(crate) async fn many_writers_give_out_turns_without_gap_or_double(lake: Lake) {
    let id = lake.keep("s", &[]).await;
    // A quarter of them come from another process, as far as the database can tell.
    let second = lake.again().await;
    let store = |writer: usize| if writer.is_multiple_of(4) { second.clone() } else { lake.store.clone() };
    let writers: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(write(store(w), id, w))).collect();
    let mut given = Vec::new();
    for writer in writers {
        let turns = writer.await.unwrap();
        assert!(!turns.is_empty(), "every writer has a turn");
        assert!(turns.is_sorted(), "a writer's own messages stand in its order");
        given.extend(turns);
    }
    given.sort_unstable();
    assert_eq!(given, (1..=given.len() as u64).collect::<Vec<_>>());
    let stored: Vec<u64> = lake.store.turns(id, 0, None).await.unwrap().iter().map(|t| t.turn).collect();
    assert_eq!(stored, given);
    println!("{} messages by {WRITERS} writers", stored.len());
}

pub(crate) async fn a_wish_for_a_turn_is_kept_by_one_writer_only(lake: Lake) {
    let id = lake.keep("s", &[]).await;
    let second = lake.again().await;
    for turn in 1..=20 {
        let wish = || vec![NewMessage { turn: Some(turn), ..message(Role::User, "mine") }];
        let into = || Destination::Existing(id);
        let (one, two) = tokio::join!(lake.store.store_messages(into(), wish()), second.store_messages(into(), wish()));
        let refused = [&one, &two].iter().filter(|r| matches!(r, Err(Error::Invalid(_)))).count();
        assert_eq!((refused, one.is_ok() || two.is_ok()), (1, true));
    }
}
