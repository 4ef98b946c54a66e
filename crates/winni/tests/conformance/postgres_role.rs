//! A role that may only read.

use e2e::postgres::{PASSWORD, USER};
use winni::model::*;
use winni::store::{Error, Store};

use crate::agent::{Agent, says, user};
use crate::lake::{Database, Lake, postgres};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_needs_no_more_than_the_right_to_read() {
    let mut lake = Lake::open(postgres()).await;
    let id = lake.record(Agent::new("s").ask(&[user("question")], &says("answer"))).await;
    lake.index().await;
    let url = lake.database.url.clone();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let role = format!("reader_of_{name}");
    let sql = |sql: String| e2e::postgres::shared().sql(&name, &sql);
    sql(format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'; GRANT USAGE ON SCHEMA iccm TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA iccm TO {role}"
    ));
    let as_reader = url.replace(&format!("{USER}:"), &format!("{role}:"));
    let folder = lake.database.folder.path();
    // A month later, as it were.
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'iccm.frame'::regclass";
    sql(format!("DROP TABLE {}", sql(last.into())));
    assert!(winni::open(&as_reader, folder).await.is_err(), "it may not make partitions");

    let store = winni::open_for_reading(&as_reader, folder).await.unwrap();
    let everything = SearchQuery { text: "question".into(), limit: 9, ..SearchQuery::default() };
    assert_eq!(store.search(everything).await.unwrap().1, 1);
    assert_eq!(store.stats().await.unwrap().exchanges, 1);
    assert_eq!(store.watermark(lake.recorder).await.unwrap().contiguous, 1);
    let conversation = store.conversations(ConversationFilter::default()).await.unwrap().remove(0);
    assert_eq!(store.turns(conversation.id, 0, None).await.unwrap().len(), 2);
    assert_eq!(store.part(id, Part::ResponseBody, &mut Vec::new()).await.unwrap(), Some(true));
    assert_eq!(store.events(EventCursor::default(), 9).await.unwrap().0.len(), 3);
    assert!(store.startup_contexts(true).await.unwrap().is_empty());
    assert_eq!(
        sql(format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'")),
        "1",
        "one connection was enough"
    );
    let Err(Error::Unavailable(why)) = store.delete_conversation(conversation.id, true).await else {
        panic!("a reader has erased something")
    };
    assert!(why.contains("permission denied"), "{why}");

    sql("UPDATE iccm.schema_version SET version = 99".into());
    let newer = winni::open_for_reading(&as_reader, folder).await.map(|_| ());
    assert!(matches!(newer, Err(Error::TooNew { found: 99, .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_reader_of_an_empty_database_makes_the_schema() {
    let database = postgres();
    let store = winni::open_for_reading(&database.url, database.folder.path()).await.unwrap();
    assert_eq!(store.stats().await.unwrap().conversations, 0);
    store.set_startup_context("a".into(), "b".into(), true).await.unwrap();
    let again = winni::PostgresStore::open_for_reading(&database.url).await.unwrap();
    assert_eq!(again.set_startup_context("a".into(), "c".into(), true).await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_make_schemas_needs_one_that_it_owns() {
    let database = postgres();
    let (name, folder) = (database.name(), database.folder.path());
    let role = format!("owner_in_{name}");
    let sql = |sql: String| e2e::postgres::shared().sql(name, &sql);
    sql(format!("CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'"));
    let as_owner = database.url.replace(&format!("{USER}:"), &format!("{role}:"));
    let Err(error) = winni::open(&as_owner, folder).await else { panic!("it made a schema") };
    assert!(error.to_string().contains("permission denied"), "{error}");
    sql(format!("CREATE SCHEMA iccm AUTHORIZATION {role}"));
    let store = winni::open(&as_owner, folder).await.unwrap();
    let context = store.set_startup_context("a".into(), "b".into(), true).await.unwrap();
    assert_eq!(store.startup_context(None).await.unwrap(), Some(context));
    let mut lake = Lake::open(Database { url: as_owner, folder: database.folder }).await;
    lake.record(Agent::new("s").ask(&[user("question")], &says("answer"))).await;
    lake.index().await;
    assert_eq!(lake.found("question").await, ["question"]);
}
