//! Where Fiedler is asked: providers on loopback, an `iccm up` in front of them, and no key but dummies.

use e2e::mcp::Mcp;
use e2e::providers::Providers;
use e2e::recorder::{Place, Recorder};
use serde_json::{Value, json};

/// No key; long enough to be found wherever it were.
pub(crate) const KEYS: [(&str, &str); 5] = [
    ("OPENAI_API_KEY", "sk-test-openai-0001"),
    ("GEMINI_API_KEY", "sk-test-gemini-0002"),
    ("XAI_API_KEY", "sk-test-xai-0003"),
    ("TOGETHER_API_KEY", "sk-test-together-0004"),
    ("ANTHROPIC_API_KEY", "sk-test-anthropic-0005"),
];

pub(crate) const TEN: [&str; 10] = [
    "gemini-2.5-pro",
    "gpt-5",
    "gpt-4o",
    "Llama-3.1-70B",
    "Llama-3.3-70B",
    "DeepSeek-R1",
    "Qwen2.5-72B",
    "Mistral-Large-2411",
    "Llama-3.1-Nemotron-70B",
    "grok-4-0709",
];

/// A model for each of the wire formats, and its provider.
pub(crate) const PROTOCOLS: [(&str, &str); 5] =
    [("chat", "openai"), ("claude", "anthropic"), ("gem", "google"), ("local", "ollama"), ("respond", "answers")];

/// Providers and an `iccm up` that asks them.
pub(crate) struct Hall {
    pub(crate) providers: Providers,
    pub(crate) place: Place,
    pub(crate) up: Recorder,
    pub(crate) mcp: Mcp,
}

pub(crate) fn place_for(providers: &Providers) -> Place {
    let place = Place::new().with_variable("ICCM_FIEDLER_KEY_FILE", "key-file");
    let place = providers.variables().iter().fold(place, |place, (name, value)| place.with_variable(name, value));
    let place = KEYS.iter().fold(place, |place, (name, value)| place.with_variable(name, value));
    std::fs::write(place.folder().join("home/key-file"), "thirty-two bytes that nobody knows").unwrap();
    place
}

impl Hall {
    pub(crate) fn open() -> Self {
        Self::with_models("")
    }

    /// With further models beside the ten.
    pub(crate) fn with_models(further: &str) -> Self {
        let hall = Self::at(|place| place);
        hall.add_models(further);
        hall
    }

    /// With a model for each of the wire formats.
    pub(crate) fn with_protocols(further: &str) -> Self {
        let hall = Self::open();
        let mut models: String = PROTOCOLS.iter().map(|(id, provider)| model(id, provider, further)).collect();
        let url = hall.providers.url();
        models.push_str(&format!(
            "[providers.answers]\napi = \"openai-responses\"\nneeds_key = true\nkey_variables = [\"OPENAI_API_KEY\"]\n\
             base_url = \"{url}/v1\"\n"
        ));
        hall.add_models(&models);
        hall
    }

    /// In a place that is changed before.
    pub(crate) fn at(change: impl FnOnce(Place) -> Place) -> Self {
        let providers = Providers::default();
        let place = change(place_for(&providers));
        let up = place.recorder("up", "http://127.0.0.1:1", &["--spy-listen", "127.0.0.1:0"]);
        let mcp = Mcp::of_url(&up.ready["fiedler"]);
        Self { providers, place, up, mcp }
    }

    pub(crate) fn add_models(&self, further: &str) {
        let file = self.place.data_dir().join("fiedler/models.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{text}\n{further}")).unwrap();
    }

    pub(crate) fn send(&self, models: &[&str]) -> Value {
        self.mcp.call("fiedler_send", &json!({"prompt": "Why is the sky blue?", "models": models})).json()
    }

    /// The error of the only model that is asked.
    pub(crate) fn error_of(&self, model: &str) -> String {
        let result = self.send(&[model]);
        assert_eq!(result["status"], "failure", "{result}");
        result["results"][0]["error"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn model(id: &str, provider: &str, further: &str) -> String {
    format!(
        "[[models]]\nid = \"{id}\"\nprovider = \"{provider}\"\ncontext_window = 8000\nmax_output = 1000\n{further}\n"
    )
}

pub(crate) fn read(path: &Value) -> String {
    std::fs::read_to_string(path.as_str().unwrap_or_else(|| panic!("no path: {path}"))).unwrap()
}
