//! Points at which the server waits until a test lets it go on.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Named gates; each lets as many passages through as were allowed, and a passage waits for its permission.
#[derive(Debug, Default)]
pub(super) struct Gates {
    permits: Mutex<HashMap<String, usize>>,
    changed: Condvar,
}

impl Gates {
    /// Lets one more passage through.
    pub(super) fn open(&self, name: &str) {
        *self
            .permits
            .lock()
            .expect("no panic under this lock")
            .entry(name.to_owned())
            .or_default() += 1;
        self.changed.notify_all();
    }

    /// Waits for a permission; false when `patience` ran out first.
    pub(super) fn pass(&self, name: &str, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut permits = self.permits.lock().expect("no panic under this lock");
        loop {
            if let Some(left) = permits.get_mut(name).filter(|left| **left > 0) {
                *left -= 1;
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            permits = self
                .changed
                .wait_timeout(permits, left)
                .expect("no panic under this lock")
                .0;
        }
    }
}
