//! Claude Code's transcripts: the files in which it keeps its sessions, a line of JSON each for messages and much else.
//!
//! The format is nobody's promise (seen in versions 2.0 to 2.1): kinds of lines and fields come and go. So what is not
//! known is passed over, and only lines of type `user` and `assistant` that hold a message count. An answer stands there in
//! pieces, a line for each block; they are put together again by the message's id, and the results of calls made side by
//! side become one message, as the model's API has them.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One file's messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transcript {
    /// The session, as the first line that names one has it.
    pub session_id: Option<String>,
    /// In the order of the file.
    pub messages: Vec<Message>,
}

/// A message.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// `user` or `assistant`.
    pub role: &'static str,
    /// A string, or an array of content blocks.
    pub content: Value,
    /// When its first line was written, as it stands there: RFC 3339.
    pub timestamp: Option<String>,
    /// The first line's own id.
    pub uuid: Option<String>,
    /// The API's id of the request that was answered; joins an answer with the exchange that was captured.
    pub request_id: Option<String>,
    /// The API's id of the message, which its pieces share.
    id: Option<String>,
    is_sub_agents: bool,
}

/// A line that is no JSON object, though it is not the last one, which may be torn while the file is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} is no JSON object: {problem}")]
pub struct TornLine {
    /// Counted from 1.
    pub line: usize,
    /// Why.
    pub problem: String,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type", default)]
    kind: Option<Value>,
    #[serde(rename = "isSidechain", default)]
    is_sidechain: Option<bool>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(rename = "sessionId", default)]
    session_id: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    uuid: Option<String>,
    #[serde(rename = "requestId", default)]
    request_id: Option<String>,
}

#[derive(Deserialize)]
struct Inner {
    #[serde(default)]
    id: Option<String>,
    content: Value,
}

/// Whether a file's first line is one of a transcript: it has a `type`, and is no message itself.
pub fn is_transcript_line(line: &str) -> bool {
    let fields: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(line);
    fields.is_ok_and(|fields| fields.get("type").is_some_and(Value::is_string) && !fields.contains_key("role"))
}

/// Reads a file. What sub-agents said is left out where it is mixed with the rest (older versions), and is all there is in a
/// sub-agent's own file. `go_on` is asked after each line, with the line's number; the reading ends where it says no.
///
/// # Errors
/// If a line is torn, and it is not the last.
pub fn read(text: &str, mut go_on: impl FnMut(usize) -> bool) -> Result<Transcript, TornLine> {
    let mut transcript = Transcript::default();
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
    while let Some((at, line)) = lines.next() {
        match serde_json::from_str::<Line<'_>>(line) {
            Ok(line) => transcript.add(line),
            Err(error) if error.is_data() => {}
            Err(_) if lines.peek().is_none() => break,
            Err(error) => return Err(TornLine { line: at + 1, problem: error.to_string() }),
        }
        if !go_on(at + 1) {
            break;
        }
    }
    let has_main = transcript.messages.iter().any(|message| !message.is_sub_agents);
    transcript.messages.retain(|message| message.is_sub_agents != has_main);
    Ok(transcript)
}

impl Transcript {
    fn add(&mut self, line: Line<'_>) {
        if self.session_id.is_none() {
            self.session_id = line.session_id;
        }
        let role = match line.kind.as_ref().and_then(Value::as_str) {
            Some("user") => "user",
            Some("assistant") => "assistant",
            _ => return,
        };
        let inner = line.message.and_then(|message| serde_json::from_str::<Inner>(message.get()).ok());
        let Some(Inner { id, content: content @ (Value::String(_) | Value::Array(_)) }) = inner else {
            return;
        };
        let message = Message {
            role,
            content,
            timestamp: line.timestamp,
            uuid: line.uuid,
            request_id: line.request_id,
            id,
            is_sub_agents: line.is_sidechain.unwrap_or(false),
        };
        let earlier = self.messages.iter().rposition(|earlier| belongs_to(earlier, &message));
        let at = earlier.or_else(|| self.continues_results(&message).then(|| self.messages.len() - 1));
        match at.and_then(|at| self.messages.get_mut(at)) {
            Some(earlier) => join(&mut earlier.content, message.content),
            None => self.messages.push(message),
        }
    }

