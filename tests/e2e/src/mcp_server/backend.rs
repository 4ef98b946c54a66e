//! The scripted server within the test's own process, so that the test can ask it what it saw and said.

use std::net::{IpAddr, SocketAddr, TcpListener};

use super::{Era, Server, transports};

/// Serves on a thread of its own until the process ends.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// What remembers.
    pub server: Server,
}

impl Backend {
    /// Over WebSocket, on a free port of this address.
    pub fn ws(address: IpAddr, era: Era, name: &str) -> Self {
        Self::start(address, era, name, |listener, server| Box::pin(transports::ws(listener, server)))
    }

    /// Over Streamable HTTP.
    pub fn http(address: IpAddr, era: Era, name: &str) -> Self {
        Self::start(address, era, name, |listener, server| Box::pin(transports::http(listener, server)))
    }

    fn start(address: IpAddr, era: Era, name: &str, serve: Serve) -> Self {
        let listener = TcpListener::bind((address, 0)).expect("a free port");
        listener.set_nonblocking(true).expect("an option");
        let (address, server) = (listener.local_addr().expect("an address"), Server::new(era, name));
        let theirs = server.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                serve(tokio::net::TcpListener::from_std(listener).expect("a listener"), theirs).await;
            });
        });
        Self { address, server }
    }
}

type Serving = std::pin::Pin<Box<dyn Future<Output = ()>>>;
type Serve = fn(tokio::net::TcpListener, Server) -> Serving;
