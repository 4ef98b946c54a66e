//! What a long session takes on disk: at most 3 % of what passed over the wire.

use std::path::Path;

use e2e::fake_api::FakeApi;
use e2e::fake_api::replay::{Recorded, Replay};
use e2e::fixtures;
use e2e::generator::{self, Client, Shape};
use e2e::http::Ending;
use e2e::raw_client::{self, Request};
use e2e::recorder::Place;
use rusqlite::{Connection, OpenFlags};

/// Stored bytes, in per cent of captured bytes, without the full-text index.
const LIMIT_PER_CENT: f64 = 3.0;

/// Sends a session through a recorder, checks that each answer is the recorded one, and the size of the record.
fn is_stored_small(name: &str, session: Vec<Recorded>) {
    let (place, api) = (Place::new(), FakeApi::replaying(Replay::new(session.clone())));
    let recorder = place.kgb(&api.url());
    let mut connection = raw_client::Connection::open(recorder.address()).unwrap();
    for exchange in &session {
        let mut request = Request::new(&exchange.method, &exchange.target).body(exchange.request_body.clone());
        let framing = ["host", "content-length", "connection", "transfer-encoding"];
        let fields = exchange.request_headers.iter();
        request.fields = fields.filter(|(n, _)| !framing.contains(&n.to_ascii_lowercase().as_str())).cloned().collect();
        connection.request(&request).unwrap();
        let seen = connection.response(&exchange.method);
        assert_eq!((seen.status(), seen.ending), (Some(exchange.status), Ending::Complete));
        assert!(seen.body == exchange.response_body, "the replayed answer's bytes");
    }
    let exchanges = place.drained(session.len());
    assert_eq!(exchanges.len(), session.len());
    recorder.stop();
    let stats = place.stats();
    let bytes = |name: &str| stats[name].as_u64().unwrap_or_else(|| panic!("no {name} in {stats}"));
    let (captured, stored) = (bytes("captured_bytes"), bytes("stored_bytes"));
    let bodies: usize = session.iter().map(|exchange| exchange.request_body.len() + exchange.response_body.len()).sum();
    assert!(captured >= bodies as u64, "captured_bytes {captured} is less than the bodies' {bodies}");
    let per_cent = stored as f64 * 100.0 / captured as f64;
    println!("{name}: {} exchanges, {captured} bytes captured, {stored} stored: {per_cent:.2} %", session.len());
    assert!(per_cent <= LIMIT_PER_CENT, "{name}: {stored} of {captured} bytes are {per_cent:.2} %");
    let kept = bytes_in_the_database(&place.data_dir().join("iccm.db"));
    println!("{name}: {kept} bytes in the database's tables and indices");
    assert!(kept as f64 <= stored as f64 * 1.1, "{name}: stored_bytes says {stored}, the database holds {kept}");
}

/// What stands in the database's tables and indices, counted by SQLite itself: without the full-text index, the schema
/// and the room that is left in pages.
fn bytes_in_the_database(file: &Path) -> u64 {
    let database = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = r"SELECT coalesce(sum(payload), 0) FROM dbstat WHERE name <> 'sqlite_schema' AND NOT EXISTS (
        SELECT 1 FROM sqlite_schema AS fts WHERE fts.sql LIKE 'CREATE VIRTUAL TABLE%fts5%'
        AND (dbstat.name = fts.name OR dbstat.name LIKE fts.name || '\_%' ESCAPE '\'))";
    let bytes: i64 = database.query_row(sql, [], |row| row.get(0)).unwrap();
    bytes as u64
}

fn capture(name: &str) {
    // The captures are not part of the project; where they do not stand beside it, the generated sessions speak alone.
    let Some(path) = fixtures::folder().map(|folder| folder.join("claude-code").join(name)) else { return };
    if Path::new(&path).exists() {
        is_stored_small(name, fixtures::exchanges(&path));
    }
}

fn generated(client: Client) {
    let shape = Shape { client, turns: 60, sub_agents: 2, side_calls: true, rewinds: 1, retries: 1 };
    let session = generator::session(2026, &shape);
    let exchanges = session.exchanges.into_iter().map(|exchange| exchange.recorded).collect();
    is_stored_small(&format!("generated {client:?}"), exchanges);
}

#[test]
fn the_long_capture_of_2_1_330_is_stored_in_3_per_cent() {
    capture("cc-2.1.330-long.jsonl");
}

#[test]
fn the_long_capture_of_2_0_5_is_stored_in_3_per_cent() {
    capture("cc-2.0.5-long.jsonl");
}

#[test]
fn a_long_generated_session_of_2_1_is_stored_in_3_per_cent() {
    generated(Client::Newest);
}

#[test]
fn a_long_generated_session_of_2_0_5_is_stored_in_3_per_cent() {
    generated(Client::Oldest);
}
