//! Memory and descriptors are bounded, whatever the size of a body, the pace of a peer and the number of aborts.
//!
//! The two take turns: together they would fill the machine, and a byte a second would be less.

use std::io::{BufReader, Cursor, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use e2e::flood::{Flood, Noise};
use e2e::http::{self, Ending};
use e2e::process::Running;
use e2e::raw_client::{Connection, Request, exchange};
use e2e::recorder::{Place, Recorder};
use e2e::resources::Resources;
use e2e::{hex, wait};
use sha2::{Digest, Sha256};

/// What memory may grow by above idle, in bytes.
const GROWTH: u64 = 64 << 20;
const GIB: u64 = 1 << 30;
/// What the slow reader is sent.
const FOR_THE_SLOW_READER: u64 = 48 << 20;
/// For how long the slow reader reads a byte a second, and the slow upstream sends one.
const SLOW_FOR: u64 = 6;
const STREAMS: usize = 64;

/// Held by the test whose turn it is.
static TURN: Mutex<()> = Mutex::new(());

fn get(case: &str, wishes: &str) -> Request {
    Request::new("GET", &format!("/flood?case={case}&{wishes}"))
}

/// Reads an answer whole without holding it; gives the exchange's id and the body's SHA-256.
fn read(connection: &mut Connection, method: &str) -> (String, String) {
    let mut hash = Sha256::new();
    let seen = connection.response_pieces(method, &mut |piece| hash.update(piece));
    assert_eq!((seen.status(), &seen.ending), (Some(200), &Ending::Complete));
    (seen.exchange_id().expect("an id").to_owned(), hex(&hash.finalize()))
}

fn ask(address: SocketAddr, request: &Request) -> (String, String) {
    let mut connection = Connection::open(address).unwrap();
    connection.request(request).unwrap();
    connection.listen_for(Duration::from_secs(100));
    read(&mut connection, &request.method)
}

/// Sends a body of a GiB without holding it.
fn upload(address: SocketAddr, noise: Noise) -> String {
    let mut connection = Connection::open(address).unwrap();
    let head = Request::new("POST", "/flood?case=upload").field("Content-Length", &GIB.to_string());
    connection.request(&head).unwrap();
    noise.pieces(GIB, 256 << 10).for_each(|piece| connection.send(&piece).unwrap());
    connection.listen_for(Duration::from_secs(100));
    read(&mut connection, "POST").0
}

/// A connection below any client, to read at a pace of one's own.
fn send(address: SocketAddr, request: &Request) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    stream.write_all(&request.bytes(address)).unwrap();
    stream
}

/// Reads a byte a second for a while, then the rest.
fn read_slowly(address: SocketAddr) -> (String, String) {
    let mut stream = send(address, &get("slow-reader", &format!("bytes={FOR_THE_SLOW_READER}")));
    let mut early = Vec::new();
    for _ in 0..SLOW_FOR {
        // The pace of this client is the test's input; nothing is waited for.
        thread::sleep(Duration::from_secs(1));
        early.resize(early.len() + 1, 0);
        stream.read_exact(early.last_mut().map(std::slice::from_mut).unwrap()).unwrap();
    }
    let mut reader = BufReader::new(Cursor::new(early).chain(stream));
    let (head, mut hash) = (http::read_head(&mut reader).unwrap(), Sha256::new());
    let ending = http::read_body(&mut reader, head.response_framing("GET"), &mut |piece| hash.update(piece));
    assert_eq!(ending, Ending::Complete);
    (head.get("x-iccm-exchange-id").unwrap().to_owned(), hex(&hash.finalize()))
}

/// SHA-256 of a recorded body, which is not held.
fn recorded(place: &Place, id: &str, part: &str) -> String {
    let (running, mut stdout) = Running::start_reading(place.command(["exchange", id, "--part", part]));
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match stdout.read(&mut buffer).expect("stdout can be read") {
            0 => break,
            size => hash.update(&buffer[..size]),
        }
    }
    running.finish(wait::PATIENCE).success("iccm exchange");
    hex(&hash.finalize())
}

