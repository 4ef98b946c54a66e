//! What bounds a run: each model's time, the models at once, the size of the prompt.

use e2e::providers::Play;
use serde_json::json;

use crate::hall::{Hall, PROTOCOLS, model, read};
use crate::socket::{Socket, call_of};

#[test]
fn a_model_that_never_answers_or_stops_in_the_middle_is_given_up_whatever_its_api() {
    let hall = Hall::with_protocols("timeout_seconds = 2\nretries = 0");
    let ids = PROTOCOLS.map(|(id, _)| id);
    for play in [Play::Silent, Play::Hangs] {
        let says_something = matches!(play, Play::Hangs);
        ids.iter().for_each(|id| hall.providers.play(id, std::slice::from_ref(&play)));
        let result = hall.send(&ids);
        assert_eq!(result["status"], "failure", "{result}");
        for ((id, provider), result) in PROTOCOLS.iter().zip(result["results"].as_array().unwrap()) {
            let error = result["error"].as_str().unwrap();
            assert!(error.starts_with(&format!("{id} ({provider}): ")) && error.contains("within 2 s"), "{error}");
            assert!(error.contains("timeout_seconds"), "what to do: {error}");
            assert!(result["duration_seconds"].as_f64().unwrap() < 4.0, "{result}");
            match says_something {
                true => assert!(read(&result["output_file"]).contains("Hello from "), "what came is kept: {result}"),
                false => assert!(result["output_file"].is_null(), "{result}"),
            }
        }
    }
    hall.up.stop();
}

#[test]
fn no_more_models_are_asked_at_once_than_the_file_allows() {
    let ids = ["a1", "a2", "a3", "a4", "a5", "a6"];
    let models: String = ids.iter().map(|id| model(id, "openai", "timeout_seconds = 1")).collect();
    let hall = Hall::with_models(&models);
    let file = hall.place.data_dir().join("fiedler/models.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("max_parallel = 16", "max_parallel = 3")).unwrap();
    ids.iter().for_each(|id| hall.providers.play(id, &[Play::Silent]));
    let mut socket = Socket::connect(&hall.up.ready["fiedler"].as_str().unwrap().replace("http://", "ws://"));
    socket.send(&call_of(1, json!({"prompt": "x", "models": ids}), true));
    // Whoever is asked holds its place until it has ended.
    let (mut running, mut most, mut ended) = (0, 0, 0);
    while ended < ids.len() {
        let message = socket.next();
        let said = message["params"]["message"].as_str().unwrap_or_else(|| panic!("no progress: {message}"));
        match said.ends_with(": asked") {
            true => running += 1,
            false => (running, ended) = (running - 1, ended + 1),
        }
        most = most.max(running);
    }
    assert_eq!(most, 3);
    hall.up.stop();
}

#[test]
fn a_prompt_that_may_not_fit_is_warned_of_and_the_model_named() {
    let hall = Hall::with_models(&model("tiny", "openai", "").replace("8000", "1100"));
    let prompt = "word ".repeat(1000);
    let sent = hall.mcp.call("fiedler_send", &json!({"prompt": prompt, "models": ["gpt-4o", "tiny"]})).json();
    let warnings = sent["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{sent}");
    let warning = warnings[0].as_str().unwrap();
    assert!(warning.starts_with("tiny: ") && warning.contains("1250") && warning.contains("1100"), "{warning}");
    hall.up.stop();
}
