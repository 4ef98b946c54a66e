//! A run: one prompt, many models, everything kept.
//!
//! Guaranteed: no model waits for another one (but for room, [`Catalog::max_parallel`]); what a run has is on disk even if
//! it is cancelled; a run ends when its last model has ended, each within its own time.
//!
//! In order: files are read, keys found, the output folder made; all models are asked; each one's answer is written as it
//! ends; then the summary, and the conversation in the record.

mod folder;
mod progress;
mod record;
mod report;

use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use winni::model::Timestamp;

use crate::ask::{Asking, Outcome};
use crate::files::{self, Allowed, Attached, Content};
use crate::keys::Secret;
use crate::models::{Catalog, Model};
use crate::providers::{Question, image_of};
use crate::{Fiedler, Problem};
use folder::Folder;
pub use progress::{Event, Stage, Watcher};
pub(crate) use record::KIND;
pub use report::{ModelResult, Report, Status, Tokens};

/// A prompt has at most so many bytes.
pub(crate) const MAX_PROMPT_BYTES: usize = 20 << 20;

/// What is to be asked.
#[derive(Clone, Debug)]
pub struct Order {
    /// The question.
    pub prompt: String,
    /// Files to go with it.
    pub files: Vec<String>,
    /// Who is asked; those that are set if there is none.
    pub models: Vec<String>,
    /// Where files may come from, if not from where tools may take them.
    pub any_file: bool,
    /// The call of the agent's model that this is.
    pub tool_use_id: Option<String>,
}

/// What all models of a run are asked.
struct Prompt {
    /// Prompt and text files in one.
    text: String,
    files: Vec<Attached>,
    tokens: u64,
}

/// A run that has begun.
struct Run<'a> {
    fiedler: &'a Fiedler,
    id: Uuid,
    prompt: Prompt,
    folder: Folder,
    watcher: Arc<dyn Watcher>,
    cancelled: CancellationToken,
    room: Semaphore,
}

/// A model and what there is to ask it with.
struct Chosen {
    model: Arc<Model>,
    key: Result<Option<Secret>, String>,
}

pub(crate) async fn run(
    fiedler: &Fiedler,
    order: Order,
    watcher: Arc<dyn Watcher>,
    cancelled: CancellationToken,
) -> Result<Report, Problem> {
    let (started_at, began) = (Timestamp::now(), Instant::now());
    let (catalog, file_problem) = fiedler.models.current();
    let models = chosen(fiedler, &catalog, &order.models)?;
    let allowed = if order.any_file { Allowed::Anywhere } else { Allowed::Folders(fiedler.file_folders()) };
    let (names, text) = (order.files.clone(), order.prompt.clone());
    let attached = tokio::task::spawn_blocking(move || files::read_all(&names, &allowed)).await;
    let attached = attached.map_err(|error| Problem::Internal(error.to_string()))?.map_err(Problem::Files)?;
    let prompt = Prompt::new(&text, attached);
    let mut warnings: Vec<String> = file_problem.into_iter().collect();
    warnings.extend(models.iter().filter_map(|model| prompt.warning(model)));
    let id = Uuid::new_v4();
    let folder = Folder::create(&fiedler.output_dir(), started_at, id).map_err(Problem::Output)?;
    folder.log(&format!("run {id}: {} models, about {} tokens of prompt", models.len(), prompt.tokens));
    let run = Run { fiedler, id, prompt, folder, watcher, cancelled, room: Semaphore::new(catalog.max_parallel) };
    // At the same time: the model's answer that asked for this call is on record a moment later than the call.
    let (results, session) = tokio::join!(run.ask_all(models), fiedler.session_of(order.tool_use_id.as_deref()));
    let mut report = Report::new(&run, results, warnings);
    report.conversation_id = run.record(&order, session, &mut report, started_at).await;
    run.folder.log(&format!(
        "{} after {:.1} s: {}",
        report.status.name(),
        began.elapsed().as_secs_f64(),
        report.message
    ));
    run.folder.write_summary(&order, &report, started_at, began.elapsed()).map_err(Problem::Output)?;
    Ok(report)
}

