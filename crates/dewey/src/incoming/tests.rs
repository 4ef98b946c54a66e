use super::*;

fn read_text(text: &str) -> Result<Batch, String> {
    of_file(text, &Call::unwatched()).map_err(|error| error.to_string())
}

fn contents(text: &str) -> Vec<(Role, Value)> {
    let batch = read_text(text).unwrap();
    batch.messages.into_iter().map(|message| (message.role, message.content)).collect()
}

#[test]
fn a_file_is_an_array_or_lines_of_messages() {
    let expected = [(Role::User, json!("a")), (Role::Tool, json!([{"type": "text", "text": "b"}]))];
    let (first, second) =
        (r#"{"role":"user","content":"a","id":7}"#, r#"{"role":"tool","content":[{"type":"text","text":"b"}]}"#);
    assert_eq!(contents(&format!("\u{feff} [{first},\n{second}]")), expected);
    assert_eq!(contents(&format!("{first}\n\n{second}\n")), expected);
}

#[test]
fn a_transcript_names_its_session() {
    let line = r#"{"type":"user","sessionId":"s","timestamp":"2026-11-22T10:36:47.712Z","uuid":"u","message":{"content":"hi"}}"#;
    let batch = read_text(&format!("{{\"type\":\"mode\"}}\n{line}")).unwrap();
    assert_eq!((batch.is_transcript, batch.session_id.as_deref()), (true, Some("s")));
    assert_eq!(batch.messages[0].created_at.unwrap().to_string(), "2026-11-22T10:36:47.712000Z");
    assert_eq!(batch.messages[0].metadata["uuid"], "u");
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    for (text, expected) in [
        (r#"[{"role":"user","content":"a"},{"role":"root","content":"b"}]"#, "`messages_file[1].role` must be one of"),
        (r#"[{"content":"a"}]"#, "`messages_file[0].role` is missing"),
        (r#"[{"role":"user"}]"#, "`messages_file[0].content` is missing"),
        (r#"[{"role":"user","content":5}]"#, "`messages_file[0].content` must be a string, or an array"),
        (r#"[{"role":"user","content":[{"text":"a"}]}]"#, "`messages_file[0].content` must be a string, or an array"),
        (r#"[{"role":"user","content":[]}]"#, "`messages_file[0].content` must be a string, or an array"),
        (r#"[{"role":"user","content":"\ud800"}]"#, "`messages_file[0].content` must be valid JSON"),
        (r#"[{"role":"user","content":"\u0000"}]"#, "`messages_file[0].content` must not contain U+0000"),
        (r#"[{"role":"user","content":"a","turn_number":0}]"#, "`messages_file[0].turn_number` must be an integer"),
        (r#"[{"role":"user","content":"a","metadata":[]}]"#, "`messages_file[0].metadata` must be a JSON object"),
        (r#"[{"role":"user","content":"a","created_at":"now"}]"#, "`messages_file[0].created_at` must be a time"),
        ("[5]", "`messages_file[0]` must be an object"),
        ("[{]", "`messages_file` must be an array of messages"),
        ("{\"role\":\"user\",\"content\":\"a\"}\n{\"role\"", "`messages_file, line 2` must be a message in JSON"),
        ("nonsense", "`messages_file, line 1` must be a message in JSON"),
    ] {
        let error = read_text(text).err().unwrap_or_else(|| panic!("accepted {text}"));
        assert!(error.starts_with(expected), "{text}: {error}");
    }
}

#[tokio::test]
async fn nothing_to_store_is_an_error() {
    let given = |text: &str| Source::Given(serde_json::from_str::<&RawValue>(text).unwrap().to_owned());
    for text in ["[]", "{}", "5", r#""[]""#] {
        assert!(read(given(text), Vec::new(), Call::unwatched()).await.is_err(), "{text}");
    }
}

#[test]
fn a_file_is_utf_8_text_of_bounded_size_below_an_import_folder() {
    let all = tempfile::tempdir().unwrap();
    let folder = all.path().join("import");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("good"), "text").unwrap();
    std::fs::write(folder.join("binary"), [0xff, 0xfe]).unwrap();
    std::fs::File::create(folder.join("large")).unwrap().set_len(MAX_FILE_BYTES + 1).unwrap();
    let read = |name: &str| text_of(Path::new(name), std::slice::from_ref(&folder));
    assert_eq!(read("good").as_deref(), Ok("text"));
    assert!(read("binary").unwrap_err().contains("UTF-8"));
    assert!(read("large").unwrap_err().contains("at most 268435456 bytes; divide it"));
    assert!(read("../x").unwrap_err().contains("an import folder of the server"));
}
