//! What SQLite's file must hold, and must not.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde_json::{Value, json};
use winni::model::*;
use winni::store::{Error, Watermark};
use wire::head::Headers;

use crate::agent::{Agent, assistant, exchange_at, says, stream, user};
use crate::lake::{Lake, sqlite};

async fn lake() -> Lake {
    Lake::open(sqlite()).await
}

fn file(lake: &Lake) -> PathBuf {
    lake.database.folder.path().join(winni::DEFAULT_FILE)
}

#[tokio::test]
async fn an_answer_that_gave_way_leaves_no_words_in_the_index() {
    let mut lake = lake().await;
    let mut agent = Agent::new("s");
    let half = stream(&[json!({"type":"text","text":"half an"})], false);
    let body = Agent::body(&[user("q")]);
    lake.record(agent.exchange(&body, half.as_bytes(), Outcome::UpstreamAborted)).await;
    lake.index().await;
    lake.record(agent.exchange(&body, says("the answer").as_bytes(), Outcome::Complete)).await;
    lake.index().await;
    let connection = Connection::open(file(&lake)).unwrap();
    let indexed: i64 =
        connection.query_row("SELECT count(*) FROM message_words_docsize", [], |row| row.get(0)).unwrap();
    assert_eq!(indexed, 2, "the question and the whole answer");
}

#[tokio::test]
async fn erased_words_are_gone_from_the_file() {
    let mut lake = lake().await;
    // Not compressible, so that it would stand in the file as it is.
    let secret: String = (0..64u64)
        .map(|n| char::from(33 + (blake3::hash(&n.to_le_bytes()).as_bytes()[0] % 90)))
        .filter(|c| c.is_alphanumeric())
        .collect();
    lake.record(Agent::new("s").ask(&[user(&secret)], &says("ok"))).await;
    lake.index().await;
    let holds = |path: &Path| {
        let file = std::fs::read(path).unwrap();
        let wal = std::fs::read(path.with_extension("db-wal")).unwrap_or_default();
        [file, wal].iter().any(|f| memchr::memmem::find(f, secret.to_lowercase().as_bytes()).is_some())
    };
    assert!(holds(&file(&lake)), "the test would prove nothing");
    lake.store.delete_conversation(lake.conversations().await[0].id, true).await.unwrap();
    assert!(!holds(&file(&lake)));
}

#[tokio::test]
async fn a_removed_database_file_is_noticed_and_made_anew() {
    let mut lake = lake().await;
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("a")], &says("b"))).await;
    std::fs::remove_file(file(&lake)).unwrap();
    let items = || vec![(1, Item::LifeEnd { at: None, orderly: true })];
    let batch = || Batch { recorder: lake.recorder, items: items() };
    assert!(matches!(lake.store.append(batch()).await, Err(Error::Unavailable(_))));
    assert_eq!(
        lake.store.watermark(lake.recorder).await.unwrap(),
        Watermark::default(),
        "the new file holds nothing yet"
    );
    assert_eq!(lake.store.append(batch()).await.unwrap().beyond, [1]);
}

#[tokio::test]
async fn the_counted_size_is_what_the_tables_take() {
    let mut lake = lake().await;
    let mut agent = Agent::new("s");
    let mut history = Vec::new();
    for n in 0..60 {
        history.push(user(&format!("question {n} {}", blake3::hash(&[n]))));
        lake.record(agent.ask(&history, &says(&format!("answer {n} {}", blake3::hash(&[n, n]))))).await;
        history.push(assistant(&format!("answer {n} {}", blake3::hash(&[n, n]))));
    }
    let counted = lake.store.stats().await.unwrap().stored_bytes as i64;
    let measured = table_bytes(&file(&lake));
    assert!((counted - measured).abs() * 10 < measured, "counted {counted}, measured {measured}");
}

/// Bytes of all rows and index entries, the full-text index and empty space in pages left out.
fn table_bytes(path: &Path) -> i64 {
    table_sizes(path).iter().map(|(_, bytes)| bytes).sum()
}

/// Tables and indexes by size, largest first.
fn table_sizes(path: &Path) -> Vec<(String, i64)> {
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT name, sum(payload) FROM dbstat
               WHERE name NOT LIKE 'message_words%' AND name NOT LIKE 'sqlite_%' GROUP BY name ORDER BY 2 DESC";
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(|row| row.unwrap()).collect()
}