/// The models that are asked, each once.
fn chosen(fiedler: &Fiedler, catalog: &Catalog, named: &[String]) -> Result<Vec<Arc<Model>>, Problem> {
    let names = if named.is_empty() { fiedler.default_models(catalog) } else { named.to_vec() };
    let mut models: Vec<Arc<Model>> = Vec::new();
    for name in &names {
        let model = catalog.model(name).map_err(Problem::Models)?;
        if !models.iter().any(|known| known.id == model.id) {
            models.push(model.clone());
        }
    }
    Ok(models)
}

impl Prompt {
    fn new(prompt: &str, files: Vec<Attached>) -> Self {
        let mut text = prompt.to_owned();
        for file in &files {
            if let Content::Text(content) = &file.content {
                text.push_str(&format!("\n\n--- {} ---\n{content}", file.name));
            }
        }
        const IMAGE_TOKENS: u64 = 1_500;
        let images = files.iter().filter_map(|file| image_of(&file.content)).count() as u64;
        Self { tokens: estimated_tokens(&text) + images * IMAGE_TOKENS, text, files }
    }

    /// What the user should know before it goes wrong: the prompt may not fit.
    fn warning(&self, model: &Model) -> Option<String> {
        (self.tokens >= model.context_window).then(|| {
            format!(
                "{}: the prompt has about {} tokens, and its context window {}; it will probably refuse it",
                model.id, self.tokens, model.context_window
            )
        })
    }

    /// What is left for the answer; never nothing, as the estimate may be wrong.
    fn room_for_output(&self, model: &Model) -> u64 {
        const LEAST: u64 = 256;
        let left = model.context_window.saturating_sub(self.tokens).max(LEAST);
        model.max_output.min(left)
    }
}

/// About four characters make a token; of other scripts than Latin about one.
fn estimated_tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let others = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + others
}

impl Run<'_> {
    async fn ask_all(&self, models: Vec<Arc<Model>>) -> Vec<ModelResult> {
        let progress = progress::Progress::new(self.watcher.clone(), models.len());
        let mut asked: FuturesUnordered<_> =
            models.into_iter().enumerate().map(|(place, model)| self.ask_one(place, model, &progress)).collect();
        let mut results = Vec::new();
        while let Some(result) = asked.next().await {
            results.push(result);
        }
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    async fn ask_one(&self, place: usize, model: Arc<Model>, progress: &progress::Progress) -> (usize, ModelResult) {
        // Never closed.
        let _place = self.room.acquire().await;
        let began = Instant::now();
        let listener = progress.of_model(&model.id, &self.folder);
        listener.starts();
        let key = self.fiedler.keys.get(&model.provider).await;
        let chosen = Chosen { key: key.map(|key| key.map(|(key, _)| key)), model: model.clone() };
        let outcome = self.outcome(&chosen, &listener).await;
        let mut result = ModelResult::new(&chosen.model, &outcome, began.elapsed());
        if !outcome.reading.text.is_empty() {
            match self.folder.write_answer(&result, &outcome.reading.text) {
                Ok(path) => result.output_file = Some(path),
                Err(problem) => result.fail(format!("{}: {problem}", result.model)),
            }
        }
        self.folder.log(&result.line());
        listener.ends(&result);
        (place, ModelResult { text: outcome.reading.text, ..result })
    }

    async fn outcome(&self, chosen: &Chosen, listener: &dyn crate::ask::Listener) -> Outcome {
        let (model, provider) = (&chosen.model, &chosen.model.provider);
        let failed = |why: String| Outcome {
            error: Some(format!("{} ({}): {why}", model.id, provider.name)),
            ..Outcome::default()
        };
        let key = match &chosen.key {
            Err(problem) => return failed(problem.clone()),
            Ok(None) if provider.needs_key => {
                let variables = provider.key_variables.join(" or ");
                return failed(format!(
                    "there is no key; set one with fiedler_set_key, provider {}, or in the environment variable {variables}",
                    provider.name
                ));
            }
            Ok(key) => key.clone(),
        };
        let images: Vec<_> = self.prompt.files.iter().filter_map(|file| image_of(&file.content)).collect();
        if !images.is_empty() && !model.takes_images {
            return failed(
                "it takes no images; ask another model, or send text only (images = true in models.toml, if it does)"
                    .to_owned(),
            );
        }
        let question =
            Question { model, text: &self.prompt.text, images, max_output: self.prompt.room_for_output(model) };
        let asking = Asking { gateway: &*self.fiedler.gateway, question, key, listener, cancelled: &self.cancelled };
        asking.ask().await
    }
}
