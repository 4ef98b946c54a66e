//! The client's connection, as hyper uses it, with three things that hyper does not offer.
//!
//! - It can be told to end with a reset instead of an orderly close, so that a client sees of a broken upstream what it
//!   would have seen without us.
//! - It says when everything that was written has gone to the kernel. hyper drops what it has buffered when a body
//!   fails; a body that is about to fail first waits for [`ClientState::poll_flushed`], so that the client gets every
//!   byte that the upstream sent before it broke.
//! - It knows how long the client has kept us waiting ([`Pace`]); hyper's own clock for heads runs while a connection is
//!   idle, too.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::pace::Pace;

/// What the connection and the exchanges on it tell each other. Shared by [`ClientIo`] (owner of the socket) and the
/// response body that is being sent.
#[derive(Default)]
pub(super) struct ClientState {
    reset: AtomicBool,
    flushes: AtomicU64,
    waiting: Mutex<Option<Waker>>,
    pub(super) pace: Pace,
}

impl ClientState {
    /// From now on the connection ends with a reset.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// How often everything written has gone to the kernel.
    pub(super) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Acquire)
    }

    /// Ready when everything has gone to the kernel once more than `before`.
    pub(super) fn poll_flushed(&self, before: u64, cx: &mut Context<'_>) -> Poll<()> {
        // Registered before the check: a flush in between wakes us, it is not missed.
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
        if self.flushes() > before { Poll::Ready(()) } else { Poll::Pending }
    }

    fn flushed(&self) {
        self.flushes.fetch_add(1, Ordering::Release);
        let waker = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The socket.
pub(super) struct ClientIo {
    io: TokioIo<TcpStream>,
    state: Arc<ClientState>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, state: Arc<ClientState>) -> Self {
        Self { io: TokioIo::new(stream), state }
    }
}

impl Drop for ClientIo {
    fn drop(&mut self) {
        if self.state.reset.load(Ordering::Relaxed) {
            let socket = socket2::SockRef::from(self.io.inner());
            if let Err(error) = socket.set_linger(Some(Duration::ZERO)) {
                tracing::debug!(%error, "cannot reset a client's connection; it is closed instead");
            }
        }
    }
}

impl Read for ClientIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if read.is_ready() {
            self.state.pace.arrived();
        }
        read
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    /// hyper calls this when its own buffer is empty, and only then.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        if matches!(flushed, Poll::Ready(Ok(()))) {
            self.state.flushed();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}
