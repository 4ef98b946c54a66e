//! Fiedler, the conductor: an MCP server that asks many models one question at once, and keeps everything.
//!
//! Guaranteed: each request goes through the recorder's gateway, so that every byte of it is on record; a model that hangs or
//! fails holds up no other one; what a model had said when its time was over is kept; a run is also a conversation in the
//! record. Keys are kept by the module `keys` and are in no answer, error, log or file but those.
//!
//! Refused: files outside the folders that the operator allows; a `models.toml` that is wrong (the models stay what they were).

mod ask;
mod files;
mod gateway;
mod keys;
mod models;
mod output;
mod providers;
mod run;
mod schema;
mod server;
mod settings;
mod tools;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mcp::Tool;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;
use winni::store::Store;

pub use gateway::Gateway;
pub use keys::Variables;
use keys::{Keys, Secret};
use models::{Catalog, ModelsFile};
pub use run::{Event, ModelResult, Order, Report, Stage, Status, Tokens, Watcher};
pub use server::Server;
use settings::SettingsFile;

/// The `kind` in the metadata of a conversation that is a run.
pub const RUN_KIND: &str = run::KIND;

/// How long the record may take to know whose call a run is, and how often it is asked. A client that is not on record
/// costs a run that is quicker than this the rest of the time.
const SESSION_PATIENCE: Duration = Duration::from_secs(2);
const SESSION_PAUSE: Duration = Duration::from_millis(50);

/// Where Fiedler keeps and finds what it needs.
pub struct Config {
    /// Its folder: `models.toml`, settings, the encrypted file of keys, and the runs where no other place is set.
    pub home: PathBuf,
    /// Tools may hand files below these folders to models.
    pub file_folders: Vec<PathBuf>,
    /// What opens the encrypted file of keys.
    pub key_file: Option<PathBuf>,
    /// The environment, for keys.
    pub variables: Variables,
}

/// Why Fiedler could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot start.
    #[error("{0}")]
    Start(String),
    /// A model that is not there.
    #[error("`models` {0}")]
    Models(String),
    /// A file that cannot be handed to models.
    #[error("`files` {0}")]
    Files(String),
    /// The answers cannot be kept.
    #[error("{0}")]
    Output(String),
    /// A key cannot be kept or found.
    #[error("{0}")]
    Keys(String),
    /// A defect.
    #[error("internal error: {0}")]
    Internal(String),
}

/// A model as lists show it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct ModelInfo {
    /// The name that it is asked for by.
    pub id: String,
    /// Who serves it.
    pub provider: String,
    /// The provider's name for it.
    pub api_name: String,
    /// Its other names.
    pub aliases: Vec<String>,
    /// Tokens, prompt and answer together.
    pub context_window: u64,
    /// Tokens of an answer.
    pub max_output: u64,
    /// Seconds for the whole answer.
    pub timeout_seconds: u64,
    /// Further attempts.
    pub retries: u32,
    /// Whether it takes images.
    pub images: bool,
    /// US dollars per million tokens: `input`, `output`.
    pub price: Option<serde_json::Value>,
    /// Whether it is asked where no models are named.
    pub is_default: bool,
    /// Where its provider's key is; null if there is none.
    pub key: Option<String>,
}

/// The orchestra.
pub struct Fiedler {
    models: ModelsFile,
    settings: SettingsFile,
    keys: Keys,
    gateway: Arc<dyn Gateway>,
    store: Arc<dyn Store>,
    home: PathBuf,
    file_folders: Vec<PathBuf>,
    tools: Vec<Tool>,
    /// Owns the runs, which outlive a call that is cancelled until what they have is written.
    runs: TaskTracker,
}

impl Fiedler {
    /// Fiedler over a gateway and a store.
    ///
    /// # Errors
    /// If its files cannot be read; the error names the file and what is wrong.
    pub fn new(config: Config, gateway: Arc<dyn Gateway>, store: Arc<dyn Store>) -> Result<Arc<Self>, Problem> {
        let home = config.home;
        output::create_folder(&home)
            .map_err(|error| Problem::Start(format!("cannot create the folder {}: {error}", home.display())))?;
        Ok(Arc::new(Self {
            models: ModelsFile::open(home.join("models.toml")).map_err(Problem::Start)?,
            settings: SettingsFile::open(home.join("settings.json")).map_err(Problem::Start)?,
            keys: Keys::new(home.join("keys.sealed"), config.key_file, config.variables),
            gateway,
            store,
            file_folders: config.file_folders,
            tools: tools::all(),
            runs: TaskTracker::new(),
            home,
        }))
    }

    /// Asks. Dropping the future cancels the run, which then writes down what it has; `cancelled` does the same and gives that.
    ///
    /// # Errors
    /// If nothing was asked; the error says what to change.
    pub async fn send(
        self: &Arc<Self>,
        order: Order,
        watcher: Arc<dyn Watcher>,
        cancelled: CancellationToken,
    ) -> Result<Report, Problem> {
        let fiedler = self.clone();
        let _cancels_when_dropped = cancelled.clone().drop_guard();
        let run = self.runs.spawn(async move { run::run(&fiedler, order, watcher, cancelled).await });
        run.await.map_err(|error| Problem::Internal(error.to_string()))?
    }

