//! `iccm migrate-store`: a record goes from one database to another, whatever ends the move in between.

use std::process::Command;
use std::time::Duration;

use e2e::fake_api::FakeApi;
use e2e::load::{Got, Load};
use e2e::postgres::{Cluster, Database, PASSWORD};
use e2e::process::{self, Running};
use e2e::recorder::Place;
use e2e::verify::{answers, answers_are_equal, record_holds};
use e2e::wait;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(120);

/// A record of some load in the data folder's own database, with a model API that knows what was asked.
struct Recorded {
    place: Place,
    api: FakeApi,
    got: Vec<Got>,
}

fn recorded() -> Recorded {
    let (place, api, load) = (Place::new(), FakeApi::start(), Load::start(3, 20, 1));
    let recorder = place.kgb(&api.url());
    load.aim(Some(recorder.address()));
    assert!(load.wait_for(60, PATIENCE), "no traffic: {}", recorder.stderr());
    load.aim(None);
    let got = load.stop();
    recorder.stop();
    Recorded { place, api, got }
}

fn moving(place: &Place, from: &str, to: &str) -> Command {
    place.command(["migrate-store", "--from", from, "--to", to, "--json"])
}

fn moved(place: &Place, from: &str, to: &str) -> Value {
    let finished = process::run(moving(place, from, to), PATIENCE).success("migrate-store");
    assert!(!finished.stderr.contains(PASSWORD));
    serde_json::from_str(&finished.text()).unwrap()
}

#[test]
fn a_record_that_moved_to_postgresql_and_back_answers_as_before() {
    let Recorded { place, api, got } = recorded();
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    let back = format!("sqlite:{}", place.folder().join("back.db").display());
    let first = moved(&place, "sqlite:", database.url());
    assert_eq!((&first["verified"], &first["exchanges_compared"]), (&Value::Bool(true), &got.len().into()));
    assert_eq!(first["messages_indexed"], first["rows"]["message"]);
    moved(&place, database.url(), &back);
    assert!(answers(&place, "sqlite:").len() > 2 * got.len());
    answers_are_equal(&place, "sqlite:", database.url());
    answers_are_equal(&place, "sqlite:", &back);
    let again = moved(&place, "sqlite:", database.url());
    assert_eq!((&again["rows_written"], &again["messages_indexed"]), (&0.into(), &0.into()));
    let there = place.with_arguments(&["--database", &back]);
    record_holds(&there, &got, &api.log());
}

/// A recorder that stores elsewhere by now is none of the source's.
#[test]
fn a_source_that_a_running_recorder_stores_into_is_moved_once_that_has_ended() {
    let Recorded { place, api, got } = recorded();
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    let up = place.recorder("up", &api.url(), &[]);
    wait::until("the begin of its life on record", || {
        let open = rusqlite::Connection::open(place.data_dir().join("iccm.db")).unwrap();
        let living = "SELECT count(*) FROM recorder WHERE ended_at IS NULL";
        (open.query_row(living, [], |row| row.get::<_, u64>(0)).unwrap() == 1).then_some(())
    });
    let refused = process::run(moving(&place, "sqlite:", database.url()), PATIENCE);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr.contains("a recorder that is running stores into it; end it"), "{}", refused.stderr);
    assert_eq!(cluster.sql(database.name(), "SELECT to_regnamespace('iccm') IS NULL"), "t", "it was not begun");
    up.stop();
    let elsewhere = format!("sqlite:{}", place.folder().join("other.db").display());
    let up = place.recorder("up", &api.url(), &["--database", &elsewhere]);
    moved(&place, "sqlite:", database.url());
    up.stop();
    record_holds(&place.with_arguments(&["--database", database.url()]), &got, &api.log());
}

/// Kills a move that has come as far as `is_there` says.
fn kill_when(mut running: Running, what: &str, is_there: impl Fn() -> bool) {
    wait::until_within(PATIENCE, what, || {
        assert!(running.is_running(), "it has ended before {what}: {}", running.stderr());
        is_there().then_some(())
    });
    running.kill();
}

/// Lets whoever adds the first row to a table wait until [`let_go`].
fn stop_at(cluster: &Cluster, database: &Database, table: &str) {
    let sql = format!(
        "CREATE FUNCTION iccm.wait() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_sleep(600); RETURN NULL; END';
         CREATE TRIGGER wait BEFORE INSERT ON iccm.{table} EXECUTE FUNCTION iccm.wait()"
    );
    cluster.sql(database.name(), &sql);
}

const SLEEPERS: &str = "FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

fn let_go(cluster: &Cluster, database: &Database) {
    cluster.sql(database.name(), &format!("SELECT pg_terminate_backend(pid, 10000) {SLEEPERS}"));
    cluster.sql(database.name(), "DROP FUNCTION iccm.wait CASCADE");
}

#[test]
fn a_move_to_postgresql_that_was_killed_is_taken_up() {
    let Recorded { place, api, got } = recorded();
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    // Makes the schema, in an empty record.
    place.run(["stats", "--database", database.url()]);
    for table in ["record", "message", "pack_piece"] {
        stop_at(&cluster, &database, table);
        let stopped = || cluster.sql(database.name(), &format!("SELECT count(*) {SLEEPERS}")) == "1";
        kill_when(Running::start(moving(&place, "sqlite:", database.url())), table, stopped);
        let_go(&cluster, &database);
        let reading = process::run(place.command(["stats", "--database", database.url()]), PATIENCE);
        assert!(reading.stderr.contains("run iccm migrate-store again"), "{}", reading.stderr);
    }
    let last = moved(&place, "sqlite:", database.url());
    let written = last["rows_written"].as_u64().unwrap();
    assert!(written < last["rows"]["exchange"].as_u64().unwrap() + last["rows"]["pack_piece"].as_u64().unwrap());
    let there = place.with_arguments(&["--database", database.url()]);
    record_holds(&there, &got, &api.log());
}

#[test]
fn a_move_to_sqlite_that_was_killed_is_taken_up() {
    let Recorded { place, api, got } = recorded();
    let cluster = Cluster::start(&["fsync=off"]);
    let database = cluster.database();
    moved(&place, "sqlite:", database.url());
    let file = place.folder().join("there.db");
    let there = format!("sqlite:{}", file.display());
    let count = |table: &str| {
        let open = rusqlite::Connection::open_with_flags(&file, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY);
        // The file, or its tables, may not be there yet.
        let count = open.and_then(|c| c.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)));
        count.unwrap_or(0_u64)
    };
    // The table that comes next in the source holds the move up, so that it cannot get past what is waited for.
    for (table, next) in [("moving", "name"), ("record", "session"), ("message", "stored_content")] {
        let lock = cluster.hold(&database, &format!("LOCK TABLE iccm.{next}"));
        kill_when(Running::start(moving(&place, database.url(), &there)), table, || count(table) > 0);
        drop(lock);
        let reading = process::run(place.command(["stats", "--database", &there]), PATIENCE);
        assert!(reading.stderr.contains("run iccm migrate-store again"), "{}", reading.stderr);
    }
    moved(&place, database.url(), &there);
    let there = place.with_arguments(&["--database", &there]);
    record_holds(&there, &got, &api.log());
}