/// Real captures, where they are at hand: sizes, and every body byte for byte.
#[tokio::test]
async fn real_sessions_come_back_and_take_little() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|a| a.join("shared/fixtures/claude-code"))
        .find(|f| f.is_dir());
    let Some(fixtures) = fixtures else { return };
    for name in ["cc-2.1.330-long", "cc-2.0.5-long"] {
        let mut lake = lake().await;
        let mut expected = Vec::new();
        for line in std::fs::read_to_string(fixtures.join(format!("{name}.jsonl"))).unwrap().lines() {
            let exchange = captured(&serde_json::from_str(line).unwrap());
            let bodies = [&exchange.request_body, &exchange.response_body].map(|b| b.read_at(0, usize::MAX).unwrap());
            expected.push((lake.record(exchange).await, bodies));
        }
        for (id, [request, response]) in expected {
            assert_eq!(lake.part(id, Part::RequestBody).await, request);
            assert_eq!(lake.part(id, Part::ResponseBody).await, response);
        }
        let stats = lake.store.stats().await.unwrap();
        let share = table_bytes(&file(&lake)) as f64 / stats.captured_bytes as f64;
        println!(
            "{name}: {} captured, {} in tables: {:.2} %",
            stats.captured_bytes,
            table_bytes(&file(&lake)),
            share * 100.0
        );
        table_sizes(&file(&lake)).iter().take(6).for_each(|(table, bytes)| println!("  {bytes:>7} {table}"));
        assert!(share <= 0.03, "{name}: {:.2} % of what was captured", share * 100.0);
    }
}

fn captured(line: &Value) -> CapturedExchange {
    let (request, response) = (&line["request"], &line["response"]);
    let headers = |of: &Value| {
        let pair = |h: &Value| (h[0].as_str().unwrap().to_owned(), h[1].as_str().unwrap().as_bytes().to_vec());
        Headers(of["headers"].as_array().unwrap().iter().map(pair).collect())
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().as_bytes().to_vec();
    let target = format!("{}?{}", request["path"].as_str().unwrap(), request["query"].as_str().unwrap_or_default());
    let mut exchange = exchange_at(
        Timestamp((line["t"].as_f64().unwrap() * 1e6) as i64),
        &target,
        &[],
        text(&request["body"]),
        &text(&response["body"]),
        Outcome::Complete,
    );
    exchange.request_head.headers = headers(request);
    let head = exchange.response_head.as_mut().unwrap();
    head.status = response["status"].as_u64().unwrap() as u16;
    head.headers = headers(response);
    exchange
}

/// Every word of the index: where it stands.
fn indexed_words(lake: &Lake) -> Vec<(String, i64, String, i64)> {
    let connection = Connection::open(file(lake)).unwrap();
    connection
        .execute_batch("CREATE VIRTUAL TABLE temp.words USING fts5vocab('main', 'message_words', 'instance')")
        .unwrap();
    let mut query = connection.prepare("SELECT term, doc, col, offset FROM temp.words ORDER BY 1, 2, 3, 4").unwrap();
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[tokio::test]
async fn messages_are_indexed_alike_from_memory_and_from_the_file() {
    let mut indexed = Vec::new();
    for from_file in [false, true] {
        let mut lake = lake().await;
        let mut agent = Agent::new("s");
        let call = json!({"type":"tool_use","id":"t1","name":"Grep","input":{"pattern":"needle"}});
        let first = stream(&[json!({"type":"text","text":"I look"}), call.clone()], true);
        let called = json!({"role":"assistant","content":[{"type":"text","text":"I look"}, call]});
        let result = json!({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"42 straws"}]});
        lake.record(agent.ask(&[user("find the haystack")], &first)).await;
        lake.record(agent.ask(&[user("find the haystack"), called, result], &says("done"))).await;
        match from_file {
            false => lake.index().await,
            // Another process remembers nothing.
            true => while lake.again().await.index_pending(1).await.unwrap() > 0 {},
        }
        indexed.push(indexed_words(&lake));
    }
    assert_eq!(indexed[0], indexed[1]);
    assert!(indexed[0].iter().any(|(word, ..)| word == "straws"));
}
