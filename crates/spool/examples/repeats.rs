//! What an append costs: nanoseconds and written bytes for a body of 100 KB, plain, repeating and random.
//!
//! `cargo run --release -p spool --example repeats [FOLDER [NAME]]`; the folder decides which disk is measured, the name of a line leaves
//! out the others.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement for people")]

use std::path::{Path, PathBuf};
use std::time::Instant;

use spool::{Channel, Options, Spool};

const BODY: Channel = Channel(1);
const BODY_BYTES: usize = 100_000;
const BODIES: usize = 4_000;
/// As a gateway hands them over.
const FRAME: usize = 64 << 10;

fn main() {
    let folder = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let only = std::env::args().nth(2);
    let pool = noise(64 << 20);
    let unrelated = |index: usize| pool[index * 7919 * 64 % (pool.len() - BODY_BYTES)..][..BODY_BYTES].to_vec();
    // Every body is new: the offsets never come twice, but the pool's bytes do after a while; so each gets a stamp per page.
    let random = |index: usize| {
        let mut body = unrelated(index);
        body.chunks_mut(512).for_each(|page| page[..8].copy_from_slice(&(index as u64 ^ 0x5bd1_e995).to_le_bytes()));
        body
    };
    let grown = |index: usize| session(&pool, index);
    println!("{:24} {:>10} {:>10} {:>10} {:>9}", "ns for a body of 100 KB", "CPU", "mean", "p50", "written");
    for (name, repeating, bodies) in [
        ("growing session, plain", false, &grown as &dyn Fn(usize) -> Vec<u8>),
        ("growing session", true, &grown),
        ("the same body", true, &|_| pool[..BODY_BYTES].to_vec()),
        ("random, plain", false, &random),
        ("random", true, &random),
    ] {
        if only.as_ref().is_none_or(|only| only == name) {
            measure(&folder, name, repeating, bodies);
        }
    }
}

/// Turn `index` of one of eight sessions that grow by 4 KB a turn and begin anew at 130 KB: history, a marker that moves, tools.
fn session(pool: &[u8], index: usize) -> Vec<u8> {
    let (session, turn) = (index % 8, index / 8);
    let begin = (session * 37 + turn / 16 * 1001) * 4096 % (pool.len() / 2);
    let history = &pool[begin..begin + 40_000 + turn % 16 * 4_000];
    [&b"{\"model\":\"m\",\"messages\":["[..], history, b"\"cache_control\":{}", &pool[pool.len() - 30_000..]].concat()
}

fn measure(folder: &Path, name: &str, repeating: bool, body: &dyn Fn(usize) -> Vec<u8>) {
    let root = tempfile::tempdir_in(folder).unwrap();
    let options = Options { repeating: repeating.then_some(BODY), ..Options::default() };
    let spool = Spool::create(root.path(), options, b"measured").unwrap();
    let mut cpu = 0;
    let (mut times, mut bytes, mut written, mut last) = (Vec::with_capacity(BODIES), 0, 0, spool.written().segment);
    for index in 0..BODIES {
        let body = body(index);
        let (before, cpu_before) = (spool.written(), cpu_ns());
        let began = Instant::now();
        let entry = spool.begin(b"head", &[]).unwrap();
        for frame in body.chunks(FRAME) {
            entry.append(BODY, frame).unwrap();
        }
        entry.finish(&[], b"end").unwrap();
        times.push(began.elapsed().as_nanos() as u64 * BODY_BYTES as u64 / body.len() as u64);
        cpu += cpu_ns() - cpu_before;
        bytes += body.len() as u64;
        let after = spool.written();
        written += if after.segment == before.segment { after.offset - before.offset } else { after.offset };
        if after.segment != last {
            last = after.segment;
            spool.release_before(last).unwrap();
        }
    }
    let mean = times.iter().sum::<u64>() / BODIES as u64;
    times.sort_unstable();
    let cpu = cpu * BODY_BYTES as u64 / bytes;
    println!(
        "{name:24} {cpu:>10} {mean:>10} {:>10} {:>8.1}%",
        times[BODIES / 2],
        written as f64 / bytes as f64 * 100.0
    );
}

/// This thread's time on a CPU, the kernel's share included; 0 where the kernel does not tell.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|on_cpu| on_cpu.parse().ok()).unwrap_or(0)
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let word = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(word).take(len / 8).flatten().collect()
}
