//! The client's connection, as hyper uses it, with three things that hyper does not offer.
//!
//! - It can be told to end with a reset instead of an orderly close, so that a client sees of a broken upstream what it
//!   would have seen without us.
//! - It says when everything that was written has gone to the kernel. hyper drops what it has buffered when a body
//!   fails; a body that is about to fail first waits for [`ClientState::written_out`], so that the client gets every
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

/// How long the end of a broken stream waits for the bytes before it, where it cannot be known that they are gone.
const FLUSH_PATIENCE: Duration = Duration::from_millis(50);

/// What the connection and the exchanges on it tell each other. Shared by [`ClientIo`] (owner of the socket) and the
/// response body that is being sent.
#[derive(Default)]
pub(super) struct ClientState {
    reset: AtomicBool,
    flushes: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    pub(super) pace: Pace,
}

impl ClientState {
    /// From now on the connection ends with a reset; where others share it, only its stream does, by itself.
    pub(super) fn reset_on_close(&self) {
        self.reset.store(!self.pace.is_multiplexed(), Ordering::Relaxed);
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
pub(super) struct ClientIo {
    io: TokioIo<TcpStream>,
    /// Bytes that were read already, to see which protocol it is.
    first: Vec<u8>,
    state: Arc<ClientState>,
}

impl ClientIo {
    pub(super) fn new(stream: TcpStream, first: Vec<u8>, state: Arc<ClientState>) -> Self {
        Self { io: TokioIo::new(stream), first, state }
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
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, mut buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        if !self.first.is_empty() {
            let fits = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first[..fits]);
            self.first.drain(..fits);
            return Poll::Ready(Ok(()));
        }
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
