//! What a peer adds to the time that things take when there is not much to do.
//!
//! Requests come at a fixed rate, whether or not earlier ones have been answered: what waits behind a slow one is counted
//! from the time at which it was due, so that a stall is not hidden.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client::Connection;
use crate::figures::Figures;
use crate::load;
use crate::peers::Peer;
use crate::upstream::{self, Answer};

const CONNECTIONS: u32 = 8;
/// Requests per second, of all connections together.
const RATE: u32 = 400;
const STREAMS: usize = 8;

/// Medians over the rounds of one peer's percentiles, in µs.
struct Row {
    answers: Vec<Figures>,
    first: Vec<Figures>,
    gaps: Vec<Figures>,
}

impl Row {
    fn of(rounds: &[Figures], percent: usize) -> f64 {
        rounds.iter().map(|round| round.percentile(percent)).collect::<Figures>().median()
    }
}

pub(crate) async fn measure(peers: &[&Peer], rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let mut rows: Vec<Row> =
        peers.iter().map(|_| Row { answers: Vec::new(), first: Vec::new(), gaps: Vec::new() }).collect();
    for round in 0..=rounds {
        for (peer, row) in peers.iter().zip(&mut rows) {
            let answers = at_a_fixed_rate(peer.address, Duration::from_secs(seconds)).await?;
            let (first, gaps) = streams(peer.address, Duration::from_secs(seconds)).await?;
            // The first round warms up.
            if round > 0 {
                row.answers.push(answers);
                row.first.push(first);
                row.gaps.push(gaps);
            }
        }
    }
    print(peers, &rows);
    Ok(())
}

fn print(peers: &[&Peer], rows: &[Row]) {
    println!(
        "\n**Added latency**: 1 KB requests at {RATE} per second, open loop; streams of an event every {} ms, {STREAMS} at a \
         time. In µs; in brackets what is more than `direct`.\n",
        upstream::PACE.as_millis()
    );
    println!(
        "| peer | answer p50 | answer p99 | first byte p50 | first byte p99 | largest gap p50 | largest gap p99 |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (peer, row) in peers.iter().zip(rows) {
        print!("| {} |", peer.name);
        for (of, direct) in [(&row.answers, &rows[0].answers), (&row.first, &rows[0].first), (&row.gaps, &rows[0].gaps)]
        {
            for percent in [50, 99] {
                let (figure, base) = (Row::of(of, percent), Row::of(direct, percent));
                print!(" {figure:.0} ({:+.0}) |", figure - base);
            }
        }
        println!();
    }
}

async fn at_a_fixed_rate(to: SocketAddr, duration: Duration) -> anyhow::Result<Figures> {
    let every = Duration::from_secs(1) * CONNECTIONS / RATE;
    let began = Instant::now();
    let local = tokio::task::LocalSet::new();
    let workers: Vec<_> = (0..CONNECTIONS)
        .map(|number| local.spawn_local(worker(to, began + every * number / CONNECTIONS, every, began + duration)))
        .collect();
    let mut latencies = Figures::default();
    local
        .run_until(async {
            for worker in workers {
                latencies.extend(worker.await??);
            }
            Ok(latencies)
        })
        .await
}

async fn worker(to: SocketAddr, first: Instant, every: Duration, until: Instant) -> anyhow::Result<Vec<f64>> {
    let mut connection = Connection::open(to).await?;
    let body = load::small_body(1000);
    let expected = upstream::fixed_answer(Answer::Json);
    let mut latencies = Vec::new();
    let mut due = first;
    while due < until {
        let early = due.saturating_duration_since(Instant::now());
        tokio::time::sleep(early).await;
        let request = connection.post(Answer::Json, None, body.clone())?;
        // A timer of this program that fires late is nobody else's fault; an answer that kept this one waiting is.
        let from = if early.is_zero() { due } else { Instant::now() };
        let (answer, _) = connection.ask_whole(request).await?;
        anyhow::ensure!(answer == expected, "a wrong answer");
        latencies.push(from.elapsed().as_secs_f64() * 1e6);
        due += every;
    }
    Ok(latencies)
}

/// The time to the first byte of each stream, and the largest gap in it.
async fn streams(to: SocketAddr, duration: Duration) -> anyhow::Result<(Figures, Figures)> {
    let until = Instant::now() + duration;
    let expected = Rc::new(upstream::fixed_answer(Answer::Paced));
    let local = tokio::task::LocalSet::new();
    let workers: Vec<_> = (0..STREAMS)
        .map(|number| {
            let expected = expected.clone();
            local.spawn_local(async move {
                // Not all at the same moment.
                tokio::time::sleep(upstream::PACE * number as u32 / STREAMS as u32).await;
                let mut connection = Connection::open(to).await?;
                let mut cadences = Vec::new();
                while Instant::now() < until {
                    let request = connection.post(Answer::Paced, None, load::small_body(1000))?;
                    let cadence = connection.ask_timed(request).await?;
                    anyhow::ensure!(cadence.bytes == expected.as_slice(), "a wrong stream");
                    cadences.push((cadence.first.as_secs_f64() * 1e6, cadence.largest_gap.as_secs_f64() * 1e6));
                }
                anyhow::Ok(cadences)
            })
        })
        .collect();
    let (mut first, mut gaps) = (Figures::default(), Figures::default());
    local
        .run_until(async {
            for worker in workers {
                let cadences = worker.await??;
                first.extend(cadences.iter().map(|c| c.0));
                gaps.extend(cadences.iter().map(|c| c.1));
            }
            Ok((first, gaps))
        })
        .await
}
