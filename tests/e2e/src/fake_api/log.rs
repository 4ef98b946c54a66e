//! What the fake API saw and sent, exactly.

use std::fs::File;
use std::io::Write;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sha256;

/// How an exchange ended, as the server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Still running.
    Running,
    /// The answer was written to its proper end.
    Whole,
    /// The server broke off, as it was asked to.
    BrokenOff,
    /// The client had gone before the answer was complete.
    ClientGone,
    /// The request broke off before it was complete.
    RequestBroken,
}

/// An exchange.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Position in the log, from 0.
    pub number: usize,
    /// The connection it came on, from 0.
    pub connection: usize,
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The request's fields, in order, as sent.
    pub request_fields: Vec<(String, String)>,
    /// The request's body, without transfer framing.
    pub request_body: Vec<u8>,
    /// Status of the answer; 0 when none was sent.
    pub status: u16,
    /// The answer's fields, in order.
    pub response_fields: Vec<(String, String)>,
    /// The bytes of the answer's body that were handed to the kernel, without transfer framing.
    pub response_body: Vec<u8>,
    /// How it ended.
    pub sent: Sent,
    /// The script that answered and its step.
    pub script: Option<(String, usize)>,
    /// The fault that was played.
    pub fault: Option<String>,
}

impl Entry {
    /// A field of the request.
    pub fn request_field(&self, name: &str) -> Option<&str> {
        self.request_fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// What the record must agree with: method, target and the digests of both bodies.
    pub fn fingerprint(&self) -> (String, String, String, String) {
        (self.method.clone(), self.target.clone(), sha256(&self.request_body), sha256(&self.response_body))
    }

    /// The request's body as JSON, if it is.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.request_body).ok()
    }

    /// One line for people and scripts.
    pub fn line(&self) -> Value {
        json!({
            "number": self.number, "connection": self.connection, "method": self.method, "target": self.target,
            "request_headers": self.request_fields, "request_bytes": self.request_body.len(),
            "request_sha256": sha256(&self.request_body), "request_body": String::from_utf8_lossy(&self.request_body),
            "status": self.status, "response_headers": self.response_fields,
            "response_bytes": self.response_body.len(), "response_sha256": sha256(&self.response_body),
            "response_body": String::from_utf8_lossy(&self.response_body), "sent": format!("{:?}", self.sent),
            "script": self.script, "fault": self.fault,
        })
    }
}

/// All exchanges since the server began. Shared by the server's threads; the lock is held for a push or a copy only.
#[derive(Debug, Default)]
pub struct Log {
    entries: Mutex<Vec<Entry>>,
    changed: Condvar,
    file: Option<Mutex<File>>,
}

impl Log {
    /// A log that also writes each finished exchange to `file` as a line of JSON.
    pub fn with_file(file: Option<File>) -> Self {
        Self { file: file.map(Mutex::new), ..Self::default() }
    }

    /// Adds an exchange and gives its number.
    pub fn begin(&self, mut entry: Entry) -> usize {
        let mut entries = self.entries.lock().expect("no panic under this lock");
        entry.number = entries.len();
        entries.push(entry);
        self.changed.notify_all();
        entries.len() - 1
    }

    /// Changes an exchange.
    pub fn update(&self, number: usize, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.entries.lock().expect("no panic under this lock");
        change(&mut entries[number]);
        if let (Some(file), true) = (&self.file, entries[number].sent != Sent::Running) {
            let mut file = file.lock().expect("no panic under this lock");
            writeln!(file, "{}", entries[number].line()).expect("the log's file can be written");
        }
        self.changed.notify_all();
    }

    /// A copy of everything.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().expect("no panic under this lock").clone()
    }

    /// Waits until `condition` gives something for the log.
    pub fn wait<T>(&self, patience: Duration, what: &str, mut condition: impl FnMut(&[Entry]) -> Option<T>) -> T {
        let deadline = Instant::now() + patience;
        let mut entries = self.entries.lock().expect("no panic under this lock");
        loop {
            if let Some(found) = condition(&entries) {
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "after {patience:?} the fake API still waits for: {what}");
            entries = self.changed.wait_timeout(entries, left).expect("no panic under this lock").0;
        }
    }
}
