//! What a request wants and to whom it belongs, read from its head and body.

use serde_json::Value;
use wire::head::RequestHead;
use wire::spans::{ArrayKey, Request, Spans};

/// The API that a request speaks, as far as conversations are read from it. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    Anthropic = 0,
    OpenAiChat = 1,
    OpenAiResponses = 2,
    Gemini = 3,
    Ollama = 4,
}

impl Api {
    /// The stored number's meaning.
    pub(crate) fn of(number: i64) -> Option<Self> {
        let all = [Self::Anthropic, Self::OpenAiChat, Self::OpenAiResponses, Self::Gemini, Self::Ollama];
        all.into_iter().find(|api| *api as i64 == number)
    }
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The next turn of a conversation.
    Turn,
    /// The agent asks for a title of its session.
    Title,
    /// The agent asks for a summary, to go on with that in place of its history.
    Compaction,
    /// Any other call that an agent makes for itself: token counts, quota probes, small checks.
    Side,
    /// Not a model call that is understood here.
    Other,
}

/// The arrays that hold a history, whichever API it is; the first that is not empty does.
pub(crate) const HISTORIES: [ArrayKey; 3] = [ArrayKey::Messages, ArrayKey::Input, ArrayKey::Contents];

/// The array that holds the history of this body.
pub(crate) fn history_key(spans: &Spans) -> ArrayKey {
    HISTORIES.into_iter().find(|key| !spans.elements(*key).is_empty()).unwrap_or(ArrayKey::Messages)
}

/// A request as threading sees it.
#[derive(Debug)]
pub(crate) struct Reading {
    pub(crate) api: Option<Api>,
    pub(crate) purpose: Purpose,
    pub(crate) model: Option<String>,
    /// As the client names it.
    pub(crate) session: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) parent_agent: Option<String>,
}

impl Reading {
    /// Reads a request. `body` is absent where it does not fit a manifest; `last_words` are the text of its last message.
    pub(crate) fn of(head: &RequestHead, body: Option<&Request<'_>>, last_words: &str) -> Self {
        let path = head.target.split('?').next().unwrap_or_default();
        let api = api(&head.method, path);
        let body = body.filter(|_| api.is_some());
        let claude_code = head.headers.get("user-agent").is_some_and(|ua| ua.starts_with("claude-cli/"))
            || head.headers.get("x-claude-code-session-id").is_some();
        let purpose = match (api, body) {
            (None, _) => Purpose::Other,
            (Some(_), _) if path.ends_with("/count_tokens") || path.ends_with(":countTokens") => Purpose::Side,
            (Some(_), Some(body)) if claude_code => purpose(body, last_words),
            (Some(_), _) => Purpose::Turn,
        };
        Self {
            api,
            purpose,
            session: header(head, "x-claude-code-session-id").or_else(|| session(body?)),
            agent: header(head, "x-claude-code-agent-id"),
            parent_agent: header(head, "x-claude-code-parent-agent-id"),
            model: body.and_then(|b| b.model.as_deref()).or_else(|| model_in(path)).map(str::to_owned),
        }
    }
}

/// Gemini's requests name their model in the path.
fn model_in(path: &str) -> Option<&str> {
    let (name, _) = path.rsplit_once(':')?;
    name.rsplit('/').next().filter(|model| !model.is_empty())
}

