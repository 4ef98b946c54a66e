//! The record of a project's PostgreSQL, read from outside by the executable, and compared with what the model API saw.

use std::collections::BTreeMap;
use std::time::Duration;

use e2e::process;
use e2e::recorder::Place;
use e2e::verify::{Fingerprint, fingerprint};
use e2e::wait;
use serde_json::Value;

use crate::project::Project;

/// A data folder whose commands read the project's database.
pub fn place(project: &Project<'_>) -> Place {
    let url = format!("postgres://iccm:iccm@{}/iccm", project.address("postgres", "record"));
    Place::new().with_arguments(&["--database", &url])
}

/// The exchanges on record; none while the database is not there yet.
pub fn exchanges(project: &Project<'_>) -> Vec<Value> {
    let finished = process::run(place(project).command(["exchanges", "--json"]), Duration::from_secs(60));
    if finished.status.code() == Some(1) && finished.stderr.contains("the database is not available") {
        return Vec::new();
    }
    let text = finished.success("iccm exchanges").text();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON Lines")).collect()
}

/// Waits until the record has every exchange that the model API answered to the end, byte for byte and equally often, and
/// gives all exchanges on record. What was cut on the way is on record too; it is looked at by whoever cut it.
pub fn holds_all_that_was_answered(project: &Project<'_>) -> Vec<Value> {
    let mut known: BTreeMap<String, Fingerprint> = BTreeMap::new();
    wait::until_within(Duration::from_secs(60), "everything on record", || {
        let (place, exchanges) = (place(project), exchanges(project));
        let mut recorded: Vec<&Fingerprint> = Vec::new();
        for exchange in exchanges.iter().filter(|exchange| exchange["outcome"] == "complete") {
            let id = exchange["id"].as_str().expect("an id").to_owned();
            known.entry(id).or_insert_with(|| fingerprint(&place, exchange));
        }
        recorded.extend(known.values());
        let missing = answered(project).into_iter().find(|wanted| {
            let found = recorded.iter().position(|fingerprint| *fingerprint == wanted);
            found.map(|at| recorded.swap_remove(at)).is_none()
        });
        missing.is_none().then_some(exchanges)
    })
}

fn answered(project: &Project<'_>) -> Vec<Fingerprint> {
    let text = |entry: &Value, name: &str| entry[name].as_str().expect("a text").to_owned();
    let whole = project.api_log().into_iter().filter(|entry| entry["sent"] == "Whole");
    whole
        .map(|entry| {
            let digest = |part: &str| text(&entry, part);
            (digest("method"), digest("target"), digest("request_sha256"), digest("response_sha256"))
        })
        .collect()
}

/// The exchanges on record whose path begins so.
pub fn to<'a>(exchanges: &'a [Value], path: &str) -> Vec<&'a Value> {
    exchanges.iter().filter(|exchange| exchange["path"].as_str().expect("a path").starts_with(path)).collect()
}
