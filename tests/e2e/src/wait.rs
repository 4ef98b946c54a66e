//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// How long a condition may take before its test fails. Long, because a loaded machine with two cores is slow; nothing
/// waits longer than its condition needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks until `probe` gives something, and panics with `what` when [`PATIENCE`] has run out.
pub fn until<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, probe)
}

/// [`until`] with a patience of its own.
///
/// The pause between two questions only spares the processor: a condition that holds is seen, however long it took.
pub fn until_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "after {patience:?} still waiting for: {what}");
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}
