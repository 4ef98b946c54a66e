//! What passing through a peer costs: CPU per request, as a ratio to nginx in the same round.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use crate::client;
use crate::figures::Figures;
use crate::load::{self, Case, Measured};
use crate::peers::Peer;
use crate::sessions::Pool;

/// Sessions of a round: more than a recorder gets through on two cores.
const SESSIONS: usize = 160;

pub(crate) async fn measure(
    peers: &[Peer],
    upstream: SocketAddr,
    case: &Case,
    rounds: usize,
    seconds: u64,
) -> anyhow::Result<()> {
    let mut results: Vec<Vec<Measured>> = peers.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        // New sessions for each round: what a recorder has stored once costs less the next time.
        let pool = Rc::new(Pool::of(load::seed(), if case.name == load::AGENTS.name { SESSIONS } else { 0 }));
        client::prepare(upstream, pool.seeds()).await?;
        for (peer, results) in peers.iter().zip(&mut results) {
            pool.rewind();
            results.push(one(peer, case, &pool, seconds).await?);
        }
    }
    print(case, peers, &results);
    Ok(())
}

async fn one(peer: &Peer, case: &Case, pool: &Rc<Pool>, seconds: u64) -> anyhow::Result<Measured> {
    load::run(peer.address, case, pool, Duration::from_millis(500)).await?;
    peer.settle().await;
    peer.reset_peak();
    let cpu = peer.cpu_seconds();
    let mut measured = load::run(peer.address, case, pool, Duration::from_secs(seconds)).await?;
    // What is done behind the traffic counts too.
    peer.settle().await;
    measured.cpu_seconds = peer.cpu_seconds() - cpu;
    measured.peak_mb = peer.peak_mb();
    Ok(measured)
}

fn print(case: &Case, peers: &[Peer], results: &[Vec<Measured>]) {
    println!("\n**{}**; CPU × nginx wanted at most, without / with the drain: {}\n", case.about, case.wanted);
    println!("| peer | requests/s | p50 µs | p99 µs | CPU µs/request | CPU × nginx | peak MB | wrong |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let nginx = peers.iter().position(|p| p.name == "nginx").map(|at| &results[at]);
    for (peer, measured) in peers.iter().zip(results) {
        let of = |figure: fn(&Measured) -> f64| measured.iter().map(figure).collect::<Figures>().median();
        let ratio = nginx.map_or(f64::NAN, |nginx| {
            let within_round = measured.iter().zip(nginx).map(|(a, b)| a.cpu_per_request() / b.cpu_per_request());
            within_round.collect::<Figures>().median()
        });
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {} | {} | {} | {} |",
            peer.name,
            of(Measured::per_second),
            of(|m| m.latencies_us.percentile(50)),
            of(|m| m.latencies_us.percentile(99)),
            known(of(|m| m.cpu_per_request() * 1e6), 0),
            known(ratio, 2),
            known(of(|m| m.peak_mb), 0),
            measured.iter().map(|m| m.wrong).sum::<u64>(),
        );
    }
}

/// A figure, or a dash where there is none: `direct` is no process.
fn known(figure: f64, digits: usize) -> String {
    if figure.is_finite() && figure > 0.0 { format!("{figure:.digits$}") } else { "–".to_owned() }
}
