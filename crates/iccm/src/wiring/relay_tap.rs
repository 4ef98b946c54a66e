//! The relay's messages with its servers on record.
//!
//! What goes to a [spy](super::spies) of the same record is on record there, and is not recorded here again: a message is one
//! message, however many of our parts it passes. Each connection with a server is a connection of its own in the record.
//!
//! The recorder is one of the relay's own process, as `iccm run` has one of its own: what it could not store before the
//! relay ended is stored by whichever `iccm` starts next.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kgb::drain::{Drain, DrainHandle};
use kgb::{MessageLog, Recorder, RecorderConfig};
use relay::{Direction, Observed, Tap};
use url::Url;
use uuid::Uuid;
use winni::model::{Direction as Way, Durability, FrameForm, FrameSource, Timestamp};

use super::late_store::LateStore;
use super::{recorder_config, spies};
use crate::config::Config;

/// How long the end waits for the database: whoever started the relay waits for it.
const DRAIN_PATIENCE: Duration = Duration::from_secs(2);

/// A relay's recorder at work.
pub(crate) struct RelayRecorder {
    recorder: Arc<Recorder>,
    drain: DrainHandle,
    tap: Arc<Listener>,
}

impl RelayRecorder {
    /// Begins to record. `session`: as the client names it.
    pub(crate) fn start(config: &Config, session: Option<String>) -> anyhow::Result<Self> {
        let data_dir = &config.data_dir.value;
        std::fs::create_dir_all(data_dir)?;
        // The relay does not wait for the disk before it passes a message on, and so must not say that it did.
        let recording = RecorderConfig { durability: Durability::Process, ..recorder_config(config) };
        let root = recording.spool_root();
        let recorder = Recorder::start(recording)?;
        let store = Arc::new(LateStore::open(config.database_url.value.clone(), data_dir.clone()));
        let drain = Drain::spawn(store, root, recorder.clone());
        let listener =
            Listener { recorder: recorder.clone(), data_dir: data_dir.clone(), session, logs: Mutex::default() };
        let tap = Arc::new(listener);
        Ok(Self { recorder, drain, tap })
    }

    /// What the relay shows its messages to.
    pub(crate) fn tap(&self) -> Arc<dyn Tap> {
        self.tap.clone()
    }

    /// Ends the recording and stores what there is time for.
    pub(crate) async fn stop(self) {
        if let Err(error) = self.recorder.end_life() {
            tracing::error!("cannot end the recording in an orderly way, the next start does it: {error}");
        }
        self.drain.shutdown(DRAIN_PATIENCE).await;
    }
}

/// Listens to the relay. What its client says is on record by what it does with it.
struct Listener {
    recorder: Arc<Recorder>,
    data_dir: PathBuf,
    session: Option<String>,
    /// The newest connection with each server, by the server's name; as many as are configured.
    logs: Mutex<HashMap<String, Arc<MessageLog>>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Listener")
    }
}

impl Tap for Listener {
    fn connects(&self, backend: &str, url: Option<&Url>) -> bool {
        if url.is_some_and(|url| spies::is_spy(&self.data_dir, url)) {
            tracing::debug!(backend, "the spy records what passes");
            return false;
        }
        let (recorder, session) = (self.recorder.clone(), self.session.clone());
        let log = MessageLog::new(recorder, Uuid::now_v7(), FrameSource::Relay, backend.to_owned(), session);
        self.logs().insert(backend.to_owned(), log);
        true
    }

    fn message(&self, observed: &Observed<'_>) {
        let way = match observed.direction {
            Direction::ToBackend => Way::ToServer,
            Direction::FromBackend => Way::ToClient,
            Direction::FromClient | Direction::ToClient => return,
        };
        let Some(backend) = observed.backend else { return };
        let Some(log) = self.logs().get(backend).cloned() else { return };
        // Whether it may pass is not asked: the relay has no way to refuse a message, and a gap is counted all the same.
        log.record(way, FrameForm::Text, timestamp(observed.at), observed.bytes);
    }
}

impl Listener {
    fn logs(&self) -> MutexGuard<'_, HashMap<String, Arc<MessageLog>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX))
}
