//! Stores that fail, and items that none can take.

use std::time::Duration;

use winni::store::Error;

use super::rig::{Drained, end, write_exchange};
use crate::support::{noise, soon};

#[tokio::test]
async fn a_store_that_is_away_for_a_while_gets_everything_afterwards() {
    let drained = Drained::start().await;
    drained.store.fail_when(|_| Some(Error::Unavailable("locked".into())));
    let spool = drained.recorder.spool();
    let expected: Vec<_> = (0..300).map(|n| write_exchange(spool, n, 2000)).collect();
    drained.store.asked(3).await;
    let status = drained.drain.status();
    assert!(status.pending_records > 0 && status.pending_records <= 64, "memory holds one batch: {status:?}");
    assert!(status.pending_bytes > 300 * 2000);
    assert!(status.last_error.unwrap().contains("locked"));
    drained.store.heal();
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    for (n, exchange) in expected.iter().enumerate() {
        assert_eq!(stored[&(n as u64 + 1)], *exchange);
    }
    assert_eq!(stored.len(), 301);
}

#[tokio::test]
async fn a_store_that_was_deleted_gets_again_what_the_spool_still_holds() {
    let drained = Drained::with(|config| config.segment_bytes = 64 << 20).await;
    let spool = drained.recorder.spool();
    for n in 0..100 {
        write_exchange(spool, n, 100);
    }
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored().len(), 101);

    // Without an error: it is noticed with the next batch.
    drained.store.wipe();
    write_exchange(spool, 100, 100);
    soon(async {
        while drained.stored().len() < 102 {
            tokio::task::yield_now().await;
        }
    })
    .await;

    // With an error: it is noticed before the next batch.
    drained.store.fail_when(|_| Some(Error::Unavailable("gone".into())));
    write_exchange(spool, 101, 100);
    drained.store.asked(1).await;
    drained.store.wipe();
    drained.store.heal();
    soon(async {
        while drained.stored().len() < 103 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(drained.store.mark(drained.id()).contiguous, 103);
}

#[tokio::test]
async fn an_item_that_the_store_refuses_is_put_aside_and_blocks_no_other() {
    let drained = Drained::start().await;
    drained.store.fail_when(|batch| {
        let refused = batch.items.iter().any(|(seq, _)| *seq == 7);
        refused.then(|| Error::Invalid("not this one".into()))
    });
    let spool = drained.recorder.spool().clone();
    let marker = noise(6, 50);
    for n in 0..20 {
        write_exchange(&spool, n, 50);
    }
    soon(async {
        while drained.drain.status().quarantined_records == 0 {
            write_exchange(&spool, 99, 10);
            tokio::task::yield_now().await;
        }
    })
    .await;
    soon(drained.drain.caught_up()).await;
    let stored = drained.stored();
    assert!(!stored.contains_key(&7));
    assert!((0..21).filter(|seq| *seq != 7).all(|seq| stored.contains_key(&seq)));
    let file = drained.data.path().join(format!("quarantine/{}-7.records", drained.id()));
    let bytes = std::fs::read(file).unwrap();
    assert!(bytes.windows(50).any(|window| window == marker), "its bytes are kept");
    assert!(bytes.starts_with(b"begin mono_ns="));
    drained.recorder.end_life().unwrap();
    assert!(soon(drained.drain.shutdown(Duration::from_secs(10))).await);
    assert!(!spool.dir().exists());
}

#[tokio::test]
async fn a_store_that_refuses_everything_empties_nothing_into_the_quarantine() {
    let drained = Drained::start().await;
    drained.store.fail_when(|_| Some(Error::Damaged("malformed disk image".into())));
    let spool = drained.recorder.spool().clone();
    for n in 0..300 {
        write_exchange(&spool, n, 50);
    }
    drained.store.asked(140).await;
    let status = drained.drain.status();
    assert!(status.pending_records <= 128, "{status:?}");
    assert_eq!(status.quarantined_records, 0);
    drained.store.heal();
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored().len(), 301);
    assert!(!drained.data.path().join("quarantine").exists());
}

#[tokio::test]
async fn an_item_that_cannot_be_read_is_put_aside() {
    let drained = Drained::start().await;
    let spool = drained.recorder.spool();
    spool.begin(b"\x63 not a begin", &[]).unwrap().finish(&[], &end(0)).unwrap();
    let fine = write_exchange(spool, 1, 10);
    soon(drained.drain.caught_up()).await;
    assert_eq!(drained.stored()[&2], fine);
    assert_eq!(drained.drain.status().quarantined_records, 1);
    assert!(drained.data.path().join(format!("quarantine/{}-1.records", drained.id())).exists());
}
