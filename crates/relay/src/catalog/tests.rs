use proptest::prelude::*;

use super::*;

fn item(kind: ListKind, key: &str) -> Item {
    let json = format!(r#"{{"x":12345678901234567890123,"{}":{},"more":{{}}}}"#, kind.key(), text(key));
    Item { key: key.to_owned(), json: json.into() }
}

fn lists(tools: &[&str]) -> Lists {
    Lists(BTreeMap::from([(ListKind::Tools, tools.iter().map(|name| item(ListKind::Tools, name)).collect())]))
}

fn source<'a>(server: &'a str, lists: &'a Lists) -> Source<'a> {
    Source { server, lists, listed: true, prefix: false, is_http: false }
}

fn names(catalog: &Catalog) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(&catalog.list(ListKind::Tools)).unwrap();
    value.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn names_change_only_where_they_collide_or_the_configuration_asks() {
    let (a, b, c) = (lists(&["echo", "only_a"]), lists(&["echo", "relay_own"]), lists(&["z"]));
    let own = [item(ListKind::Tools, "relay_own")];
    let sources = [source("a", &a), source("b", &b), Source { prefix: true, ..source("c", &c) }];
    let catalog = Catalog::merge(&own, &sources, 100);
    assert_eq!(names(&catalog), ["relay_own", "a_echo", "only_a", "b_echo", "b_relay_own", "c_z"]);
    assert_eq!(catalog.route(ListKind::Tools, "relay_own").unwrap().server, None);
    let route = catalog.route(ListKind::Tools, "b_echo").unwrap();
    assert_eq!((route.server.as_deref(), &*route.name), (Some("b"), "echo"));
    let said = catalog.route(ListKind::Tools, "echo").unwrap_err();
    assert!(said.contains("a_echo, b_echo"), "{said}");
    assert_eq!(catalog.route(ListKind::Tools, "none").unwrap_err(), "Unknown tool: none");
}

#[test]
fn the_rest_of_a_renamed_tool_stays_as_it_was_written() {
    let a = lists(&["t"]);
    let catalog = Catalog::merge(&[], &[Source { prefix: true, ..source("s", &a) }], 100);
    assert_eq!(&*catalog.list(ListKind::Tools), r#"[{"x":12345678901234567890123,"name":"s_t","more":{}}]"#);
}

#[test]
fn a_server_that_is_away_keeps_its_names_and_leaves_the_list() {
    let (a, b) = (lists(&["echo"]), lists(&["echo"]));
    let sources = [source("a", &a), Source { listed: false, ..source("b", &b) }];
    let catalog = Catalog::merge(&[], &sources, 100);
    assert_eq!(names(&catalog), ["a_echo"]);
    assert_eq!(catalog.route(ListKind::Tools, "b_echo").unwrap().server.as_deref(), Some("b"));
}

#[test]
fn what_is_too_long_is_told_and_not_listed() {
    let long = "t".repeat(117);
    let a = lists(&[&long, "short"]);
    let catalog = Catalog::merge(&[], &[source("a", &a)], 116);
    assert_eq!(names(&catalog), ["short"]);
    assert_eq!(catalog.problems.len(), 1);
    assert!(catalog.problems[0].1.contains("117 characters"), "{:?}", catalog.problems);
    assert!(Catalog::merge(&[], &[source("a", &a)], 117).problems.is_empty());
}

#[test]
fn a_prefixed_name_does_not_take_another_tools_name() {
    let (a, b) = (lists(&["x"]), lists(&["x", "a_x"]));
    let catalog = Catalog::merge(&[], &[source("a", &a), source("b", &b)], 100);
    assert_eq!(names(&catalog), ["a_x_2", "a_x", "b_x"]);
}

#[test]
fn resources_find_their_server() {
    let of = |resources: &[&str], templates: &[&str]| {
        Lists(BTreeMap::from([
            (ListKind::Resources, resources.iter().map(|uri| item(ListKind::Resources, uri)).collect()),
            (ListKind::Templates, templates.iter().map(|uri| item(ListKind::Templates, uri)).collect()),
        ]))
    };
    let (a, b) = (of(&["x://1", "y://1"], &["x://{id}"]), of(&["x://1", "z://1"], &["x://long/{id}"]));
    let catalog = Catalog::merge(&[], &[source("a", &a), source("b", &b)], 100);
    let find = |uri: &str| catalog.resource(uri, &["a", "b"]);
    assert_eq!(find("x://1").as_deref(), Some("a"));
    assert_eq!(find("x://long/2").as_deref(), Some("b"), "the more exact template");
    assert_eq!(find("x://other").as_deref(), Some("a"));
    assert_eq!(find("z://other").as_deref(), Some("b"), "nobody else has such URIs");
    assert_eq!(find("nobody://1"), None);
    assert_eq!(catalog.resource("nobody://1", &["b"]).as_deref(), Some("b"));
    assert_eq!(catalog.problems.len(), 1, "the second x://1 is told: {:?}", catalog.problems);
}

proptest! {
    /// However names collide, each listed name leads to exactly the tool that stands behind it, and none is lost.
    #[test]
    fn every_tool_is_listed_once_and_found(servers in proptest::collection::btree_map("[a-c_]{1,3}", proptest::collection::btree_set("[a-c_]{1,4}", 0..6), 0..5), prefix: bool) {
        let lists: Vec<(String, Lists)> = servers.iter().map(|(server, tools)| {
            let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
            (server.clone(), lists(&tools))
        }).collect();
        let sources: Vec<Source<'_>> = lists.iter().map(|(server, lists)| Source { prefix, ..source(server, lists) }).collect();
        let catalog = Catalog::merge(&[], &sources, 100);
        let names = names(&catalog);
        let mut found = std::collections::BTreeSet::new();
        for name in &names {
            let route = catalog.route(ListKind::Tools, name).unwrap();
            found.insert((route.server.clone().unwrap(), route.name.clone()));
        }
        let all: usize = servers.values().map(std::collections::BTreeSet::len).sum();
        prop_assert_eq!(names.len(), all);
        prop_assert_eq!(found.len(), all);
    }
}
