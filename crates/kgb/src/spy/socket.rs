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

/// A peer that says nothing for [`KEEPALIVE_AFTER`] is asked by TCP whether it is there, and is gone when it has not
/// answered [`KEEPALIVE_PROBES`] times. `TCP_USER_TIMEOUT`, which would also bound how long sent bytes may stay
/// unacknowledged, is left alone: it kills peers that are alive and just do not read, and those are the other side's to
/// wait for.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

/// Asks for keepalive. Not needed for correctness, so that a socket that refuses is used all the same.
pub(super) fn keep_alive(socket: &TcpStream) {
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL).with_retries(KEEPALIVE_PROBES);
    let set = socket.set_nodelay(true).and_then(|()| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = set {
        tracing::debug!(%error, "cannot set a connection's options");
    }
}

/// The connection with the server.
pub(super) struct ServerIo {
    io: Connected,
}

impl ServerIo {
    pub(super) fn new(io: Connected) -> Self {
        let this = Self { io };
        keep_alive(this.socket());
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
