//! The recorder: one life of a recording process, its spool and its policies.
//!
//! Guaranteed: an exchange that is begun has exactly one end, whatever happens to the tasks that carry it; nothing is
//! written that holds a credential in a header or a query; what passes without being recorded is counted, alarmed and,
//! as soon as the spool takes it, put on record as a gap.
//!
//! Refused: waiting. Nothing here waits for anything but the disk.

mod gap;
mod key;
mod message;
mod recording;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use spool::{Position, Spool};
use uuid::Uuid;
use winni::model::{Durability, Gap, Timestamp};
use wire::redact::{Redactor, ToolKeyFilter};

use crate::entry::{Begin, Life, Note, REQUEST_BODY};
use crate::error::{Error, Result};
use crate::metrics::Meters;
use gap::Gaps;
pub use message::MessageLog;
pub(crate) use message::OpenMessage;
pub(crate) use recording::{Kept, Recording, Running};

/// What to do with an exchange that cannot be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenSpoolFull {
    /// Let it pass; count it, raise the alarm, and put the gap on record later.
    #[default]
    PassUnrecorded,
    /// Refuse it with 503; cut one that is already running.
    Refuse,
}

/// How to record.
#[derive(Clone, Debug)]
pub struct RecorderConfig {
    /// Folder of everything that is kept: `spool/`, `quarantine/`, `fingerprint.key`. Created if it is missing.
    pub data_dir: PathBuf,
    /// What must be true of bytes before they are passed on.
    pub durability: Durability,
    /// What to do when the spool cannot take more.
    pub when_spool_full: WhenSpoolFull,
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
    /// Bound of this recorder's part of the spool, in bytes.
    pub max_spool_bytes: u64,
    /// Who records, for people: program, version, host.
    pub about: String,
}

impl RecorderConfig {
    /// The defaults, with everything kept under `data_dir`.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let spool = spool::Options::default();
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Process,
            when_spool_full: WhenSpoolFull::default(),
            segment_bytes: spool.segment_bytes,
            max_spool_bytes: spool.max_bytes,
            about: format!("iccm {}", env!("CARGO_PKG_VERSION")),
        }
    }

    /// The folder that holds every recorder's folder.
    pub fn spool_root(&self) -> PathBuf {
        self.data_dir.join("spool")
    }
}

/// What is known of an exchange when it begins.
pub(crate) struct NewExchange<'a> {
    pub(crate) method: &'a str,
    /// Path and query as the client sent them; credentials in it are replaced here.
    pub(crate) target: &'a str,
    pub(crate) version: http::Version,
    pub(crate) headers: &'a HeaderMap,
    /// Base URL of the upstream.
    pub(crate) upstream: &'a str,
    /// The MCP server's name, if it passes through the spy.
    pub(crate) server: Option<&'a str>,
    /// The first bytes of the body, if they are there already: one write takes them with the head.
    pub(crate) body: Option<&'a [u8]>,
    /// Whether the body may call a tool: then it is recorded without the key, should it hand one over.
    pub(crate) calls_tools: bool,
}

/// One life of a recording process. Shared by the gateway, which writes, and the drain, which reads.
pub struct Recorder {
    spool: Spool,
    redactor: Redactor,
    durability: Durability,
    when_full: WhenSpoolFull,
    max_spool_bytes: u64,
    data_dir: PathBuf,
    meters: Meters,
    gaps: Gaps,
    /// Set when running exchanges are about to be cut; gives a recording that is dropped its outcome.
    stopping: AtomicBool,
}

impl Recorder {
    /// Begins a life: a folder of its own in the spool, and the key of the fingerprints (made at the first start, shared
    /// by all recorders of one data folder).
    pub fn start(config: RecorderConfig) -> Result<Arc<Self>> {
        let key_file = config.data_dir.join("fingerprint.key");
        let key = key::load_or_create(&key_file).map_err(|source| Error::FingerprintKey { path: key_file, source })?;
        let about = Life { at: Timestamp::now(), about: config.about.clone() };
        let root = config.spool_root();
        let spool = Spool::create(&root, spool_options(&config), &about.encode())
            .map_err(|source| Error::Spool { dir: root, source })?;
        Ok(Arc::new(Self {
            spool,
            redactor: Redactor::new(key),
            durability: config.durability,
            when_full: config.when_spool_full,
            max_spool_bytes: config.max_spool_bytes,
            data_dir: config.data_dir,
            meters: Meters::new(),
            gaps: Gaps::default(),
            stopping: AtomicBool::new(false),
        }))
    }

    /// Begins an exchange. `Err` only if it has to be refused; it says why.
    pub(crate) fn begin(self: &Arc<Self>, new: &NewExchange<'_>) -> std::result::Result<Recording, spool::Error> {
        let id = Uuid::now_v7();
        let payload = self.begin_payload(id, new);
        let mut filter = new.calls_tools.then(ToolKeyFilter::default);
        let clean = new.body.map(|bytes| filter.as_mut().map_or(bytes.into(), |filter| filter.pass(bytes)));
        let part = clean.as_deref().map(|bytes| (REQUEST_BODY, bytes));
        match self.spool.begin(&payload, part.as_slice()) {
            Ok(entry) => {
                self.recording_works();
                Ok(Recording::new(self.clone(), id, Some((entry, filter)), new.body))
            }
            Err(error) => {
                self.alarm(&error);
                match self.when_full {
                    WhenSpoolFull::PassUnrecorded => Ok(Recording::new(self.clone(), id, None, new.body)),
                    WhenSpoolFull::Refuse => {
                        self.meters.refused_unrecordable.increment(1);
                        Err(error)
                    }
                }
            }
        }
    }

