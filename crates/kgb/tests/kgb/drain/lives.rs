//! What one recorder leaves, another one stores.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kgb::entry::REQUEST_BODY;
use spool::{Options, Spool};
use winni::model::Outcome;
use winni::store::Error;

use super::fake::Kept;
use super::rig::{Drained, begin, life, write_exchange};
use crate::support::soon;

#[tokio::test]
async fn what_a_dead_recorder_left_is_adopted_and_its_folder_removed() {
    let data = tempfile::tempdir().unwrap();
    let root = data.path().join("spool");
    let dead = Spool::create(&root, Options::default(), &life()).unwrap();
    let id = dead.recorder().0;
    let whole = write_exchange(&dead, 1, 5000);
    let entry = dead.begin(&begin(), &[(REQUEST_BODY, b"half")]).unwrap();
    // Dies: neither entry nor life is ended, as after `kill -9`.
    let copy = copy_of(dead.dir());
    drop((entry, dead));
    restore(&copy, &root.join(id.to_string()));

    let drained = Drained::on(data, Arc::default(), |_| {}).await;
    soon(drained.drain.caught_up()).await;
    let stored = drained.store.of(id);
    let half = Kept::Exchange {
        outcome: Outcome::RecorderCrashed,
        request: b"half".to_vec(),
        response: Vec::new(),
        chunks: Vec::new(),
    };
    let expected = [(0, Kept::LifeBegin), (1, whole), (2, half), (3, Kept::LifeEnd { orderly: false })];
    assert_eq!(stored, BTreeMap::from(expected));
    assert_eq!(drained.folders(), 1, "only its own folder is left");
}

#[tokio::test]
async fn what_is_not_drained_at_the_end_waits_for_the_next_start() {
    let first = Drained::start().await;
    let id = first.id();
    let some = write_exchange(first.recorder.spool(), 1, 100);
    soon(first.drain.caught_up()).await;
    first.store.fail_when(|_| Some(Error::Unavailable("locked".into())));
    let more = write_exchange(first.recorder.spool(), 2, 100);
    first.recorder.end_life().unwrap();
    assert!(!soon(first.drain.shutdown(Duration::from_millis(100))).await);
    assert!(first.recorder.spool().dir().exists());
    first.store.heal();
    drop(first.recorder);

    let second = Drained::on(first.data, first.store, |_| {}).await;
    soon(second.drain.caught_up()).await;
    let expected = [(0, Kept::LifeBegin), (1, some), (2, more), (3, Kept::LifeEnd { orderly: true })];
    assert_eq!(second.store.of(id), BTreeMap::from(expected));
    assert_eq!(second.folders(), 1);
}

type Copy = Vec<(std::ffi::OsString, Vec<u8>)>;

fn copy_of(dir: &Path) -> Copy {
    let files = crate::support::files(dir);
    files.into_iter().map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes)).collect()
}

fn restore(copy: &Copy, dir: &Path) {
    for (name, bytes) in copy {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}
