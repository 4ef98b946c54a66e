//! Both directions of a WebSocket, byte for byte.
//!
//! Each direction reads what is there, has it recorded, and writes it; then it reads on. An end that one side's TCP shows is
//! shown to the other: the end of sending as such (the other direction goes on), a reset as a reset.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_util::sync::CancellationToken;
use winni::model::{Direction, Outcome};
use wire::websocket::{Opcode, close_payload, server_frame};

use super::socket::{ServerIo, keep_alive, reset_on_close};
use super::tap::{Tap, Verdict};
use crate::gateway::client_io::{ClientIo, ClientState};
use crate::recorder::MessageLog;

/// What one direction holds at most.
const BUFFER_BYTES: usize = 64 * 1024;
/// When we are to stop, a connection on which nothing has passed for so long, and no message is under way, is closed.
const QUIET: Duration = Duration::from_millis(500);
/// The close code of who goes away.
const GOING_AWAY: u16 = 1001;

/// How a direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Its sender has sent everything.
    Finished,
    /// Its sender reset the connection, or vanished.
    Broken,
    /// Its receiver takes no more.
    Unwanted,
    /// Something in it could not be recorded.
    Unrecordable,
    /// We are to stop.
    Stopped,
    /// The other direction ended in a way that ends this one.
    Dropped,
}

/// Carries a connection from its first byte behind the heads to its end.
pub(super) async fn run(
    (client, server): (OnUpgrade, OnUpgrade),
    state: Arc<ClientState>,
    log: Arc<MessageLog>,
    silence: Duration,
    shutdown: CancellationToken,
) {
    let (client, server) = match tokio::try_join!(client, server) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a WebSocket broke off in its handshake");
            return log.closed(Outcome::ClientAborted, None, None);
        }
    };
    let (Some((client, from_client)), Some((server, from_server))) =
        (parts::<TokioIo<ClientIo>>(client), parts::<ServerIo>(server))
    else {
        tracing::error!("a WebSocket runs over another kind of connection than expected; it is closed");
        return log.closed(Outcome::Refused, None, None);
    };
    let (mut client, mut server) = (client.into_inner(), TokioIo::new(server));
    client.set_raw();
    keep_alive(client.socket(), silence);
    let mut to_server = Tap::new(log.clone(), Direction::ToServer);
    let mut to_client = Tap::new(log.clone(), Direction::ToClient);
    let (up, down) = {
        let (client_reader, client_writer) = tokio::io::split(&mut client);
        let (server_reader, server_writer) = tokio::io::split(&mut server);
        let drop_other = CancellationToken::new();
        let stops = Stops { shutdown: &shutdown, dropped: &drop_other };
        tokio::join!(
            stops.carry(client_reader, server_writer, from_client, &mut to_server, client_frame),
            stops.carry(server_reader, client_writer, from_server, &mut to_client, server_frame),
        )
    };
    if down == Ended::Broken {
        state.reset_on_close();
    }
    if up == Ended::Broken {
        reset_on_close(server.inner());
    }
    let said = (to_server.closed(), to_client.closed());
    // Messages that are still open end now, before the connection does.
    drop((to_server, to_client));
    log.closed(outcome(up, down, said.0.is_some() || said.1.is_some()), said.0, said.1);
}

/// The connection itself, and what was read from it already.
fn parts<T: hyper::rt::Read + hyper::rt::Write + Unpin + 'static>(upgraded: Upgraded) -> Option<(T, Bytes)> {
    let parts = upgraded.downcast::<T>().ok()?;
    Some((parts.io, parts.read_buf))
}

fn outcome(up: Ended, down: Ended, said_goodbye: bool) -> Outcome {
    match (up, down) {
        (Ended::Unrecordable, _) | (_, Ended::Unrecordable) => Outcome::Refused,
        (Ended::Stopped, _) | (_, Ended::Stopped) => Outcome::RecorderStopped,
        _ if said_goodbye => Outcome::Complete,
        (Ended::Broken, _) => Outcome::ClientAborted,
        (_, Ended::Broken) => Outcome::UpstreamAborted,
        // Both sides closed without a word.
        _ => Outcome::Complete,
    }
}

/// What ends a direction from outside.
struct Stops<'a> {
    shutdown: &'a CancellationToken,
    dropped: &'a CancellationToken,
}

/// What comes next in a direction.
enum Next {
    Bytes(usize),
    Failed,
    Quiet,
    Dropped,
}

impl Stops<'_> {
    /// One direction. `frame` makes a frame that its receiver understands.
    async fn carry(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        early: Bytes,
        tap: &mut Tap,
        frame: fn(Opcode, &[u8]) -> Vec<u8>,
    ) -> Ended {
        let ended = match self.pass(&early, &mut to, tap).await {
            Ok(()) => {
                drop(early);
                self.flow(&mut from, &mut to, tap).await
            }
            Err(ended) => ended,
        };
        match ended {
            // The receiver sees the end; the other direction goes on.
            Ended::Finished => drop(to.shutdown().await),
            // What it still sends to the other side is worth having; its own end will show.
            Ended::Unwanted => {}
            Ended::Stopped => {
                // Between two messages; who is gone already need not be told.
                let goodbye = frame(Opcode::CLOSE, &close_payload(GOING_AWAY, "iccm is stopping"));
                let _ = to.write_all(&goodbye).await;
                drop(to.shutdown().await);
            }
            Ended::Broken | Ended::Unrecordable | Ended::Dropped => self.dropped.cancel(),
        }
        ended
    }

    async fn flow(
        &self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        tap: &mut Tap,
    ) -> Ended {
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match self.next(from, &mut buffer, tap.is_quiet()).await {
                Next::Bytes(0) => return Ended::Finished,
                Next::Bytes(count) => {
                    if let Err(ended) = self.pass(&buffer[..count], to, tap).await {
                        return ended;
                    }
                }
                Next::Failed => return Ended::Broken,
                Next::Quiet => return Ended::Stopped,
                Next::Dropped => return Ended::Dropped,
            }
        }
    }

    async fn next(&self, from: &mut (impl AsyncRead + Unpin), buffer: &mut [u8], is_quiet: bool) -> Next {
        let quiet = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            biased;
            read = from.read(buffer) => read.map_or(Next::Failed, Next::Bytes),
            () = self.dropped.cancelled() => Next::Dropped,
            () = quiet, if is_quiet => Next::Quiet,
        }
    }

    /// Records, then writes.
    async fn pass(&self, bytes: &[u8], to: &mut (impl AsyncWrite + Unpin), tap: &mut Tap) -> Result<(), Ended> {
        match tap.record(bytes) {
            Verdict::Pass => {}
            Verdict::Cut => return Err(Ended::Unrecordable),
            Verdict::Sync => {
                let recorder = tap.log().recorder();
                recorder.sync(recorder.spool().written()).await.map_err(|_| Ended::Unrecordable)?;
            }
        }
        let write = async {
            to.write_all(bytes).await?;
            to.flush().await
        };
        tokio::select! {
            biased;
            written = write => written.map_err(|_: io::Error| Ended::Unwanted),
            () = self.dropped.cancelled() => Err(Ended::Dropped),
        }
    }
}

/// A frame that a client sends: with a mask, which may be anything, so it is nothing.
fn client_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = server_frame(opcode, payload);
    let head = frame.len() - payload.len();
    frame[1] |= 0x80;
    frame.splice(head..head, [0; 4]);
    frame
}
