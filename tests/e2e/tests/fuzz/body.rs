//! Bodies of agents, spoilt: each comes back byte for byte, in whatever order and company it is stored.

use e2e::generator::{self, Client, Shape};
use e2e::random::Random;
use uuid::Uuid;
use winni::SqliteStore;
use winni::model::{Batch, CapturedExchange, ChunkTiming, Durability, Item, Outcome, Part, Timestamp};
use winni::store::Store;
use wire::head::{Headers, RequestHead, ResponseHead};

use crate::mutate::mutate;
use crate::{harness, json, spans};

struct Stored {
    id: Uuid,
    request: Vec<u8>,
    response: Vec<u8>,
}

fn exchange(recorded: &e2e::fake_api::replay::Recorded, random: &mut Random) -> (Stored, Item) {
    let (mut request, mut response) = (recorded.request_body.clone(), recorded.response_body.clone());
    match random.between(0, 4) {
        0 => mutate(&mut request, &spans::WORDS, random),
        1 | 2 => request = json::spoilt(&request, random).unwrap_or(request),
        _ => {}
    }
    if random.one_in(3) {
        mutate(&mut response, &[b"\n\n", b"data: {", b"event: error\n", b"\"index\":9"], random);
    }
    let head = |fields: &[(String, String)]| {
        Headers(fields.iter().map(|(name, value)| (name.clone(), value.clone().into_bytes())).collect())
    };
    let id = Uuid::from_u64_pair(random.next_u64(), random.next_u64());
    let captured = CapturedExchange {
        id,
        started_at: Timestamp(1_795_000_000_000_000),
        first_byte_at: None,
        ended_at: None,
        durability: Durability::Process,
        outcome: if random.one_in(5) { Outcome::ClientAborted } else { Outcome::Complete },
        upstream: "http://127.0.0.1".to_owned(),
        server: None,
        key_fingerprint: None,
        request_head: RequestHead {
            method: recorded.method.clone(),
            target: recorded.target.clone(),
            version: "HTTP/1.1".to_owned(),
            headers: head(&recorded.request_headers),
        },
        request_body: Box::new(request.clone()),
        response_head: Some(ResponseHead {
            status: recorded.status,
            version: "HTTP/1.1".to_owned(),
            headers: head(&recorded.response_headers),
        }),
        response_chunks: vec![ChunkTiming { after_us: 5, bytes: response.len() as u64 }],
        response_body: Box::new(response.clone()),
    };
    (Stored { id, request, response }, Item::Exchange(Box::new(captured)))
}

/// Stores a part of a session and compares what comes back.
async fn round_trip(random: &mut Random) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("iccm.db")).await.unwrap();
    let client = [Client::Newest, Client::Oldest, Client::Middle][random.between(0, 3)];
    let session = generator::session(random.next_u64(), &Shape::mixed(client, 10));
    let recorder = Uuid::from_u64_pair(random.next_u64(), random.next_u64());
    let mut stored = Vec::new();
    let mut seq = 0;
    for some in session.exchanges.chunks(random.between(1, 12)) {
        let mut items = Vec::new();
        for one in some {
            let (kept, item) = exchange(&one.recorded, random);
            items.push((seq, item));
            stored.push(kept);
            seq += 1;
        }
        store.append(Batch { recorder, items }).await.expect("every body can be stored");
    }
    for Stored { id, request, response } in stored {
        for (part, expected) in [(Part::RequestBody, request), (Part::ResponseBody, response)] {
            let mut bytes = Vec::new();
            assert_eq!(store.part(id, part, &mut bytes).await.unwrap(), Some(true));
            assert!(bytes == expected, "{part:?}: {}\ncame back as {}", text(&expected), text(&bytes));
        }
    }
    while store.index_pending(1000).await.unwrap() > 0 {}
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_spoilt_body_comes_back_byte_for_byte() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    harness::run("body", 12, |random| runtime.block_on(round_trip(random)));
}
