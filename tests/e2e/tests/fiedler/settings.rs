//! What stays from call to call, and what files may be handed along.

use std::path::Path;

use e2e::mcp::Mcp;
use e2e::providers::Providers;
use serde_json::json;

use crate::hall::place_for;

#[test]
fn settings_stay_and_files_come_from_allowed_folders_only() {
    let providers = Providers::default();
    let place = place_for(&providers);
    let output = place.folder().join("answers");
    let up = place.recorder("up", "http://127.0.0.1:1", &[]);
    let mcp = Mcp::of_url(&up.ready["fiedler"]);
    assert_eq!(
        mcp.call("fiedler_set_models", &json!({"models": ["4o", "GROK"]})).json()["models"],
        json!(["gpt-4o", "grok-4-0709"])
    );
    assert!(mcp.call("fiedler_set_output", &json!({"output_dir": "answers"})).is_error);
    mcp.call("fiedler_set_output", &json!({"output_dir": output})).json();
    up.stop();

    let up = place.recorder("up", "http://127.0.0.1:1", &[]);
    let mcp = Mcp::of_url(&up.ready["fiedler"]);
    let config = mcp.call("fiedler_get_config", &json!({})).json();
    assert_eq!((&config["models"], &config["output_dir"]), (&json!(["gpt-4o", "grok-4-0709"]), &json!(output)));
    let import = place.data_dir().join("import");
    std::fs::create_dir_all(&import).unwrap();
    std::fs::write(import.join("note.txt"), "the albatross").unwrap();
    std::fs::write(import.join("image.png"), b"\x89PNG\r\n\x1a\nxyz").unwrap();
    std::fs::write(import.join("binary"), b"\x00\x01\x02").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", import.join("link")).unwrap();
    let send = |file: &Path, models: &[&str]| {
        mcp.call("fiedler_send", &json!({"prompt": "look", "files": [file], "models": models}))
    };
    for (file, word) in [
        (import.join("../fiedler/models.toml"), "below a folder"),
        ("/etc/passwd".into(), "below a folder"),
        (import.join("link"), "symbolic link"),
        (import.join("binary"), "binary"),
        (import.join("nothing"), "can be read"),
    ] {
        let refused = send(&file, &["gpt-4o"]);
        assert!(refused.is_error && refused.text.contains(word), "{}: {}", file.display(), refused.text);
    }
    assert!(providers.exchanges().is_empty(), "nothing was asked");
    let sent = send(&import.join("note.txt"), &[]).json();
    assert!(sent["output_dir"].as_str().unwrap().starts_with(output.to_str().unwrap()));
    assert!(providers.exchanges().iter().all(|e| String::from_utf8_lossy(&e.request).contains("the albatross")));
    let sent = send(&import.join("image.png"), &["gpt-4o", "llama"]).json();
    assert_eq!(sent["status"], "partial_success");
    assert!(sent["results"][1]["error"].as_str().unwrap().contains("takes no images"), "{sent}");
    let last = providers.exchanges().pop().unwrap();
    assert!(String::from_utf8_lossy(&last.request).contains("data:image/png;base64,iVBORw0KGgp4eXo="));
    up.stop();
}
