//! Points at which the server waits until a test lets it go on.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Named gates; each lets as many passages through as were allowed, and a passage waits for its permission.
#[derive(Debug, Default)]
pub(super) struct Gates {
    gates: Mutex<HashMap<String, Gate>>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    permits: usize,
    waiting: usize,
}

impl Gates {
    /// Lets one more passage through.
    pub(super) fn open(&self, name: &str) {
        self.gates.lock().expect("no panic under this lock").entry(name.to_owned()).or_default().permits += 1;
        self.changed.notify_all();
    }

    /// Waits for a permission; false when `patience` ran out first.
    pub(super) fn pass(&self, name: &str, patience: Duration) -> bool {
        self.change(name, |gate| gate.waiting += 1);
        let passed = self.wait(name, patience, |gate| gate.permits > 0);
        self.change(name, |gate| {
            gate.waiting -= 1;
            gate.permits -= usize::from(passed);
        });
        passed
    }

    /// Waits until someone waits at a closed gate; false when `patience` ran out first.
    pub(super) fn wait_for_someone(&self, name: &str, patience: Duration) -> bool {
        self.wait(name, patience, |gate| gate.waiting > 0 && gate.permits == 0)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Gate)) {
        change(self.gates.lock().expect("no panic under this lock").entry(name.to_owned()).or_default());
        self.changed.notify_all();
    }

    fn wait(&self, name: &str, patience: Duration, holds: impl Fn(&Gate) -> bool) -> bool {
        let deadline = Instant::now() + patience;
        let mut gates = self.gates.lock().expect("no panic under this lock");
        while !gates.get(name).is_some_and(&holds) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            gates = self.changed.wait_timeout(gates, left).expect("no panic under this lock").0;
        }
        true
    }
}
