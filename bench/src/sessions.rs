//! Agents' sessions, made before anything is measured.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use e2e::generator::{self, Client, Shape};

/// An agent's session as both sides know it.
pub(crate) struct Session {
    pub(crate) seed: u64,
    pub(crate) id: String,
    pub(crate) requests: Vec<Bytes>,
    pub(crate) answers: Vec<Vec<u8>>,
}

impl Session {
    /// The main line of a session of 40 turns: what the model answers is what the next request resends.
    pub(crate) fn of(seed: u64) -> Self {
        let shape =
            Shape { sub_agents: 0, rewinds: 0, retries: 0, side_calls: false, ..Shape::mixed(Client::Newest, 40) };
        let session = generator::session(seed, &shape);
        let recorded = session.exchanges.into_iter().map(|e| e.recorded);
        let (requests, answers) = recorded.map(|r| (Bytes::from(r.request_body), r.response_body)).unzip();
        Self { seed, id: session.id, requests, answers }
    }
}

/// Sessions that the connections of a run take one after the other. Who asks for more than there are gets the first ones
/// again.
pub(crate) struct Pool {
    sessions: Vec<Rc<Session>>,
    taken: Cell<usize>,
}

impl Pool {
    pub(crate) fn of(first_seed: u64, sessions: usize) -> Self {
        let sessions = (0..sessions as u64).map(|n| Rc::new(Session::of(first_seed + n))).collect();
        Self { sessions, taken: Cell::new(0) }
    }

    pub(crate) fn seeds(&self) -> impl Iterator<Item = u64> {
        self.sessions.iter().map(|session| session.seed)
    }

    pub(crate) fn rewind(&self) {
        self.taken.set(0);
    }

    pub(crate) fn take(&self) -> Rc<Session> {
        let number = self.taken.replace(self.taken.get() + 1);
        self.sessions[number % self.sessions.len()].clone()
    }
}
