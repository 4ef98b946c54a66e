//! The two sockets of a WebSocket, as the code in between needs them: to find a peer that is gone, to end as the other one ended.

use std::time::Duration;

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
pub(super) type ServerIo = Connected;

/// The socket below.
pub(super) fn socket(io: &ServerIo) -> &TcpStream {
    match io {
        MaybeHttpsStream::Http(via) => via.socket(),
        MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().socket(),
    }
}

/// From now on it ends with a reset.
pub(super) fn reset_on_close(io: &ServerIo) {
    if let Err(error) = SockRef::from(socket(io)).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot reset a server's connection; it is closed instead");
    }
}
