//! The recorder beside plain proxies, on the same work in the same run: `cargo run --release -p bench`.
//!
//! For each case and round every peer is measured in turn, so that ratios are taken within a round and the machine's
//! noise falls on all alike; the table shows medians. CPU is user and system time of the peer's processes; the load
//! and the upstream run on the same cores, so throughput understates a fast peer and CPU is the fairer figure.
//!
//! Peers: `direct` (no proxy), nginx and HAProxy where they are installed, `iccm` with its drain into SQLite, and
//! `iccm, no drain` whose database cannot be opened, which leaves the recording path alone. Every response is compared
//! with what the upstream sends.

mod load;
mod peers;
mod process;
mod upstream;

use std::time::Duration;

use anyhow::{Context, bail};

use load::{Case, Measured};
use peers::Peer;

/// `bench [--rounds N] [--seconds S] [--case NAME]…`, or `bench upstream`.
struct Wanted {
    rounds: usize,
    seconds: u64,
    cases: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let mut wanted = Wanted { rounds: 3, seconds: 4, cases: Vec::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "upstream" => return runtime()?.block_on(upstream::serve()),
            "--rounds" => wanted.rounds = value()?.parse()?,
            "--seconds" => wanted.seconds = value()?.parse()?,
            "--case" => wanted.cases.push(value()?),
            _ => bail!("unknown word {word}; use --rounds N, --seconds S, --case NAME"),
        }
    }
    runtime()?.block_on(run(&wanted))
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

async fn run(wanted: &Wanted) -> anyhow::Result<()> {
    let lab = tempfile::tempdir()?;
    let upstream = process::Child::upstream()?;
    let peers = peers::start(lab.path(), upstream.address)?;
    for case in load::CASES.iter().filter(|c| wanted.cases.is_empty() || wanted.cases.iter().any(|w| w == c.name)) {
        let mut rounds: Vec<Vec<Measured>> = peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..wanted.rounds {
            for (peer, measured) in peers.iter().zip(&mut rounds) {
                measured.push(measure(peer, case, wanted.seconds).await?);
            }
        }
        print_table(case, &peers, &rounds);
    }
    Ok(())
}

async fn measure(peer: &Peer, case: &Case, seconds: u64) -> anyhow::Result<Measured> {
    load::run(peer.address, case, Duration::from_secs(1)).await?;
    peer.reset_peak();
    let cpu = peer.cpu_seconds();
    let mut measured = load::run(peer.address, case, Duration::from_secs(seconds)).await?;
    // What is done behind the traffic counts too.
    peer.settle().await;
    measured.cpu_seconds = peer.cpu_seconds() - cpu;
    measured.peak_mb = peer.peak_mb();
    Ok(measured)
}

fn print_table(case: &Case, peers: &[Peer], rounds: &[Vec<Measured>]) {
    println!("\n### {}: {}\n", case.name, case.about);
    println!("| peer | requests/s | p50 µs | p99 µs | CPU ms/request | CPU × nginx | peak MB | wrong |");
    println!("|---|---:|---:|---:|---:|---:|---:|---:|");
    let nginx = peers.iter().position(|p| p.name == "nginx").map(|at| &rounds[at]);
    for (peer, measured) in peers.iter().zip(rounds) {
        let of = |figure: fn(&Measured) -> f64| median(measured.iter().map(figure).collect());
        let ratio = nginx.map(|nginx| {
            let within_round = measured.iter().zip(nginx).map(|(a, b)| a.cpu_per_request() / b.cpu_per_request());
            median(within_round.collect())
        });
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.3} | {} | {:.0} | {} |",
            peer.name,
            of(|m| m.requests as f64 / m.seconds),
            of(|m| m.percentile(50)),
            of(|m| m.percentile(99)),
            of(|m| m.cpu_per_request() * 1e3),
            ratio.filter(|r| r.is_finite() && *r > 0.0).map_or("-".to_owned(), |r| format!("{r:.2}")),
            of(|m| m.peak_mb),
            measured.iter().map(|m| m.wrong).sum::<u64>(),
        );
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
