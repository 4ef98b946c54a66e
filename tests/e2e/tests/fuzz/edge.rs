//! The gateway's socket: whatever is sent there, the recorder lives, answers the next one, and has on record what it passed on.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::fake_api::log::Sent;
use e2e::http::Ending;
use e2e::random::Random;
use e2e::raw_client::exchange;
use e2e::recorder::Place;
use e2e::stage::scripted;

use crate::harness;
use crate::mutate::mutate;

const SEEDS: [&str; 6] = [
    "POST /v1/messages HTTP/1.1\r\nHost: h\r\nX-Api-Key: sk-ant-test-000\r\nContent-Length: 15\r\n\r\n{\"messages\":[]}",
    "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-T: 1\r\n\r\n",
    "GET /v1/models?limit=1000 HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip, br\r\nConnection: keep-alive\r\n\r\n",
    "HEAD /api/hello HTTP/1.1\r\nHost: h\r\n\r\nGET /health HTTP/1.1\r\nHost: h\r\n\r\n",
    "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
    "OPTIONS * HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
];
const WORDS: [&[u8]; 20] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Connection: close\r\n",
    b"HTTP/2.0",
    b"HTTP/0.9",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"http://other/",
    b"CONNECT ",
    b"Upgrade: h2c\r\n",
    b"\xff\xfe",
];

fn send(stream: &mut TcpStream, bytes: &[u8], random: &mut Random) {
    let cut = random.between(0, bytes.len() + 1);
    // A server may close before it has read everything; what matters is that it lives.
    let _ = stream.write_all(&bytes[..cut]).and_then(|()| stream.write_all(&bytes[cut..]));
    if random.one_in(4) {
        return;
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn mutated_requests_never_hurt_the_gateway() {
    let (place, api) = (Place::new(), FakeApi::start());
    let recorder = place.kgb(&api.url());
    harness::run("edge", 4_000, |random| {
        let mut bytes = random.pick(&SEEDS).as_bytes().to_vec();
        if random.one_in(3) {
            bytes.extend_from_slice(random.pick(&SEEDS).as_bytes());
        }
        mutate(&mut bytes, &WORDS, random);
        let mut stream = TcpStream::connect(recorder.address()).expect("the recorder accepts");
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        send(&mut stream, &bytes, random);
    });
    let seen = exchange(recorder.address(), &scripted("after.", "hello", true));
    assert_eq!((seen.status(), seen.ending), (Some(200), Ending::Complete));
    let said = recorder.stderr();
    assert!(!said.contains("panicked"), "{said}");
    recorder.stop();
    let whole = api.log().iter().filter(|entry| entry.sent != Sent::RequestBroken).count();
    let recorded = place.exchanges().len();
    assert!(whole <= recorded && whole > 0, "{whole} requests were passed on, {recorded} are on record");
    println!("edge: {recorded} on record, {whole} passed on whole");
}