    /// All models, and what is wrong with `models.toml` if it is not those that it describes now.
    ///
    /// # Errors
    /// If the keys cannot be looked at.
    pub async fn list_models(&self) -> Result<(Vec<ModelInfo>, Option<String>), Problem> {
        let (catalog, problem) = self.models.current();
        let defaults = self.default_models(&catalog);
        let mut infos = Vec::new();
        for model in &catalog.models {
            // That a place of keys cannot be read is told where a key is needed.
            let key = self.keys.get(&model.provider).await.ok().flatten();
            let price = model.price.and_then(|price| serde_json::to_value(price).ok());
            infos.push(ModelInfo {
                id: model.id.clone(),
                provider: model.provider.name.clone(),
                api_name: model.api_name.clone(),
                aliases: model.aliases.clone(),
                context_window: model.context_window,
                max_output: model.max_output,
                timeout_seconds: model.timeout.as_secs(),
                retries: model.retries,
                images: model.takes_images,
                price,
                is_default: defaults.contains(&model.id),
                key: key.map(|(_, source)| source.to_string()),
            });
        }
        Ok((infos, problem))
    }

    /// Keeps a provider's key; where.
    ///
    /// # Errors
    /// If there is no such provider or no place for keys.
    pub async fn set_key(&self, provider: &str, key: &str) -> Result<(String, String), Problem> {
        let (catalog, _) = self.models.current();
        let provider = catalog.provider(provider).map_err(|problem| Problem::Keys(format!("`provider` {problem}")))?;
        let key = Secret::parse(key).map_err(|problem| Problem::Keys(format!("`api_key` {problem}")))?;
        let source = self.keys.set(&provider.name, &key).await.map_err(Problem::Keys)?;
        Ok((provider.name.clone(), source.to_string()))
    }

    /// Waits until runs that are cancelled have written what they have.
    pub async fn finish(&self) {
        self.runs.close();
        self.runs.wait().await;
    }

    /// The ids of the models that are asked where none is named. Those that `models.toml` no longer has are left out.
    fn default_models(&self, catalog: &Catalog) -> Vec<String> {
        let id = |name: &String| catalog.model(name).ok().map(|model| model.id.clone());
        let set = self.settings.get().models.unwrap_or_default();
        let set: Vec<String> = set.iter().filter_map(id).collect();
        if set.is_empty() { catalog.default_models.iter().filter_map(id).collect() } else { set }
    }

    fn output_dir(&self) -> PathBuf {
        self.settings.get().output_dir.unwrap_or_else(|| self.home.join("runs"))
    }

    /// Where tools may take files from: the configured folders, and former answers.
    fn file_folders(&self) -> Vec<PathBuf> {
        self.file_folders.iter().cloned().chain([self.output_dir()]).collect()
    }

    /// The session of the agent whose model made this call, if the record knows it soon.
    async fn session_of(&self, tool_use_id: Option<&str>) -> Option<String> {
        let id = tool_use_id?;
        let looking = async {
            loop {
                match self.store.session_of_tool_use(id.to_owned()).await {
                    Ok(Some(session)) => return Some(session),
                    Ok(None) => tokio::time::sleep(SESSION_PAUSE).await,
                    Err(error) => {
                        tracing::debug!(%error, "cannot look up whose call a run is");
                        return None;
                    }
                }
            }
        };
        tokio::time::timeout(SESSION_PATIENCE, looking).await.ok().flatten()
    }

    fn is_run(metadata: &serde_json::Value) -> bool {
        metadata["kind"] == RUN_KIND
    }
}

/// A run as it is on record.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RecordedRun {
    /// Its conversation.
    pub conversation_id: Uuid,
    /// What was asked.
    pub prompt: String,
    /// The answers, in the order in which the models were named.
    pub answers: Vec<RecordedAnswer>,
}

/// A model's answer on record.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RecordedAnswer {
    /// The result's fields: model, provider, status, tokens, cost …
    pub result: serde_json::Value,
    /// What it said.
    pub text: String,
}

/// Finds a run by its correlation id, its conversation's id or its output folder, or by the only beginning that fits.
///
/// # Errors
/// If there is none, or several; the error says so.
pub async fn recorded_run(store: &dyn Store, name: &str) -> Result<RecordedRun, Problem> {
    let unavailable = |error: winni::store::Error| Problem::Output(error.to_string());
    let filter = winni::model::ConversationFilter {
        source: Some(winni::model::ConversationSource::Stored),
        ..winni::model::ConversationFilter::default()
    };
    let all = store.conversations(filter).await.map_err(unavailable)?;
    let folder = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let wanted = folder.rsplit('_').next().unwrap_or_default().to_ascii_lowercase();
    let is_it = |c: &&winni::model::Conversation| {
        let run = c.metadata["correlation_id"].as_str().unwrap_or_default();
        Fiedler::is_run(&c.metadata) && (run.starts_with(&wanted) || c.id.to_string().starts_with(&wanted))
    };
    let found: Vec<_> = if wanted.is_empty() { Vec::new() } else { all.iter().filter(is_it).collect() };
    let conversation = match found.as_slice() {
        [only] => only.id,
        [] => return Err(Problem::Output(format!("there is no run `{name}`; iccm conversations lists them"))),
        several => {
            return Err(Problem::Output(format!("{} runs begin with `{name}`; give more of the id", several.len())));
        }
    };
    let turns = store.turns(conversation, 0, None).await.map_err(unavailable)?;
    let text = |content: &serde_json::Value| content.as_str().unwrap_or_default().to_owned();
    let mut turns = turns.into_iter();
    let prompt = turns.next().map(|turn| text(&turn.content)).unwrap_or_default();
    let answers = turns.map(|turn| RecordedAnswer { text: text(&turn.content), result: turn.metadata }).collect();
    Ok(RecordedRun { conversation_id: conversation, prompt, answers })
}