    /// Whether both the last message and this one are nothing but results of tools.
    fn continues_results(&self, message: &Message) -> bool {
        let only_results = |message: &Message| {
            let blocks = message.content.as_array().map(Vec::as_slice).unwrap_or_default();
            !blocks.is_empty() && blocks.iter().all(|block| block["type"] == "tool_result")
        };
        let last = self.messages.last();
        only_results(message)
            && last.is_some_and(|last| {
                last.role == message.role && last.is_sub_agents == message.is_sub_agents && only_results(last)
            })
    }
}

/// Whether `piece` is a further piece of an answer.
fn belongs_to(earlier: &Message, piece: &Message) -> bool {
    piece.role == "assistant" && piece.id.is_some() && earlier.id == piece.id
}

fn join(content: &mut Value, more: Value) {
    if let (Value::Array(blocks), Value::Array(more)) = (content, more) {
        blocks.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(kind: &str, id: Option<&str>, content: Value) -> String {
        let message = json!({"role": kind, "id": id, "content": content});
        json!({"type": kind, "isSidechain": false, "sessionId": "s", "uuid": "u", "timestamp": "t", "message": message})
            .to_string()
    }

    fn contents(text: &str) -> Vec<(&'static str, Value)> {
        let transcript = read(text, |_| true).unwrap();
        transcript.messages.into_iter().map(|message| (message.role, message.content)).collect()
    }

    #[test]
    fn pieces_of_an_answer_and_results_side_by_side_become_messages() {
        let call = |id: u32| json!({"type": "tool_use", "id": id});
        let result = |id: u32| json!({"type": "tool_result", "tool_use_id": id});
        let text = [
            json!({"type": "mode", "mode": "normal"}).to_string(),
            line("user", None, json!("Do it.")),
            line("assistant", Some("m1"), json!([{"type": "text", "text": "Yes."}])),
            line("assistant", Some("m1"), json!([call(1)])),
            line("user", None, json!([result(1)])),
            line("assistant", Some("m1"), json!([call(2)])),
            line("user", None, json!([result(2)])),
            line("assistant", Some("m2"), json!([{"type": "text", "text": "Done."}])),
            "{\"type\":\"user\",\"mess".to_owned(),
        ]
        .join("\n");
        assert_eq!(
            contents(&text),
            [
                ("user", json!("Do it.")),
                ("assistant", json!([{"type": "text", "text": "Yes."}, call(1), call(2)])),
                ("user", json!([result(1), result(2)])),
                ("assistant", json!([{"type": "text", "text": "Done."}])),
            ]
        );
        assert_eq!(read(&text, |_| true).unwrap().session_id.as_deref(), Some("s"));
    }

    #[test]
    fn sub_agents_are_left_out_unless_the_file_is_theirs() {
        let sub = line("user", None, json!("sub")).replace("\"isSidechain\":false", "\"isSidechain\":true");
        let main = line("user", None, json!("main"));
        assert_eq!(contents(&format!("{main}\n{sub}")), [("user", json!("main"))]);
        assert_eq!(contents(&sub), [("user", json!("sub"))]);
    }

    #[test]
    fn what_is_not_known_is_passed_over_and_what_is_torn_is_named() {
        let text = "[1]\n7\n{\"type\":{}}\n{\"type\":\"user\"}\n{\"type\":\"user\",\"message\":{\"content\":5}}\n";
        assert_eq!(contents(text), []);
        let torn = read("{\"type\":\"user\"\n{}\n", |_| true).unwrap_err();
        assert_eq!(torn.line, 1);
    }

    #[test]
    fn a_transcript_is_told_from_messages() {
        assert!(is_transcript_line(r#"{"type":"mode"}"#));
        assert!(!is_transcript_line(r#"{"role":"user","type":"message","content":"x"}"#));
        assert!(!is_transcript_line(r#"{"content":"x"}"#));
    }
}