    fn begin_payload(&self, id: Uuid, new: &NewExchange<'_>) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024);
        let headers = new.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        let version = version_name(new.version);
        let key = wire::head::write_request_head(&mut head, new.method, new.target, version, headers, &self.redactor);
        let begin = Begin {
            id,
            at: Timestamp::now(),
            durability: self.durability,
            upstream: new.upstream.to_owned(),
            server: new.server.map(str::to_owned),
            key_fingerprint: key.map(|key| key.to_string()),
            head,
        };
        begin.encode()
    }

    /// A response's head as it goes on record.
    pub(crate) fn response_head(
        &self,
        status: http::StatusCode,
        version: http::Version,
        headers: &HeaderMap,
    ) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024);
        let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
        wire::head::write_response_head(&mut head, status.as_u16(), version_name(version), headers, &self.redactor);
        head
    }

    /// Trailer fields as they go on record.
    pub(crate) fn trailers(&self, fields: &HeaderMap) -> Vec<u8> {
        let mut lines = Vec::new();
        for (name, value) in fields {
            let replacement = self.redactor.header(name.as_str(), value.as_bytes());
            let value = replacement.as_deref().unwrap_or(value.as_bytes());
            lines.extend_from_slice(&[name.as_str().as_bytes(), b": ", value, b"\r\n"].concat());
        }
        lines
    }

    /// Waits until everything before `position` is on stable storage. `Err`: the traffic that waits for it must be cut.
    pub(crate) async fn sync(&self, position: Position) -> std::result::Result<(), spool::Error> {
        let Err(error) = self.spool.sync_to(position).await else {
            return Ok(());
        };
        self.alarm(&error);
        match self.when_full {
            WhenSpoolFull::PassUnrecorded => {
                self.missed(1, 0);
                Ok(())
            }
            WhenSpoolFull::Refuse => Err(error),
        }
    }

    /// Ends this life. All exchanges must have ended. What could not be put on record before is tried once more.
    pub fn end_life(&self) -> Result<()> {
        self.gaps.settle(|gap| self.note(gap), true);
        let end = Life { at: Timestamp::now(), about: String::new() };
        self.spool.end_life(&end.encode()).map_err(|source| Error::Spool { dir: self.spool.dir().to_owned(), source })
    }

    /// From now on an exchange that is dropped was cut by us, not by its client.
    pub fn cut_running(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Whether exchanges are being recorded; if not, why.
    pub fn readiness(&self) -> std::result::Result<(), String> {
        if self.spool.is_poisoned() {
            return Err(spool::Error::Poisoned.to_string());
        }
        let has_room = self.spool.pending_bytes() < self.max_spool_bytes / 10 * 9;
        self.gaps.alarm(has_room).map_or(Ok(()), Err)
    }

    /// Everything that is counted, as Prometheus text.
    pub fn render_metrics(&self) -> String {
        self.meters.spool_pending_bytes.set(self.spool.pending_bytes() as f64);
        self.meters.render()
    }

    /// The counters.
    pub fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Whether bytes have to be on stable storage before what they lead to is passed on.
    pub(crate) fn needs_sync(&self) -> bool {
        self.durability == Durability::Power
    }

    /// The spool that this recorder writes.
    pub fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The folder of everything that is kept.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The level that holds for this life's exchanges.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn recording_works(&self) {
        if self.gaps.is_open() {
            self.meters.cannot_record.set(0);
            self.gaps.settle(|gap| self.note(gap), false);
        }
    }

    /// So much passed unrecorded.
    fn missed(&self, exchanges: u64, bytes: u64) {
        self.gaps.add(&self.meters, exchanges, bytes);
        self.gaps.note_so_far(|gap| self.note(gap));
    }

    fn note(&self, gap: Gap) -> spool::Result<()> {
        self.spool.note(&Note::Gap(gap).encode()).map(drop)
    }

    fn alarm(&self, error: &spool::Error) {
        self.meters.spool_errors.increment(1);
        self.meters.cannot_record.set(1);
        self.gaps.raise(error, self.when_full);
    }
}

fn spool_options(config: &RecorderConfig) -> spool::Options {
    spool::Options {
        segment_bytes: config.segment_bytes,
        max_bytes: config.max_spool_bytes,
        durability: match config.durability {
            Durability::Process => spool::Durability::Process,
            Durability::Power => spool::Durability::Power,
        },
        // An agent resends its history with every turn.
        repeating: Some(REQUEST_BODY),
    }
}

fn version_name(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_09 => "HTTP/0.9",
        http::Version::HTTP_10 => "HTTP/1.0",
        http::Version::HTTP_2 => "HTTP/2",
        http::Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}
