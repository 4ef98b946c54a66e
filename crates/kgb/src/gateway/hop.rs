//! Which headers end at the gateway.
//!
//! RFC 9110, section 7.6.1: `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `TE` and `Upgrade` belong
//! to one connection and are not forwarded. Everything else passes in its order, with its case, repeated names included.
//!
//! Three points that the RFC leaves to us:
//! - `Transfer-Encoding` stays in the map: hyper frames the forwarded body by it, and drops it where the next connection
//!   has other framing (HTTP/2, no body). A `Content-Length` beside it goes (RFC 9112, section 6.3), so that the two
//!   sides cannot disagree about where the message ends.
//! - A `Connection` header may not take away `Host`, `Content-Length` or `Transfer-Encoding`: framing and routing are
//!   not the client's to remove.
//! - `Upgrade: h2c` is ignored, as section 7.8 allows; an upgrade to a WebSocket is carried out; any other is refused with
//!   501 instead of being forwarded as a request that cannot mean what its sender meant ([`upgrade`]).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Version};

use super::asked::Asked;

/// The headers that go on, in their order. `host`, if given, replaces the value of `Host` in its place (and is added
/// where there was none, as HTTP/1.0 allows).
pub(super) fn end_to_end(headers: HeaderMap, host: Option<&HeaderValue>) -> HeaderMap {
    let named = named_by_connection(&headers);
    let framed_by_encoding = headers.contains_key(header::TRANSFER_ENCODING);
    let mut forwarded = HeaderMap::with_capacity(headers.len() + 1);
    let mut name = None;
    for (next, value) in headers {
        name = next.or(name);
        let Some(name) = &name else { continue };
        let ends_here = is_hop_by_hop(name)
            || named.contains(name)
            || (framed_by_encoding && *name == header::CONTENT_LENGTH)
            || (host.is_some() && *name == header::HOST && forwarded.contains_key(header::HOST));
        if ends_here {
            continue;
        }
        match host {
            Some(host) if *name == header::HOST => forwarded.append(name.clone(), host.clone()),
            _ => forwarded.append(name.clone(), value),
        };
    }
    if let Some(host) = host
        && !forwarded.contains_key(header::HOST)
    {
        forwarded.insert(header::HOST, host.clone());
    }
    forwarded
}

/// The headers of a request that asks for a WebSocket: all of them, but `Host` is the upstream's, and no extension is
/// offered. Compression (`permessage-deflate`) would hide the messages from the record; an offer is not a demand, so that no
/// client fails for want of it.
pub(crate) fn websocket_request(mut headers: HeaderMap, host: &HeaderValue) -> HeaderMap {
    headers.remove(header::SEC_WEBSOCKET_EXTENSIONS);
    headers.insert(header::HOST, host.clone());
    headers
}

/// What an HTTP/2 request needs to be one of HTTP/1.1: `Cookie` in one piece again (RFC 9113, section 8.2.3), and framing
/// for a body of unknown length, which a method like GET would not have without it.
pub(super) fn from_http2(headers: &mut HeaderMap, has_body: bool) {
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(cookie) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..]))
    {
        headers.insert(header::COOKIE, cookie);
    }
    if has_body && !headers.contains_key(header::CONTENT_LENGTH) {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The protocol that a request asks to upgrade to, unless it is one that may be ignored.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<String> {
    let protocols = tokens(headers, &header::UPGRADE);
    protocols.filter(|protocol| !protocol.eq_ignore_ascii_case("h2c")).map(str::to_owned).next()
}

/// Whether a request asks for a WebSocket (RFC 6455, section 4.1).
pub(crate) fn wants_websocket(asked: &Asked) -> bool {
    asked.version == Version::HTTP_11
        && asked.method == Method::GET
        && upgrade(&asked.headers).is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TE
        || *name == header::UPGRADE
        || *name == "keep-alive"
        || *name == "proxy-connection"
        || *name == "http2-settings"
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let keep = [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING];
    tokens(headers, &header::CONNECTION)
        .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
        .filter(|name| !keep.contains(name))
        .collect()
}

/// The comma-separated tokens of all fields of one name.
pub(crate) fn tokens<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    fn lines(map: &HeaderMap) -> Vec<(&str, &str)> {
        map.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect()
    }

    #[test]
    fn what_belongs_to_the_connection_ends_here() {
        let headers = map(&[
            ("host", "client.example"),
            ("connection", "keep-alive, X-Private"),
            ("keep-alive", "timeout=5"),
            ("x-private", "1"),
            ("te", "trailers"),
            ("proxy-connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("accept", "a"),
            ("accept", "b"),
            ("x-last", "z"),
        ]);
        let host = HeaderValue::from_static("api.example");
        assert_eq!(
            lines(&end_to_end(headers, Some(&host))),
            [("host", "api.example"), ("accept", "a"), ("accept", "b"), ("x-last", "z")]
        );
    }

    #[test]
    fn a_connection_header_cannot_take_framing_away() {
        let headers = map(&[("connection", "content-length, host"), ("content-length", "3"), ("host", "a")]);
        assert_eq!(lines(&end_to_end(headers, None)), [("content-length", "3"), ("host", "a")]);
    }

    #[test]
    fn a_length_beside_a_transfer_encoding_goes() {
        let headers = map(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        assert_eq!(lines(&end_to_end(headers, None)), [("transfer-encoding", "chunked")]);
    }

    #[test]
    fn a_request_without_host_gets_the_upstreams() {
        let host = HeaderValue::from_static("api.example");
        assert_eq!(lines(&end_to_end(map(&[("a", "b")]), Some(&host))), [("a", "b"), ("host", "api.example")]);
    }

    #[test]
    fn a_request_of_http2_becomes_one_of_http1() {
        let mut headers = map(&[("cookie", "a=1"), ("accept", "x"), ("cookie", "b=2")]);
        from_http2(&mut headers, true);
        assert_eq!(lines(&headers), [("cookie", "a=1; b=2"), ("accept", "x"), ("transfer-encoding", "chunked")]);
        let mut headers = map(&[("content-length", "3")]);
        from_http2(&mut headers, true);
        assert_eq!(lines(&headers), [("content-length", "3")]);
    }

    #[test]
    fn only_the_upgrade_that_may_be_ignored_is_ignored() {
        assert_eq!(upgrade(&map(&[("upgrade", "h2c")])), None);
        assert_eq!(upgrade(&map(&[("upgrade", "h2c, websocket")])), Some("websocket".into()));
        assert_eq!(upgrade(&map(&[])), None);
    }
}
