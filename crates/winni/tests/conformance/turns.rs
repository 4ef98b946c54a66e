//! Turn numbers under concurrent writers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;
use winni::model::*;
use winni::store::{Error, Store};

use crate::lake::{Lake, message};

const WRITERS: usize = 32;

/// When a writer has stored enough.
#[derive(Clone, Copy)]
enum Enough {
    Messages(usize),
    After(Duration),
}

impl Enough {
    fn is_reached(self, stored: usize, begun: Instant) -> bool {
        match self {
            Enough::Messages(messages) => stored >= messages,
            Enough::After(time) => begun.elapsed() >= time,
        }
    }
}

/// Stores messages one by one, retrying while others hold the database; the turns that it got.
async fn write(store: Arc<dyn Store>, into: Uuid, writer: usize, enough: Enough) -> Vec<u64> {
    let begun = Instant::now();
    let mut turns = Vec::new();
    while !enough.is_reached(turns.len(), begun) {
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
    write_together(lake, Enough::Messages(12)).await;
}

/// The same for as long as it takes to meet rarer moments.
pub(crate) async fn many_writers_keep_at_it_for_ten_seconds(lake: Lake) {
    let stored = write_together(lake, Enough::After(Duration::from_secs(10))).await;
    println!("{stored} messages by {WRITERS} writers");
}

async fn write_together(lake: Lake, enough: Enough) -> usize {
    let id = lake.keep("s", &[]).await;
    // A quarter of them come from another process, as far as the database can tell.
    let second = lake.again().await;
    let store = |writer: usize| if writer.is_multiple_of(4) { second.clone() } else { lake.store.clone() };
    let writers: Vec<_> = (0..WRITERS).map(|w| tokio::spawn(write(store(w), id, w, enough))).collect();
    let mut given = Vec::new();
    for writer in writers {
        let turns = writer.await.unwrap();
        assert!(turns.is_sorted(), "a writer's own messages stand in its order");
        given.extend(turns);
    }
    given.sort_unstable();
    assert!(given.len() >= WRITERS, "every writer had a turn");
    assert_eq!(given, (1..=given.len() as u64).collect::<Vec<_>>());
    let stored: Vec<u64> = lake.store.turns(id, 0, None).await.unwrap().iter().map(|t| t.turn).collect();
    assert_eq!(stored, given);
    stored.len()
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
