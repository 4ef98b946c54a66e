//! `models.toml` from its text. Each error says which key of which model is wrong, and what it must be.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};
use url::Url;

use super::{Api, Catalog, Model, Price, Provider, nearest};

const TOP: [&str; 4] = ["max_parallel", "default_models", "models", "providers"];
const MODEL: [&str; 10] = [
    "id",
    "provider",
    "api_name",
    "aliases",
    "context_window",
    "max_output",
    "timeout_seconds",
    "retries",
    "images",
    "price",
];
const PROVIDER: [&str; 4] = ["api", "base_url", "key_variables", "needs_key"];

const DEFAULT_PARALLEL: usize = 16;
const MOST_PARALLEL: usize = 256;
const MOST_RETRIES: u32 = 10;
const DEFAULT_TIMEOUT: u64 = 300;
const LONGEST_TIMEOUT: u64 = 24 * 60 * 60;
const DEFAULT_RETRIES: u32 = 2;

#[derive(Deserialize)]
struct ModelEntry {
    id: String,
    provider: String,
    api_name: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    context_window: u64,
    max_output: u64,
    timeout_seconds: Option<u64>,
    retries: Option<u32>,
    #[serde(default)]
    images: bool,
    price: Option<Price>,
}

#[derive(Deserialize)]
struct ProviderEntry {
    api: Option<Api>,
    base_url: Option<String>,
    key_variables: Option<Vec<String>>,
    needs_key: Option<bool>,
}

/// The models that the text describes.
pub(super) fn catalog(text: &str) -> Result<Catalog, String> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        format!("line {}: {}", before.matches('\n').count() + 1, error.message())
    })?;
    known_keys(&table, &TOP, "")?;
    let providers = providers(table.get("providers"))?;
    let models = models(table.get("models"), &providers)?;
    let max_parallel = match table.get("max_parallel") {
        None => DEFAULT_PARALLEL,
        Some(value) => value
            .as_integer()
            .and_then(|n| usize::try_from(n).ok())
            .filter(|n| (1..=MOST_PARALLEL).contains(n))
            .ok_or_else(|| format!("`max_parallel` must be an integer from 1 to {MOST_PARALLEL}"))?,
    };
    let default_models: Vec<String> = match table.get("default_models") {
        None => models.iter().map(|model| model.id.clone()).collect(),
        Some(value) => value.clone().try_into().map_err(|_| "`default_models` must be a list of names".to_owned())?,
    };
    let catalog = Catalog { models, providers, default_models, max_parallel };
    for name in &catalog.default_models {
        catalog.model(name).map_err(|problem| format!("`default_models`: {problem}"))?;
    }
    Ok(catalog)
}

fn known_keys(table: &Table, known: &[&str], place: &str) -> Result<(), String> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        Some(key) => Err(format!("{place}unknown key `{key}`; did you mean `{}`?", nearest(key, known))),
        None => Ok(()),
    }
}

fn models(value: Option<&Value>, providers: &BTreeMap<String, Arc<Provider>>) -> Result<Vec<Arc<Model>>, String> {
    let entries = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if entries.is_empty() {
        return Err("there is no model; a model begins with [[models]]".to_owned());
    }
    let mut taken: Vec<String> = Vec::new();
    let mut models = Vec::new();
    for (entry, number) in entries.iter().zip(1..) {
        let table = entry.as_table().ok_or("a model must be a table that begins with [[models]]")?;
        let name =
            table.get("id").and_then(Value::as_str).map_or_else(|| format!("number {number}"), |id| format!("`{id}`"));
        let place = format!("model {name}: ");
        known_keys(table, &MODEL, &place)?;
        let model = model(entry.clone(), providers).map_err(|problem| format!("{place}{problem}"))?;
        for name in super::names(&model) {
            let name = name.to_ascii_lowercase();
            if taken.contains(&name) {
                return Err(format!("{place}the name `{name}` is taken already"));
            }
            taken.push(name);
        }
        models.push(Arc::new(model));
    }
    Ok(models)
}