fn purpose(body: &Request<'_>, last_words: &str) -> Purpose {
    if is_compaction(last_words) {
        return Purpose::Compaction;
    }
    if body.max_tokens.is_some_and(|m| m <= 1) {
        return Purpose::Side;
    }
    if !body.spans.elements(ArrayKey::Tools).is_empty() {
        return Purpose::Turn;
    }
    // Without tools Claude Code asks only on its own account: in 2.1 with a schema for the title, before that with its
    // small model, briefly and at temperature 0.
    let small_model = body.model.as_deref().is_some_and(|m| m.contains("haiku"));
    let brief = body.max_tokens.is_some_and(|m| m <= 512) && body.temperature == Some(0.0);
    if body.output_config.is_some_and(|c| c.get().contains(r#""json_schema""#) && c.get().contains(r#""title""#)) {
        Purpose::Title
    } else if small_model || brief {
        Purpose::Side
    } else {
        Purpose::Turn
    }
}

/// `metadata.user_id`: a JSON text with `session_id` (Claude Code 2.1), or `user_…_session_<id>` (2.0).
fn session(body: &Request<'_>) -> Option<String> {
    let metadata: Value = serde_json::from_str(body.metadata?.get()).ok()?;
    let user_id = metadata.get("user_id")?.as_str()?;
    if let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(user_id) {
        return fields.get("session_id")?.as_str().map(str::to_owned);
    }
    let (_, session) = user_id.rsplit_once("_session_")?;
    (!session.is_empty()).then(|| session.to_owned())
}

/// Claude Code's request to summarise, in the words of 2.1 and of 2.0.
fn is_compaction(last_words: &str) -> bool {
    last_words.contains("Respond with TEXT ONLY")
        || last_words.contains("Your task is to create a detailed summary of the conversation so far")
}

fn api(method: &str, path: &str) -> Option<Api> {
    if method != "POST" {
        return None;
    }
    if path.ends_with("/v1/messages") || path.ends_with("/v1/messages/count_tokens") {
        Some(Api::Anthropic)
    } else if path.ends_with("/chat/completions") {
        Some(Api::OpenAiChat)
    } else if path.ends_with("/responses") {
        Some(Api::OpenAiResponses)
    } else if GEMINI.iter().any(|method| path.ends_with(method)) {
        Some(Api::Gemini)
    } else if path.ends_with("/api/chat") || path.ends_with("/api/generate") {
        Some(Api::Ollama)
    } else {
        None
    }
}

/// How the paths end at which Gemini's models are asked.
const GEMINI: [&str; 3] = [":generateContent", ":streamGenerateContent", ":countTokens"];

fn header(head: &RequestHead, name: &str) -> Option<String> {
    head.headers.get(name).filter(|v| !v.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use wire::head::Headers;

    use super::*;

    fn read(path: &str, headers: &[(&str, &str)], body: &str, last_words: &str) -> Reading {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect();
        let head = RequestHead {
            method: "POST".into(),
            target: path.into(),
            version: "HTTP/1.1".into(),
            headers: Headers(headers),
        };
        Reading::of(&head, wire::spans::parse(body.as_bytes()).as_ref(), last_words)
    }

    const CLI: (&str, &str) = ("User-Agent", "claude-cli/2.1.330 (external, cli)");

    #[test]
    fn the_session_is_found_where_each_version_puts_it() {
        let new = r#"{"metadata":{"user_id":"{\"device_id\":\"d\",\"session_id\":\"s-new\"}"}}"#;
        let old = r#"{"metadata":{"user_id":"user_ab_account__session_s-old"}}"#;
        assert_eq!(read("/v1/messages", &[], new, "").session.as_deref(), Some("s-new"));
        assert_eq!(read("/v1/messages", &[], old, "").session.as_deref(), Some("s-old"));
        let header = ("X-Claude-Code-Session-Id", "s-head");
        assert_eq!(read("/v1/messages", &[header], old, "").session.as_deref(), Some("s-head"));
        assert_eq!(read("/v1/messages", &[], r#"{"metadata":{"user_id":"just me"}}"#, "").session, None);
    }

    #[test]
    fn side_calls_are_told_from_turns() {
        let purpose = |body: &str, words: &str| read("/v1/messages?beta=true", &[CLI], body, words).purpose;
        let title = r#"{"max_tokens":32000,"output_config":{"format":{"type":"json_schema","schema":{"properties":{"title":{}}}}},"tools":[]}"#;
        assert_eq!(purpose(title, ""), Purpose::Title);
        assert_eq!(
            purpose(r#"{"model":"claude-3-5-haiku-20241022","max_tokens":512,"temperature":0}"#, ""),
            Purpose::Side
        );
        assert_eq!(purpose(r#"{"model":"m","max_tokens":1,"tools":[{}]}"#, "quota"), Purpose::Side);
        assert_eq!(purpose(r#"{"model":"m","tools":[{}]}"#, "CRITICAL: Respond with TEXT ONLY."), Purpose::Compaction);
        assert_eq!(
            purpose(r#"{"model":"claude-haiku-4-5","tools":[{"name":"Bash"}],"max_tokens":32000}"#, "hi"),
            Purpose::Turn
        );
        assert_eq!(read("/v1/messages/count_tokens", &[], "{}", "").purpose, Purpose::Side);
    }

    #[test]
    fn other_clients_small_requests_are_turns() {
        assert_eq!(read("/v1/messages", &[], r#"{"max_tokens":16,"temperature":0}"#, "").purpose, Purpose::Turn);
        assert_eq!(read("/openai/v1/chat/completions", &[], "{}", "").api, Some(Api::OpenAiChat));
        assert_eq!(read("/v1/models", &[], "", "").purpose, Purpose::Other);
    }

    #[test]
    fn gemini_and_ollama_are_known_by_their_paths() {
        let gemini =
            read("/gemini/v1beta/models/gemini-x:streamGenerateContent?alt=sse", &[], r#"{"contents":[]}"#, "");
        assert_eq!((gemini.api, gemini.purpose), (Some(Api::Gemini), Purpose::Turn));
        assert_eq!(gemini.model.as_deref(), Some("gemini-x"));
        let counted = read("/v1beta/models/gemini-x:countTokens", &[], r#"{"contents":[]}"#, "");
        assert_eq!((counted.purpose, counted.model.as_deref()), (Purpose::Side, Some("gemini-x")));
        assert_eq!(read("/v1beta/models/gemini-x:embedContent", &[], "{}", "").purpose, Purpose::Other);
        for path in ["/ollama/api/chat", "/api/generate"] {
            let ollama = read(path, &[], r#"{"model":"llama"}"#, "");
            assert_eq!((ollama.api, ollama.model.as_deref()), (Some(Api::Ollama), Some("llama")));
        }
        for api in [Api::Anthropic, Api::OpenAiChat, Api::OpenAiResponses, Api::Gemini, Api::Ollama] {
            assert_eq!(Api::of(api as i64), Some(api));
        }
        assert_eq!(Api::of(5), None);
    }
}
