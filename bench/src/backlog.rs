//! How fast what is in the spool gets into the database: beside the load, and after the database was away.

use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::client;
use crate::load;
use crate::peers::{self, Peer};
use crate::sessions::Pool;

const STORED: &str = "iccm_drained_items_total";
const WAITING: &str = "iccm_spool_pending_bytes";
const CAPTURED: [&str; 2] = ["iccm_request_bytes_total", "iccm_response_bytes_total"];

/// Sessions that come to 1 GB of bodies, with some to spare.
const SESSIONS_PER_GB: f64 = 400.0;

pub(crate) async fn measure(lab: &Path, upstream: SocketAddr, gigabytes: f64, seconds: u64) -> anyhow::Result<()> {
    println!("\n**The drain**, on agents' exchanges\n");
    let pool = Rc::new(Pool::of(load::seed(), (gigabytes * SESSIONS_PER_GB) as usize + load::AGENTS.connections));
    client::prepare(upstream, pool.seeds()).await?;
    beside_the_load(&lab.join("beside"), upstream, &pool, seconds).await?;
    pool.rewind();
    let folder = lab.join("backlog");
    fill(&folder, upstream, &pool, gigabytes * 1e9).await?;
    catch_up(&folder, upstream).await
}

async fn beside_the_load(folder: &Path, upstream: SocketAddr, pool: &Rc<Pool>, seconds: u64) -> anyhow::Result<()> {
    let peer = peers::recorder("iccm", folder, upstream, &[])?;
    let began = Instant::now();
    let measured = load::run(peer.address, &load::AGENTS, pool, Duration::from_secs(seconds)).await?;
    anyhow::ensure!(measured.wrong == 0, "wrong answers");
    let stored = peer.metric(STORED).await?;
    while peer.metric(STORED).await? < measured.requests as f64 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "- Beside the load: {:.0} exchanges/s came in for {:.0} s; {:.0}/s of them were stored meanwhile, all of them after {:.1} s.",
        measured.per_second(),
        measured.seconds,
        stored / measured.seconds,
        began.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// Lets a recorder without a database fill its spool, and kills it.
async fn fill(folder: &Path, upstream: SocketAddr, pool: &Rc<Pool>, bytes: f64) -> anyhow::Result<()> {
    let peer = peers::recorder("iccm", folder, upstream, &peers::NO_DATABASE)?;
    let mut exchanges = 0;
    let idle = peer.rss_mb();
    peer.reset_peak();
    while captured(&peer).await? < bytes {
        let measured = load::run(peer.address, &load::AGENTS, pool, Duration::from_secs(1)).await?;
        anyhow::ensure!(measured.wrong == 0, "wrong answers");
        exchanges += measured.requests;
    }
    println!(
        "- Without a database: {exchanges} exchanges, {:.2} GB of bodies, {:.2} GB in the spool, which writes what it holds \
         only once; memory {idle:.0} MB idle, {:.0} MB at most.",
        captured(&peer).await? / 1e9,
        peer.metric(WAITING).await? / 1e9,
        peer.peak_mb()
    );
    peer.kill();
    Ok(())
}

async fn captured(peer: &Peer) -> anyhow::Result<f64> {
    Ok(peer.metric(CAPTURED[0]).await? + peer.metric(CAPTURED[1]).await?)
}

/// Starts again with a database and waits until nothing of the backlog is left.
async fn catch_up(folder: &Path, upstream: SocketAddr) -> anyhow::Result<()> {
    let began = Instant::now();
    let peer: Peer = peers::recorder("iccm", folder, upstream, &[])?;
    let idle = peer.rss_mb();
    let (mut most, mut at_half, mut stored) = (0.0_f64, 0.0, 0.0);
    let folders = || Ok::<_, std::io::Error>(std::fs::read_dir(folder.join("spool"))?.count());
    // The dead recorder's folder goes when all of it is stored.
    while folders()? > 1 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stored = peer.metric(STORED).await?;
        most = most.max(peer.rss_mb());
        if at_half == 0.0 && began.elapsed() > Duration::from_secs(4) {
            at_half = peer.rss_mb();
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "- Started again with one: all stored after {seconds:.1} s, {:.0} exchanges/s, recovery of the spool included; memory \
         {idle:.0} MB at the start, {at_half:.0} MB after 4 s, {most:.0} MB at most; CPU {:.2} ms per exchange.",
        stored / seconds,
        peer.cpu_seconds() * 1e3 / stored.max(1.0),
    );
    Ok(())
}