/// A recorder at rest that has been at work, and how much memory it holds then.
fn idle(place: &Place, flood: &Flood) -> (Recorder, Resources, u64) {
    let recorder = place.kgb(&flood.url());
    ask(recorder.address(), &get("warm-up", "bytes=100000"));
    place.drained(1);
    let resources = Resources(recorder.pid());
    resources.forget_peak();
    let resident = resources.resident();
    (recorder, resources, resident)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

#[test]
fn memory_does_not_grow_with_bodies_streams_and_slow_peers() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (place, noise) = (Place::new(), Noise::new(3));
    let flood = Flood::start(noise);
    let (recorder, resources, resident) = idle(&place, &flood);
    let (address, began) = (recorder.address(), Instant::now());
    let (uploaded, downloaded, slow) = thread::scope(|scope| {
        let uploaded = scope.spawn(|| upload(address, noise));
        let downloaded = scope.spawn(|| ask(address, &get("download", &format!("bytes={GIB}"))));
        let slow = scope.spawn(|| read_slowly(address));
        scope.spawn(|| ask(address, &get("slow-upstream", &format!("bytes={SLOW_FOR}&piece=1&pace_ms=1000"))));
        for n in 0..STREAMS {
            let request = get(&format!("stream-{n}"), "bytes=60000&piece=600&pace_ms=50");
            scope.spawn(move || ask(address, &request));
        }
        (uploaded.join().unwrap(), downloaded.join().unwrap(), slow.join().unwrap())
    });
    let (traffic, traffic_took) = (resources.peak(), began.elapsed());
    let exchanges = wait_until_drained(&place, STREAMS + 5);
    let (drained, drained_after) = (resources.peak(), began.elapsed());
    println!(
        "idle {}; highest with traffic {} ({traffic_took:.1?}), with the drain {} ({drained_after:.1?})",
        mib(resident),
        mib(traffic),
        mib(drained)
    );
    assert!(traffic < resident + GROWTH, "with traffic: {} above {}", mib(traffic - resident), mib(resident));
    assert!(drained < resident + GROWTH, "with the drain: {} above {}", mib(drained - resident), mib(resident));
    assert_eq!(exchanges, STREAMS + 5);

    let gib = noise.sha256(GIB);
    let slow_bytes = noise.sha256(FOR_THE_SLOW_READER);
    assert_eq!((&downloaded.1, &slow.1), (&gib, &slow_bytes), "what the clients got");
    assert_eq!(recorded(&place, &uploaded, "request-body"), gib);
    assert_eq!(recorded(&place, &downloaded.0, "response-body"), gib);
    assert_eq!(recorded(&place, &slow.0, "response-body"), slow_bytes);
    recorder.stop();
}

/// Waits until the spool is empty; gives how many exchanges are on record.
fn wait_until_drained(place: &Place, count: usize) -> usize {
    wait::until_within(Duration::from_secs(240), "an empty spool", || {
        let stats = place.stats();
        let done = stats["spool_pending_records"] == 0 && stats["exchanges"].as_u64() >= Some(count as u64);
        done.then(|| stats["exchanges"].as_u64().unwrap() as usize)
    })
}

/// Aborted exchanges of four kinds, in turn.
fn abort(address: SocketAddr, n: usize) {
    match n % 4 {
        // The client resets in the middle of an answer: there is more in the socket than it has read.
        0 => send(address, &get("reset", "bytes=1000000")).read_exact(&mut [0; 300]).unwrap(),
        // The client hangs up in the middle of its request.
        1 => {
            let request = Request::new("POST", "/flood?case=half").field("Content-Length", "5000").body("half");
            drop(send(address, &request));
        }
        // The client closes between two pieces of an answer.
        2 => send(address, &get("close", "bytes=1000&piece=1&pace_ms=3")).read_exact(&mut [0]).unwrap(),
        // The upstream breaks off.
        _ => {
            let seen = exchange(address, &get("cut", "bytes=5000&cut=2500"));
            assert_eq!(seen.ending, Ending::Closed);
        }
    }
}

#[test]
fn no_descriptor_is_left_of_10_000_aborted_exchanges() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (place, flood) = (Place::new(), Flood::start(Noise::new(4)));
    let (recorder, resources, resident) = idle(&place, &flood);
    let address = recorder.address();
    let aborted = |count: usize| {
        thread::scope(|scope| {
            for client in 0..4 {
                scope.spawn(move || (0..count / 4).for_each(|n| abort(address, n + client)));
            }
        });
    };
    aborted(200);
    let before = resources.descriptors();
    aborted(10_000);
    // The upstream's side of the last ones may still be closing.
    let after = wait::until_within(Duration::from_secs(60), "the descriptors to be closed", || {
        let open = resources.descriptors();
        (open <= before + 4).then_some(open)
    });
    // Also a client that was gone when its request was read has left a record. One more is the warm-up.
    let asked = 1 + 200 + 10_000;
    wait_until_drained(&place, asked);
    println!("descriptors: {before} before, {after} after; memory {} to {}", mib(resident), mib(resources.resident()));
    recorder.stop();
    let exchanges = place.exchanges();
    let aborted = exchanges.iter().filter(|exchange| exchange["outcome"] != "complete").count();
    println!("{} recorded, {aborted} of them aborted; {} forwarded", exchanges.len(), flood.requests());
    assert_eq!(exchanges.len(), asked);
    assert!(aborted >= 7_500, "{aborted} of {} aborted", exchanges.len());
}
