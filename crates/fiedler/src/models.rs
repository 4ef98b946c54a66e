//! Which models there are: `models.toml`, read again whenever it has changed.
//!
//! Guaranteed: a file that is wrong changes nothing; the models stay what they were, and every answer that depends on them
//! says what is wrong with the file and where. Names are found whatever their case, and an unknown one is answered with the
//! nearest.
//! Refused: keys that are not known, a name that means two models, a model without its provider.

mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

/// The file that is written where there is none.
pub(crate) const SHIPPED: &str = include_str!("models.toml");

/// More than any list of models has.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// A model, and how it is asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    /// The name that users ask for.
    pub(crate) id: String,
    /// Other names for it.
    pub(crate) aliases: Vec<String>,
    pub(crate) provider: Arc<Provider>,
    /// The provider's name for it.
    pub(crate) api_name: String,
    /// Tokens, prompt and answer together.
    pub(crate) context_window: u64,
    /// Tokens of an answer.
    pub(crate) max_output: u64,
    /// For the whole answer, all attempts together.
    pub(crate) timeout: Duration,
    /// Further attempts, where that is safe.
    pub(crate) retries: u32,
    pub(crate) price: Option<Price>,
    pub(crate) takes_images: bool,
}

/// US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Price {
    pub(crate) input: f64,
    pub(crate) output: f64,
}

impl Price {
    pub(crate) fn of(self, prompt_tokens: u64, completion_tokens: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
        let cost = |tokens: u64, price: f64| tokens as f64 * price / 1e6;
        cost(prompt_tokens, self.input) + cost(completion_tokens, self.output)
    }
}

/// Who serves models.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provider {
    pub(crate) name: String,
    pub(crate) api: Api,
    /// The gateway's prefix for it, where it is one that the gateway knows by itself.
    pub(crate) prefix: String,
    /// Where it is, if `models.toml` says it.
    pub(crate) base_url: Option<Url>,
    /// Where its key is looked for last.
    pub(crate) key_variables: Vec<String>,
    pub(crate) needs_key: bool,
}

/// The protocol that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Api {
    /// `/v1/chat/completions`, which most servers speak.
    OpenaiChat,
    /// `/v1/responses`.
    OpenaiResponses,
    /// `models/NAME:streamGenerateContent`.
    Gemini,
    /// `/v1/messages`.
    Anthropic,
    /// `/api/chat`.
    Ollama,
}

/// All models of a file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Catalog {
    pub(crate) models: Vec<Arc<Model>>,
    pub(crate) providers: BTreeMap<String, Arc<Provider>>,
    pub(crate) default_models: Vec<String>,
    pub(crate) max_parallel: usize,
}

impl Catalog {
    /// The model of this name or alias.
    pub(crate) fn model(&self, name: &str) -> Result<&Arc<Model>, String> {
        let is_it = |model: &&Arc<Model>| names(model).any(|known| known.eq_ignore_ascii_case(name));
        self.models.iter().find(is_it).ok_or_else(|| {
            let known: Vec<&str> = self.models.iter().flat_map(|model| names(model)).collect();
            let shown: String = name.chars().take(80).collect();
            format!(
                "there is no model `{shown}`; did you mean `{}`? fiedler_list_models lists them",
                nearest(name, &known)
            )
        })
    }

    /// The provider of this name; Google's is also called by its models' name.
    pub(crate) fn provider(&self, name: &str) -> Result<&Arc<Provider>, String> {
        let wanted = if name.eq_ignore_ascii_case("gemini") { "google" } else { name };
        let found = self.providers.values().find(|provider| provider.name.eq_ignore_ascii_case(wanted));
        found.ok_or_else(|| {
            let known: Vec<&str> = self.providers.keys().map(String::as_str).collect();
            format!("must be a provider, one of {}", known.join(", "))
        })
    }
}

fn names(model: &Model) -> impl Iterator<Item = &str> {
    std::iter::once(model.id.as_str()).chain(model.aliases.iter().map(String::as_str))
}

/// The known name that is the fewest edits away.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> &'a str {
    let name: String = name.chars().take(80).collect::<String>().to_lowercase();
    known.iter().min_by_key(|candidate| edits(&name, &candidate.to_lowercase())).copied().unwrap_or_default()
}

fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = if x == *y { diagonal } else { diagonal + 1 };
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The file, and what it said when it was last right.
pub(crate) struct ModelsFile {
    path: PathBuf,
    last: Mutex<Last>,
}

struct Last {
    text: String,
    catalog: Arc<Catalog>,
    problem: Option<String>,
}

impl ModelsFile {
    /// Opens the file; where there is none, the shipped one is written first.
    pub(crate) fn open(path: PathBuf) -> Result<Self, String> {
        if !path.exists() {
            crate::output::write_new(&path, SHIPPED.as_bytes())
                .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let text = read(&path)?;
        let catalog = Arc::new(parse::catalog(&text).map_err(|problem| format!("{}: {problem}", path.display()))?);
        Ok(Self { path, last: Mutex::new(Last { text, catalog, problem: None }) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The models as the file has them now, and what is wrong with the file if it is not those.
    pub(crate) fn current(&self) -> (Arc<Catalog>, Option<String>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            // Compared whole: a time stamp would miss the second of two changes within one tick.
            Ok(text) if text == last.text => {}
            Ok(text) => {
                match parse::catalog(&text) {
                    Ok(catalog) => {
                        tracing::info!(models = catalog.models.len(), "models.toml was read again");
                        last.catalog = Arc::new(catalog);
                        last.problem = None;
                    }
                    Err(problem) => last.problem = Some(self.stays(&problem)),
                }
                last.text = text;
            }
            Err(problem) => {
                last.text.clear();
                last.problem = Some(self.stays(&problem));
            }
        }
        (last.catalog.clone(), last.problem.clone())
    }

    fn stays(&self, problem: &str) -> String {
        let problem = format!("{}: {problem}; the models stay what they were", self.path.display());
        tracing::warn!("{problem}");
        problem
    }
}

fn read(path: &Path) -> Result<String, String> {
    let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    if std::fs::metadata(path).map_err(cannot)?.len() > MAX_FILE_BYTES {
        return Err(format!("{} has more than {MAX_FILE_BYTES} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(cannot)
}

#[cfg(test)]
mod tests;
