//! What the record takes in PostgreSQL, beside what is counted.

use serde_json::json;
use uuid::Uuid;
use winni::model::*;

use crate::agent::{Agent, assistant, says, stream, user};
use crate::frames::{call, frame, result};
use crate::lake::{Lake, message, postgres};

/// How far the count may be from what the server says of a record as small as this one, in hundredths.
const TOLERANCE: i64 = 25;

/// Tables with their indexes, as large as the server says, and their rows; full-text index and queue left out.
fn table_sizes(lake: &Lake) -> Vec<(String, i64, i64)> {
    let name = lake.database.name();
    let sql = |sql: &str| e2e::postgres::shared().sql(name, sql);
    sql("ANALYZE");
    let lines = sql(
        "SELECT regexp_replace(relname, '_\\d{4}_\\d\\d$', ''), sum(pg_total_relation_size(oid)), sum(greatest(reltuples, 0))::bigint
         FROM pg_class WHERE relnamespace = 'iccm'::regnamespace AND relkind = 'r'
           AND relname NOT IN ('message_words', 'message_unindexed', 'schema_version') GROUP BY 1 ORDER BY 2 DESC",
    );
    let parse = |line: &str| {
        let mut fields = line.split('|');
        let table = fields.next().unwrap().to_owned();
        let mut number = || fields.next().unwrap().parse::<i64>().unwrap();
        (table, number(), number())
    };
    lines.lines().map(parse).collect()
}

/// What was counted and what was measured since `before`, table by table on standard output.
async fn grown(lake: &Lake, what: &str, before: &SoFar) -> (i64, i64) {
    let counted = lake.store.stats().await.unwrap().stored_bytes as i64 - before.counted;
    let mut measured = 0;
    for (table, bytes, rows) in table_sizes(lake) {
        let (_, bytes_before, rows_before) = before.tables.iter().find(|(name, ..)| *name == table).unwrap();
        let (bytes, rows) = (bytes - bytes_before, rows - rows_before);
        measured += bytes;
        if bytes > 0 {
            println!("  {bytes:>9} {table}: {rows} rows of {}", bytes / rows.max(1));
        }
    }
    println!("{what}: {measured} measured, {counted} counted");
    (counted, measured)
}

struct SoFar {
    tables: Vec<(String, i64, i64)>,
    counted: i64,
}

async fn so_far(lake: &Lake) -> SoFar {
    SoFar { tables: table_sizes(lake), counted: lake.store.stats().await.unwrap().stored_bytes as i64 }
}

/// Text that compresses as hexadecimal digits do.
fn text(n: u64) -> String {
    (0..4).map(|part| blake3::hash(format!("{n} {part}").as_bytes()).to_string()).collect()
}

async fn record(lake: &mut Lake) {
    const SESSIONS: [&str; 8] = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    for (n, session) in (0..).zip(SESSIONS) {
        let mut agent = Agent::new(session);
        let mut history = Vec::new();
        let mut items = Vec::new();
        for turn in 0..60 {
            history.push(user(&text(n * 1_000 + 2 * turn)));
            let answer = text(n * 1_000 + 2 * turn + 1);
            items.push((lake.seq, Item::Exchange(Box::new(agent.ask(&history, &says(&answer))))));
            history.push(assistant(&answer));
            lake.seq += 1;
        }
        lake.store.append(Batch { recorder: lake.recorder, items }).await.unwrap();
    }
}

async fn call_tools(lake: &mut Lake) {
    let mut agent = Agent::new("tools");
    for batch in 0..10 {
        let mut items = Vec::new();
        for n in 0..50 {
            let (n, connection) = (batch * 50 + n, Uuid::now_v7());
            let tool_use = format!("toolu_{n}");
            let block =
                json!({"type":"tool_use","id":tool_use,"name":"mcp__dewey__dewey_search","input":{"query":"x"}});
            let asked = agent.ask(&[user(&format!("call {n}"))], &stream(&[block], true));
            items.push(Item::Exchange(Box::new(asked)));
            items.push(Item::Frame(Box::new(frame(connection, Direction::ToServer, 0, call(1, &tool_use)))));
            items.push(Item::Frame(Box::new(frame(connection, Direction::ToClient, 1, result(1, &text(n))))));
        }
        let items: Vec<_> = (lake.seq..).zip(items).collect();
        lake.seq += items.len() as u64;
        lake.store.append(Batch { recorder: lake.recorder, items }).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counted_size_is_near_what_the_tables_take() {
    let mut lake = Lake::open(postgres()).await;
    let empty = so_far(&lake).await;
    record(&mut lake).await;
    is_near(grown(&lake, "captured", &empty).await);
    let before = so_far(&lake).await;
    let new = NewConversation { session_id: Some("kept".into()), ..NewConversation::default() };
    let messages = (0..3_000).map(|n| message(Role::User, &text(100_000 + n))).collect();
    lake.store.store_messages(Destination::New(new), messages).await.unwrap();
    is_near(grown(&lake, "handed in", &before).await);
    let before = so_far(&lake).await;
    call_tools(&mut lake).await;
    is_near(grown(&lake, "tools called", &before).await);
    is_near(grown(&lake, "all", &empty).await);
}

fn is_near((counted, measured): (i64, i64)) {
    assert!((counted - measured).abs() * 100 < measured * TOLERANCE, "counted {counted}, measured {measured}");
}