fn model(entry: Value, providers: &BTreeMap<String, Arc<Provider>>) -> Result<Model, String> {
    let entry: ModelEntry = entry.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let provider = providers.get(&entry.provider).cloned().ok_or_else(|| {
        let known: Vec<&str> = providers.keys().map(String::as_str).collect();
        format!("unknown provider `{}`; did you mean `{}`?", entry.provider, nearest(&entry.provider, &known))
    })?;
    if is_bad_name(&entry.id) || entry.aliases.iter().any(|alias| is_bad_name(alias)) {
        return Err("`id` and `aliases` must be names of 1 to 100 characters without control characters".to_owned());
    }
    if entry.context_window == 0 || entry.max_output == 0 || entry.max_output > entry.context_window {
        return Err(
            "`context_window` and `max_output` must be numbers of tokens, the second not above the first".to_owned()
        );
    }
    let timeout = entry.timeout_seconds.unwrap_or(DEFAULT_TIMEOUT);
    if !(1..=LONGEST_TIMEOUT).contains(&timeout) {
        return Err(format!("`timeout_seconds` must be from 1 to {LONGEST_TIMEOUT}"));
    }
    let retries = entry.retries.unwrap_or(DEFAULT_RETRIES);
    if retries > MOST_RETRIES {
        return Err(format!("`retries` must be at most {MOST_RETRIES}"));
    }
    let is_price = |price: f64| price.is_finite() && price >= 0.0;
    if entry.price.is_some_and(|price| !is_price(price.input) || !is_price(price.output)) {
        return Err("`price` must be dollars per million tokens, like { input = 1.25, output = 10.0 }".to_owned());
    }
    Ok(Model {
        api_name: entry.api_name.unwrap_or_else(|| entry.id.clone()),
        id: entry.id,
        aliases: entry.aliases,
        provider,
        context_window: entry.context_window,
        max_output: entry.max_output,
        timeout: Duration::from_secs(timeout),
        retries,
        price: entry.price,
        takes_images: entry.images,
    })
}

fn is_bad_name(name: &str) -> bool {
    name.trim().is_empty() || name.len() > 100 || name.chars().any(char::is_control)
}

/// The providers that need no description.
fn shipped() -> [Provider; 6] {
    let provider = |name: &str, prefix: &str, api, variables: &[&str]| Provider {
        name: name.to_owned(),
        api,
        prefix: prefix.to_owned(),
        base_url: None,
        key_variables: variables.iter().map(|v| (*v).to_owned()).collect(),
        needs_key: !variables.is_empty(),
    };
    [
        provider("anthropic", "anthropic", Api::Anthropic, &["ANTHROPIC_API_KEY"]),
        provider("google", "gemini", Api::Gemini, &["GEMINI_API_KEY", "GOOGLE_API_KEY"]),
        provider("ollama", "ollama", Api::Ollama, &[]),
        provider("openai", "openai", Api::OpenaiChat, &["OPENAI_API_KEY"]),
        provider("together", "together", Api::OpenaiChat, &["TOGETHER_API_KEY"]),
        provider("xai", "xai", Api::OpenaiChat, &["XAI_API_KEY"]),
    ]
}

fn providers(value: Option<&Value>) -> Result<BTreeMap<String, Arc<Provider>>, String> {
    let mut providers: BTreeMap<String, Provider> =
        shipped().into_iter().map(|provider| (provider.name.clone(), provider)).collect();
    let tables = match value {
        None => &Table::new(),
        Some(value) => value.as_table().ok_or("`providers` must be tables like [providers.workshop]")?,
    };
    for (name, value) in tables {
        let place = format!("provider `{name}`: ");
        let table = value.as_table().ok_or_else(|| format!("{place}must be a table"))?;
        known_keys(table, &PROVIDER, &place)?;
        let known = providers.get(name);
        let provider = provider(name, known, value.clone()).map_err(|problem| format!("{place}{problem}"))?;
        providers.insert(name.clone(), provider);
    }
    Ok(providers.into_iter().map(|(name, provider)| (name, Arc::new(provider))).collect())
}

fn provider(name: &str, known: Option<&Provider>, entry: Value) -> Result<Provider, String> {
    let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if name.is_empty() || name.len() > 60 || !is_plain {
        return Err("must have a name of lower-case letters, digits, - and _".to_owned());
    }
    let entry: ProviderEntry = entry.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let api = entry.api.or(known.map(|known| known.api)).ok_or_else(|| {
        "`api` is missing; it must be openai-chat, openai-responses, gemini, anthropic or ollama".to_owned()
    })?;
    let base_url = entry.base_url.as_deref().map(base_url).transpose()?;
    if base_url.is_none() && known.is_none() {
        return Err("`base_url` is missing; it must be a URL like http://127.0.0.1:8000/v1".to_owned());
    }
    let key_variables =
        entry.key_variables.or_else(|| known.map(|known| known.key_variables.clone())).unwrap_or_default();
    Ok(Provider {
        needs_key: entry.needs_key.unwrap_or(known.map_or(!key_variables.is_empty(), |known| known.needs_key)),
        name: name.to_owned(),
        api,
        // Of its own, so that a base URL from here never redirects what others send through the gateway.
        prefix: match (&base_url, known) {
            (None, Some(known)) => known.prefix.clone(),
            _ => format!("fiedler-{name}"),
        },
        base_url,
        key_variables,
    })
}

fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("`base_url` must be a URL ({error})"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("`base_url` must begin with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("`base_url` must not hold a user name, a password, a query or a fragment".to_owned());
    }
    Ok(url)
}
