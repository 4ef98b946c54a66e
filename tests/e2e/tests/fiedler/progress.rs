//! Progress while models answer, and the end of a call that its client cancels.

use e2e::providers::Play;
use e2e::wait;
use serde_json::{Value, json};

use crate::hall::{Hall, read};
use crate::socket::{Socket, call_of};
use crate::streamable_http::Client;

/// Reads to the result of a call that asks `gpt-4o` and `grok`.
fn check_progress(url: &str, mut next: impl FnMut() -> Option<Value>) {
    let mut reported = Vec::new();
    let result = loop {
        let message = next().expect("a result before the end");
        if message["method"] != "notifications/progress" {
            break message["result"]["structuredContent"].clone();
        }
        assert_eq!(message["params"]["progressToken"], "token-1");
        reported.push(message["params"].clone());
    };
    assert_eq!(result["status"], "success", "{url}: {result}");
    let numbers: Vec<u64> = reported.iter().map(|p| p["progress"].as_u64().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    assert_eq!(reported.last().unwrap()["progress"], reported.last().unwrap()["total"]);
    let said: String = reported.iter().map(|p| p["message"].as_str().unwrap()).collect();
    for words in ["gpt-4o: asked", "bytes of its answer", "(2 of 2)"] {
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn progress_grows_to_the_end_over_websocket_and_through_the_spy_in_both_eras() {
    let hall = Hall::open();
    let direct = hall.up.ready["fiedler"].as_str().unwrap().replace("http://", "ws://");
    let spied = format!("{}/?upstream=fiedler", hall.up.ready["spy"].as_str().unwrap());
    // The spy's default is Fiedler.
    let by_default = format!("{}/", hall.up.ready["spy"].as_str().unwrap());
    for (url, is_modern) in [(&direct, false), (&direct, true), (&spied, false), (&spied, true), (&by_default, true)] {
        let mut socket = Socket::connect(url);
        if !is_modern {
            let client = json!({"name": "test", "version": "1"});
            socket.send(&json!({"jsonrpc": "2.0", "id": 0, "method": "initialize",
                "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}}));
            assert_eq!(socket.next()["result"]["serverInfo"]["name"], "fiedler");
            socket.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
        }
        socket.send(&call_of(1, json!({"prompt": "x", "models": ["gpt-4o", "grok"]}), is_modern));
        check_progress(url, || Some(socket.next()));
    }
    hall.up.stop();
}

/// Fiedler's own endpoint, and the spy's before it.
fn http_endpoints(hall: &Hall) -> [String; 2] {
    let spy = hall.up.ready["spy"].as_str().unwrap().replace("ws://", "http://");
    [hall.up.ready["fiedler"].as_str().unwrap().to_owned(), format!("{spy}/mcp/fiedler")]
}

#[test]
fn progress_grows_to_the_end_over_streamable_http_and_through_the_spy_in_both_eras() {
    let hall = Hall::open();
    for url in http_endpoints(&hall) {
        for is_modern in [false, true] {
            let client = Client::connect(&url, is_modern);
            let running = client.send(1, json!({"prompt": "x", "models": ["gpt-4o", "grok"]}));
            check_progress(&url, || running.next());
            assert_eq!(running.next(), None, "the stream ends with the result");
        }
    }
    hall.up.stop();
}

#[test]
fn a_call_over_streamable_http_tells_progress_while_it_runs_and_ends_when_it_is_cancelled() {
    let hall = Hall::open();
    hall.providers.play("gpt-4o", &[Play::Hangs]);
    hall.providers.play("gpt-5", &[Play::Silent]);
    let runs = hall.place.data_dir().join("fiedler/runs");
    let summaries = || {
        let folders = std::fs::read_dir(&runs).into_iter().flatten().map(|run| run.unwrap().path());
        folders.filter_map(|run| std::fs::read_to_string(run.join("summary.json")).ok()).collect::<Vec<_>>()
    };
    let mut ended = 0;
    for url in http_endpoints(&hall) {
        for is_modern in [false, true] {
            let client = Client::connect(&url, is_modern);
            let running = client.send(7, json!({"prompt": "x", "models": ["gpt-4o", "gpt-5"]}));
            // Neither model ever ends, so whatever is told is told while they run.
            let mut told = String::new();
            while !(told.contains("bytes of its answer so far") && told.contains("gpt-5: asked")) {
                let message = running.next().expect("progress before the end");
                told.push_str(message["params"]["message"].as_str().unwrap());
            }
            wait::until("both hang", || (hall.providers.hanging() == 2).then_some(()));
            client.cancel(7, running);
            wait::until("nobody hangs", || (hall.providers.hanging() == 0).then_some(()));
            ended += 1;
            let all = wait::until("a summary", || Some(summaries()).filter(|all| all.len() == ended));
            assert!(all.iter().all(|summary| summary.contains("cancelled")), "{url} {is_modern}: {all:?}");
        }
    }
    hall.up.stop();
}

#[test]
fn a_cancelled_call_stops_all_its_models_and_keeps_what_they_said() {
    let hall = Hall::open();
    hall.providers.play("gpt-4o", &[Play::Hangs]);
    hall.providers.play("gpt-5", &[Play::Silent]);
    let mut socket = Socket::connect(&hall.up.ready["fiedler"].as_str().unwrap().replace("http://", "ws://"));
    socket.send(&call_of(7, json!({"prompt": "x", "models": ["gpt-4o", "gpt-5", "grok"]}), true));
    wait::until("two models that hang, and one that has answered", || {
        let has_answered = socket.next()["params"]["message"].as_str().is_some_and(|m| m.contains("(1 of 3)"));
        has_answered.then_some(())
    });
    wait::until("both hang", || (hall.providers.hanging() == 2).then_some(()));
    socket.send(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}));
    wait::until("nobody hangs", || (hall.providers.hanging() == 0).then_some(()));
    let runs = hall.place.data_dir().join("fiedler/runs");
    let summary: Value = wait::until("a summary", || {
        let run = std::fs::read_dir(&runs).unwrap().next()?.unwrap().path();
        serde_json::from_slice(&std::fs::read(run.join("summary.json")).ok()?).ok()
    });
    assert_eq!(summary["status"], "partial_success", "{summary}");
    assert!(read(&summary["results"][0]["output_file"]).contains("Hello from "));
    assert!(summary["results"][1]["error"].as_str().unwrap().contains("cancelled"));
    hall.up.stop();
}
