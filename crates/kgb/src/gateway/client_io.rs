//! The client's connection, as hyper uses it, with some things that hyper does not offer.
//!
//! - It can be told to end with a reset instead of an orderly close, so that a client sees of a broken upstream what it
//!   would have seen without us.
//! - It says when everything that was written has gone to the kernel. hyper drops what it has buffered when a body
//!   fails; a body that is about to fail first waits for [`ClientState::written_out`], so that the client gets every
//!   byte that the upstream sent before it broke.
//! - It knows how long the client has kept us waiting ([`Pace`]); hyper's own clock for heads runs while a connection is
//!   idle, too.
//! - It sees what the client wrote before hyper makes it plain ([`Framing`]).
//! - It holds the news back that the client is gone until the exchanges that it asked for have begun. hyper reads on
//!   before it shows a request, and would drop those whose client has hung up without a word. On a connection that exchanges
//!   share, a write that fails is such news, too: what is written afterwards goes where it would have gone had the client
//!   hung up a moment later, and reading tells the end.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::framing::{Ambiguous, Framing};
use super::pace::Pace;

/// How long the end of a broken stream waits for the bytes before it, where it cannot be known that they are gone.
const FLUSH_PATIENCE: Duration = Duration::from_millis(50);
/// How often hyper is given its turn to show a request before it learns that the client is gone. Once is enough; a head that
/// it refuses is never shown.
const TURNS: u8 = 4;
/// Exchanges at once on an HTTP/2 connection.
pub(super) const MAX_STREAMS: u32 = 100;
/// Where exchanges share the connection, each takes a turn, and what has come is not known here.
const SHARED_TURNS: u8 = 4 + MAX_STREAMS as u8;

/// What the connection and the exchanges on it tell each other. Shared by [`ClientIo`] (owner of the socket) and the
/// response body that is being sent.
#[derive(Default)]
pub(crate) struct ClientState {
    /// The address that the client has connected to.
    here: Option<SocketAddr>,
    reset: AtomicBool,
    flushes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    framing: Mutex<Framing>,
    pub(super) pace: Arc<Pace>,
}

impl ClientState {
    pub(super) fn of(stream: &TcpStream) -> Self {
        Self { here: stream.local_addr().ok(), ..Self::default() }
    }

    /// The address that the client has connected to; nothing if it is gone.
    pub(super) fn here(&self) -> Option<SocketAddr> {
        self.here
    }

    /// From now on the connection ends with a reset; where others share it, only its stream does, by itself.
    pub(crate) fn reset_on_close(&self) {
        self.reset.store(!self.pace.is_multiplexed(), Ordering::Relaxed);
    }

    /// What is ambiguous about the framing of the request that is shown now. To be asked once for each.
    pub(super) fn next_framing(&self) -> Option<Ambiguous> {
        self.framing().next()
    }

    fn framing(&self) -> MutexGuard<'_, Framing> {
        self.framing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self, bytes: &[u8]) {
        if !self.pace.is_multiplexed() {
            self.framing().read(bytes);
        }
    }

    /// Waits until everything that was written by now has gone to the kernel.
    pub(super) fn written_out(self: Arc<Self>) -> impl Future<Output = ()> + Send {
        let before = self.flushes.load(Ordering::Acquire);
        async move {
            let flushed = std::future::poll_fn(|cx| self.poll_flushed(before, cx));
            if self.pace.is_multiplexed() {
                // Here hyper flushes only when there is something to flush, and it may have been already.
                let _ = tokio::time::timeout(FLUSH_PATIENCE, flushed).await;
            } else {
                flushed.await;
            }
        }
    }

    fn poll_flushed(&self, before: u64, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before the check: a flush in between wakes us, it is not missed.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
        if self.flushes.load(Ordering::Acquire) > before { Poll::Ready(()) } else { Poll::Pending }
    }

    fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::Release);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// The socket.
pub(crate) struct ClientIo {
    stream: TcpStream,
    /// No HTTP is spoken on it any more.
    is_raw: bool,
    /// Bytes that were read already, to see which protocol it is.
    first: Vec<u8>,
    state: Arc<ClientState>,
    /// How often the news that the client is gone has been held back, and the news if they were an error: an end can be read
    /// again, an error cannot.
    turns: u8,
    error: Option<io::Error>,
    /// A write has failed, and nobody was told.
    is_unwritable: bool,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, first: Vec<u8>, state: Arc<ClientState>) -> Self {
        Self { stream, is_raw: false, first, state, turns: 0, error: None, is_unwritable: false }
    }

    /// Whether hyper has yet to show a request that has come, or may have.
    fn has_to_wait(&mut self) -> bool {
        let waits = if self.state.pace.is_multiplexed() {
            self.turns < SHARED_TURNS
        } else {
            self.turns < TURNS && self.state.framing().has_unseen_head()
        };
        self.turns += u8::from(waits);
        waits
    }

    /// What hyper is told of a write of so many bytes.
    fn written(&mut self, outcome: io::Result<usize>, bytes: usize) -> io::Result<usize> {
        match outcome {
            Err(error) if self.state.pace.is_multiplexed() => {
                tracing::debug!(%error, "a client is gone; what it asked for is on record before its connection ends");
                self.is_unwritable = true;
                Ok(bytes)
            }
            outcome => outcome,
        }
    }
}

impl ClientIo {
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// From now on it gives what the socket gives, when the socket does.
    pub(crate) fn set_raw(&mut self) {
        self.is_raw = true;
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.state.reset.load(Ordering::Relaxed) {
            let socket = socket2::SockRef::from(&self.stream);
            if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "cannot reset a client's connection; it is closed instead");
            }
        }
    }
}

impl AsyncRead for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_raw && self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let before = buf.filled().len();
        if !self.first.is_empty() {
            let fits = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..fits]);
            self.first.drain(..fits);
        } else {
            let read = match self.error.take() {
                Some(error) => Err(error),
                None => ready!(Pin::new(&mut self.stream).poll_read(cx, buf)),
            };
            let is_over = read.is_err() || buf.filled().len() == before && buf.remaining() > 0;
            if is_over && self.has_to_wait() {
                self.error = read.err();
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            read?;
            self.state.pace.arrived();
        }
        self.state.read(&buf.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_unwritable {
            return Poll::Ready(Ok(buf.len()));
        }
        let outcome = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        Poll::Ready(self.written(outcome, buf.len()))
    }

    /// hyper calls this when its own buffer is empty, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.state.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        if self.is_unwritable {
            return Poll::Ready(Ok(bytes));
        }
        let outcome = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs));
        Poll::Ready(self.written(outcome, bytes))
    }
}
