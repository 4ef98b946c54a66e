//! The place where a recorder listens.

use std::fmt::Debug;
use std::time::{Instant, SystemTime};

use url::Url;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the relay.
    FromClient,
    /// From the relay to the client.
    ToClient,
    /// From the relay to a backend.
    ToBackend,
    /// From a backend to the relay.
    FromBackend,
}

/// A message on its way.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// The backend's name; `None` where the other side is the client.
    pub backend: Option<&'a str>,
    /// Wall clock.
    pub at: SystemTime,
    /// Monotonic time.
    pub instant: Instant,
    /// The exact bytes of one message, without what frames it (the newline of stdio, the WebSocket frame, the event).
    pub bytes: &'a [u8],
}

/// Sees every message, whole, before it is passed on: whatever a peer of the relay has received was seen here first.
///
/// It is called on the way of the traffic, from several threads at once, in the order of each connection; it must not wait
/// for anything slower than an append.
pub trait Tap: Send + Sync + Debug + 'static {
    /// A connection with a backend is about to carry its first message; `url` is where it leads, `None` if it is a child's.
    /// False: its messages are not to be shown. Called once a connection, and may take a moment.
    fn connects(&self, backend: &str, url: Option<&Url>) -> bool;

    /// A message that was received, or that is about to be sent.
    fn message(&self, observed: &Observed<'_>);
}
