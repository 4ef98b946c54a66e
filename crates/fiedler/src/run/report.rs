//! What a run came to.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use uuid::Uuid;

use super::Run;
use crate::ask::Outcome;
use crate::models::Model;

/// Whether there are answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// From all.
    Success,
    /// From some.
    PartialSuccess,
    /// From none.
    Failure,
}

impl Status {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Status::Success => "success",
            Status::PartialSuccess => "partial_success",
            Status::Failure => "failure",
        }
    }
}

/// A run's result.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether there are answers.
    pub status: Status,
    /// The run's id.
    pub correlation_id: Uuid,
    /// Where everything is.
    pub output_dir: PathBuf,
    /// All of this, on disk.
    pub summary_file: PathBuf,
    /// The run in the record; none if that was not available.
    pub conversation_id: Option<Uuid>,
    /// A result per model, in the order in which they were named.
    pub results: Vec<ModelResult>,
    /// In words.
    pub message: String,
    /// What should be known although the run went on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Tokens as the provider counted them; null where it did not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Of the prompt.
    pub prompt: Option<u64>,
    /// Of the answer, reasoning included.
    pub completion: Option<u64>,
}

/// What became of a model.
#[derive(Clone, Debug, Serialize)]
pub struct ModelResult {
    /// Its id.
    pub model: String,
    /// Who serves it.
    pub provider: String,
    /// `success` or `failure`.
    pub status: Status,
    /// The answer, or, after a failure, as much of it as came; null if nothing did.
    pub output_file: Option<PathBuf>,
    /// From its start to its end.
    pub duration_seconds: f64,
    /// What it took.
    pub tokens: Tokens,
    /// By `models.toml`'s price; null if there is none.
    pub cost_usd: Option<f64>,
    /// Why it is no success, and what to do.
    pub error: Option<String>,
    /// Requests that were sent.
    pub attempts: u32,
    /// Under which ids these are on record.
    pub exchange_ids: Vec<String>,
    /// The answer.
    #[serde(skip)]
    pub text: String,
}

impl ModelResult {
    pub(super) fn new(model: &Model, outcome: &Outcome, took: Duration) -> Self {
        let tokens = Tokens { prompt: outcome.reading.prompt_tokens, completion: outcome.reading.completion_tokens };
        let cost = model.price.zip(tokens.prompt).zip(tokens.completion);
        Self {
            model: model.id.clone(),
            provider: model.provider.name.clone(),
            status: if outcome.error.is_none() { Status::Success } else { Status::Failure },
            output_file: None,
            duration_seconds: took.as_secs_f64(),
            tokens,
            cost_usd: cost.map(|((price, prompt), completion)| price.of(prompt, completion)),
            error: outcome.error.clone(),
            attempts: outcome.attempts,
            exchange_ids: outcome.exchange_ids.clone(),
            text: String::new(),
        }
    }

    pub(super) fn fail(&mut self, error: String) {
        self.status = Status::Failure;
        self.error.get_or_insert(error);
    }

    /// Whether there is a whole answer.
    pub fn is_success(&self) -> bool {
        self.status == Status::Success
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Some(error) = &self.error else {
            let tokens = self.tokens.completion.map(|tokens| format!(", {tokens} tokens")).unwrap_or_default();
            return format!("{}: answered in {:.1} s{tokens}", self.model, self.duration_seconds);
        };
        error.clone()
    }
}

impl Report {
    pub(super) fn new(run: &Run<'_>, results: Vec<ModelResult>, mut warnings: Vec<String>) -> Self {
        let (all, good) = (results.len(), results.iter().filter(|result| result.is_success()).count());
        let status = match good {
            0 => Status::Failure,
            good if good == all => Status::Success,
            _ => Status::PartialSuccess,
        };
        let mut message = format!("{good} of {all} models answered");
        let failed: Vec<&str> = results.iter().filter_map(|result| result.error.as_deref()).collect();
        if !failed.is_empty() {
            message.push_str(&format!("; {}", failed.join("; ")));
        }
        if run.cancelled.is_cancelled() {
            warnings.push("the run was cancelled".to_owned());
        }
        Self {
            status,
            correlation_id: run.id,
            output_dir: run.folder.path().to_owned(),
            summary_file: run.folder.summary(),
            conversation_id: None,
            results,
            message,
            warnings,
        }
    }
}
