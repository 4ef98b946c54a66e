//! A scripted MCP server that remembers what it saw.
//!
//! Its tools: `echo` (the arguments, as they were written), `own_NAME`, `size` (a text of so many bytes), `slow` (progress,
//! then waits until it is cancelled or `ms` have passed), `ask` (elicitation), `seen` (every message that came, as written),
//! `grow` (one more tool), `same` (says that its tools changed, which they did not), `die`, `env`, `orphan` (a process that
//! leaves the group; its id). Each answer carries fields that nobody knows and an integer that no double can hold.

pub mod backend;
pub mod transports;

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc, oneshot};

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Era {
    /// `initialize`, and an error for what it does not know.
    Legacy,
    /// `server/discover`.
    Modern,
    /// Legacy, and silent about what it does not know.
    Silent,
}

/// An unknown field with a number beyond every float, as it stands in answers.
pub const UNKNOWN: &str = r#""x-unknown":{"big":123456789012345678901234567890,"e":1.50e+3}"#;

/// The server.
#[derive(Clone, Debug)]
pub struct Server(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    era: Era,
    name: String,
    seen: Mutex<Vec<String>>,
    said: Mutex<Vec<String>>,
    grown: AtomicUsize,
    /// Cancelled request ids, as written.
    cancelled: Mutex<Vec<String>>,
    cancellation: Notify,
    /// Questions to the client that are open: the id, and who waits.
    asked: Mutex<Vec<(String, oneshot::Sender<String>)>>,
    /// Where changes are told.
    listeners: Mutex<Vec<(Option<String>, Out)>>,
}

/// Where messages to the client go.
pub type Out = mpsc::Sender<String>;

impl Server {
    /// A server with no memories.
    pub fn new(era: Era, name: &str) -> Self {
        Self(Arc::new(Shared {
            era,
            name: name.to_owned(),
            seen: Mutex::default(),
            said: Mutex::default(),
            grown: AtomicUsize::new(0),
            cancelled: Mutex::default(),
            cancellation: Notify::new(),
            asked: Mutex::default(),
            listeners: Mutex::default(),
        }))
    }

    /// What it speaks.
    pub fn era(&self) -> Era {
        self.0.era
    }

    /// Every message that came, as written.
    pub fn seen(&self) -> Vec<String> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Every message that went to a client over WebSocket or HTTP, as written.
    pub fn said(&self) -> Vec<String> {
        self.0.said.lock().unwrap().clone()
    }

    /// Notes what goes to a client.
    fn says(&self, text: &str) {
        self.0.said.lock().unwrap().push(text.to_owned());
    }

