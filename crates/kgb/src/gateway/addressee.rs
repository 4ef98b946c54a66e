//! Requests that are meant for somebody else, because a client takes the gateway for its HTTP proxy: `CONNECT`, and targets in
//! absolute form (RFC 9112, section 3.2) that name another server.
//!
//! Guaranteed: none of them is answered by the gateway itself or passed to an upstream, which has no business with what is in it
//! (cookies of other sites, say). They are refused, on record with all that came, and under the name of whom they were meant for.
//!
//! In absolute form the gateway goes by the address that a connection came to, and by the loopback names with that port.
//! In HTTP/2 every target is absolute, so that there it says no more than `Host`: nothing.

use std::net::{IpAddr, SocketAddr};

use http::uri::{Authority, Scheme};
use http::{Method, Request, Uri, Version};

use super::proxy::is_loopback_name;

/// Whom a request is meant for instead of us, as it is to be recorded. `here`: where its connection came to.
pub(super) fn somebody_else<B>(request: &Request<B>, here: Option<SocketAddr>) -> Option<String> {
    let uri = request.uri();
    if request.method() == Method::CONNECT {
        return Some(uri.authority().map_or_else(|| uri.to_string(), ToString::to_string));
    }
    let authority = uri.authority()?;
    (request.version() < Version::HTTP_2 && !is_here(uri, authority, here)).then(|| uri.to_string())
}

fn is_here(uri: &Uri, authority: &Authority, here: Option<SocketAddr>) -> bool {
    let Some(here) = here else { return false };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_ours = match address {
        Ok(address) => address.is_loopback() || address.to_canonical() == here.ip().to_canonical(),
        Err(_) => is_loopback_name(host),
    };
    is_ours && uri.scheme() == Some(&Scheme::HTTP) && authority.port_u16().unwrap_or(80) == here.port()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant_for(method: Method, target: &str, version: Version) -> Option<String> {
        let request = Request::builder().method(method).uri(target).version(version).body(()).unwrap();
        somebody_else(&request, Some("[::ffff:10.0.0.2]:8089".parse().unwrap()))
    }

    #[test]
    fn a_path_is_ours_and_so_is_our_own_address() {
        for ours in [
            "/v1/messages",
            "*",
            "http://10.0.0.2:8089/health",
            "http://127.0.0.1:8089/v1",
            "http://[::1]:8089/",
            "http://LocalHost:8089/",
        ] {
            assert_eq!(meant_for(Method::GET, ours, Version::HTTP_11), None, "{ours}");
        }
        assert_eq!(meant_for(Method::GET, "http://other.example/", Version::HTTP_2), None);
    }

    #[test]
    fn another_host_port_or_scheme_is_somebody_else() {
        for theirs in [
            "http://other.example/path?q",
            "http://other.example:8089/health",
            "http://10.0.0.3:8089/",
            "http://127.0.0.1/",
            "http://localhost:3000/",
            "https://127.0.0.1:8089/",
        ] {
            assert_eq!(meant_for(Method::POST, theirs, Version::HTTP_11).as_deref(), Some(theirs));
            assert_eq!(meant_for(Method::GET, theirs, Version::HTTP_10).as_deref(), Some(theirs));
        }
        let tunnel = |version| meant_for(Method::CONNECT, "127.0.0.1:8089", version);
        assert_eq!(tunnel(Version::HTTP_11).as_deref(), Some("127.0.0.1:8089"), "a tunnel never is for us");
        assert_eq!(tunnel(Version::HTTP_2).as_deref(), Some("127.0.0.1:8089"));
    }
}
