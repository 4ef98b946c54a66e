//! A backend's state machine: connect, list, serve, and after the end wait and connect again, for as long as the server is
//! configured.
//!
//! Guaranteed: whatever happens to one backend is told in its own status and answers, and nowhere else. A server that comes
//! back is noticed within [`MAX_PAUSE`] and the time that connecting takes; one that refuses us for good is asked less and
//! less often.

mod handshake;
mod serve;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::handshake::{Known, shake_hands};
use self::serve::{End, Session};
use crate::config::Transport;
use crate::hub::{Command, GRACE, Hub};
use crate::link::http_peer::Peer;
use crate::link::{Failure, Link, Outgoing, Seen, http, stdio, websocket};

/// Between attempts at a server that may be back at any moment.
const MAX_PAUSE: Duration = Duration::from_millis(1200);
/// Between attempts at one that answers and refuses, or cannot be started.
const MAX_LASTING_PAUSE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A connection that held so long was a good one, and the next pause is the first again.
const GOOD: Duration = Duration::from_secs(5);
/// For the connection and everything until the server has introduced itself. A package may have to be downloaded first.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(120);

/// Serves a backend until it is told to stop.
pub(crate) async fn run(hub: Arc<Hub>, name: String, transport: Transport, mut commands: mpsc::Receiver<Command>) {
    let mut task = Task { hub, name, transport, known: Known::default(), resend: Vec::new() };
    let mut pause = Pause::default();
    loop {
        task.hub.connecting(&task.name);
        let began = Instant::now();
        let end = task.attempt(&mut commands).await;
        let (failure, at_once) = match end {
            End::Stopped => return task.given_up().await,
            End::Reconnect => (Failure::passing("reconnecting, as asked"), true),
            // A server that has just said so is there.
            End::Lost(failure) => (failure, !task.resend.is_empty()),
        };
        task.report(&failure);
        if began.elapsed() >= GOOD {
            pause = Pause::default();
        }
        if !at_once && wait(&mut commands, &mut pause, &failure).await.is_err() {
            return task.given_up().await;
        }
    }
}

/// There will be no other attempt.
struct Stopped;

/// Waits before the next attempt.
async fn wait(commands: &mut mpsc::Receiver<Command>, pause: &mut Pause, failure: &Failure) -> Result<(), Stopped> {
    let wait = tokio::time::sleep(pause.next(failure.lasting));
    tokio::pin!(wait);
    loop {
        tokio::select! {
            () = &mut wait => return Ok(()),
            command = commands.recv() => match command {
                Some(Command::Reconnect) => {
                    *pause = Pause::default();
                    return Ok(());
                }
                Some(Command::Sync) => {}
                Some(Command::Stop) | None => return Err(Stopped),
            }
        }
    }
}

/// How long to wait: longer each time, and never just as long as anybody else.
#[derive(Debug, Default)]
struct Pause {
    attempts: u32,
}

impl Pause {
    fn next(&mut self, lasting: bool) -> Duration {
        let most = if lasting { MAX_LASTING_PAUSE } else { MAX_PAUSE };
        let full = FIRST_PAUSE.saturating_mul(1 << self.attempts.min(10)).min(most);
        self.attempts += 1;
        let mut random = [0; 1];
        // Without randomness the pause is only less spread.
        let _ = getrandom::fill(&mut random);
        full.mul_f64(0.5 + f64::from(random[0]) / 512.0)
    }
}

/// What stays from one connection to the next.
struct Task {
    hub: Arc<Hub>,
    name: String,
    transport: Transport,
    known: Known,
    /// Requests that a server did not take because it had forgotten the session; sent once more, in the next one.
    resend: Vec<Outgoing>,
}

impl Task {
    /// One connection, from its first attempt to its end.
    async fn attempt(&mut self, commands: &mut mpsc::Receiver<Command>) -> End {
        let (mut link, peer) = tokio::select! {
            opened = self.open() => match opened {
                Ok(opened) => opened,
                Err(failure) => return self.tried(End::Lost(failure)),
            },
            end = told(commands) => return end,
        };
        let hello = self.hub.hello();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(HANDSHAKE_PATIENCE, shake_hands(&mut link, peer.as_deref(), &hello, &mut self.known)) => {
                shaken.unwrap_or_else(|_| {
                    Err(Failure::passing(format!("no introduction within {} s", HANDSHAKE_PATIENCE.as_secs())))
                })
            }
            end = told(commands) => {
                link.close().await;
                return end;
            }
        };
        let introduced = match shaken {
            Ok(introduced) => introduced,
            Err(failure) => {
                link.close().await;
                return self.tried(End::Lost(failure));
            }
        };
        let resend = std::mem::take(&mut self.resend);
        let mut session = Session::begin(&self.hub, &self.name, link, introduced, resend);
        let end = session.serve(commands).await;
        self.resend = session.end(&end).await;
        self.tried(end)
    }

    async fn open(&self) -> Result<(Link, Option<Arc<Peer>>), Failure> {
        let hub = &self.hub;
        let url = match &self.transport {
            Transport::WebSocket { url, .. } | Transport::Http { url, .. } => Some(url),
            Transport::Stdio(_) => None,
        };
        let seen = Seen::new(hub.tap.clone(), &self.name, url);
        match &self.transport {
            Transport::WebSocket { url, headers } => {
                websocket::open(&hub.connector, url, headers, seen).await.map(|link| (link, None))
            }
            Transport::Http { url, headers } => {
                let (link, peer) = http::open(&hub.connector, url, headers, seen);
                Ok((link, Some(peer)))
            }
            Transport::Stdio(server) => {
                stdio::open(&self.name, server, &hub.guard, &hub.inherited, seen).map(|link| (link, None))
            }
        }
    }

    /// The first attempt is what the first list waits for.
    fn tried(&self, end: End) -> End {
        if let End::Lost(failure) = &end {
            self.hub.down(&self.name, failure);
        }
        self.hub.tried(&self.name);
        end
    }

    /// Notes why there is no connection. The lists are looked at again when the server's grace is over.
    fn report(&self, failure: &Failure) {
        self.hub.down(&self.name, failure);
        tracing::info!(backend = self.name, "{failure}");
        let hub = self.hub.clone();
        let stop = self.hub.stop.clone();
        self.hub.tasks.spawn(async move {
            let over = tokio::time::sleep(GRACE);
            if stop.run_until_cancelled(over).await.is_some() {
                hub.refresh().await;
            }
        });
    }

    /// Nothing will be sent any more.
    async fn given_up(self) {
        self.hub.lost(&self.name, &Failure::passing("the server was removed, or the relay ends"), &[]).await;
    }
}

/// Waits for a command that ends the connection.
async fn told(commands: &mut mpsc::Receiver<Command>) -> End {
    loop {
        match commands.recv().await {
            // What the client wants is looked up when the connection is there.
            Some(Command::Sync) => {}
            Some(Command::Reconnect) => return End::Reconnect,
            Some(Command::Stop) | None => return End::Stopped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_may_be_back_is_asked_often_and_one_that_refuses_seldom() {
        let mut pause = Pause::default();
        let pauses: Vec<Duration> = (0..20).map(|_| pause.next(false)).collect();
        assert!(pauses[0] <= FIRST_PAUSE && pauses.iter().all(|pause| *pause <= MAX_PAUSE));
        assert!(pauses[10] >= MAX_PAUSE / 2);
        let mut pause = Pause::default();
        assert!((0..20).map(|_| pause.next(true)).max().unwrap() > MAX_LASTING_PAUSE / 2);
    }
}
