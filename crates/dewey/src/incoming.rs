//! Messages that are handed in: one by one, in an array, or in a file.
//!
//! Guaranteed: all of them are checked before any is stored, and what is wrong is named with its place: `messages[3].role`.
//! Bounds: [`MAX_CONTENT_BYTES`] for a message, [`MAX_MESSAGES`] for a call, [`MAX_FILE_BYTES`] for a file.

use std::path::{Path, PathBuf};

use mcp::files::{FileError, Folders};
use mcp::{Call, ToolError, kept_value};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use winni::model::{NewMessage, Role, Timestamp};
use wire::transcript;

/// A message's content has at most so many bytes of JSON.
const MAX_CONTENT_BYTES: usize = 64 << 20;
const MAX_METADATA_BYTES: usize = 1 << 20;
/// A file has at most so many bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// They are stored in one transaction.
const MAX_MESSAGES: usize = 100_000;
/// After so many messages progress is told, and it is asked whether anybody still wants them stored.
const REPORT_EVERY: usize = 500;

/// Where messages come from.
pub(crate) enum Source {
    /// An argument.
    Given(Box<RawValue>),
    /// A file below an import folder.
    File(PathBuf),
}

/// Messages, checked.
pub(crate) struct Batch {
    pub(crate) messages: Vec<NewMessage>,
    /// The session that a transcript names.
    pub(crate) session_id: Option<String>,
    pub(crate) is_transcript: bool,
}

/// Reads and checks messages, in a thread of its own: they may be many.
pub(crate) async fn read(source: Source, folders: Vec<PathBuf>, call: Call) -> Result<Batch, ToolError> {
    let reading = move || match source {
        Source::Given(messages) => array("messages", messages.get(), &call),
        Source::File(path) => {
            let text = text_of(&path, &folders).map_err(|problem| ToolError::parameter("messages_file", problem))?;
            of_file(&text, &call)
        }
    };
    let read = tokio::task::spawn_blocking(reading).await;
    let batch = read.map_err(|error| ToolError::new(format!("internal error: {error}")))??;
    if batch.messages.is_empty() {
        return Err(ToolError::new(
            "there is no message to store; `messages` or `messages_file` must hold at least one",
        ));
    }
    Ok(batch)
}

/// A file's text; or what the path must be.
fn text_of(path: &Path, folders: &[PathBuf]) -> Result<String, String> {
    let folders = Folders { allowed: folders, called: "an import folder of the server" };
    let bytes = folders.read(path, MAX_FILE_BYTES).map_err(|error| match error {
        FileError::TooLarge(_) => format!("{error}; divide it"),
        error => error.to_string(),
    })?;
    String::from_utf8(bytes).map_err(|error| format!("must be a file of UTF-8 text: {error}"))
}

/// A message's content: a string, or an array of objects with a `type`.
pub(crate) fn content(name: &str, raw: &RawValue) -> Result<Value, ToolError> {
    const SHAPE: &str = "must be a string, or an array of content blocks, each an object with a string `type`";
    let is_block = |block: &Value| block.get("type").is_some_and(Value::is_string);
    let size = raw.get().len();
    if size > MAX_CONTENT_BYTES {
        return Err(ToolError::parameter(name, format!("must have at most {MAX_CONTENT_BYTES} bytes, not {size}")));
    }
    if !raw.get().starts_with(['"', '[']) {
        return Err(ToolError::parameter(name, SHAPE));
    }
    match kept_value(raw).map_err(|problem| ToolError::parameter(name, problem))? {
        content @ Value::String(_) => Ok(content),
        Value::Array(blocks) if !blocks.is_empty() && blocks.iter().all(is_block) => Ok(Value::Array(blocks)),
        _ => Err(ToolError::parameter(name, SHAPE)),
    }
}

fn of_file(text: &str, call: &Call) -> Result<Batch, ToolError> {
    let text = text.trim_start_matches('\u{feff}');
    if text.trim_start().starts_with('[') {
        return array("messages_file", text, call);
    }
    let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if transcript::is_transcript_line(first) { of_transcript(text, call) } else { of_lines(text, call) }
}

fn array(name: &str, text: &str, call: &Call) -> Result<Batch, ToolError> {
    // The parser's own words would repeat a string, however long it is.
    if !text.trim_start().starts_with('[') {
        return Err(ToolError::parameter(name, "must be an array of messages"));
    }
    let parts: Vec<&RawValue> = serde_json::from_str(text)
        .map_err(|error| ToolError::parameter(name, format!("must be an array of messages: {error}")))?;
    let places = parts.iter().enumerate().map(|(n, part)| (format!("{name}[{n}]"), *part));
    checked(places, parts.len(), call)
}

/// JSON Lines: a message a line.
fn of_lines(text: &str, call: &Call) -> Result<Batch, ToolError> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let mut parts = Vec::new();
    for (n, line) in lines {
        let place = format!("messages_file, line {}", n + 1);
        let part: &RawValue = serde_json::from_str(line)
            .map_err(|error| ToolError::parameter(&place, format!("must be a message in JSON: {error}")))?;
        parts.push((place, part));
    }
    let total = parts.len();
    checked(parts.into_iter(), total, call)
}

