//! Many models at once: good ones, wrong ones, slow ones, new ones.

use std::time::{Duration, Instant};

use e2e::providers::Play;
use e2e::wait;
use serde_json::{Value, json};

use crate::hall::{Hall, KEYS, PROTOCOLS, TEN, model, read};

#[test]
fn ten_models_are_asked_at_the_same_time_and_all_is_on_record_byte_for_byte() {
    let hall = Hall::open();
    let names = |id: &str| if id.contains('-') { id.to_owned() } else { unreachable!("{id}") };
    let listed = hall.mcp.call("fiedler_list_models", &json!({})).json();
    let api_names: Vec<String> =
        listed["models"].as_array().unwrap().iter().map(|m| names(m["api_name"].as_str().unwrap())).collect();
    assert_eq!(api_names.len(), 10);
    // Nobody answers before all ten have been asked.
    api_names.iter().for_each(|name| hall.providers.play(name, &[Play::Together(10)]));
    let result = hall.send(&TEN);
    assert_eq!(result["status"], "success", "{result}");
    let results = result["results"].as_array().unwrap();
    assert_eq!(results.iter().map(|r| r["model"].as_str().unwrap()).collect::<Vec<_>>(), TEN);
    for (result, api_name) in results.iter().zip(&api_names) {
        assert!(read(&result["output_file"]).contains(&format!("Hello from {api_name}")));
        assert_eq!(result["tokens"], json!({"prompt": 11, "completion": 7}), "{result}");
    }
    assert_eq!(results[1]["cost_usd"], json!(11.0 * 1.25 / 1e6 + 7.0 * 10.0 / 1e6));
    let summary: Value = serde_json::from_str(&read(&result["summary_file"])).unwrap();
    assert_eq!(summary["results"], result["results"]);
    assert_eq!(summary["prompt"], "Why is the sky blue?");

    let recorded = hall.place.drained(10);
    let sent = hall.providers.exchanges();
    assert_eq!((recorded.len(), sent.len()), (10, 10));
    for (result, api_name) in results.iter().zip(&api_names) {
        let id = result["exchange_ids"][0].as_str().unwrap();
        let theirs = sent.iter().find(|exchange| exchange.model == *api_name).unwrap();
        assert_eq!(hall.place.part(id, "request-body"), theirs.request, "{api_name}");
        assert_eq!(hall.place.part(id, "response-body"), theirs.response, "{api_name}");
        let key = KEYS.iter().any(|(_, key)| theirs.head.fields.iter().any(|(_, value)| value.contains(key)));
        assert!(key, "the provider got its key: {:?}", theirs.head);
    }

    // Whatever API it was, the record knows what was said with which model for how much.
    for api_name in &api_names {
        let is_its = |exchange: &&Value| exchange["model"] == **api_name;
        let exchange = recorded.iter().find(is_its).unwrap_or_else(|| panic!("{api_name} among {recorded:#?}"));
        assert_eq!((&exchange["kind"], &exchange["streaming"]), (&json!("message"), &json!(true)), "{exchange}");
        assert_eq!((&exchange["input_tokens"], &exchange["output_tokens"]), (&json!(11), &json!(7)), "{exchange}");
        assert_eq!(exchange["cost_usd"].is_null(), api_name.contains("Mistral"), "{exchange}");
        let said = hall.place.show(exchange["conversation_id"].as_str().unwrap())["turns"].to_string();
        assert!(said.contains("Why is the sky blue?") && said.contains(&format!("Hello from {api_name}")), "{said}");
    }

    let conversation = result["conversation_id"].as_str().unwrap();
    let shown = hall.place.show(conversation).to_string();
    assert!(shown.contains("Why is the sky blue?") && shown.contains("Hello from gpt-4o"), "{shown}");
    wait::until("the run among what is found", || {
        let found = hall.place.json_lines(&["search", "\"Hello from gpt-4o\""]);
        found.iter().any(|hit| hit["conversation_id"] == conversation).then_some(())
    });
    let run = result["correlation_id"].as_str().unwrap();
    let compared = hall.place.run(["fiedler", "compare", &run[..8], "--format", "columns"]).text();
    let heads = compared.lines().filter(|line| line.contains(" | ")).count();
    assert!(heads > 5 && TEN.iter().all(|model| compared.contains(model)), "{compared}");
    hall.up.stop();
}

