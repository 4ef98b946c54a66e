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
    let expected = Rc::new(upstream::answer(case.streamed));
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
            let request = Request::post("/v1/messages")
                .header("host", self.to.to_string())
                .header("content-type", "application/json")
                .header("x-api-key", "sk-ant-test-000")
                .header("x-bench-stream", if self.streamed { "1" } else { "0" })
                .header("x-claude-code-session-id", source.session.as_str())
                .body(Full::new(source.next()))?;
            let began = Instant::now();
            sender.ready().await?;
            let answer = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
            latencies.push(began.elapsed().as_secs_f64() * 1e6);
            wrong += u64::from(answer != self.expected.as_slice());
        }
        Ok((latencies, wrong))
    }
}

/// Where a connection's bodies come from.
struct Source {
    bodies: Bodies,
    session: String,
    ready: Vec<Bytes>,
    sent: usize,
    random: u64,
}

impl Source {
    fn new(bodies: Bodies, number: u64) -> Self {
        let seed =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |d| d.as_nanos() as u64);
        let seed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1;
        let (session, ready) = match bodies {
            Bodies::Small(size) => {
                (String::new(), vec![Bytes::from(format!(r#"{{"messages":"{}"}}"#, "x".repeat(size - 15)))])
            }
            Bodies::Random(_) => (String::new(), Vec::new()),
            Bodies::Sessions => {
                let shape = Shape { sub_agents: 0, rewinds: 0, retries: 0, ..Shape::mixed(Client::Newest, 40) };
                let session = generator::session(seed, &shape);
                let body = |e: &generator::Exchange| Bytes::from(e.recorded.request_body.clone());
                (session.id.clone(), session.exchanges.iter().map(body).collect())
            }
        };
        Self { bodies, session, ready, sent: 0, random: seed }
    }

    fn next(&mut self) -> Bytes {
        self.sent += 1;
        match self.bodies {
            Bodies::Random(size) => self.random_bytes(size),
            // A session that has come to its end begins anew, as if it had been resumed.
            _ => self.ready[(self.sent - 1) % self.ready.len()].clone(),
        }
    }

    fn random_bytes(&mut self, size: usize) -> Bytes {
        let mut bytes = Vec::with_capacity(size + 8);
        while bytes.len() < size {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            bytes.extend_from_slice(&self.random.to_le_bytes());
        }
        bytes.truncate(size);
        Bytes::from(bytes)
    }
}
