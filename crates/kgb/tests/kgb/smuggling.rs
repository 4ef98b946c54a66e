//! Malformed HTTP, and requests that try to be understood in two ways: refused, or passed on as one that can only be
//! understood in one. A real nginx is given the same bytes; the gateway is never laxer.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use crate::nginx::Nginx;
use crate::strict_upstream::{Seen, StrictUpstream};
use crate::support::{Rig, soon};

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No request reaches the upstream whole; the client gets an error or a closed connection, never a success.
    Refused,
    /// So many requests reach the upstream, each well-formed, and no more.
    Passed(usize),
}
use Verdict::{Passed, Refused};

struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    verdict: Verdict,
    /// nginx's, where it is another one, and why ours is stricter.
    nginx: Option<(Verdict, &'static str)>,
}

fn case(name: &'static str, bytes: impl AsRef<[u8]>, verdict: Verdict) -> Case {
    Case { name, bytes: bytes.as_ref().to_vec(), verdict, nginx: None }
}

fn stricter(name: &'static str, bytes: impl AsRef<[u8]>, nginx: Verdict, why: &'static str) -> Case {
    Case { nginx: Some((nginx, why)), ..case(name, bytes, Refused) }
}

/// What a smuggler wants to see arrive.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nHost: h\r\n\r\n";

fn post(headers: &str, body: &str) -> String {
    format!("POST /case HTTP/1.1\r\nHost: h\r\n{headers}\r\n{body}")
}

fn chunked(body: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", body)
}

fn lengths() -> Vec<Case> {
    vec![
        case("a length", post("Content-Length: 5\r\n", "hello"), Passed(1)),
        case(
            "a length and an encoding",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}")),
            Refused,
        ),
        case(
            "an encoding and a length",
            post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5\r\nhello\r\n0\r\n\r\n"),
            Refused,
        ),
        case("two lengths that agree", post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello"), Refused),
        case(
            "two lengths that agree, behind another request",
            format!(
                "GET /case HTTP/1.1\r\nHost: h\r\n\r\n{}",
                post("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")
            ),
            Passed(1),
        ),
        case(
            "an encoding and a length, behind a body",
            chunked(&format!(
                "5\r\nhello\r\n0\r\n\r\n{}",
                post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "5\r\nhello\r\n0\r\n\r\n")
            )),
            Passed(1),
        ),
        case("two lengths that do not", post("Content-Length: 0\r\nContent-Length: 35\r\n", HIDDEN), Refused),
        case("a list of lengths", post("Content-Length: 5, 5\r\n", "hello"), Refused),
        case("a length with a sign", post("Content-Length: +5\r\n", "hello"), Refused),
        case("a negative length", post("Content-Length: -5\r\n", "hello"), Refused),
        case("a length with a space in it", post("Content-Length: 1 1\r\n", "hello world"), Refused),
        case("a length with spaces around it", post("Content-Length:  5 \r\n", "hello"), Passed(1)),
        case("a length in hexadecimal", post("Content-Length: 0x5\r\n", "hello"), Refused),
        case("an empty length", post("Content-Length: \r\n", HIDDEN), Refused),
        case("a length beyond all numbers", post("Content-Length: 99999999999999999999\r\n", "hello"), Refused),
        case("a second request after a length", post("Content-Length: 5\r\n", &format!("hello{HIDDEN}")), Passed(2)),
        case(
            "a body on a GET",
            format!("GET /case HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{HIDDEN}", HIDDEN.len()),
            Passed(1),
        ),
    ]
}

