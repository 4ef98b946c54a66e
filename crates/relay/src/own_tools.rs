//! The relay's own tools: its servers, changed from within the conversation.
//!
//! Guaranteed: what they change is in the file before it takes effect, so that it survives a restart. Wrong input is a tool
//! error that names the parameter and what it must be, and changes nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::catalog::Item;
use crate::config::{added, removed, server};
use crate::hub::{Command, Hub};
use crate::protocol::Era;

/// How long adding and reconnecting wait to see how it goes. The relay goes on trying after that.
const PATIENCE: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(10);

/// What a tool says.
#[derive(Debug)]
pub(crate) struct Said {
    value: Value,
    is_error: bool,
}

impl Said {
    fn good(value: Value) -> Self {
        Self { value, is_error: false }
    }

    fn wrong(message: impl Into<String>) -> Self {
        Self { value: Value::String(message.into()), is_error: true }
    }

    /// The result of `tools/call`.
    pub(crate) fn json(&self, era: Era) -> String {
        let text = self.value.as_str().map_or_else(|| self.value.to_string(), str::to_owned);
        let mut result = json!({"content": [{"type": "text", "text": text}], "isError": self.is_error});
        if self.value.is_object() {
            result["structuredContent"] = self.value.clone();
        }
        if era == Era::Modern {
            result["resultType"] = "complete".into();
        }
        result.to_string()
    }
}

/// The tools, as they are listed.
pub(crate) fn tools() -> Vec<Item> {
    let name = json!({"type": "string", "description": "The server's name"});
    let only_name = json!({"type": "object", "properties": {"name": name}, "required": ["name"]});
    let texts = |what: &str| json!({"type": "object", "additionalProperties": {"type": "string"}, "description": what});
    let add = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "A name for the server: letters, digits, '_', '-', '.'"},
            "url": {"type": "string", "description": "ws://, wss://, http:// or https:// URL of a running server"},
            "headers": texts("Headers for the URL; ${NAME} stands for a variable of the environment"),
            "command": {"type": "string", "description": "Program of a stdio server (instead of url)"},
            "args": {"type": "array", "items": {"type": "string"}, "description": "Arguments of the command"},
            "env": texts("Variables for the command; ${NAME} stands for a variable of the environment"),
        },
        "required": ["name"],
    });
    let none = json!({"type": "object", "properties": {}});
    let all = [
        (
            "relay_add_server",
            "Add an MCP server (url, or command with args and env). Its tools can be called at once, and it stays configured.",
            add,
        ),
        (
            "relay_list_servers",
            "List the MCP servers behind the relay, with their state and number of tools.",
            none.clone(),
        ),
        ("relay_remove_server", "Remove an MCP server and its tools.", only_name.clone()),
        ("relay_reconnect_server", "Connect anew to an MCP server (a stdio server is restarted).", only_name),
        ("relay_get_status", "The relay's state: servers, tools, calls, problems, configuration file.", none),
    ];
    let item = |(name, description, schema): (&str, &str, Value)| {
        let json = json!({"name": name, "description": description, "inputSchema": schema}).to_string();
        Item { key: name.to_owned(), json: json.into() }
    };
    all.into_iter().map(item).collect()
}

/// Calls one of them.
pub(crate) async fn call(hub: &Arc<Hub>, name: &str, arguments: &str) -> Said {
    let arguments = match serde_json::from_str(arguments) {
        Ok(Value::Object(arguments)) => arguments,
        _ => return Said::wrong("arguments must be an object"),
    };
    let result = match name {
        "relay_add_server" => add(hub, &arguments).await,
        "relay_remove_server" => remove(hub, &arguments).await,
        "relay_reconnect_server" => reconnect(hub, &arguments).await,
        "relay_list_servers" => Ok(json!({"servers": hub.status(None)})),
        _ => Ok(status(hub)),
    };
    result.map_or_else(Said::wrong, Said::good)
}

