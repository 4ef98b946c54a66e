//! Runs a target on one input after the other, and says how to repeat the one that failed.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use e2e::random::Random;

/// Calls `target` with a source of randomness of its own for each input: `inputs` times, or for as long as
/// `ICCM_FUZZ_SECONDS` says.
pub(crate) fn run(name: &str, inputs: u64, mut target: impl FnMut(&mut Random)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let first = number("ICCM_FUZZ_SEED").unwrap_or(0);
    let deadline = number("ICCM_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let goes_on = |done: u64| deadline.map_or(done < inputs, |deadline| Instant::now() < deadline);
    let mut done = 0;
    while goes_on(done) {
        let seed = first.wrapping_add(done);
        let caught = catch_unwind(AssertUnwindSafe(|| target(&mut Random::new(seed))));
        if let Err(panic) = caught {
            eprintln!("{name} failed; to repeat it alone: ICCM_FUZZ_SEED={seed}");
            resume_unwind(panic);
        }
        done += 1;
    }
    println!("{name}: {done} inputs from seed {first}");
}