fn encodings() -> Vec<Case> {
    let encoded = |line: &str| post(line, &format!("0\r\n\r\n{HIDDEN}"));
    vec![
        case("chunked", chunked("5\r\nhello\r\n0\r\n\r\n"), Passed(1)),
        case("chunked in capitals", post("Transfer-Encoding: CHUNKED\r\n", "0\r\n\r\n"), Passed(1)),
        case("chunked twice in a list", encoded("Transfer-Encoding: chunked, chunked\r\n"), Refused),
        case("chunked twice", encoded("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), Refused),
        case("xchunked", encoded("Transfer-Encoding: xchunked\r\n"), Refused),
        case("an encoding and chunked", encoded("Transfer-Encoding: gzip, chunked\r\n"), Refused),
        case("chunked and an encoding", encoded("Transfer-Encoding: chunked, identity\r\n"), Refused),
        case("identity", encoded("Transfer-Encoding: identity\r\n"), Refused),
        case("chunked after a tab", post("Transfer-Encoding:\tchunked\r\n", "0\r\n\r\n"), Refused),
        case("chunked after a vertical tab", encoded("Transfer-Encoding: \x0bchunked\r\n"), Refused),
        case("chunked in quotes", encoded("Transfer-Encoding: \"chunked\"\r\n"), Refused),
        case("chunked on a folded line", encoded("Transfer-Encoding:\r\n chunked\r\n"), Refused),
        case("chunked with a space before the colon", encoded("Transfer-Encoding : chunked\r\n"), Refused),
        case(
            "chunked in HTTP/1.0",
            format!("POST /case HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{HIDDEN}"),
            Refused,
        ),
    ]
}

fn chunks() -> Vec<Case> {
    vec![
        case("a chunk extension", chunked("5;a=b\r\nhello\r\n0;c\r\n\r\n"), Passed(1)),
        case("a size with leading zeros", chunked("0005\r\nhello\r\n0\r\n\r\n"), Passed(1)),
        case("trailers", chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"), Passed(1)),
        case("a size beyond all numbers", chunked("fffffffffffffffff\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a size that wraps around", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a size with 0x", chunked("0x5\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a size with a plus", chunked("+5\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a size with an underscore", chunked("0_5\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a negative size", chunked("-5\r\nhello\r\n0\r\n\r\n"), Refused),
        case("no size", chunked("\r\nhello\r\n0\r\n\r\n"), Refused),
        case("a size of other letters", chunked("g\r\nhello\r\n0\r\n\r\n"), Refused),
        case("no line end after a chunk", chunked("5\r\nhello0\r\n\r\n"), Refused),
        case("more bytes than the size says", chunked("3\r\nhello\r\n0\r\n\r\n"), Refused),
        stricter(
            "a bare line feed after a size",
            chunked("5\nhello\r\n0\r\n\r\n"),
            Passed(1),
            "RFC 9112 wants CRLF in chunks; taking less has been used for smuggling",
        ),
        stricter(
            "a bare line feed after a chunk",
            chunked("5\r\nhello\n0\r\n\r\n"),
            Passed(1),
            "RFC 9112 wants CRLF in chunks; taking less has been used for smuggling",
        ),
        stricter(
            "a bare line feed in an extension",
            chunked(&format!("5;a\nhello\r\n0\r\n\r\n{HIDDEN}")),
            Passed(2),
            "RFC 9112 wants CRLF in chunks; taking less has been used for smuggling",
        ),
        case("a bare carriage return after a size", chunked("5\rXhello\r\n0\r\n\r\n"), Refused),
    ]
}

fn lines() -> Vec<Case> {
    vec![
        case("bare line feeds", "GET /case HTTP/1.1\nHost: h\n\n", Passed(1)),
        case("empty lines before", "\r\n\r\nGET /case HTTP/1.1\r\nHost: h\r\n\r\n", Passed(1)),
        case("a bare carriage return in a value", post("X-A: a\rContent-Length: 5\r\n", ""), Refused),
        case("bare carriage returns", "GET /case HTTP/1.1\rHost: h\r\r", Refused),
        case("a folded line", post("X-A: a\r\n b\r\nContent-Length: 0\r\n", ""), Refused),
        case("a folded line after a tab", post("X-A: a\r\n\tContent-Length: 5\r\n", ""), Refused),
        case("a folded first line", "GET /case HTTP/1.1\r\n Host: h\r\nHost: h\r\n\r\n", Refused),
        case("a space before the colon", post("X-A : a\r\n", ""), Refused),
        case("a space in a name", post("X A: a\r\n", ""), Refused),
        stricter(
            "no colon",
            post("X-A\r\n", ""),
            Passed(1),
            "nginx drops the line; we cannot know what it was meant to be",
        ),
        case("an empty name", post(": a\r\n", ""), Refused),
        case("NUL in a value", post("X-A: a\0b\r\n", ""), Refused),
        case("NUL in a name", post("X\0A: a\r\n", ""), Refused),
        case("NUL in the target", "GET /case\0 HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
        case("a space in the target", "GET /case HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
        case("bytes beyond ASCII in a value", b"GET /case HTTP/1.1\r\nHost: h\r\nX-A: \xff\xc3\xa9\r\n\r\n", Passed(1)),
    ]
}

fn requests() -> Vec<Case> {
    let many: String = (0..300).map(|n| format!("X-{n}: v\r\n")).collect();
    let huge = format!("X-Huge: {}\r\n", "h".repeat(300 * 1024));
    vec![
        stricter(
            "an absolute target",
            "GET http://other.example/case HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            Passed(1),
            "nginx takes any host for itself; we are no forward proxy",
        ),
        case("two hosts that agree", "GET /case HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", Refused),
        case("two hosts", "GET /case HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", Refused),
        case("no host", "GET /case HTTP/1.1\r\n\r\n", Refused),
        case("a host that is none", "GET /case HTTP/1.1\r\nHost: h/i\r\n\r\n", Refused),
        case("a host with a space", "GET /case HTTP/1.1\r\nHost: h i\r\n\r\n", Refused),
        case("no host in HTTP/1.0", "GET /case HTTP/1.0\r\n\r\n", Passed(1)),
        stricter(
            "300 headers",
            format!("GET /case HTTP/1.1\r\nHost: h\r\n{many}\r\n"),
            Passed(1),
            "nginx counts bytes only; ours is a bound on work",
        ),
        case("a huge header", format!("GET /case HTTP/1.1\r\nHost: h\r\n{huge}\r\n"), Refused),
        case("a huge target", format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "t".repeat(300 * 1024)), Refused),
        stricter("HTTP/0.9", "GET /case\r\n", Passed(1), "nginx still speaks it; no model API does"),
        case("HTTP/2.0 in a line", "GET /case HTTP/2.0\r\nHost: h\r\n\r\n", Refused),
        stricter(
            "HTTP/1.2",
            "GET /case HTTP/1.2\r\nHost: h\r\n\r\n",
            Passed(1),
            "nginx takes any 1.x; there is none but 1.0 and 1.1",
        ),
        case("a version in small letters", "GET /case http/1.1\r\nHost: h\r\n\r\n", Refused),
        case("HTTP/2 and nonsense", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
        case("two requests at once", format!("GET /case HTTP/1.1\r\nHost: h\r\n\r\n{HIDDEN}"), Passed(2)),
        case(
            "a second request that is hidden in a body",
            chunked(&format!("{:x}\r\n{HIDDEN}\r\n0\r\n\r\n", HIDDEN.len())),
            Passed(1),
        ),
        case(
            "nonsense after a request",
            "GET /case HTTP/1.1\r\nHost: h\r\n\r\n\x16\x03\x01\x02\0\x01\0\r\n\r\n",
            Passed(1),
        ),
        case("a TLS handshake", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", Refused),
        case("no method", " /case HTTP/1.1\r\nHost: h\r\n\r\n", Refused),
    ]
}

fn table() -> Vec<Case> {
    [lengths(), encodings(), chunks(), lines(), requests()].into_iter().flatten().collect()
}

/// Sends the bytes, then, as often as it is answered, a request that should not matter; `/sentinel` ends it. Whatever the
/// server still had in its buffer has had its turn by then.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) -> String {
    let mut answer = Vec::new();
    let talk = async {
        // A server that refuses may close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut asked = false;
        while !String::from_utf8_lossy(&answer).contains("/sentinel") {
            match stream.read_buf(&mut answer).await {
                Ok(0) | Err(_) => return,
                Ok(_) if !asked && String::from_utf8_lossy(&answer).contains("\r\n\r\n/") => {
                    asked = true;
                    let _ = stream.write_all(b"GET /sentinel HTTP/1.1\r\nHost: h\r\n\r\n").await;
                }
                Ok(_) => {}
            }
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), talk).await.is_ok();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if in_time { answer } else { format!("HANGS {answer}") }
}

/// What reached the upstream, judged together with what the client was told.
fn judge(answer: &str, seen: Vec<Result<Seen, String>>) -> Result<Verdict, String> {
    if answer.starts_with("HANGS") {
        return Err(answer.chars().take(200).collect());
    }
    let requests = seen.into_iter().collect::<Result<Vec<_>, _>>()?;
    match requests.iter().filter(|request| request.target != "/sentinel").count() {
        0 if answer.contains("HTTP/1.1 2") => Err(format!("nothing came and all is well? {answer}")),
        0 => Ok(Refused),
        passed => Ok(Passed(passed)),
    }
}

#[tokio::test]
async fn what_can_be_understood_in_two_ways_is_refused_as_nginx_does() {
    let upstream = StrictUpstream::start().await;
    let nginx = Nginx::start(upstream.port);
    let rig =
        Rig::with(|_, gateway| gateway.upstream = format!("http://127.0.0.1:{}", upstream.port).parse().unwrap()).await;
    let mut wrong = Vec::new();
    for case in table() {
        let answer = ask(TcpStream::connect(rig.gateway).await.unwrap(), &case.bytes).await;
        let ours = judge(&answer, upstream.take());
        if ours != Ok(case.verdict) {
            wrong.push(format!("{}: the gateway {ours:?} instead of {:?}: {answer:.80}", case.name, case.verdict));
        }
        let answer = ask(UnixStream::connect(nginx.socket()).await.unwrap(), &case.bytes).await;
        let theirs = judge(&answer, upstream.take());
        let expected = case.nginx.map_or(case.verdict, |nginx| nginx.0);
        if theirs != Ok(expected) {
            wrong.push(format!("{}: nginx {theirs:?} instead of {expected:?}: {answer:.80}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A table that says otherwise would prove nothing.
#[test]
fn where_the_gateway_differs_from_nginx_it_is_stricter_and_says_why() {
    for case in table() {
        if let Some((theirs, why)) = case.nginx {
            assert!(case.verdict == Refused && theirs != Refused && !why.is_empty(), "{}", case.name);
        }
    }
}

/// RFC 9112, section 6.3: nobody can say where the next request begins.
#[tokio::test]
async fn an_ambiguous_request_is_refused_on_record_and_ends_the_connection() {
    let rig = Rig::start().await;
    let mut client = rig.client().await;
    let request = post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", &format!("0\r\n\r\n{HIDDEN}"));
    client.send(&request).await;
    let (head, body) = client.message().await;
    assert!(head.starts_with("HTTP/1.1 400 ") && head.to_ascii_lowercase().contains("connection: close"), "{head}");
    assert!(String::from_utf8(body).unwrap().contains("both Content-Length and Transfer-Encoding"));
    assert_eq!(client.rest().await.unwrap_or_default(), b"", "what was hidden is not answered");
    assert_eq!(rig.ended().await.end.unwrap().outcome, winni::model::Outcome::Refused);
}

#[tokio::test]
async fn what_is_no_http_is_counted() {
    let rig = Rig::start().await;
    for bytes in ["GET /case HTTP/1.1\r\nHo st: h\r\n\r\n", "\x16\x03\x01 nonsense that is long enough\r\n\r\n"] {
        let mut client = rig.client().await;
        client.send(bytes).await;
        client.rest().await.unwrap_or_default();
    }
    let counted = || rig.recorder.render_metrics().contains("iccm_malformed_requests_total 2\n");
    // The count comes with the connection's end, which the client may see first.
    soon(async {
        while !counted() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(rig.exchanges().is_empty());
}
