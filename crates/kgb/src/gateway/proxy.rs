//! The way to the upstreams through an HTTP proxy, where the environment names one.
//!
//! Guaranteed: an upstream behind TLS is reached through a tunnel (`CONNECT`), so that the proxy sees its name and no byte
//! of the exchange; one without TLS is asked for in absolute form. An upstream on this machine is never asked for through
//! a proxy. User and password of a proxy go to that proxy, and to no record, log or error.
//! Refused: going past a proxy that is named and cannot be used (SOCKS, say): that is an error of each exchange.

use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderValue, Uri};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

/// What the environment says of proxies. The values mean what they mean to curl: URLs, and for `no` a list of hosts,
/// domains, addresses and networks, or `*`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// `HTTP_PROXY`: for upstreams without TLS.
    pub http: Option<String>,
    /// `HTTPS_PROXY`: for upstreams with TLS.
    pub https: Option<String>,
    /// `ALL_PROXY`: where the other two say nothing.
    pub all: Option<String>,
    /// `NO_PROXY`: what is reached directly.
    pub no: Option<String>,
}

impl Proxies {
    /// Asks for each variable, in capitals and in small letters.
    pub fn from_variables<'v>(variable: impl Fn(&str) -> Option<&'v str>) -> Self {
        let either = |name: &str| variable(name).or_else(|| variable(&name.to_lowercase())).map(str::to_owned);
        Self {
            http: either("HTTP_PROXY"),
            https: either("HTTPS_PROXY"),
            all: either("ALL_PROXY"),
            no: either("NO_PROXY"),
        }
    }
}

/// The URLs may hold passwords.
impl std::fmt::Debug for Proxies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let set = |url: &Option<String>| if url.is_some() { "set" } else { "not set" };
        f.debug_struct("Proxies")
            .field("http", &set(&self.http))
            .field("https", &set(&self.https))
            .field("all", &set(&self.all))
            .field("no", &self.no)
            .finish()
    }
}

/// What holds for the upstreams of one scheme.
enum Rule {
    Direct,
    Through(Intercept),
    /// The variable's name.
    Unusable(&'static str),
}

impl Rule {
    fn of(own: (&'static str, &Option<String>), all: &Option<String>) -> Self {
        let named = own.1.as_deref().map(|url| (own.0, url)).or_else(|| all.as_deref().map(|url| ("ALL_PROXY", url)));
        let Some((variable, url)) = named else {
            return Self::Direct;
        };
        let proxy = Matcher::builder().all(url).build().intercept(&Uri::from_static("http://any.example"));
        match proxy.filter(|proxy| matches!(proxy.uri().scheme_str(), Some("http" | "https"))) {
            Some(proxy) => Self::Through(proxy),
            None => Self::Unusable(variable),
        }
    }
}

/// [`Proxies`], understood.
pub(super) struct ProxyRules {
    http: Rule,
    https: Rule,
    /// Catches what `NO_PROXY` does not except.
    proxied: Matcher,
}

impl ProxyRules {
    pub(super) fn new(proxies: &Proxies) -> Self {
        let exceptions = proxies.no.clone().unwrap_or_default();
        Self {
            http: Rule::of(("HTTP_PROXY", &proxies.http), &proxies.all),
            https: Rule::of(("HTTPS_PROXY", &proxies.https), &proxies.all),
            proxied: Matcher::builder().all("http://any.example").no(exceptions).build(),
        }
    }

    fn rule(&self, destination: &Uri) -> &Rule {
        if is_on_this_machine(destination) || self.proxied.intercept(destination).is_none() {
            return &Rule::Direct;
        }
        if destination.scheme_str() == Some("https") { &self.https } else { &self.http }
    }

