//! A recorder, its spool and its drain, and what a gateway would write into the spool.

use std::collections::BTreeMap;
use std::sync::Arc;

use kgb::drain::{Drain, DrainHandle};
use kgb::entry::{Begin, End, REQUEST_BODY, RESPONSE_BODY, RESPONSE_HEAD};
use kgb::{Recorder, RecorderConfig};
use spool::Spool;
use tempfile::TempDir;
use uuid::Uuid;
use winni::model::*;

use super::fake::{Fake, Kept};
use crate::support::noise;

/// A recorder with a drain into a fake store.
pub(super) struct Drained {
    pub(super) data: TempDir,
    pub(super) recorder: Arc<Recorder>,
    pub(super) store: Arc<Fake>,
    pub(super) drain: DrainHandle,
}

impl Drained {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl FnOnce(&mut RecorderConfig)) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self::on(data, Arc::default(), change).await
    }

    pub(super) async fn on(data: TempDir, store: Arc<Fake>, change: impl FnOnce(&mut RecorderConfig)) -> Self {
        let mut config = RecorderConfig::new(data.path());
        config.segment_bytes = 16 << 10;
        change(&mut config);
        let root = config.spool_root();
        let recorder = Recorder::start(config).unwrap();
        let drain = Drain::spawn(store.clone(), root, recorder.clone());
        Self { data, recorder, store, drain }
    }

    pub(super) fn id(&self) -> Uuid {
        self.recorder.spool().recorder().0
    }

    pub(super) fn stored(&self) -> BTreeMap<u64, Kept> {
        self.store.of(self.id())
    }

    pub(super) fn folders(&self) -> usize {
        std::fs::read_dir(self.data.path().join("spool")).unwrap().count()
    }
}

/// One exchange, as the gateway writes it.
pub(super) fn write_exchange(spool: &Spool, n: u64, size: usize) -> Kept {
    let entry = spool.begin(&begin(), &[(REQUEST_BODY, &noise(n, size))]).unwrap();
    let response = noise(n + 1, 100);
    entry.append_all(&[(RESPONSE_HEAD, b"HTTP/1.1 200\r\nx: y\r\n"), (RESPONSE_BODY, &response)]).unwrap();
    entry.append(RESPONSE_BODY, b"data").unwrap();
    entry.finish(&[(RESPONSE_BODY, b"!")], &end(0)).unwrap();
    Kept::Exchange {
        outcome: Outcome::Complete,
        request: noise(n, size),
        response: [response.as_slice(), b"data!"].concat(),
        chunks: vec![100, 4, 1],
    }
}

pub(super) fn begin() -> Vec<u8> {
    let begin = Begin {
        id: Uuid::now_v7(),
        at: Timestamp::now(),
        durability: Durability::Process,
        upstream: "http://up".into(),
        server: None,
        key_fingerprint: None,
        head: b"POST /v1/messages HTTP/1.1\r\nhost: h\r\n".to_vec(),
    };
    begin.encode()
}

pub(super) fn end(missing_bytes: u64) -> Vec<u8> {
    let end = End { outcome: Outcome::Complete, at: Timestamp::now(), missing_bytes };
    end.encode()
}

pub(super) fn life() -> Vec<u8> {
    kgb::entry::Life { at: Timestamp::now(), about: "test".into() }.encode()
}
