//! What passed gets into the store, whole and in its order, and out of the spool.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kgb::drain::Drain;
use kgb::entry::{REQUEST_BODY, RESPONSE_BODY};
use winni::model::Outcome;

use super::fake::{Fake, Kept};
use super::rig::{Drained, begin, end, write_exchange};
use crate::support::{Rig, noise, soon};

#[tokio::test]
async fn what_passed_the_gateway_is_stored() {
    let rig = Rig::start().await;
    let store = Arc::new(Fake::default());
    let drain = Drain::spawn(store.clone(), rig.data.path().join("spool"), rig.recorder.clone());
    let mut client = rig.client().await;
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello").await;
    let mut upstream = rig.accept().await;
    upstream.message().await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    client.head().await;
    client.chunk().await;
    upstream.send("2\r\nde\r\n0\r\n\r\n").await;
    client.chunks().await;
    soon(drain.caught_up()).await;
    let stored = store.of(rig.recorder.spool().recorder().0);
    let exchange = Kept::Exchange {
        outcome: Outcome::Complete,
        request: b"hello".to_vec(),
        response: b"abcde".to_vec(),
        chunks: vec![3, 2],
    };
    assert_eq!(stored, BTreeMap::from([(0, Kept::LifeBegin), (1, exchange)]));
    rig.shutdown.cancel();
    soon(rig.running).await.unwrap();
    rig.recorder.end_life().unwrap();
    assert!(soon(drain.shutdown(Duration::from_secs(10))).await);
    assert_eq!(store.of(rig.recorder.spool().recorder().0)[&2], Kept::LifeEnd { orderly: true });
    assert!(!rig.recorder.spool().dir().exists(), "everything is stored, so the folder is gone");
    assert!(*store.indexed.lock().unwrap() > 0);
}

#[tokio::test]
async fn items_are_stored_in_the_order_of_their_ends_and_segments_released() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool().clone();
    let long = spool.begin(&begin(), &[]).unwrap();
    for n in 0..200 {
        write_exchange(&spool, n, 1000);
    }
    soon(drained.drain.caught_up()).await;
    assert_eq!(spool.first_segment(), 0, "an exchange that is running keeps its segment");
    assert_eq!(drained.stored().len(), 201);
    long.finish(&[], &end(0)).unwrap();
    write_exchange(&spool, 1000, 10);
    soon(drained.drain.caught_up()).await;
    let order = drained.store.order.lock().unwrap().clone();
    let expected: Vec<_> = [0].into_iter().chain(2..=201).chain([1, 202]).collect();
    assert_eq!(order, expected);
    soon(async {
        // A segment counts until its file is gone, a moment after its release.
        while spool.first_segment() < spool.written().segment || spool.pending_bytes() > 16 << 10 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let status = drained.drain.status();
    assert_eq!((status.pending_records, status.pending_bytes, status.last_error), (0, 0, None));
    assert_eq!(status.stored_records, 203);
}

#[tokio::test]
async fn a_record_with_a_hole_is_not_told_as_complete() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool();
    spool.begin(&begin(), &[]).unwrap().finish(&[], &end(7)).unwrap();
    drop(spool.begin(&begin(), &[]).unwrap());
    soon(drained.drain.caught_up()).await;
    for seq in [1, 2] {
        assert!(matches!(drained.stored()[&seq], Kept::Exchange { outcome: Outcome::RecorderCrashed, .. }));
    }
}

#[tokio::test]
async fn large_bodies_are_read_piece_by_piece() {
    let drained = Drained::with(|config| config.segment_bytes = 1 << 20).await;
    let body = noise(9, 20 << 20);
    let entry = drained.recorder.spool().begin(&begin(), &[]).unwrap();
    // Larger than a record, and in many segments.
    entry.append(RESPONSE_BODY, &body).unwrap();
    for part in body.chunks(60_000) {
        entry.append(REQUEST_BODY, part).unwrap();
    }
    entry.finish(&[], &end(0)).unwrap();
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    let Kept::Exchange { request, response, chunks, .. } = &stored[&1] else { panic!("{:?}", stored.keys()) };
    assert!(*request == body && *response == body);
    assert_eq!(*chunks, [20 << 20]);
}
