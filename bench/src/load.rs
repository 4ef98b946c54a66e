//! The work: connections that send one request after the other and compare what comes back.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use e2e::generator::{self, Client, Shape};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::upstream;

/// One kind of work.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    connections: usize,
    streamed: bool,
    bodies: Bodies,
}

#[derive(Clone, Copy)]
enum Bodies {
    /// So many bytes, the same each time.
    Small(usize),
    /// So many random bytes, new each time.
    Random(usize),
    /// The growing history of an agent, a session for each connection.
    Sessions,
}

pub(crate) const CASES: [Case; 5] = [
    Case {
        name: "json-1k",
        about: "1 KB request, 1.5 KB answer, 32 connections",
        connections: 32,
        streamed: false,
        bodies: Bodies::Small(1000),
    },
    Case {
        name: "sse-46",
        about: "1 KB request, 46 events each flushed by itself, 32 connections",
        connections: 32,
        streamed: true,
        bodies: Bodies::Small(1000),
    },
    Case {
        name: "agents",
        about: "agent sessions whose requests grow to 150 KB, 16 connections",
        connections: 16,
        streamed: true,
        bodies: Bodies::Sessions,
    },
    Case {
        name: "random-100k",
        about: "100 KB of random bytes, 16 connections",
        connections: 16,
        streamed: false,
        bodies: Bodies::Random(100_000),
    },
    Case {
        name: "random-1m",
        about: "1 MB of random bytes, 32 connections",
        connections: 32,
        streamed: false,
        bodies: Bodies::Random(1_000_000),
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
    latencies_us: Vec<f64>,
}

impl Measured {
    pub(crate) fn cpu_per_request(&self) -> f64 {
        self.cpu_seconds / self.requests.max(1) as f64
    }

    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let at = (self.latencies_us.len() * percent / 100).min(self.latencies_us.len().saturating_sub(1));
        self.latencies_us.get(at).copied().unwrap_or(f64::NAN)
    }
}

/// Runs a case for so long.
pub(crate) async fn run(to: SocketAddr, case: &Case, duration: Duration) -> anyhow::Result<Measured> {
    let expected = Rc::new(upstream::fixed_answer(case.streamed));
    let local = tokio::task::LocalSet::new();
    let start = Instant::now();
    let workers: Vec<_> = (0..case.connections)
        .map(|number| {
            let work = Worker { to, streamed: case.streamed, expected: expected.clone(), until: start + duration };
            local.spawn_local(work.run(case.bodies, number as u64))
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
    measured.latencies_us.sort_by(f64::total_cmp);
    Ok(measured)
}

struct Worker {
    to: SocketAddr,
    streamed: bool,
    expected: Rc<Vec<u8>>,
    until: Instant,
}

impl Worker {
    async fn run(self, bodies: Bodies, number: u64) -> anyhow::Result<(Vec<f64>, u64)> {
        let stream = TcpStream::connect(self.to).await.with_context(|| format!("nothing answers on {}", self.to))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        let mut source = Source::new(bodies, number);
        let (mut latencies, mut wrong) = (Vec::new(), 0);
        while Instant::now() < self.until {
            let asked = source.next();
            let mut request = Request::post("/v1/messages")
                .header("host", self.to.to_string())
                .header("content-type", "application/json")
                .header("x-api-key", "sk-ant-test-000")
                .header("x-bench-stream", if self.streamed { "1" } else { "0" });
            if let Some((session, turn)) = &asked.turn {
                request =
                    request.header("x-claude-code-session-id", &session.id).header(upstream::SESSION, session.seed);
                request = request.header(upstream::TURN, *turn);
            }
            let request = request.body(Full::new(asked.body.clone()))?;
            let began = Instant::now();
            sender.ready().await?;
            let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
            let expected =
                asked.turn.as_ref().map_or(self.expected.as_slice(), |(session, turn)| &session.answers[*turn]);
            wrong += u64::from(answer != expected);
        }
        Ok((latencies, wrong))
    }
}

/// Where a connection's bodies come from.
struct Source {
    bodies: Bodies,
    random: u64,
    session: Option<Rc<Session>>,
    turn: usize,
}

/// One request: its body and, of an agent's, whose and which it is.
struct Asked {
    body: Bytes,
    turn: Option<(Rc<Session>, usize)>,
}

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

impl Source {
    fn new(bodies: Bodies, number: u64) -> Self {
        let seed =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        Self {
            bodies,
            random: seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1,
            session: None,
            turn: 0,
        }
    }

    fn next(&mut self) -> Asked {
        match self.bodies {
            Bodies::Small(size) => {
                let body = format!(r#"{{"messages":"{}"}}"#, "x".repeat(size - 15));
                Asked { body: Bytes::from(body), turn: None }
            }
            Bodies::Random(size) => Asked { body: self.random_bytes(size), turn: None },
            Bodies::Sessions => self.next_turn(),
        }
    }

    fn next_turn(&mut self) -> Asked {
        let session = match self.session.take().filter(|s| self.turn < s.requests.len()) {
            Some(session) => session,
            None => {
                self.turn = 0;
                Rc::new(Session::of(self.random()))
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