#[test]
fn each_kind_of_trouble_is_an_error_that_names_model_provider_and_remedy() {
    let hall = Hall::with_protocols("retries = 1\ntimeout_seconds = 3");
    for (id, provider) in PROTOCOLS {
        let named = |error: &str| {
            assert!(error.starts_with(&format!("{id} ({provider}): ")), "{error}");
            error.to_owned()
        };
        let of = |plays: &[Play]| {
            hall.providers.play(id, plays);
            named(&hall.error_of(id))
        };
        let good = hall.send(&[id]);
        assert_eq!(good["status"], "success", "{good}");
        assert!(read(&good["results"][0]["output_file"]).contains(&format!("Hello from {id}")));
        assert_eq!(good["results"][0]["tokens"], json!({"prompt": 11, "completion": 7}), "{good}");
        assert!(of(&[Play::Refused(401, &[])]).contains("fiedler_set_key"));
        assert!(of(&[Play::Refused(404, &[])]).contains("api_name"));
        assert!(of(&[Play::Refused(429, &[("retry-after", "100")])]).contains("after its time is over"));
        assert!(of(&[Play::Refused(500, &[])]).contains("trouble 500"));
        assert!(of(&[Play::Cut]).contains("broke off"));
        assert!(of(&[Play::Empty]).contains("empty"));
        if provider != "ollama" {
            assert!(of(&[Play::Refuses]).contains("would not answer"));
        }
        // Once is forgiven, and waited for as long as the provider asks.
        hall.providers.play(id, &[Play::Refused(429, &[("retry-after", "1")]), Play::Good]);
        let began = Instant::now();
        let result = hall.send(&[id]);
        assert_eq!(result["status"], "success", "{result}");
        assert_eq!(result["results"][0]["attempts"], 2);
        assert!(began.elapsed() >= Duration::from_secs(1), "retry-after");
        // An answer that broke off is not asked for again: it was paid for.
        hall.providers.play(id, &[Play::Cut, Play::Good]);
        let result = hall.send(&[id]);
        assert_eq!(result["results"][0]["attempts"], 1, "{result}");
        assert!(read(&result["results"][0]["output_file"]).contains("Hello from "), "what came is kept");
    }
    hall.up.stop();
}

#[test]
fn nine_good_models_are_not_held_up_by_a_tenth_that_hangs() {
    let hall = Hall::with_models(&model("slow", "openai", "timeout_seconds = 2"));
    hall.providers.play("slow", &[Play::Hangs]);
    let models: Vec<&str> = TEN[..9].iter().copied().chain(["slow"]).collect();
    let result = hall.send(&models);
    assert_eq!(result["status"], "partial_success", "{result}");
    let results = result["results"].as_array().unwrap();
    let good = results.iter().filter(|r| r["status"] == "success" && r["duration_seconds"].as_f64().unwrap() < 2.0);
    assert_eq!(good.count(), 9, "{result}");
    let slow = &results[9];
    assert!(slow["error"].as_str().unwrap().contains("within 2 s"), "{slow}");
    assert!(read(&slow["output_file"]).contains("Hello from "), "what came is kept");
    hall.up.stop();
}

#[test]
fn an_eleventh_model_is_five_lines_and_a_wrong_file_changes_nothing() {
    let hall = Hall::open();
    let unknown = hall.mcp.call("fiedler_send", &json!({"prompt": "x", "models": ["gpt4o"]}));
    assert!(unknown.is_error && unknown.text.contains("did you mean `gpt-4o`"), "{}", unknown.text);
    let lines = "[[models]]\nid = \"small\"\nprovider = \"together\"\ncontext_window = 8000\nmax_output = 1000\n";
    assert_eq!(lines.lines().count(), 5);
    hall.add_models(lines);
    assert_eq!(hall.send(&["small"])["status"], "success");
    hall.add_models("[[models]]\nid = \"b\"\nprovider = \"together\"\ncontext_windw = 8000\nmax_output = 1000\n");
    let listed = hall.mcp.call("fiedler_list_models", &json!({})).json();
    assert_eq!(listed["models"].as_array().unwrap().len(), 11);
    let problem = listed["problem"].as_str().unwrap();
    assert!(problem.contains("model `b`: unknown key `context_windw`; did you mean `context_window`?"), "{problem}");
    let sent = hall.send(&["small"]);
    assert_eq!(sent["status"], "success");
    assert!(sent["warnings"][0].as_str().unwrap().contains("context_windw"), "{sent}");
    hall.up.stop();
}
