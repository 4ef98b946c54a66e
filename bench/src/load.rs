//! The work: connections that send one request after the other and compare what comes back.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::Connection;
use crate::figures::Figures;
use crate::sessions::{Pool, Session};
use crate::upstream::{self, Answer};

/// One kind of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// CPU times nginx's that is wanted at most, without and with the drain.
    pub(crate) wanted: &'static str,
    pub(crate) connections: usize,
    pub(crate) answer: Answer,
    pub(crate) bodies: Bodies,
}

#[derive(Clone, Copy)]
pub(crate) enum Bodies {
    /// So many bytes, the same each time.
    Small(usize),
    /// So many random bytes, new each time.
    Random(usize),
    /// The growing history of an agent, a session for each connection.
    Sessions,
}

pub(crate) const JSON: Case = Case {
    name: "json-1k",
    about: "1 KB request, 1.5 KB answer, 32 connections",
    wanted: "2 / 6",
    connections: 32,
    answer: Answer::Json,
    bodies: Bodies::Small(1000),
};

pub(crate) const AGENTS: Case = Case {
    name: "agents",
    about: "agent sessions that grow to 150 KB, 16 connections",
    wanted: "3 / 6",
    connections: 16,
    answer: Answer::Events,
    bodies: Bodies::Sessions,
};

pub(crate) const CASES: [Case; 5] = [
    JSON,
    Case {
        name: "sse-46",
        about: "46 events, each flushed by itself, 32 connections",
        wanted: "2.5 / 6",
        answer: Answer::Events,
        ..JSON
    },
    AGENTS,
    Case {
        name: "random-100k",
        about: "100 KB of random bytes, 16 connections",
        wanted: "8 / –",
        connections: 16,
        bodies: Bodies::Random(100_000),
        ..JSON
    },
    Case {
        name: "random-1m",
        about: "1 MB of random bytes, 32 connections",
        wanted: "– / –",
        bodies: Bodies::Random(1_000_000),
        ..JSON
    },
];

/// What one run gave.
#[derive(Default)]
pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) wrong: u64,
    pub(crate) seconds: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_mb: f64,
    pub(crate) latencies_us: Figures,
}

impl Measured {
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu_seconds / self.requests.max(1) as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.requests as f64 / self.seconds
    }
}

/// Runs a case for so long.
pub(crate) async fn run(to: SocketAddr, case: &Case, pool: &Rc<Pool>, duration: Duration) -> anyhow::Result<Measured> {
    let expected = Rc::new(upstream::fixed_answer(case.answer));
    let local = tokio::task::LocalSet::new();
    let start = Instant::now();
    let workers: Vec<_> = (0..case.connections)
        .map(|number| {
            let work = Worker { to, answer: case.answer, expected: expected.clone(), until: start + duration };
            local.spawn_local(work.run(Source::new(case.bodies, number as u64, pool.clone())))
        })
        .collect();
    let mut measured = Measured::default();
    local
        .run_until(async {
            for worker in workers {
                let (latencies, wrong) = worker.await??;
                measured.requests += latencies.len() as u64;
                measured.wrong += wrong;
                measured.latencies_us.extend(latencies);
            }
            anyhow::Ok(())
        })
        .await?;
    measured.seconds = start.elapsed().as_secs_f64();
    Ok(measured)
}

struct Worker {
    to: SocketAddr,
    answer: Answer,
    expected: Rc<Vec<u8>>,
    until: Instant,
}

impl Worker {
    async fn run(self, mut source: Source) -> anyhow::Result<(Vec<f64>, u64)> {
        let mut connection = Connection::open(self.to).await?;
        let (mut latencies, mut wrong) = (Vec::new(), 0);
        while Instant::now() < self.until {
            let asked = source.next();
            let turn = asked.turn.as_ref().map(|(session, turn)| (&**session, *turn));
            let request = connection.post(self.answer, turn, asked.body)?;
            let (answer, took) = connection.ask_whole(request).await?;
            latencies.push(took.as_secs_f64() * 1e6);
            let expected = turn.map_or(self.expected.as_slice(), |(session, turn)| &session.answers[turn]);
            wrong += u64::from(answer != expected);
        }
        Ok((latencies, wrong))
    }
}

/// Where a connection's bodies come from.
struct Source {
    bodies: Bodies,
    random: u64,
    pool: Rc<Pool>,
    session: Option<Rc<Session>>,
    turn: usize,
}

/// One request: its body and, of an agent's, whose and which it is.
struct Asked {
    body: Bytes,
    turn: Option<(Rc<Session>, usize)>,
}

/// A body of so many bytes that is no conversation.
pub(crate) fn small_body(size: usize) -> Bytes {
    Bytes::from(format!(r#"{{"messages":"{}"}}"#, "x".repeat(size - 15)))
}

impl Source {
    fn new(bodies: Bodies, number: u64, pool: Rc<Pool>) -> Self {
        let random = seed().wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        Self { bodies, random, pool, session: None, turn: 0 }
    }

    fn next(&mut self) -> Asked {
        match self.bodies {
            Bodies::Small(size) => Asked { body: small_body(size), turn: None },
            Bodies::Random(size) => Asked { body: self.random_bytes(size), turn: None },
            Bodies::Sessions => self.next_turn(),
        }
    }

    fn next_turn(&mut self) -> Asked {
        let session = match self.session.take().filter(|s| self.turn < s.requests.len()) {
            Some(session) => session,
            None => {
                self.turn = 0;
                self.pool.take()
            }
        };
        let asked = Asked { body: session.requests[self.turn].clone(), turn: Some((session.clone(), self.turn)) };
        self.session = Some(session);
        self.turn += 1;
        asked
    }

    fn random_bytes(&mut self, size: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            let word = self.random();
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.truncate(size);
        Bytes::from(bytes)
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// A number that no other run has.
pub(crate) fn seed() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64)
}
