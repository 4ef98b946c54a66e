//! The recorder beside plain proxies, on the same work in the same run: `cargo run --release -p bench`.
//!
//! For each case and round every peer is measured in turn, so that ratios are taken within a round and the machine's
//! noise falls on all alike; the tables show medians. CPU is user and system time of the peer's processes; the load
//! and the upstream run on the same cores, so throughput understates a fast peer and CPU is the fairer figure.
//!
//! Peers: `direct` (no proxy), nginx, HAProxy and mitmproxy where they are installed, `iccm` with its drain into SQLite,
//! and `iccm, no drain` whose database cannot be opened, which leaves the recording path alone. Every response is
//! compared with what the upstream sends. mitmproxy is looked for in `bench/lab/mitmproxy` first
//! (`python3 -m venv bench/lab/mitmproxy && bench/lab/mitmproxy/bin/pip install mitmproxy`).

mod backlog;
mod client;
mod cost;
mod figures;
mod latency;
mod load;
mod peers;
mod power;
mod process;
mod sessions;
mod upstream;

use anyhow::{Context, bail};

use load::Case;

const USAGE: &str = "use --rounds N, --seconds S, --gigabytes G, --part cost|latency|power|drain, --case NAME";

/// `bench [--rounds N] [--seconds S] [--gigabytes G] [--part PART]… [--case NAME]…`, or `bench upstream`.
struct Wanted {
    rounds: usize,
    seconds: u64,
    gigabytes: f64,
    parts: Vec<String>,
    cases: Vec<String>,
}

impl Wanted {
    fn part(&self, name: &str) -> bool {
        self.parts.is_empty() || self.parts.iter().any(|part| part == name)
    }

    fn cases(&self) -> Vec<&'static Case> {
        load::CASES.iter().filter(|c| self.cases.is_empty() || self.cases.iter().any(|w| w == c.name)).collect()
    }
}

fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let mut wanted = Wanted { rounds: 2, seconds: 3, gigabytes: 1.0, parts: Vec::new(), cases: Vec::new() };
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "upstream" => return runtime()?.block_on(upstream::serve()),
            "--rounds" => wanted.rounds = value()?.parse()?,
            "--seconds" => wanted.seconds = value()?.parse()?,
            "--gigabytes" => wanted.gigabytes = value()?.parse()?,
            "--part" => wanted.parts.push(value()?),
            "--case" => wanted.cases.push(value()?),
            _ => bail!("unknown word {word}; {USAGE}"),
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
    let to = upstream.address;
    if wanted.part("cost") {
        for case in wanted.cases() {
            // New ones for each case: a peak is to be that of the case, and not of what went before.
            let peers = peers::start(&lab.path().join(case.name), to)?;
            cost::measure(&peers, to, case, wanted.rounds, wanted.seconds).await?;
        }
    }
    if wanted.part("latency") {
        let peers = peers::start(&lab.path().join("latency"), to)?;
        let peers: Vec<_> = peers.iter().filter(|peer| peer.name != "mitmproxy").collect();
        latency::measure(&peers, wanted.rounds, wanted.seconds).await?;
    }
    if wanted.part("power") {
        power::measure(lab.path(), to, wanted.rounds, wanted.seconds).await?;
    }
    if wanted.part("drain") {
        backlog::measure(lab.path(), to, wanted.gigabytes, wanted.seconds * 3).await?;
    }
    Ok(())
}
