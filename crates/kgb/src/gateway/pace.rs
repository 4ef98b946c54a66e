//! How long a client's connection may keep us waiting while it asks for nothing.
//!
//! Guaranteed: a connection on which an exchange is under way has all the time in the world. One that has begun a
//! request's head and does not end it is closed after [`Limits::header_read`], one that is idle after [`Limits::idle`];
//! either at most [`Limits::header_read`] late, because the clock is looked at that often and not with every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// What clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the first byte of a request's head to its last.
    pub header_read: Duration,
    /// Between exchanges. Agents think long between two requests, and like to find their connection again.
    pub idle: Duration,
    /// Connections at once. Beyond it the policy is to wait: a new connection stays in the kernel's queue until another
    /// one ends. Nobody is turned away, and no descriptors run out.
    pub connections: usize,
    /// A peer of a WebSocket that TCP has not heard of for so long is gone, zero: whenever TCP itself thinks so.
    pub peer_silence: Duration,
}

impl Default for Limits {
    /// 30 seconds, 15 minutes, 4096 connections, 2 minutes.
    fn default() -> Self {
        Self {
            header_read: Duration::from_secs(30),
            idle: Duration::from_secs(15 * 60),
            connections: 4096,
            peer_silence: Duration::from_secs(120),
        }
    }
}

/// What a connection is doing, and since when.
pub(super) struct Pace {
    opened: Instant,
    exchanges: AtomicUsize,
    /// Milliseconds since `opened`, counted from 1; 0: no head has begun.
    head_since: AtomicU64,
    /// Milliseconds since `opened`.
    idle_since: AtomicU64,
    /// Exchanges share the connection: what comes outside of them is not the head of one.
    multiplexed: AtomicBool,
}

/// What took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    Head,
    Idle,
}

impl Default for Pace {
    fn default() -> Self {
        let start = || AtomicU64::new(0);
        Self {
            opened: Instant::now(),
            exchanges: AtomicUsize::new(0),
            head_since: start(),
            idle_since: start(),
            multiplexed: AtomicBool::new(false),
        }
    }
}

impl Pace {
    /// Bytes have come from the client.
    pub(super) fn arrived(&self) {
        if self.exchanges.load(Ordering::Acquire) == 0 && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since.store(self.now() + 1, Ordering::Relaxed);
        }
    }

    /// From now on exchanges share the connection.
    pub(super) fn set_multiplexed(&self) {
        self.multiplexed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.multiplexed.load(Ordering::Relaxed)
    }

    /// Returns when the client has taken too long.
    pub(super) async fn late(&self, limits: &Limits) -> Late {
        loop {
            let look_again = Instant::now() + limits.header_read;
            let next = match self.deadline(limits) {
                Some((deadline, late)) if deadline <= Instant::now() => return late,
                Some((deadline, _)) => deadline.min(look_again),
                None => look_again,
            };
            tokio::time::sleep_until(next).await;
        }
    }

    fn deadline(&self, limits: &Limits) -> Option<(Instant, Late)> {
        if self.exchanges.load(Ordering::Acquire) > 0 {
            return None;
        }
        let at = |milliseconds| self.opened + Duration::from_millis(milliseconds);
        match self.head_since.load(Ordering::Relaxed) {
            since if since > 0 && !self.is_multiplexed() => Some((at(since - 1) + limits.header_read, Late::Head)),
            _ => Some((at(self.idle_since.load(Ordering::Relaxed)) + limits.idle, Late::Idle)),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// An exchange under way; it is when this is dropped.
pub(super) struct Busy(Arc<Pace>);

impl Busy {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        pace.exchanges.fetch_add(1, Ordering::AcqRel);
        pace.head_since.store(0, Ordering::Relaxed);
        Self(pace)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let Self(pace) = self;
        pace.idle_since.store(pace.now(), Ordering::Relaxed);
        pace.exchanges.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        header_read: Duration::from_secs(30),
        idle: Duration::from_secs(600),
        connections: 1,
        peer_silence: Duration::ZERO,
    };

    /// Seconds from the connection's beginning until it is late; rounded down, as a test takes milliseconds.
    fn seconds(pace: &Pace) -> Option<(u64, Late)> {
        let (deadline, late) = pace.deadline(&LIMITS)?;
        Some(((deadline - pace.opened).as_secs(), late))
    }

    #[test]
    fn a_connection_may_be_idle_for_long_and_a_head_may_not_take_long() {
        let pace = Arc::new(Pace::default());
        assert_eq!(seconds(&pace), Some((600, Late::Idle)));
        pace.arrived();
        assert_eq!(seconds(&pace), Some((30, Late::Head)));
        drop(Busy::new(pace.clone()));
        assert_eq!(seconds(&pace), Some((600, Late::Idle)), "the head has ended");
        pace.set_multiplexed();
        pace.arrived();
        assert_eq!(seconds(&pace), Some((600, Late::Idle)), "where there are no heads, none is waited for");
    }

    #[test]
    fn an_exchange_has_all_the_time_in_the_world() {
        let pace = Arc::new(Pace::default());
        let (one, other) = (Busy::new(pace.clone()), Busy::new(pace.clone()));
        pace.arrived();
        assert_eq!(seconds(&pace), None);
        drop(one);
        assert_eq!(seconds(&pace), None, "the other goes on");
        drop(other);
        assert_eq!(seconds(&pace), Some((600, Late::Idle)));
    }
}
