//! What waits in the spool to be stored: read only, while others write and drain it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use spool::{Reader, RecorderId};
use uuid::Uuid;
use winni::store::{Store, Watermark};

/// What waits, over all recorders of a data folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Items (exchanges, gaps, begins and ends) that are not stored yet, running ones included.
    pub(crate) records: u64,
    /// Bytes that they take in the spool.
    pub(crate) bytes: u64,
    /// Recorders whose process is alive.
    pub(crate) living: u64,
    /// Recorders whose process is gone; the next start of `iccm up` or `iccm run` stores what they left.
    pub(crate) orphans: u64,
}

/// Looks through all recorders' folders. Without a store all that stands there waits.
pub(crate) async fn scan(data_dir: &Path, store: Option<&dyn Store>) -> anyhow::Result<Pending> {
    let root = super::spool_root(data_dir);
    let folders =
        tokio::task::spawn_blocking(move || read_all(&root)).await.context("reading the spool broke off")??;
    let mut pending = Pending::default();
    for folder in folders {
        // Asked after reading: what is stored in between counts as stored.
        let stored = match store {
            Some(store) => store.watermark(folder.recorder).await?,
            None => Watermark::default(),
        };
        for (_, bytes) in folder.items.iter().filter(|(seq, _)| !stored.covers(**seq)) {
            pending.records += 1;
            pending.bytes += bytes;
        }
        if folder.is_living {
            pending.living += 1;
        } else {
            pending.orphans += 1;
        }
    }
    Ok(pending)
}

/// Whether any recorder has left, or is leaving, something in the spool.
pub(crate) fn has_recorders(data_dir: &Path) -> bool {
    recorder_folders(&super::spool_root(data_dir)).is_ok_and(|folders| !folders.is_empty())
}

/// The recorders of a data folder whose process is alive.
pub(crate) fn living(data_dir: &Path) -> anyhow::Result<Vec<Uuid>> {
    let folders = recorder_folders(&super::spool_root(data_dir))?;
    Ok(folders.into_iter().filter(|(_, dir)| is_locked(dir)).map(|(recorder, _)| recorder).collect())
}

/// One recorder's folder.
struct Folder {
    recorder: Uuid,
    is_living: bool,
    /// Bytes of each item that still stands in the spool, by sequence number.
    items: HashMap<u64, u64>,
}

fn read_all(root: &Path) -> anyhow::Result<Vec<Folder>> {
    recorder_folders(root)?.into_iter().filter_map(|(recorder, dir)| read_folder(recorder, &dir).transpose()).collect()
}

/// The folders of recorders; what else stands there belongs to the spool's own housekeeping.
fn recorder_folders(root: &Path) -> anyhow::Result<Vec<(Uuid, PathBuf)>> {
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list the spool {}", root.display())),
    };
    let named = entries.filter_map(|entry| {
        let entry = entry.ok()?;
        let recorder: Uuid = entry.file_name().to_str()?.parse().ok()?;
        Some((recorder, entry.path()))
    });
    Ok(named.collect())
}

/// `None` if the folder was removed meanwhile, as happens when all of it is stored.
fn read_folder(recorder: Uuid, dir: &Path) -> anyhow::Result<Option<Folder>> {
    let is_living = is_locked(dir);
    let mut items = HashMap::new();
    let result = Reader::open(dir).and_then(|mut reader| collect(&mut reader, &mut items));
    match result {
        Ok(()) => Ok(Some(Folder { recorder, is_living, items })),
        Err(_) if !dir.exists() => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read the spool of recorder {}", RecorderId(recorder))),
    }
}

fn collect(reader: &mut Reader, items: &mut HashMap<u64, u64>) -> spool::Result<()> {
    loop {
        match reader.next() {
            Ok(Some(record)) => *items.entry(record.seq).or_default() += record.end.offset - record.position.offset,
            Ok(None) => return Ok(()),
            // A segment that is released or being written while it is read looks damaged; the drain, which does not read
            // behind the writer's back, is the one that judges.
            Err(spool::Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Whether a recorder holds its lock. Asking takes the lock for a moment, shared, so that two who ask do not see each other.
pub(super) fn is_locked(dir: &Path) -> bool {
    let Ok(file) = File::open(dir.join("lock")) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    use spool::{Channel, Options, Spool};

    use super::*;

    async fn waiting(data_dir: &Path) -> Pending {
        scan(data_dir, None).await.unwrap()
    }

    #[tokio::test]
    async fn items_of_living_and_dead_recorders_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(waiting(folder.path()).await, Pending::default());
        assert!(!has_recorders(folder.path()));

        let root = super::super::spool_root(folder.path());
        let spool = Spool::create(&root, Options::default(), b"about").unwrap();
        let entry = spool.begin(b"begin", &[(Channel(1), b"body")]).unwrap();
        entry.append(Channel(1), &[7; 1000]).unwrap();
        let seen = waiting(folder.path()).await;
        // The life's begin and the entry that runs.
        assert_eq!((seen.records, seen.living, seen.orphans), (2, 1, 0));
        assert!(seen.bytes > 1000, "{seen:?}");
        assert!(has_recorders(folder.path()));
        assert_eq!(living(folder.path()).unwrap(), [spool.recorder().0]);

        entry.finish(&[], b"end").unwrap();
        drop(spool);
        let seen = waiting(folder.path()).await;
        assert_eq!((seen.records, seen.living, seen.orphans), (2, 0, 1));
        assert!(living(folder.path()).unwrap().is_empty());
    }
}
