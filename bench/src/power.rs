//! What level `power` costs: nothing is passed on before it is on stable storage.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::figures::Figures;
use crate::load::{self, Case};
use crate::peers;
use crate::sessions::Pool;

pub(crate) async fn measure(lab: &Path, upstream: SocketAddr, rounds: usize, seconds: u64) -> anyhow::Result<()> {
    let start = |name, folder: &str, words: &[&str]| peers::recorder(name, &lab.join(folder), upstream, words);
    let peers = [
        start("process", "level-process", &["--durability", "process"])?,
        start("power", "level-power", &["--durability", "power"])?,
    ];
    let none = Rc::new(Pool::of(0, 0));
    let sync = fdatasync(lab)?;
    println!(
        "\n**Level `power`** beside `process`, drain included; one fdatasync of 4 KB on this disk: p50 {:.0} µs, p99 {:.0} µs\n",
        sync.percentile(50),
        sync.percentile(99)
    );
    println!(
        "| 1 KB requests | process req/s | power req/s | of process | process p50 / p99 µs | power p50 / p99 µs | p50 more, in fdatasyncs |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for connections in [1, 64] {
        let case = Case { connections, ..load::JSON };
        let (mut rates, mut figures) = ([Figures::default(), Figures::default()], [Vec::new(), Vec::new()]);
        for round in 0..=rounds {
            for (at, peer) in peers.iter().enumerate() {
                let run =
                    load::run(peer.address, &case, &none, Duration::from_secs(if round == 0 { 1 } else { seconds }));
                let measured = run.await?;
                peer.settle().await;
                anyhow::ensure!(measured.wrong == 0, "wrong answers");
                if round > 0 {
                    rates[at].extend([measured.per_second()]);
                    figures[at].push(measured.latencies_us);
                }
            }
        }
        let of = |at: usize, percent: usize| {
            figures[at].iter().map(|f: &Figures| f.percentile(percent)).collect::<Figures>().median()
        };
        println!(
            "| {connections} at a time | {:.0} | {:.0} | {:.0} % | {:.0} / {:.0} | {:.0} / {:.0} | {:.1} |",
            rates[0].median(),
            rates[1].median(),
            rates[1].median() / rates[0].median() * 100.0,
            of(0, 50),
            of(0, 99),
            of(1, 50),
            of(1, 99),
            (of(1, 50) - of(0, 50)) / sync.percentile(50),
        );
    }
    Ok(())
}

/// How long this disk takes to make an append durable, in µs.
fn fdatasync(folder: &Path) -> anyhow::Result<Figures> {
    let mut file = std::fs::File::create(folder.join("fdatasync"))?;
    let once = |_| {
        file.write_all(&[7; 4096])?;
        let began = Instant::now();
        file.sync_data()?;
        Ok(began.elapsed().as_secs_f64() * 1e6)
    };
    (0..300).map(once).collect::<std::io::Result<Figures>>().map_err(Into::into)
}
