//! A recorder between a client and the fake API, beside a second fake API that the client reaches directly.
//!
//! Both APIs have the same seed and get the same requests in the same order, so their answers are equal byte for byte;
//! whatever differs in what the client sees is the recorder's doing.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};

use crate::fake_api::FakeApi;
use crate::http::Head;
use crate::raw_client::{Connection, Request, Seen, exchange};
use crate::recorder::{Place, Recorder};
use crate::wait::PATIENCE;

/// Fields that belong to one connection (RFC 9110, section 7.6.1); they may differ.
const HOP_BY_HOP: [&str; 3] = ["connection", "transfer-encoding", "keep-alive"];

/// Everything that a comparison needs.
#[derive(Debug)]
pub struct Stage {
    /// Reached directly.
    pub direct: FakeApi,
    /// Reached through the recorder.
    pub behind: FakeApi,
    /// The record.
    pub place: Place,
    /// The recorder.
    pub recorder: Recorder,
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// Starts all of it.
    pub fn new() -> Self {
        let (direct, behind, place) = (FakeApi::start(), FakeApi::start(), Place::new());
        let recorder = place.kgb(&behind.url());
        Self { direct, behind, place, recorder }
    }

    /// The same request both ways; what was seen directly, and through the recorder.
    pub fn both(&self, request: &Request) -> (Seen, Seen) {
        (exchange(self.direct.address(), request), exchange(self.recorder.address(), request))
    }

    /// The same request both ways, where the answer breaks off at the gate that the request names: the gate is opened when
    /// the client has read everything that was sent before it.
    pub fn both_gated(&self, request: &Request, gate: &str) -> (Seen, Seen) {
        let direct = gated(self.direct.address(), &self.direct, request, gate);
        (direct, gated(self.recorder.address(), &self.behind, request, gate))
    }
}

/// A request for the streamed (or whole) answer to a script, with a target of its own.
pub fn scripted(case: &str, script: &str, stream: bool) -> Request {
    let body = format!(
        r#"{{"model":"claude-opus-5-5","messages":[{{"role":"user","content":"SCRIPT:{script} for {case}"}}],"stream":{stream}}}"#
    );
    let mut request = Request::message(body);
    request.target = format!("/v1/messages?beta=true&case={case}");
    request
}

/// [`scripted`] with a fault.
pub fn faulty(fault: &str, stream: bool) -> Request {
    scripted(fault, "think", stream).field("x-fake-fault", fault)
}

/// Fails unless both saw the same: status line, end-to-end fields, body and ending.
pub fn assert_same(case: &str, direct: &Seen, through: &Seen) {
    let view = |seen: &Seen| {
        let text = String::from_utf8_lossy(&seen.body).into_owned();
        (seen.head.as_ref().map(end_to_end), seen.fragment.len(), text, seen.ending.clone())
    };
    assert_eq!(view(through), view(direct), "{case}: through the recorder (left) and directly (right)");
    assert_eq!(through.body, direct.body, "{case}: the body's bytes");
}

/// Status line and fields without those of the connection and the one that the gateway adds.
fn end_to_end(head: &Head) -> Head {
    let ends_here = |name: &str| {
        HOP_BY_HOP.iter().any(|hop| name.eq_ignore_ascii_case(hop)) || name.eq_ignore_ascii_case("x-iccm-exchange-id")
    };
    let fields = head.fields.iter().filter(|(name, _)| !ends_here(name)).cloned().collect();
    Head { start: head.start.clone(), fields }
}

fn gated(address: SocketAddr, api: &FakeApi, request: &Request, gate: &str) -> Seen {
    let progress = Arc::new((Mutex::new(0), Condvar::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            api.wait_at_gate(gate);
            let sent = api.log().last().map_or(0, |entry| entry.response_body.len());
            let (read, changed) = &*progress;
            let read = read.lock().expect("no panic under this lock");
            let waited =
                changed.wait_timeout_while(read, PATIENCE, |read| *read < sent).expect("no panic under this lock");
            assert!(!waited.1.timed_out(), "the client has read {} of {sent} bytes", *waited.0);
            api.open_gate(gate);
        });
        let mut connection = Connection::open(address).unwrap_or_else(|e| panic!("no connection to {address}: {e}"));
        connection.request(request).unwrap_or_else(|e| panic!("a request to {address}: {e}"));
        connection.response_seen(&request.method, &mut |body| {
            *progress.0.lock().expect("no panic under this lock") = body.len();
            progress.1.notify_all();
        })
    })
}