fn status(hub: &Hub) -> Value {
    let mut status = hub.totals();
    status["version"] = env!("CARGO_PKG_VERSION").into();
    status["servers"] = hub.status(None).into();
    status
}

async fn add(hub: &Arc<Hub>, arguments: &Map<String, Value>) -> Result<Value, String> {
    let name = text_of(arguments, "name")?;
    let entry = entry_of(arguments)?;
    let written = serde_json::to_string(&entry).map_err(|error| error.to_string())?;
    // The entry is judged before it is written.
    server(name, &written, &hub.expand).map_err(|problem| format!("server {name:?}: {problem}"))?;
    {
        let _changing = hub.changing.lock().await;
        if hub.is_configured(name) {
            return Err(format!("name {name:?} is taken; remove that server first (relay_remove_server)"));
        }
        change(hub, |file| added(file, name, &written)).await?;
    }
    outcome(hub, name).await
}

/// The entry for the file, from the arguments.
fn entry_of(arguments: &Map<String, Value>) -> Result<Map<String, Value>, String> {
    const KNOWN: [&str; 7] = ["name", "type", "url", "headers", "command", "args", "env"];
    if let Some(unknown) = arguments.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(format!("{unknown} is no parameter; there are {}", KNOWN.join(", ")));
    }
    let mut entry = arguments.clone();
    entry.remove("name");
    entry.retain(|_, value| !value.is_null());
    match (entry.get("url"), entry.get("command")) {
        (Some(Value::String(url)), None) => {
            let kind = if url.starts_with("ws") { "ws" } else { "http" };
            entry.entry("type").or_insert_with(|| kind.into());
        }
        (None, Some(Value::String(_))) => {}
        (Some(_), Some(_)) => return Err("give url or command, not both".to_owned()),
        (None, None) => return Err("url or command must be given".to_owned()),
        (Some(_), None) => return Err("url must be a text".to_owned()),
        (None, Some(_)) => return Err("command must be a text".to_owned()),
    }
    Ok(entry)
}

async fn remove(hub: &Arc<Hub>, arguments: &Map<String, Value>) -> Result<Value, String> {
    let name = text_of(arguments, "name")?;
    let _changing = hub.changing.lock().await;
    change(hub, |file| removed(file, name)).await.map_err(|problem| match hub.is_configured(name) {
        true => problem,
        false => unknown(hub, name),
    })?;
    Ok(json!({"removed": name}))
}

/// Changes the file, then applies it.
async fn change(hub: &Arc<Hub>, edit: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let file = hub.file.read().map_err(|error| error.to_string())?;
    let changed = edit(&file).ok_or_else(|| hub.file.shape().to_string())?;
    hub.file.write(&changed).map_err(|error| error.to_string())?;
    hub.apply(&changed).await.map(drop).map_err(|error| error.to_string())
}

async fn reconnect(hub: &Arc<Hub>, arguments: &Map<String, Value>) -> Result<Value, String> {
    let name = text_of(arguments, "name")?;
    hub.to_reconnect(name, true);
    if !hub.command(name, Command::Reconnect) {
        hub.to_reconnect(name, false);
        return Err(unknown(hub, name));
    }
    outcome(hub, name).await
}

/// Waits until an attempt to connect is over, and tells how it went.
async fn outcome(hub: &Hub, name: &str) -> Result<Value, String> {
    let deadline = Instant::now() + PATIENCE;
    while !hub.is_settled(name) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
    hub.status(Some(name)).pop().ok_or_else(|| unknown(hub, name))
}

fn unknown(hub: &Hub, name: &str) -> String {
    match hub.names().as_slice() {
        [] => format!("name {name:?} is unknown: there are no servers"),
        names => format!("name {name:?} is unknown; there are {}", names.join(", ")),
    }
}

fn text_of<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    let text = arguments.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    text.ok_or_else(|| format!("{name} must be given as a text"))
}
