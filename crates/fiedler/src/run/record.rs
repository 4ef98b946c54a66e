//! A run in the record: a conversation of the prompt and one answer per model, so that runs are found, read and compared like
//! everything else that was said.

use serde_json::{Value, json};
use uuid::Uuid;
use winni::model::{ConversationSource, Destination, NewConversation, NewMessage, Role, Timestamp};

use super::{ModelResult, Order, Report, Run};

/// How runs are known among the stored conversations.
pub(crate) const KIND: &str = "fiedler_run";

impl Run<'_> {
    /// Stores the run. An answer must not be lost because the record is not there: it is on disk, and the report says what
    /// is missing.
    pub(super) async fn record(
        &self,
        order: &Order,
        session_id: Option<String>,
        report: &mut Report,
        asked_at: Timestamp,
    ) -> Option<Uuid> {
        let mut messages =
            vec![message(Role::User, json!(self.prompt.text), json!({"files": order.files}), Some(asked_at))];
        messages.extend(report.results.iter().map(answer));
        let metadata = json!({
            "kind": KIND,
            "correlation_id": report.correlation_id,
            "status": report.status,
            "output_dir": report.output_dir,
            "models": report.results.iter().map(|result| &result.model).collect::<Vec<_>>(),
            "tool_use_id": order.tool_use_id,
        });
        let new = NewConversation { session_id, metadata, source: ConversationSource::Stored };
        match self.fiedler.store.store_messages(Destination::New(new), messages).await {
            Ok((id, _)) => Some(id),
            Err(error) => {
                tracing::warn!(%error, run = %self.id, "a run could not be stored as a conversation; its files are there");
                report.warnings.push(format!("the run is not in the record: {error}; its files are in output_dir"));
                None
            }
        }
    }
}

fn answer(result: &ModelResult) -> NewMessage {
    let mut metadata = serde_json::to_value(result).unwrap_or_default();
    if let Value::Object(fields) = &mut metadata {
        fields.insert("is_answer".to_owned(), json!(!result.text.is_empty()));
    }
    // Whoever reads the conversation sees who failed and why, in the place of the answer.
    let text = match &result.error {
        Some(error) if result.text.is_empty() => format!("[no answer: {error}]"),
        _ => result.text.clone(),
    };
    // No database keeps a NUL, and a model may write one.
    message(Role::Assistant, json!(text.replace('\0', "\u{fffd}")), metadata, None)
}

fn message(role: Role, content: Value, metadata: Value, created_at: Option<Timestamp>) -> NewMessage {
    NewMessage { role, content, turn: None, metadata, created_at }
}
