//! The two sockets of a WebSocket, as the code in between needs them: to read, to write, to end as the other one ended.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::MaybeHttpsStream;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

use crate::gateway::upstream::Connected;

/// Probes that an idle peer is sent before it is given up.
const PROBES: u32 = 3;

/// A peer of which TCP has no sign for `silence` is gone: an idle one is asked from half of that time on, and bytes that were
/// sent may stay unacknowledged for so long (`TCP_USER_TIMEOUT`; without it, the kernel sends them again for a quarter of an
/// hour). A peer that is alive and does not read shows signs, but takes no bytes: if it does not read for all that time
/// although there is more than the buffers on the way hold, it is given up, too.
///
/// Not needed for correctness, so that a socket that refuses is used all the same.
pub(super) fn keep_alive(socket: &TcpStream, silence: Duration) {
    let set = socket.set_nodelay(true).and_then(|()| match silence {
        Duration::ZERO => Ok(()),
        silence => find_silent(&SockRef::from(socket), silence),
    });
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set a connection's options");
    }
}

fn find_silent(socket: &SockRef<'_>, silence: Duration) -> std::io::Result<()> {
    // TCP counts whole seconds.
    let (half, sixth) = ((silence / 2).max(Duration::from_secs(1)), (silence / 6).max(Duration::from_secs(1)));
    let keepalive = TcpKeepalive::new().with_time(half).with_interval(sixth).with_retries(PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(silence))
}

/// The connection with the server.
pub(super) struct ServerIo {
    io: Connected,
}

impl ServerIo {
    pub(super) fn new(io: Connected, silence: Duration) -> Self {
        let this = Self { io };
        keep_alive(this.socket(), silence);
        this
    }

    fn socket(&self) -> &TcpStream {
        match &self.io {
            MaybeHttpsStream::Http(via) => via.socket(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().socket(),
        }
    }

    /// From now on it ends with a reset.
    pub(super) fn reset_on_close(&self) {
        if let Err(error) = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "cannot reset a server's connection; it is closed instead");
        }
    }
}

impl Read for ServerIo {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for ServerIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
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
