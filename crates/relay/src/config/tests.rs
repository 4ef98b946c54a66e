use super::*;

fn load(text: &str) -> Loaded {
    let expand = Expand::new([("TOKEN".to_owned(), "t-1".to_owned())]);
    Loaded::parse(text, &expand).unwrap()
}

#[test]
fn the_three_transports_are_understood() {
    let loaded = load(
        r#"{"mcpServers":{
            "dewey":{"type":"ws","url":"ws://127.0.0.1:9000?upstream=dewey"},
            "x":{"command":"server","args":["--a","${TOKEN}"],"env":{"KEY":"${TOKEN}"},"unknown":{"kept":true}},
            "y":{"type":"http","url":"http://127.0.0.1/mcp","headers":{"authorization":"Bearer ${TOKEN}"}},
            "z":{"url":"wss://example/mcp"},"off":{"command":"x","disabled":true}}}"#,
    );
    assert_eq!(loaded.refused, BTreeMap::new());
    let kinds: Vec<_> = loaded.servers.iter().map(|(name, server)| (&**name, server.transport.kind())).collect();
    assert_eq!(kinds, [("dewey", "ws"), ("x", "stdio"), ("y", "http"), ("z", "ws")]);
    let Transport::Stdio(server) = &loaded.servers["x"].transport else { panic!("a child") };
    assert_eq!((server.args.as_slice(), &*server.env["KEY"]), (&["--a".to_owned(), "t-1".to_owned()][..], "t-1"));
}

#[test]
fn an_entry_that_cannot_be_used_costs_nothing_but_itself() {
    let loaded = load(
        r#"{"mcpServers":{"good":{"command":"x"},"a":{"type":"sse","url":"http://x"},"b":{"type":"ws","url":"http://x"},
            "c":{"command":"x","url":"ws://x"},"d":{},"e":{"command":"${NO_SUCH}"},"f g":{"command":"x"},"h":7}}"#,
    );
    assert_eq!(loaded.servers.keys().collect::<Vec<_>>(), ["good"]);
    assert_eq!(loaded.refused.keys().collect::<Vec<_>>(), ["a", "b", "c", "d", "e", "f g", "h"]);
    assert!(loaded.refused["e"].contains("NO_SUCH"));
}

#[test]
fn settings_are_checked_and_have_defaults() {
    assert_eq!(load("{}").settings.name_limit(), 128 - "mcp__relay__".len());
    assert!(load(r#"{"relay":{"prefix":true}}"#).settings.prefix);
    assert!(Loaded::parse(r#"{"relay":{"prefixes":true}}"#, &Expand::default()).is_err());
}

#[test]
fn entries_come_and_go_and_the_rest_of_the_file_stays() {
    let file = "{\n  // \"x\": 12345678901234567890,\n";
    assert_eq!(added(file, "a", "{}"), None, "no JSON is not changed");
    let file = "{ \"x\" : 12345678901234567890,\n  \"mcpServers\": {\n    \"a\": {\"command\": \"x\"}\n  },\t\"y\":[]}";
    let more = added(file, "b", "{\"command\":\"y\"}").unwrap();
    assert_eq!(
        more,
        "{ \"x\" : 12345678901234567890,\n  \"mcpServers\": {\n    \"a\": {\"command\": \"x\"},\n    \"b\": {\"command\":\"y\"}\n  },\t\"y\":[]}"
    );
    assert_eq!(removed(&more, "b").unwrap(), file);
    assert_eq!(removed(&more, "c"), None);
    let only_b = removed(&more, "a").unwrap();
    assert_eq!(load(&only_b).servers.keys().collect::<Vec<_>>(), ["b"]);
    let none = removed(&only_b, "b").unwrap();
    assert!(load(&none).servers.is_empty());
    assert_eq!(load(&added(&none, "c", "{\"command\":\"z\"}").unwrap()).servers.len(), 1);
    assert_eq!(load(&added("", "c", "{\"command\":\"z\"}").unwrap()).servers.len(), 1);
    assert_eq!(load(&added("{}", "c", "{\"command\":\"z\"}").unwrap()).servers.len(), 1);
}

#[test]
fn a_file_is_replaced_at_once_and_what_it_allowed_stays() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let file = ConfigFile::new(folder.path().join("new/relay.json"));
    assert_eq!(file.read().unwrap(), "");
    file.write("{}").unwrap();
    let mode = |file: &ConfigFile| std::fs::metadata(file.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o644)).unwrap();
    file.write("{\"x\":1}").unwrap();
    assert_eq!((file.read().unwrap().as_str(), mode(&file)), ("{\"x\":1}", 0o644));
    assert_eq!(std::fs::read_dir(file.path().parent().unwrap()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn the_examples_of_the_documentation_are_understood() {
    let pages = [include_str!("../../../../README.md"), include_str!("../../../../docs/relay.md")];
    let spy_page = include_str!("../../../../docs/spy.md");
    let mut servers = Vec::new();
    for page in pages.into_iter().chain([spy_page]) {
        for example in page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if !example.contains("mcpServers") {
                continue;
            }
            let expand = Expand::new([("ISSUES_TOKEN".to_owned(), "t".to_owned())]);
            let loaded = Loaded::parse(example, &expand).unwrap_or_else(|error| panic!("{error}: {example}"));
            assert_eq!(loaded.refused, BTreeMap::new(), "{example}");
            servers.extend(loaded.servers.into_values().map(|server| server.transport.describe()));
        }
    }
    assert!(servers.iter().any(|server| server == "http://127.0.0.1:9000/mcp/dewey"), "{servers:?}");
    assert!(servers.len() >= 6, "{servers:?}");
}
