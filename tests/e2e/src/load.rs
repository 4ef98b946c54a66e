//! Clients that keep a recorder busy, and the book they keep of what they got.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::generator::{self, Client, Shape};
use crate::http::Ending;
use crate::random::Random;
use crate::raw_client::{Connection, Request};
use crate::sha256;

/// An exchange that a client got to its last byte.
#[derive(Clone, Debug)]
pub struct Got {
    /// Unique in the load: stands in the target as `case=NAME.`.
    pub case: String,
    /// The id that the gateway told.
    pub id: String,
    /// SHA-256 of what was sent.
    pub request_sha256: String,
    /// Size of what was sent.
    pub request_bytes: usize,
    /// SHA-256 of what came.
    pub response_sha256: String,
    /// Size of what came.
    pub response_bytes: usize,
}

/// Running clients. Each plays agent sessions that grow: streams with a pace, streams at full speed, whole answers.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// Where the recorder listens at the moment; `None` while there is none.
    address: Mutex<Option<SocketAddr>>,
    address_changed: Condvar,
    stopping: AtomicBool,
    /// Requests that were begun.
    begun: AtomicUsize,
    /// Exchanges that broke off.
    broken: AtomicUsize,
    got: Mutex<Vec<Got>>,
    got_more: Condvar,
    pace_ms: u64,
}

impl Load {
    /// Starts clients that wait for an address. `pace_ms`: between two events of a paced stream.
    pub fn start(clients: usize, seed: u64, pace_ms: u64) -> Self {
        let shared = Arc::new(Shared {
            address: Mutex::new(None),
            address_changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            begun: AtomicUsize::new(0),
            broken: AtomicUsize::new(0),
            got: Mutex::default(),
            got_more: Condvar::new(),
            pace_ms,
        });
        let start = |number: usize| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.client(number, seed + number as u64))
        };
        Self { clients: (0..clients).map(start).collect(), shared }
    }

    /// Sends the clients there from now on; `None` lets them wait.
    pub fn aim(&self, address: Option<SocketAddr>) {
        *self.shared.address.lock().expect("no panic under this lock") = address;
        self.shared.address_changed.notify_all();
    }

    /// How many exchanges have come whole.
    pub fn got_count(&self) -> usize {
        self.shared.got.lock().expect("no panic under this lock").len()
    }

    /// How many broke off.
    pub fn broken_count(&self) -> usize {
        self.shared.broken.load(Ordering::SeqCst)
    }

    /// Waits until `count` exchanges have come whole, or `patience` has run out; tells which.
    pub fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let got = self.shared.got.lock().expect("no panic under this lock");
        let waiting = self.shared.got_more.wait_timeout_while(got, patience, |got| got.len() < count);
        !waiting.expect("no panic under this lock").1.timed_out()
    }

    /// Ends the clients, each after the exchange it is at, and gives the book.
    pub fn stop(mut self) -> Vec<Got> {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.address_changed.notify_all();
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
        std::mem::take(&mut *self.shared.got.lock().expect("no panic under this lock"))
    }
}

impl Shared {
    fn client(&self, number: usize, seed: u64) {
        let mut random = Random::new(seed);
        let mut connection: Option<(SocketAddr, Connection)> = None;
        for (n, mut request) in sessions(seed).enumerate() {
            let Some(address) = self.wait_for_address() else { return };
            let case = format!("{number}-{n}.");
            request.target = format!("/v1/messages?beta=true&case={case}");
            if random.one_in(2) {
                request = request.field("x-fake-pace-ms", &self.pace_ms.to_string());
            }
            self.begun.fetch_add(1, Ordering::SeqCst);
            let kept = connection.take().filter(|(to, _)| *to == address).map(|(_, kept)| kept);
            connection = self.exchange(kept, address, &request, case).map(|kept| (address, kept));
        }
    }

    /// One exchange; gives the connection back when it can be used again.
    fn exchange(
        &self,
        kept: Option<Connection>,
        address: SocketAddr,
        request: &Request,
        case: String,
    ) -> Option<Connection> {
        let connection = kept.map_or_else(|| Connection::open(address), Ok);
        let sent = connection.and_then(|mut connection| connection.request(request).map(|()| connection));
        let Ok(mut connection) = sent else {
            self.broke(address);
            return None;
        };
        let seen = connection.response("POST");
        if seen.ending != Ending::Complete || seen.status() != Some(200) {
            self.broke(address);
            return None;
        }
        let got = Got {
            case,
            id: seen.exchange_id().expect("an answer through a recorder names its exchange").to_owned(),
            request_sha256: sha256(&request.body),
            request_bytes: request.body.len(),
            response_sha256: sha256(&seen.body),
            response_bytes: seen.body.len(),
        };
        self.got.lock().expect("no panic under this lock").push(got);
        self.got_more.notify_all();
        Some(connection)
    }

    /// Counts a broken exchange and waits until there may be another recorder: the dead one would only refuse.
    fn broke(&self, address: SocketAddr) {
        self.broken.fetch_add(1, Ordering::SeqCst);
        let current = self.address.lock().expect("no panic under this lock");
        let same =
            |current: &mut Option<SocketAddr>| *current == Some(address) && !self.stopping.load(Ordering::SeqCst);
        let pause = Duration::from_millis(50);
        drop(self.address_changed.wait_timeout_while(current, pause, same).expect("no panic under this lock"));
    }

    fn wait_for_address(&self) -> Option<SocketAddr> {
        let mut address = self.address.lock().expect("no panic under this lock");
        let deadline = Instant::now() + Duration::from_secs(600);
        loop {
            if self.stopping.load(Ordering::SeqCst) || Instant::now() > deadline {
                return None;
            }
            if let Some(address) = *address {
                return Some(address);
            }
            let wait = self.address_changed.wait_timeout(address, Duration::from_millis(100));
            address = wait.expect("no panic under this lock").0;
        }
    }
}

/// Requests of growing sessions, one session after the other; every fourth asks for a whole answer.
fn sessions(seed: u64) -> impl Iterator<Item = Request> {
    let clients = [Client::Newest, Client::Oldest, Client::Middle];
    let requests = (0u64..).flat_map(move |i| {
        let client = clients[(i % 3) as usize];
        generator::session(seed * 1_000 + i, &Shape::mixed(client, 25)).exchanges
    });
    requests.enumerate().map(|(n, exchange)| {
        let mut request = Request::new("POST", "").body(exchange.recorded.request_body);
        request.fields = exchange.recorded.request_headers;
        if n % 4 == 3 {
            let text = String::from_utf8(request.body).expect("a generated body is UTF-8");
            request.body = text.replace(r#""stream":true"#, r#""stream":false"#).into_bytes();
        }
        request
    })
}
