//! Keys are in their store and nowhere else.

use std::io::{BufReader, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use e2e::http::{read_body, read_head};
use e2e::relay::Relay;
use e2e::wait;
use serde_json::{Value, json};

use crate::hall::{Hall, KEYS};
use crate::socket::Socket;

#[test]
fn no_key_is_anywhere_but_in_the_key_store() {
    const KEPT: &str = "sk-test-kept-wrong-0006";
    let hall = Hall::open();
    let set = hall.mcp.call("fiedler_set_key", &json!({"provider": "openai", "api_key": KEPT}));
    assert_eq!(set.json()["kept_in"], "encrypted file");
    assert!(!set.text.contains("sk-test"));
    assert!(hall.mcp.call("fiedler_set_key", &json!({"provider": "opena", "api_key": KEPT})).text.contains("openai"));
    let bad = hall.mcp.call("fiedler_set_key", &json!({"provider": "xai", "api_key": format!("{KEPT} ä")}));
    assert!(bad.is_error && !bad.text.contains(KEPT), "{}", bad.text);
    let listed = hall.mcp.call("fiedler_list_keys", &json!({}));
    assert!(!listed.text.contains("sk-test"), "{}", listed.text);
    assert_eq!(listed.json()["kept_in"]["openai"], "encrypted file");
    // The kept one goes first; the provider does not like it, and repeats it.
    let error = hall.error_of("gpt-5");
    assert!(error.contains("Incorrect API key provided: Bearer [key]"), "{error}");
    let command_line = std::fs::read_to_string(format!("/proc/{}/cmdline", hall.up.pid())).unwrap();
    assert!(!command_line.contains("sk-test"));
    assert_eq!(hall.mcp.call("fiedler_delete_key", &json!({"provider": "openai"})).json()["deleted"], true);
    assert_eq!(hall.send(&["gpt-5", "gemini", "grok", "llama"])["status"], "success");
    hall.place.drained(5);
    // A response that a provider wrote is on record as it is; so the careless one is looked for beside it.
    for key in KEYS.iter().map(|(_, key)| *key) {
        assert_eq!(hall.place.files_with(key.as_bytes()), [] as [std::path::PathBuf; 0], "{key}");
    }
    assert!(
        hall.place
            .files_with(b"sk-test-kept")
            .iter()
            .all(|file| file.to_string_lossy().contains("spool") || file.to_string_lossy().contains("winni"))
    );
    let stderr = hall.up.stderr();
    assert!(!stderr.contains("sk-test"), "{stderr}");
    hall.up.stop();
}

/// A key that is handed over while recorders look on.
const WATCHED: &str = "sk-test-watched-0007";

/// POSTs a text, the second piece when the first is on its way; gives what is answered.
fn post_in_two(address: &str, path: &str, text: &str, at: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n",
        text.len()
    );
    stream.write_all(&[head.as_bytes(), &text.as_bytes()[..at]].concat()).unwrap();
    stream.write_all(&text.as_bytes()[at..]).unwrap();
    let mut reader = BufReader::new(stream);
    let framing = read_head(&mut reader).unwrap().response_framing("POST");
    let mut body = Vec::new();
    read_body(&mut reader, framing, &mut |bytes| body.extend_from_slice(bytes));
    String::from_utf8(body).unwrap()
}

#[test]
fn a_key_that_is_set_before_the_eyes_of_recorders_is_on_no_record_and_in_no_log() {
    // Everything is logged that is logged at all.
    let hall = Hall::at(|place| place.with_variable("ICCM_LOG", "trace"));
    let spy = hall.up.ready["spy"].as_str().unwrap().trim_start_matches("ws://");
    let call = |name: &str| {
        let arguments = json!({"provider": "xai", "api_key": WATCHED});
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "NAME", "arguments": arguments}})
            .to_string()
            .replace("NAME", name)
    };
    let calls = [call("fiedler_set_key"), call(r"fiedler_set_\u006bey")];
    for text in &calls {
        let middle = text.find(WATCHED).unwrap() + 8;
        let mut socket = Socket::connect(&format!("ws://{spy}/?upstream=fiedler"));
        for pieces in [&[text.as_str()][..], &[&text[..middle], &text[middle..]]] {
            socket.send_in_frames(pieces);
            assert_eq!(socket.next()["result"]["structuredContent"]["provider"], "xai", "the key arrived");
        }
        for at in [0, middle, text.len()] {
            let answer = post_in_two(spy, "/mcp/fiedler", text, at);
            assert!(answer.contains(r#""provider":"xai""#), "{answer}");
        }
    }
    // The relay records what goes to a server without a spy.
    let variables = [("ICCM_DATA_DIR", hall.place.data_dir().to_str().unwrap().to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let direct = json!({"far": {"type": "http", "url": hall.up.ready["fiedler"]}});
    let mut relay = Relay::recording(direct, &variables);
    relay.initialize(json!({}));
    let arguments = json!({"provider": "xai", "api_key": WATCHED});
    wait::until("the relay's tools", || relay.tools().contains(&"fiedler_set_key".to_owned()).then_some(()));
    let set = relay.ask("tools/call", json!({"name": "fiedler_set_key", "arguments": arguments}));
    assert_eq!(set["structuredContent"]["provider"], "xai", "{set}");

    relay.hang_up();
    relay.running().end(Duration::from_secs(30)).success("a relay whose client is gone");

    assert!(!hall.up.stderr().contains("watched-00"), "{}", hall.up.stderr());
    let place = hall.place;
    // While it stands in spools, and when it is stored.
    assert_eq!(place.files_with(b"watched-00"), [] as [PathBuf; 0]);
    hall.up.stop();
    assert_eq!(place.files_with(b"watched-00"), [] as [PathBuf; 0]);
    let is_call = |frame: &Value| frame["method"] == "tools/call" && frame["name"] == "fiedler_set_key";
    let kept: Vec<Value> = place.json_lines(&["frames"]).into_iter().filter(is_call).collect();
    assert_eq!(kept.len(), calls.len() * 5 + 1, "{kept:#?}");
    for frame in kept {
        let text = place.run(["frame", frame["id"].as_str().unwrap()]).text();
        assert!(text.contains(r#""api_key":"[redacted]""#), "{text}");
    }
}