fn checked<'a>(
    parts: impl Iterator<Item = (String, &'a RawValue)>,
    total: usize,
    call: &Call,
) -> Result<Batch, ToolError> {
    check_number(total)?;
    let mut messages = Vec::with_capacity(total);
    for (n, (place, part)) in parts.enumerate() {
        messages.push(message(&place, part)?);
        go_on(n + 1, total, call)?;
    }
    Ok(Batch { messages, session_id: None, is_transcript: false })
}

fn of_transcript(text: &str, call: &Call) -> Result<Batch, ToolError> {
    let wrong = |problem: String| ToolError::parameter("messages_file", problem);
    let read = transcript::read(text, |_| !call.is_cancelled()).map_err(|error| wrong(error.to_string()))?;
    let total = read.messages.len();
    check_number(total)?;
    let mut messages = Vec::with_capacity(total);
    for (n, message) in read.messages.into_iter().enumerate() {
        messages.push(NewMessage {
            role: if message.role == "assistant" { Role::Assistant } else { Role::User },
            content: message.content,
            turn: None,
            metadata: json!({"uuid": message.uuid, "request_id": message.request_id}),
            created_at: message.timestamp.and_then(|at| serde_json::from_value(Value::String(at)).ok()),
        });
        go_on(n + 1, total, call)?;
    }
    Ok(Batch { messages, session_id: read.session_id, is_transcript: true })
}

fn check_number(total: usize) -> Result<(), ToolError> {
    match total {
        0..=MAX_MESSAGES => Ok(()),
        more => Err(ToolError::new(format!("a call stores at most {MAX_MESSAGES} messages, not {more}; divide them"))),
    }
}

/// Checking is the first half of the work, storing the second.
fn go_on(done: usize, total: usize, call: &Call) -> Result<(), ToolError> {
    if done.is_multiple_of(REPORT_EVERY) || done == total {
        if call.is_cancelled() {
            return Err(ToolError::new("cancelled; nothing was stored"));
        }
        call.report(done as u64, 2 * total as u64, "checked");
    }
    Ok(())
}

/// A message's fields; others are passed over, so that what `dewey_get_conversation` gives can be stored again.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    role: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    turn_number: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<&'a RawValue>,
    #[serde(borrow, default)]
    created_at: Option<&'a RawValue>,
}

fn message(place: &str, raw: &RawValue) -> Result<NewMessage, ToolError> {
    if !raw.get().starts_with('{') {
        return Err(ToolError::parameter(place, "must be an object with `role` and `content`"));
    }
    let fields: Fields<'_> = serde_json::from_str(raw.get())
        .map_err(|error| ToolError::parameter(place, format!("must be an object with each field once: {error}")))?;
    let field = |name: &str| format!("{place}.{name}");
    let missing = |name: &str| ToolError::parameter(&field(name), "is missing; it is required");
    let role = fields.role.ok_or_else(|| missing("role"))?;
    let content_field = fields.content.ok_or_else(|| missing("content"))?;
    Ok(NewMessage {
        role: role_of(&field("role"), role)?,
        content: content(&field("content"), content_field)?,
        turn: fields.turn_number.map(|raw| turn(&field("turn_number"), raw)).transpose()?,
        metadata: fields.metadata.map_or_else(|| Ok(json!({})), |raw| metadata(&field("metadata"), raw))?,
        created_at: fields.created_at.map(|raw| moment(&field("created_at"), raw)).transpose()?,
    })
}

fn role_of(name: &str, raw: &RawValue) -> Result<Role, ToolError> {
    let text: Option<String> = serde_json::from_str(raw.get()).ok();
    let found = text.and_then(|text| Role::ALL.into_iter().find(|role| role.name() == text));
    found.ok_or_else(|| ToolError::parameter(name, "must be one of user, assistant, system, tool"))
}

fn turn(name: &str, raw: &RawValue) -> Result<u64, ToolError> {
    let number = serde_json::from_str::<u64>(raw.get()).ok().filter(|n| (1..=i64::MAX as u64).contains(n));
    number.ok_or_else(|| ToolError::parameter(name, "must be an integer from 1 on"))
}

fn metadata(name: &str, raw: &RawValue) -> Result<Value, ToolError> {
    if !raw.get().starts_with('{') || raw.get().len() > MAX_METADATA_BYTES {
        let problem = format!("must be a JSON object of at most {MAX_METADATA_BYTES} bytes");
        return Err(ToolError::parameter(name, problem));
    }
    kept_value(raw).map_err(|problem| ToolError::parameter(name, problem))
}

fn moment(name: &str, raw: &RawValue) -> Result<Timestamp, ToolError> {
    let moment = serde_json::from_str(raw.get());
    moment.map_err(|_| ToolError::parameter(name, "must be a time like 2026-11-22T10:00:00Z"))
}

#[cfg(test)]
mod tests;
