//! Requests that somebody behind us could understand in another way than we do.
//!
//! hyper refuses what is malformed: line ends, names, values, chunks. What is left here is well-formed and ambiguous: it is
//! how a second request is hidden in a first one's body (request smuggling). RFC 9112 allows to make such a request
//! plain and go on, and hyper does that with some of it, so that its framing is judged by the bytes ([`Ambiguous`]); we refuse
//! it, as nginx does, because nobody who means well sends it. The connection is closed with the answer, since it cannot be
//! known where the next request begins.

use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, StatusCode, Version};

use super::framing::Ambiguous;
use super::refuse::Refusal;

const BOTH: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "it has both Content-Length and Transfer-Encoding");
const LENGTHS: (StatusCode, &str) = (StatusCode::BAD_REQUEST, "it has more than one Content-Length");
const ENCODING: (StatusCode, &str) =
    (StatusCode::NOT_IMPLEMENTED, "its Transfer-Encoding is another one than `chunked`");

/// Refuses ambiguous framing (RFC 9112, section 6.3), as its bytes and its headers have it, and an ambiguous host
/// (section 3.2).
pub(super) fn check(version: Version, headers: &HeaderMap, seen: Option<Ambiguous>) -> Result<(), Refusal> {
    let seen = seen.map(|ambiguous| match ambiguous {
        Ambiguous::LengthAndEncoding => BOTH,
        Ambiguous::Lengths => LENGTHS,
        Ambiguous::Encoding => ENCODING,
    });
    let host = || host(version, headers).map(|problem| (StatusCode::BAD_REQUEST, problem));
    match seen.or_else(|| framing(headers)).or_else(host) {
        None => Ok(()),
        Some((status, problem)) => Err(Refusal::not_forwardable(
            status,
            format!("iccm refused this request: {problem} (RFC 9112). Correct the client."),
        )),
    }
}

fn framing(headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let is_repeated = |name| headers.get_all(name).iter().nth(1).is_some();
    let Some(encoding) = headers.get(TRANSFER_ENCODING) else {
        return is_repeated(CONTENT_LENGTH).then_some(LENGTHS);
    };
    if headers.contains_key(CONTENT_LENGTH) {
        return Some(BOTH);
    }
    let is_chunked = !is_repeated(TRANSFER_ENCODING) && encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
    (!is_chunked).then_some(ENCODING)
}

fn host(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Some("it has more than one Host"),
        (Some(host), None) if !is_host(host) => Some("its Host is none"),
        // In HTTP/2 the authority says it.
        (None, _) if version == Version::HTTP_11 => Some("it has no Host"),
        _ => None,
    }
}

fn is_host(value: &HeaderValue) -> bool {
    Authority::try_from(value.as_bytes()).is_ok_and(|host| !host.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: Version, lines: &[(&'static str, &'static str)]) -> Option<u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        check(version, &headers, None).err().map(|refusal| refusal.status.as_u16())
    }

    #[test]
    fn framing_must_be_plain() {
        let framed = |lines: &[_]| status(Version::HTTP_2, lines);
        assert_eq!(framed(&[("content-length", "5")]), None);
        assert_eq!(framed(&[("transfer-encoding", "Chunked")]), None);
        assert_eq!(framed(&[("content-length", "5"), ("content-length", "5")]), Some(400));
        assert_eq!(framed(&[("content-length", "5"), ("transfer-encoding", "chunked")]), Some(400));
        assert_eq!(framed(&[("transfer-encoding", "gzip, chunked")]), Some(501));
        assert_eq!(framed(&[("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")]), Some(501));
    }

    #[test]
    fn there_must_be_one_host() {
        for good in ["h", "h:80", "127.0.0.1:8089", "[::1]:8089", "a-b.example"] {
            assert_eq!(status(Version::HTTP_11, &[("host", good)]), None, "{good}");
        }
        for bad in ["", "h/i", "h i", "u@h", "http://h"] {
            assert_eq!(status(Version::HTTP_11, &[("host", bad)]), Some(400), "{bad}");
        }
        assert_eq!(status(Version::HTTP_11, &[]), Some(400));
        assert_eq!(status(Version::HTTP_10, &[]), None);
        assert_eq!(status(Version::HTTP_2, &[]), None);
        assert_eq!(status(Version::HTTP_10, &[("host", "h"), ("host", "h")]), Some(400));
    }
}
