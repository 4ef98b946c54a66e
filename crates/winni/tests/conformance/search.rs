//! Search: the same sets on every backend.

use serde_json::json;
use winni::model::*;
use winni::store::Error;

use crate::agent::{Agent, assistant, says, stream, user};
use crate::lake::{Lake, message};

pub(crate) async fn words_are_found_once_however_often_they_were_resent(mut lake: Lake) {
    let mut agent = Agent::new("s");
    let call = json!({"type":"tool_use","id":"t1","name":"Grep","input":{"pattern":"needle"}});
    lake.record(agent.ask(&[user("find the haystack")], &stream(std::slice::from_ref(&call), true))).await;
    let result = json!({"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"42 straws"}]});
    lake.record(
        agent.ask(&[user("find the haystack"), json!({"role":"assistant","content":[call]}), result], &says("done")),
    )
    .await;
    while lake.store.index_pending(2).await.unwrap() > 0 {}
    let find = async |query: SearchQuery| {
        let (hits, total) = lake.store.search(SearchQuery { limit: 10, ..query }).await.unwrap();
        assert_eq!(hits.len() as u64, total);
        hits.into_iter().map(|h| (h.turn, h.snippet)).collect::<Vec<_>>()
    };
    let text = |text: &str| SearchQuery { text: text.into(), ..SearchQuery::default() };
    assert_eq!(find(text("haystack")).await, [(1, "find the [haystack]".to_owned())]);
    assert_eq!(find(text("\"the haystack\" -needle")).await.len(), 1);
    assert_eq!(find(text("haystack -find")).await, []);
    assert_eq!(find(text("need*")).await, [(2, "Grep [needle]".to_owned())]);
    assert_eq!(find(SearchQuery { tool: Some("Grep".into()), ..text("straws") }).await.len(), 1);
    assert_eq!(find(SearchQuery { tool: Some("Bash".into()), ..text("straws") }).await, []);
    assert_eq!(find(SearchQuery { role: Some("assistant".into()), ..text("haystack") }).await, []);
    assert!(matches!(lake.store.search(text("-x")).await, Err(Error::Invalid(_))));
}

pub(crate) async fn stored_and_captured_messages_are_found_alike(mut lake: Lake) {
    lake.record(Agent::new("s").ask(&[user("the quokka sleeps")], &says("let it"))).await;
    lake.keep("s", &["a quokka smiles"]).await;
    let new = NewConversation { metadata: json!({"project": "zoo"}), ..NewConversation::default() };
    let said = message(Role::Assistant, "quokkas are marsupials");
    let (other, _) = lake.store.store_messages(Destination::New(new), vec![said]).await.unwrap();
    lake.index().await;
    assert_eq!(lake.found("quokka").await, ["a quokka smiles", "the quokka sleeps"]);
    assert_eq!(lake.found("quokka*").await.len(), 3);
    let hits = lake.hits(SearchQuery { text: "marsupials".into(), ..SearchQuery::default() }).await;
    let hit = &hits[0];
    assert_eq!((hit.conversation_id, hit.turn, hit.role.as_str()), (other, 1, "assistant"));
    assert_eq!(hit.content, json!("quokkas are marsupials"));
    assert_eq!(hit.conversation_metadata, json!({"project": "zoo"}));
    assert_eq!(hit.message_id, lake.store.turns(other, 0, None).await.unwrap()[0].id);
}

/// Messages to look for, and the words that all of them have.
async fn corpus(lake: &Lake) {
    let texts = [
        "all Crème brûlée recipes",
        "all parse_query in src/search.rs fails",
        "all the quick brown fox",
        "all the brown quick fox",
        "all 数据库连接失败",
        "all a \u{0}zero and \u{1F980}crab ''; DROP TABLE x; -- \"quoted\"",
        "all parser parsing parsed",
    ];
    lake.keep("corpus", &texts).await;
    lake.index().await;
}

pub(crate) async fn words_phrases_prefixes_and_exclusions_find_what_they_say(lake: Lake) {
    corpus(&lake).await;
    let count = async |query: &str| lake.found(query).await.len();
    assert_eq!(count("ALL").await, 7);
    for (query, expected) in [
        ("creme brulee", 1),
        ("CRÈME", 1),
        ("Cre\u{0301}me", 1),
        ("quick fox", 2),
        ("\"quick brown\"", 1),
        ("\"brown quick\" fox", 1),
        ("\"quick fox\"", 1),
        ("\"fox quick\"", 0),
        ("quick -\"quick brown\"", 1),
        ("all -quick -fox", 5),
        ("pars*", 2),
        ("pars", 0),
        ("\"parser pars\"*", 1),
        ("all -pars*", 5),
        ("parse_query", 1),
        ("query", 1),
        ("src/search.rs", 1),
        ("src/parse", 0),
        ("数据库", 1),
        ("连接", 1),
        ("库数", 0),
        ("据*", 1),
        ("zero crab drop", 1),
        ("x'; --", 1),
        ("OR", 0),
        ("all AND NOT", 0),
        ("all NEAR(quick", 0),
        ("title:all", 0),
    ] {
        assert_eq!(count(query).await, expected, "{query}");
    }
}

/// The longest words there are, and each of them only once.
pub(crate) async fn a_message_of_very_long_words_is_indexed_like_any_other(lake: Lake) {
    let words: Vec<String> = (0..16_000).map(|n| format!("{}{n}", "𐌰".repeat(58))).collect();
    lake.keep("long", &["before", &words.join(" "), "after"]).await;
    lake.index().await;
    let begin = "𐌰".repeat(58);
    assert_eq!(lake.found(&format!("{begin}7 {begin}1000")).await, [words.join(" ")]);
    assert_eq!(lake.found(&format!("\"{begin}1000 {begin}1001\"")).await.len(), 1);
    assert_eq!(lake.found("after").await, ["after"]);
}

pub(crate) async fn a_query_that_cannot_be_meant_is_refused(lake: Lake) {
    for (text, hint) in [
        ("", "no word"),
        ("-x", "no word"),
        ("\"\" * ( )", "no word"),
        ("x role:boss", "user, assistant, system or tool"),
        ("x has:luck", "has:error"),
        ("x since:soon", "2026-11-22"),
        ("x project:", "needs a value"),
    ] {
        let query = SearchQuery { text: text.into(), limit: 1, ..SearchQuery::default() };
        match lake.store.search(query).await {
            Err(Error::Invalid(why)) => assert!(why.contains(hint), "{text}: {why}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

pub(crate) async fn filters_narrow_among_the_words_and_as_fields(mut lake: Lake) {
    let mut agent = Agent::new("work");
    let prompt = json!([{"type":"text","text":"You help.\nWorking directory: /home/ada/my app\nPlatform: x"}]);
    let call = json!({"type":"tool_use","id":"t1","name":"Bash","input":{"command":"make owl"}});
    let mut body = Agent::body(&[user("build the owl")]);
    body["system"] = prompt;
    lake.record(agent.exchange(&body, stream(std::slice::from_ref(&call), true).as_bytes(), Outcome::Complete)).await;
    let failed = json!([{"type":"tool_result","tool_use_id":"t1","content":"owl: no such target","is_error":true}]);
    let asked = json!({"role":"user","content":failed});
    let history = [user("build the owl"), json!({"role":"assistant","content":[call]}), asked];
    lake.record(agent.ask(&history, &says("the owl is not in the Makefile"))).await;
    let half = stream(&[json!({"type":"text","text":"half an owl"})], false);
    let cut =
        Agent::new("other").exchange(&Agent::body(&[user("other owl")]), half.as_bytes(), Outcome::UpstreamAborted);
    lake.record(cut).await;
    let old = NewMessage { created_at: Some(Timestamp(1_600_000_000_000_000)), ..message(Role::User, "old owl") };
    lake.store.store_messages(Destination::New(NewConversation::default()), vec![old]).await.unwrap();
    lake.index().await;

    let turns = async |query: SearchQuery| {
        let mut found: Vec<_> = lake.hits(query).await.into_iter().map(|h| (h.session_id, h.turn)).collect();
        found.sort();
        found.into_iter().filter(|(session, _)| session != "other").map(|(_, turn)| turn).collect::<Vec<_>>()
    };
    let text = |text: &str| SearchQuery { text: text.into(), ..SearchQuery::default() };
    for (query, expected) in [
        ("owl session:work", vec![1, 2, 3, 4]),
        ("owl session:work role:user", vec![1, 3]),
        ("owl session:work -role:user", vec![2, 4]),
        ("owl tool:bash", vec![2, 3]),
        ("owl tool:ba*", vec![2, 3]),
        ("owl tool:as", vec![]),
        ("owl session:work -tool:Bash", vec![1, 4]),
        ("owl project:\"/home/ada/my app\"", vec![1, 2, 3, 4]),
        ("owl project:/home/ada", vec![1, 2, 3, 4]),
        ("owl project:ada role:assistant", vec![2, 4]),
        ("owl project:/ada", vec![]),
        ("owl session:work -project:ada", vec![]),
        ("owl session:work model:SONNET", vec![1, 2, 3, 4]),
        ("owl model:opus", vec![]),
        ("owl session:work -model:opus", vec![1, 2, 3, 4]),
        ("owl session:work has:error", vec![3]),
        ("owl session:work -has:error", vec![1, 2, 4]),
        ("owl session:nowhere", vec![]),
        ("-makefile session:work", vec![1, 2, 3]),
        ("session:work", vec![1, 2, 3, 4]),
        ("owl until:2021-01-01", vec![1]),
        ("owl since:2021-01-01 session:work", vec![1, 2, 3, 4]),
        ("has:error", vec![3]),
    ] {
        assert_eq!(turns(text(query)).await, expected, "{query}");
    }
    assert_eq!(lake.found("has:error session:other").await, ["half an owl", "other owl"]);
    let fields = SearchQuery {
        role: Some("user".into()),
        session_id: Some("work".into()),
        tool: Some("Bash".into()),
        model: Some("sonnet".into()),
        project: Some("/home/ada/my app".into()),
        has_error: true,
        since: Some(Timestamp(0)),
        until: Some(Timestamp::now()),
        ..text("owl")
    };
    assert_eq!(turns(fields.clone()).await, [3]);
    assert_eq!(turns(SearchQuery { text: String::new(), ..fields.clone() }).await, [3]);
    assert_eq!(turns(SearchQuery { until: Some(Timestamp(0)), ..fields }).await, [0; 0]);
}

pub(crate) async fn titles_and_what_people_said_come_before_dumps(mut lake: Lake) {
    let filler = "some other words that stand around it and are about nothing in particular ".repeat(3);
    let dump = json!([{"type":"tool_result","tool_use_id":"t","content":format!("heron heron heron heron {filler}")}]);
    let messages = vec![
        NewMessage { content: dump, ..message(Role::User, "") },
        message(Role::Assistant, &format!("a heron stands there, {filler}")),
        message(Role::User, &format!("where is the heron? {filler}")),
    ];
    let birds = NewConversation { metadata: json!({"title": "Birds"}), ..NewConversation::default() };
    lake.store.store_messages(Destination::New(birds), messages).await.unwrap();
    let titled = NewConversation { metadata: json!({"title": "Heron"}), ..NewConversation::default() };
    let (titled, _) =
        lake.store.store_messages(Destination::New(titled), vec![message(Role::User, &filler)]).await.unwrap();
    lake.record(Agent::new("s").ask(&[user("unrelated")], &says("unrelated"))).await;
    lake.index().await;
    let hits = lake.hits(SearchQuery { text: "heron".into(), ..SearchQuery::default() }).await;
    let order: Vec<_> = hits.iter().map(|h| (h.conversation_id == titled, h.turn)).collect();
    assert_eq!(order, [(true, 1), (false, 3), (false, 2), (false, 1)]);
    assert!(hits.is_sorted_by(|a, b| a.rank >= b.rank));
    assert_eq!(hits[0].snippet, "[Heron]");
}

pub(crate) async fn a_title_is_found_whenever_it_was_given(mut lake: Lake) {
    let mut agent = Agent::new("s");
    lake.record(agent.ask(&[user("build it")], &says("ok"))).await;
    lake.index().await;
    let schema = json!({"format":{"type":"json_schema","schema":{"properties":{"title":{}}}}});
    let title = json!({"model":"m","messages":[user("build it")],"output_config":schema,"max_tokens":32000});
    let answer = |title: &str| says(&json!({"title": title}).to_string());
    lake.record(agent.exchange(&title, answer("Building a birdhouse").as_bytes(), Outcome::Complete)).await;
    lake.index().await;
    assert_eq!(lake.found("birdhouse").await, ["build it"]);
    lake.record(agent.exchange(&title, answer("A shed instead").as_bytes(), Outcome::Complete)).await;
    lake.index().await;
    assert_eq!(lake.found("birdhouse").await, [""; 0]);
    assert_eq!(lake.found("shed").await, ["build it"]);
    // A stored conversation is named by the first thing the user said, which may come after instructions.
    let id = lake.store.begin_conversation(NewConversation::default()).await.unwrap().id;
    lake.store.store_messages(Destination::Existing(id), vec![message(Role::System, "be good")]).await.unwrap();
    lake.index().await;
    lake.store.store_messages(Destination::Existing(id), vec![message(Role::User, "plant a willow")]).await.unwrap();
    lake.index().await;
    assert_eq!(lake.found("willow").await, ["be good", "plant a willow"]);
}

pub(crate) async fn results_have_pages_and_a_total(lake: Lake) {
    let texts: Vec<String> = (0..25).map(|n| format!("page {n} {}", "x ".repeat(n))).collect();
    lake.keep("s", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    lake.index().await;
    for text in ["page", "session:s"] {
        let all: Vec<_> = lake
            .hits(SearchQuery { text: text.into(), ..SearchQuery::default() })
            .await
            .iter()
            .map(|h| h.message_id)
            .collect();
        assert_eq!(all.len(), 25);
        let mut paged = Vec::new();
        for offset in [0, 10, 20, 30] {
            let query = SearchQuery { text: text.into(), limit: 10, offset, ..SearchQuery::default() };
            let (hits, total) = lake.store.search(query).await.unwrap();
            assert_eq!(total, 25);
            paged.extend(hits.iter().map(|h| h.message_id));
        }
        assert_eq!(paged, all);
    }
    let newest = lake.hits(SearchQuery { session_id: Some("s".into()), ..SearchQuery::default() }).await;
    assert_eq!(newest[0].turn, 25, "without a word the newest come first");
}

pub(crate) async fn a_fork_s_inheritance_is_found_in_its_own_session(mut lake: Lake) {
    lake.record(Agent::new("s1").ask(&[user("egret")], &says("heard"))).await;
    lake.record(Agent::new("s2").ask(&[user("egret"), assistant("heard"), user("more")], &says("fine"))).await;
    lake.index().await;
    assert_eq!(lake.found("egret session:s2").await, [""; 0]);
    let first = lake.conversations().await[0].id;
    lake.store.delete_conversation(first, true).await.unwrap();
    lake.index().await;
    assert_eq!(lake.found("egret session:s2").await, ["egret"]);
    assert_eq!(lake.found("egret").await.len(), 1);
}

pub(crate) async fn more_matches_than_anyone_reads_have_an_order_too(lake: Lake) {
    let mut messages = vec![message(Role::User, "which plover"), message(Role::User, "that plover")];
    messages.extend((0..1_200).map(|n| message(Role::Assistant, &format!("plover {n}"))));
    let untitled = NewConversation { metadata: json!({"title": "birds"}), ..NewConversation::default() };
    lake.store.store_messages(Destination::New(untitled), messages).await.unwrap();
    lake.index().await;
    let mut paged = Vec::new();
    for offset in (0..1_300).step_by(100) {
        let query = SearchQuery { text: "plover".into(), limit: 100, offset, ..SearchQuery::default() };
        let (hits, total) = lake.store.search(query).await.unwrap();
        assert_eq!(total, 1_202);
        paged.extend(hits.into_iter().map(|h| h.turn));
    }
    let mut first = paged[..2].to_vec();
    first.sort_unstable();
    assert_eq!(first, [1, 2], "what the user wrote stands before what others did");
    paged.sort_unstable();
    assert_eq!(paged, (1..=1_202).collect::<Vec<u64>>());
}
