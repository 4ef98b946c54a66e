//! Arguments that nobody should send.

use e2e::mcp::{McpSocket, ToolAnswer};
use serde_json::{Value, json};

use crate::server::{Backend, Dewey};

/// The error that a call gives, which is the same over both transports.
fn refusal(dewey: &Dewey, socket: &mut McpSocket, tool: &str, arguments: &str) -> ToolAnswer {
    let answer = dewey.mcp.call_text(tool, arguments);
    let shown: String = arguments.chars().take(200).collect();
    assert!(answer.is_error, "{tool} took {shown}: {}", answer.text);
    assert!(answer.text.len() < 1_000, "{tool} {shown}: an error of {} bytes", answer.text.len());
    let other = socket.call_text(tool, arguments);
    assert_eq!((other.is_error, &other.text), (true, &answer.text), "{tool} {shown}: not the same over a WebSocket");
    answer
}

pub(crate) fn hostile_arguments_are_refused_by_name_and_nothing_is_stored(backend: Backend) {
    let dewey = Dewey::start(backend);
    let conversation = dewey.begin();
    let into = |rest: &str| format!(r#"{{"conversation_id":"{conversation}",{rest}}}"#);
    let unknown = r#""conversation_id":"019a0000-0000-7000-8000-000000000001""#;
    let long = "x".repeat(20_000);
    let table: Vec<(&str, String, &str)> = vec![
        ("dewey_begin_conversation", r#"{"session_id":5}"#.into(), "session_id"),
        ("dewey_begin_conversation", r#"{"session_id":""}"#.into(), "session_id"),
        ("dewey_begin_conversation", format!(r#"{{"session_id":"{long}"}}"#), "session_id"),
        ("dewey_begin_conversation", r#"{"session_id":"a\u0000b"}"#.into(), "session_id"),
        ("dewey_begin_conversation", r#"{"metadata":[]}"#.into(), "metadata"),
        ("dewey_begin_conversation", r#"{"metadata":{"a":"\udc00"}}"#.into(), "metadata"),
        ("dewey_begin_conversation", r#"{"sesion_id":"x"}"#.into(), "sesion_id"),
        ("dewey_store_message", "{}".into(), "conversation_id"),
        ("dewey_store_message", "[]".into(), "arguments"),
        ("dewey_store_message", into(r#""role":"user""#), "content"),
        ("dewey_store_message", into(r#""role":"root","content":"x""#), "role"),
        ("dewey_store_message", into(r#""role":"user","content":null"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":{"type":"text"}"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":["x"]"#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":"\ud83d""#), "content"),
        ("dewey_store_message", into(r#""role":"user","content":"\u0000""#), "content"),
        (
            "dewey_store_message",
            into(&format!(r#""role":"user","content":{}1{}"#, "[".repeat(500), "]".repeat(500))),
            "content",
        ),
        ("dewey_store_message", into(r#""role":"user","content":"x","turn_number":2"#), "`turn_number` must be 1"),
        ("dewey_store_message", into(r#""role":"user","content":"x","turn_number":-1"#), "turn_number"),
        ("dewey_store_message", into(r#""role":"user","content":"x","metadata":"{}""#), "metadata"),
        ("dewey_store_message", format!(r#"{{{unknown},"role":"user","content":"x"}}"#), "conversation_id"),
        (
            "dewey_store_message",
            r#"{"conversation_id":"'; DROP TABLE turns; --","role":"user","content":"x"}"#.into(),
            "conversation_id",
        ),
        ("dewey_store_messages_bulk", "{}".into(), "messages"),
        ("dewey_store_messages_bulk", r#"{"messages":[]}"#.into(), "messages"),
        ("dewey_store_messages_bulk", r#"{"messages":"[]"}"#.into(), "messages"),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"good"},{"role":"user"}]}"#.into(),
            "messages[1].content",
        ),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"good"},{"role":"user","content":"\ud800"}]}"#.into(),
            "messages[1].content",
        ),
        (
            "dewey_store_messages_bulk",
            into(r#""messages":[{"role":"user","content":"a"},{"role":"user","content":"b","turn_number":9}]"#),
            "`turn_number` must be 2",
        ),
        (
            "dewey_store_messages_bulk",
            r#"{"messages":[{"role":"user","content":"a"}],"messages_file":"messages.jsonl"}"#.into(),
            "not both",
        ),
        (
            "dewey_store_messages_bulk",
            into(r#""messages":[{"role":"user","content":"a"}],"session_id":"another""#),
            "session_id",
        ),
        ("dewey_get_conversation", r#"{"conversation_id":7}"#.into(), "conversation_id"),
        ("dewey_get_conversation", into(r#""limit":0"#), "limit"),
        ("dewey_get_conversation", into(r#""offset":1e30"#), "offset"),
        ("dewey_list_conversations", r#"{"limit":101}"#.into(), "limit"),
        ("dewey_list_conversations", r#"{"limit":"20"}"#.into(), "limit"),
        ("dewey_list_conversations", r#"{"sort_by":"created_at; DROP TABLE conversations"}"#.into(), "sort_by"),
        ("dewey_delete_conversation", into(r#""force":"yes""#), "force"),
        ("dewey_delete_conversation", format!("{{{unknown}}}"), "conversation_id"),
        ("dewey_search", "{}".into(), "query"),
        ("dewey_search", r#"{"query":""}"#.into(), "query"),
        ("dewey_search", format!(r#"{{"query":"{long}"}}"#), "query"),
        ("dewey_search", r#"{"query":"x","role":"root"}"#.into(), "role"),
        ("dewey_search", r#"{"query":"x","start_date":"soon"}"#.into(), "start_date"),
        ("dewey_search", r#"{"query":"x","end_date":20261122}"#.into(), "end_date"),
        ("dewey_get_startup_context", r#"{"name":["x"]}"#.into(), "name"),
        ("dewey_set_startup_context", r#"{"name":"x"}"#.into(), "content"),
        ("dewey_set_startup_context", r#"{"name":"x","content":"y","set_active":1}"#.into(), "set_active"),
        ("dewey_set_startup_context", r#"{"name":"\u0000","content":"y"}"#.into(), "name"),
        ("dewey_list_startup_contexts", r#"{"include_content":"true"}"#.into(), "include_content"),
        ("dewey_delete_startup_context", r#"{"name":"nobody"}"#.into(), "name"),
    ];
    let before = dewey.told();
    let mut socket = dewey.mcp.socket();
    for (tool, arguments, named) in table {
        let answer = refusal(&dewey, &mut socket, tool, &arguments);
        let shown: String = arguments.chars().take(120).collect();
        assert!(answer.text.contains(named), "{tool} {shown}: {} does not name {named}", answer.text);
    }
    assert_eq!(dewey.told(), before, "a refused call left something behind");
    for query in ["'; DROP TABLE messages; --", "\"unclosed", "*", "( NEAR/5 )", "𝕊𝕢𝕝 😀", "-"] {
        let answer = dewey.mcp.call("dewey_search", &json!({"query": query}));
        assert!(!answer.is_error || answer.text.contains("query"), "{query}: {}", answer.text);
    }
    dewey.stop();
}

/// By the tools' own schemas: each parameter is given everything that it cannot be, beside good ones.
pub(crate) fn every_parameter_of_every_tool_refuses_what_it_cannot_be(backend: Backend) {
    let dewey = Dewey::start(backend);
    let conversation = dewey.begin();
    let message = json!({"conversation_id": conversation, "role": "user", "content": "kept"});
    dewey.mcp.call("dewey_store_message", &message).json();
    dewey.mcp.call("dewey_set_startup_context", &json!({"name": "kept", "content": "kept"})).json();
    let before = dewey.told();
    let mut socket = dewey.mcp.socket();
    let tools = dewey.mcp.tools();
    assert_eq!(tools.len(), 11);
    for tool in &tools {
        let name = tool["name"].as_str().unwrap();
        for (arguments, named) in refused_calls(name, &tool["inputSchema"], &conversation) {
            let answer = refusal(&dewey, &mut socket, name, &arguments);
            let shown: String = arguments.chars().take(200).collect();
            assert!(answer.text.contains(&named), "{name} {shown}: {} does not name {named}", answer.text);
        }
    }
    assert_eq!(dewey.told(), before, "a refused call left something behind");
    dewey.stop();
}

/// Arguments that a tool must refuse, and what its error must name.
fn refused_calls(tool: &str, schema: &Value, conversation: &str) -> Vec<(String, String)> {
    let good = |parameter: &str| match parameter {
        "conversation_id" => json!(conversation).to_string(),
        "messages" => json!([{"role": "user", "content": "never stored"}]).to_string(),
        "role" => json!("user").to_string(),
        _ => json!("kept").to_string(),
    };
    let mut required: Vec<&str> =
        schema["required"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    let mut calls: Vec<(String, String)> = Vec::new();
    for missing in &required {
        let others = required.iter().filter(|name| *name != missing);
        calls.push((object(others.map(|name| (*name, good(name)))), (*missing).to_owned()));
    }
    let hostile = hostile_values();
    for value in hostile.iter().filter(|value| !value.starts_with('{')) {
        calls.push((value.clone(), "the arguments must be a JSON object".to_owned()));
    }
    for (parameter, schema) in schema["properties"].as_object().unwrap() {
        // One of two is required, which a schema that models take cannot say.
        if tool == "dewey_store_messages_bulk" {
            required = if parameter.starts_with("messages") { vec![] } else { vec!["messages"] };
        }
        let others = required.iter().filter(|name| *name != parameter).map(|name| (*name, good(name)));
        let others: Vec<_> = others.collect();
        let mut give = |value: &str| {
            let all = others.iter().cloned().chain([(parameter.as_str(), value.to_owned())]);
            calls.push((object(all), parameter.clone()));
        };
        hostile.iter().filter(|value| !fits(parameter, schema, value)).for_each(|value| give(value));
    }
    let name = format!("{:?}", "x".repeat(LONG));
    calls.push((format!("{{{name}:1,{name}:2}}"), "is given twice".to_owned()));
    calls
}

const SQL: &str = r#""'; DROP TABLE iccm.message; --""#;
const FOUR_BYTES: &str = "\"\u{1F600}\"";
/// More than any name, query or metadata may have.
const LONG: usize = 2 << 20;

fn object<'n>(fields: impl Iterator<Item = (&'n str, String)>) -> String {
    let fields: Vec<String> = fields.map(|(name, value)| format!("{name:?}:{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

/// JSON texts.
fn hostile_values() -> Vec<String> {
    let numbers_and_so_on = ["5", "-1", "1.5", "1e400", "true", "[]", "[5]", "{}", r#"{"type":5}"#];
    let texts = ["\"\"", r#""\u0000""#, r#""a\ud800""#, r#""\udc00\ud83d""#, SQL, FOUR_BYTES];
    let mut values: Vec<String> = numbers_and_so_on.into_iter().chain(texts).map(str::to_owned).collect();
    values.push(format!("{}{}", "[".repeat(1_000), "]".repeat(1_000)));
    values.push(format!("\"{}\"", "x".repeat(LONG)));
    values
}

/// Whether a value is a good one for a parameter.
fn fits(parameter: &str, schema: &Value, value: &str) -> bool {
    match schema["type"].as_str() {
        Some("integer") => value == "5" && parameter != "turn_number",
        Some("boolean") => value == "true",
        Some("object") => value.starts_with('{'),
        Some("array") => false,
        _ if ["session_id", "query", "name", "content"].contains(&parameter) => {
            // What is said may be empty, and large.
            let is_content = schema["anyOf"].is_array();
            let is_long = value.len() > LONG && (is_content || parameter == "content");
            [SQL, FOUR_BYTES].contains(&value) || is_long || (is_content && value == "\"\"")
        }
        _ => false,
    }
}

/// Once for each tool, in the parameter that would be looked at first.
pub(crate) fn fifty_megabytes_where_they_do_not_belong_are_refused(backend: Backend) {
    let dewey = Dewey::start(backend);
    let large = format!("{:?}", "x".repeat(50 << 20));
    let before = dewey.told();
    let mut socket = dewey.mcp.socket();
    for (tool, parameter) in [
        ("dewey_begin_conversation", "session_id"),
        ("dewey_store_message", "conversation_id"),
        ("dewey_store_messages_bulk", "messages"),
        ("dewey_get_conversation", "conversation_id"),
        ("dewey_list_conversations", "session_id"),
        ("dewey_delete_conversation", "conversation_id"),
        ("dewey_search", "query"),
        ("dewey_get_startup_context", "name"),
        ("dewey_set_startup_context", "content"),
        ("dewey_list_startup_contexts", "include_content"),
        ("dewey_delete_startup_context", "name"),
    ] {
        let others = [("role", "\"user\""), ("content", "\"x\""), ("name", "\"x\"")];
        let beside = others.iter().filter(|(name, _)| match tool {
            "dewey_store_message" => ["role", "content"].contains(name),
            "dewey_set_startup_context" => *name == "name",
            _ => false,
        });
        let beside = beside.map(|(name, value)| (*name, (*value).to_owned()));
        let answer = refusal(&dewey, &mut socket, tool, &object(beside.chain([(parameter, large.clone())])));
        assert!(answer.text.contains(parameter), "{tool}: {}", answer.text);
    }
    assert_eq!(dewey.told(), before, "a refused call left something behind");
    dewey.stop();
}

pub(crate) fn hostile_texts_come_back_as_they_were_given(backend: Backend) {
    let dewey = Dewey::start(backend);
    let call = |tool: &str, arguments: Value| dewey.mcp.call(tool, &arguments).json();
    let texts = [
        "'; DROP TABLE iccm.message; --",
        "\u{1F600}\u{10FFFF}\u{FFFF}\u{1D54A}",
        "\u{1}\u{7f}\u{85}\u{2028}\u{202e}\u{feff}",
        "\\x00 \\u0000 %s $1 ?1 {0} \\",
        "\"' `$(true)` \r\n\t",
        "e\u{301} \u{e9} \u{212b}",
    ];
    for text in texts {
        let begun = call("dewey_begin_conversation", json!({"session_id": text, "metadata": {text: [text]}}));
        assert_eq!(begun["session_id"], text);
        let id = &begun["conversation_id"];
        let content = json!([{"type": "text", "text": text, text: text}]);
        for content in [json!(text), content.clone()] {
            let message = json!({"conversation_id": id, "role": "tool", "content": content, "metadata": {text: text}});
            call("dewey_store_message", message);
        }
        let shown = call("dewey_get_conversation", json!({"conversation_id": id}));
        assert_eq!((&shown["session_id"], &shown["metadata"]), (&json!(text), &json!({text: [text]})));
        let messages = shown["messages"].as_array().unwrap();
        assert_eq!((&messages[0]["content"], &messages[1]["content"]), (&json!(text), &content));
        assert!(messages.iter().all(|message| message["metadata"] == json!({text: text})), "{shown}");
        assert_eq!(call("dewey_list_conversations", json!({"session_id": text}))["total"], 1);
        let found = call("dewey_search", json!({"query": "role:tool", "session_id": text}));
        assert_eq!(found["total"], 2, "{found}");
        call("dewey_set_startup_context", json!({"name": text, "content": text}));
        assert_eq!(call("dewey_get_startup_context", json!({"name": text}))["content"], text);
        let gone = call("dewey_delete_startup_context", json!({"name": text, "force": true}));
        assert_eq!(gone["deleted"], true);
        assert_eq!(call("dewey_delete_conversation", json!({"conversation_id": id, "force": true}))["deleted"], true);
    }
    assert_eq!(dewey.total(), 0);
    dewey.stop();
}

pub(crate) fn fifty_megabytes_come_back_whole_and_too_much_is_refused(backend: Backend) {
    let dewey = Dewey::start(backend);
    let conversation = dewey.begin();
    let store = |content: String| {
        let message = json!({"conversation_id": conversation, "role": "user", "content": content});
        dewey.mcp.call("dewey_store_message", &message)
    };
    let content = "0123456789 \"\u{1F600}\" ".repeat(3 << 20);
    assert!(content.len() > 50 << 20);
    assert_eq!(store(content.clone()).json()["turn_number"], 1);
    let too_much = store("x".repeat((64 << 20) + 1));
    assert!(too_much.is_error && too_much.text.contains("`content` must have at most"), "{}", too_much.text);
    let shown = dewey.mcp.call("dewey_get_conversation", &json!({"conversation_id": conversation})).json();
    assert_eq!(shown["messages"].as_array().unwrap().len(), 1);
    assert!(shown["messages"][0]["content"] == content.as_str(), "not what was stored");
    dewey.stop();
}
