//! Messages from files, which must be below an import folder.

use std::os::unix::fs::symlink;

use serde_json::json;

use crate::server::{Backend, Dewey};

pub(crate) fn files_come_from_import_folders_alone(backend: Backend) {
    let place = backend.place();
    let secret = place.folder().join("secret.jsonl");
    let dewey = Dewey::at(place);
    std::fs::write(&secret, "{\"role\":\"user\",\"content\":\"secret\"}\n").unwrap();
    let import = dewey.place.data_dir().join("import");
    symlink(&secret, import.join("link.jsonl")).unwrap();
    symlink(dewey.place.folder(), import.join("way")).unwrap();
    let secret = secret.to_str().unwrap();
    let outside =
        ["link.jsonl", "way/secret.jsonl", "../../secret.jsonl", "x/../../../secret.jsonl", secret, "/etc/passwd", "."];
    for file in outside {
        let answer = dewey.mcp.call("dewey_store_messages_bulk", &json!({"messages_file": file}));
        assert!(answer.is_error && answer.text.starts_with("`messages_file` must"), "{file}: {}", answer.text);
        assert!(!answer.text.contains("root:"), "{file}");
    }
    assert_eq!(dewey.total(), 0);
    let inside = import.join("messages.jsonl");
    for file in ["messages.jsonl", inside.to_str().unwrap()] {
        assert_eq!(dewey.mcp.call("dewey_store_messages_bulk", &json!({"messages_file": file})).json()["stored"], 2);
    }
    dewey.stop();
}