    /// The credentials that go with a request itself, where there is no tunnel that they went with.
    pub(super) fn authorization(&self, destination: &Uri) -> Option<&HeaderValue> {
        if matches!(self.http, Rule::Direct) || destination.scheme_str() != Some("http") {
            return None;
        }
        match self.rule(destination) {
            Rule::Through(proxy) => proxy.basic_auth(),
            Rule::Direct | Rule::Unusable(_) => None,
        }
    }
}

fn is_on_this_machine(destination: &Uri) -> bool {
    let host = destination.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or_else(|_| is_loopback_name(host), |address| address.is_loopback())
}

/// A name that is this machine's everywhere (RFC 6761, section 6.3).
pub(super) fn is_loopback_name(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "localhost" || host.ends_with(".localhost")
}

/// Why there is no way through a proxy. Names it without its user and password.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    #[error("the proxy that {0} names cannot be used: it must be an HTTP proxy, http://HOST:PORT")]
    Unusable(&'static str),
    #[error("no way through the proxy {proxy}")]
    Failed { proxy: String, source: BoxError },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Plain = MaybeHttpsStream<TokioIo<TcpStream>>;

/// Makes the connections on which TLS, if there is any, and HTTP are spoken with the upstream.
#[derive(Clone)]
pub(super) struct Way {
    tcp: HttpConnector,
    /// A proxy may be behind TLS itself.
    to_proxy: HttpsConnector<HttpConnector>,
    rules: Arc<ProxyRules>,
    /// Also to upstreams without TLS a proxy is asked for a tunnel: what follows is not HTTP.
    tunnels_only: bool,
}

impl Way {
    pub(super) fn new(tcp: HttpConnector, to_proxy: HttpsConnector<HttpConnector>, rules: Arc<ProxyRules>) -> Self {
        Self { tcp, to_proxy, rules, tunnels_only: false }
    }

    pub(super) fn with_tunnels_only(self) -> Self {
        Self { tunnels_only: true, ..self }
    }

    fn through(&mut self, proxy: &Intercept, destination: Uri) -> Connecting {
        let failed = {
            let proxy = proxy.uri().authority().map(ToString::to_string).unwrap_or_default();
            move |source: BoxError| BoxError::from(ProxyError::Failed { proxy, source })
        };
        if destination.scheme_str() != Some("https") && !self.tunnels_only {
            let connecting = self.to_proxy.call(proxy.uri().clone());
            return Box::pin(async move { connecting.await.map(|io| Via { io, asks_proxy: true }).map_err(failed) });
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), self.to_proxy.clone());
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let connecting = tunnel.call(destination);
        Box::pin(async move {
            connecting.await.map(|io| Via { io, asks_proxy: false }).map_err(|error| failed(error.into()))
        })
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Via, BoxError>> + Send>>;

impl Service<Uri> for Way {
    type Response = Via;
    type Error = BoxError;
    type Future = Connecting;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, destination: Uri) -> Connecting {
        let rules = self.rules.clone();
        match rules.rule(&destination) {
            Rule::Direct => {
                let connecting = self.tcp.call(destination);
                Box::pin(async move { Ok(Via { io: MaybeHttpsStream::Http(connecting.await?), asks_proxy: false }) })
            }
            Rule::Through(proxy) => self.through(proxy, destination),
            Rule::Unusable(variable) => {
                let error = ProxyError::Unusable(variable);
                Box::pin(async move { Err(error.into()) })
            }
        }
    }
}

/// A connection to an upstream, or to the proxy that is asked for it.
pub(crate) struct Via {
    io: Plain,
    /// Requests on it are in absolute form.
    asks_proxy: bool,
}

impl Via {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match &self.io {
            MaybeHttpsStream::Http(tcp) => tcp.inner(),
            MaybeHttpsStream::Https(tls) => tls.inner().get_ref().0.inner().inner(),
        }
    }
}

impl Connection for Via {
    fn connected(&self) -> Connected {
        let connected = self.io.connected();
        if self.asks_proxy { connected.proxy(true) } else { connected }
    }
}

impl Read for Via {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl Write for Via {
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
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests;