    /// Handles one message; what there is to say goes to `out`. Returns when the answer was given.
    pub async fn take(&self, text: String, out: Out) {
        self.0.seen.lock().unwrap().push(text.clone());
        let message: Value = serde_json::from_str(&text).expect("a client sends JSON");
        let method = message["method"].as_str().unwrap_or("").to_owned();
        match (message.get("id"), method.as_str()) {
            (Some(id), "") => self.was_answered(&id.to_string(), &message["result"].to_string()),
            (None, "notifications/cancelled") => {
                self.0.cancelled.lock().unwrap().push(message["params"]["requestId"].to_string());
                self.0.cancellation.notify_waiters();
            }
            (None, "notifications/initialized") => self.0.listeners.lock().unwrap().push((None, out)),
            (None, _) => {}
            (Some(id), _) => {
                let id = id.to_string();
                if let Some(answer) = self.request(&id, &method, &message["params"], &text, &out).await {
                    let _ = out.send(format!(r#"{{"jsonrpc":"2.0",{answer},"id":{id}}}"#)).await;
                }
            }
        }
    }

    async fn request(&self, id: &str, method: &str, params: &Value, text: &str, out: &Out) -> Option<String> {
        let shared = &self.0;
        let modern = shared.era == Era::Modern;
        if modern && params["_meta"]["io.modelcontextprotocol/clientCapabilities"].is_null() {
            return Some(error(-32602, "no capabilities in _meta"));
        }
        let capabilities = r#"{"tools":{"listChanged":true},"prompts":{},"resources":{"subscribe":true},"logging":{},"completions":{}}"#;
        Some(match method {
            "server/discover" if modern => result(&format!(
                r#""supportedVersions":["2026-07-28"],"capabilities":{capabilities},"_meta":{{"io.modelcontextprotocol/serverInfo":{{"name":"{}","version":"1"}}}}"#,
                shared.name
            )),
            "subscriptions/listen" if modern => {
                let meta = format!(r#""_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
                let ack = r#"{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{META,"notifications":{}}}"#;
                let _ = out.send(ack.replace("META", &meta)).await;
                shared.listeners.lock().unwrap().push((Some(meta), out.clone()));
                // The stream stays open until the other side ends it.
                out.closed().await;
                return None;
            }
            "initialize" if !modern => result(&format!(
                r#""protocolVersion":"2025-11-25","capabilities":{capabilities},"serverInfo":{{"name":"{}","version":"1"}}"#,
                shared.name
            )),
            "ping" if !modern => result(""),
            "tools/list" => result(&format!(r#""tools":[{}]"#, self.tools().join(","))),
            "prompts/list" => result(r#""prompts":[{"name":"greet","description":"a greeting"}]"#),
            "prompts/get" => result(&format!(r#""messages":[],"description":"from {}""#, shared.name)),
            "resources/list" => result(&format!(r#""resources":[{{"uri":"fix://{}/1","name":"one"}}]"#, shared.name)),
            "resources/templates/list" => result(&format!(
                r#""resourceTemplates":[{{"uriTemplate":"fix://{}/{{id}}","name":"any"}}]"#,
                shared.name
            )),
            "resources/read" => {
                result(&format!(r#""contents":[{{"uri":{},"text":"of {}"}}]"#, params["uri"], shared.name))
            }
            "resources/subscribe" | "resources/unsubscribe" | "logging/setLevel" if !modern => result(""),
            "completion/complete" => result(&format!(r#""completion":{{"values":["{}"]}}"#, shared.name)),
            "tools/call" => return self.call(id, params, text, out).await,
            _ if shared.era == Era::Silent => return None,
            _ => error(-32601, "unknown method"),
        })
    }

    fn tools(&self) -> Vec<String> {
        let mut names: Vec<String> =
            ["echo", "size", "slow", "ask", "seen", "grow", "same", "die", "env", "orphan"].map(str::to_owned).into();
        names.push(format!("own_{}", self.0.name));
        names.extend((0..self.0.grown.load(Ordering::SeqCst)).map(|n| format!("grown_{}_{n}", self.0.name)));
        names.iter().map(|name| format!(r#"{{{UNKNOWN},"name":"{name}","inputSchema":{{"type":"object"}}}}"#)).collect()
    }

    async fn call(&self, id: &str, params: &Value, source: &str, out: &Out) -> Option<String> {
        let arguments = &params["arguments"];
        let text = |text: &str| result(&format!(r#""content":[{{"type":"text","text":{}}}]"#, json!(text)));
        Some(match params["name"].as_str().unwrap_or("") {
            "echo" => text(source),
            "size" => text(&"x".repeat(arguments["bytes"].as_u64().unwrap_or(0) as usize)),
            "slow" => return self.slow(id, params, out).await,
            "ask" => return self.ask(params, out).await,
            "seen" => text(&self.0.seen.lock().unwrap().join("\n")),
            "grow" => {
                self.0.grown.fetch_add(1, Ordering::SeqCst);
                self.changed().await;
                text("grown")
            }
            "same" => {
                self.changed().await;
                text("nothing has changed")
            }
            "die" => std::process::exit(7),
            "env" => text(&std::env::vars().map(|(k, v)| format!("{k}={v}\n")).collect::<String>()),
            "orphan" => {
                let script = "setsid sleep 1000 >/dev/null 2>&1 & echo $!";
                let output = Command::new("sh").args(["-c", script]).output().expect("a shell");
                text(String::from_utf8_lossy(&output.stdout).trim())
            }
            name if name.starts_with("own_") || name.starts_with("grown_") => text(&self.0.name),
            other => error(-32602, &format!("no tool {other}")),
        })
    }

    async fn slow(&self, id: &str, params: &Value, out: &Out) -> Option<String> {
        if !params["_meta"]["progressToken"].is_null() {
            let token = &params["_meta"]["progressToken"];
            let progress = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":1,{UNKNOWN}}}}}"#
            );
            let _ = out.send(progress).await;
        }
        let patience = tokio::time::sleep(Duration::from_millis(params["arguments"]["ms"].as_u64().unwrap_or(60_000)));
        tokio::pin!(patience);
        loop {
            let notified = self.0.cancellation.notified();
            if self.0.cancelled.lock().unwrap().iter().any(|cancelled| cancelled == id) {
                return None;
            }
            tokio::select! {
                () = &mut patience => return Some(result(r#""content":[{"type":"text","text":"waited"}]"#)),
                () = notified => {}
                () = out.closed() => return None,
            }
        }
    }

    async fn ask(&self, params: &Value, out: &Out) -> Option<String> {
        let question =
            r#""method":"elicitation/create","params":{"message":"Who?","requestedSchema":{"type":"object"}}"#;
        let said = |answer: &str| {
            let text = json!(format!("the answer is {answer}"));
            Some(result(&format!(r#""content":[{{"type":"text","text":{text}}}]"#)))
        };
        if self.0.era == Era::Modern {
            let answer = &params["inputResponses"]["who"];
            if answer.is_null() {
                return Some(format!(
                    r#""result":{{"resultType":"input_required","inputRequests":{{"who":{{{question}}}}},"requestState":"state-1"}}"#
                ));
            }
            assert_eq!(params["requestState"], "state-1", "the state comes back as it went");
            return said(&answer.to_string());
        }
        let id = "\"question \\u0031\"";
        let (answered, answer) = oneshot::channel();
        self.0.asked.lock().unwrap().push((json!("question 1").to_string(), answered));
        let _ = out.send(format!(r#"{{"jsonrpc":"2.0","id":{id},{question}}}"#)).await;
        said(&answer.await.unwrap_or_default())
    }

    fn was_answered(&self, id: &str, answer: &str) {
        let mut asked = self.0.asked.lock().unwrap();
        if let Some(index) = asked.iter().position(|(known, _)| known == id) {
            let _ = asked.remove(index).1.send(answer.to_owned());
        }
    }

    async fn changed(&self) {
        let listeners = self.0.listeners.lock().unwrap().clone();
        for (meta, out) in listeners {
            let params = meta.map(|meta| format!(r#","params":{{{meta}}}"#)).unwrap_or_default();
            let _ =
                out.send(format!(r#"{{"jsonrpc":"2.0","method":"notifications/tools/list_changed"{params}}}"#)).await;
        }
    }
}

fn result(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#""result":{{{UNKNOWN}{comma}{members}}}"#)
}

fn error(code: i64, message: &str) -> String {
    format!(r#""error":{{"code":{code},"message":"{message}",{UNKNOWN}}}"#)
}
