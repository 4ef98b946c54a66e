//! The `mcpServers` file: which backends there are.
//!
//! Guaranteed: a change of the file is noticed, and touches only the servers whose entries changed; a change by the relay's
//! own tools is atomic and durable, and leaves every other byte of the file as the user wrote it.
//! Refused: a file that is no JSON (the servers that run go on) and an entry that cannot be used (the other entries are),
//! each with a reason that [`Loaded`] carries.

mod edit;
mod expand;
mod file;

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

pub(crate) use edit::{added, removed};
pub(crate) use expand::Expand;
pub use file::ConfigError;
pub(crate) use file::ConfigFile;

/// The longest full tool name that Claude Code takes: `mcp__SERVER__TOOL`.
const FULL_NAME_CHARACTERS: usize = 128;
const DEFAULT_NAME: &str = "relay";
const DEFAULT_STARTUP_WAIT_MS: u64 = 5000;
const DEFAULT_SILENCE_MS: u64 = 30_000;

/// A backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) transport: Transport,
    /// All its tools and prompts carry its name, also where nothing collides.
    pub(crate) prefix: bool,
}

/// How a backend is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    WebSocket { url: Url, headers: HeaderMap },
    Http { url: Url, headers: HeaderMap },
    Stdio(StdioServer),
}

/// A child process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StdioServer {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) cwd: Option<String>,
}

/// What holds for the relay itself: the member `relay` of the file, which other MCP clients ignore.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Settings {
    /// The name under which the client knows the relay; it is part of every tool's full name.
    #[serde(default = "default_name")]
    pub(crate) name: String,
    /// Every backend's tools carry its name.
    #[serde(default)]
    pub(crate) prefix: bool,
    /// How long the first list waits for backends that are still starting, in milliseconds.
    #[serde(default = "default_startup_wait")]
    pub(crate) startup_wait_ms: u64,
    /// A backend that is silent for so long, and has nothing to do, is asked whether it is there, in milliseconds; it has a
    /// third of that for an answer.
    #[serde(default = "default_silence")]
    pub(crate) silence_ms: u64,
}

fn default_name() -> String {
    DEFAULT_NAME.to_owned()
}

fn default_startup_wait() -> u64 {
    DEFAULT_STARTUP_WAIT_MS
}

fn default_silence() -> u64 {
    DEFAULT_SILENCE_MS
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: default_name(),
            prefix: false,
            startup_wait_ms: DEFAULT_STARTUP_WAIT_MS,
            silence_ms: DEFAULT_SILENCE_MS,
        }
    }
}

impl Settings {
    /// Characters that a tool's name may have, so that its full name at the client fits.
    pub(crate) fn name_limit(&self) -> usize {
        FULL_NAME_CHARACTERS.saturating_sub("mcp__".len() + self.name.chars().count() + "__".len())
    }
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) settings: Settings,
    pub(crate) servers: BTreeMap<String, Server>,
    /// Entries that cannot be used, and why.
    pub(crate) refused: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, rename = "mcpServers", default)]
    servers: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    relay: Option<&'a RawValue>,
}

/// The members of an entry that mean something here; others are other clients'.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    command: Option<String>,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<String>,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    prefix: bool,
}

impl Loaded {
    /// Reads a file's text. `expand` knows the environment for `${NAME}`.
    pub(crate) fn parse(text: &str, expand: &Expand) -> Result<Self, serde_json::Error> {
        let file: File<'_> = serde_json::from_str(text)?;
        let settings = file.relay.map(|raw| serde_json::from_str(raw.get())).transpose()?.unwrap_or_default();
        let mut loaded = Self { settings, ..Self::default() };
        for (name, entry) in file.servers {
            match server(&name, entry.get(), expand) {
                Ok(Some(server)) => _ = loaded.servers.insert(name, server),
                Ok(None) => {}
                Err(reason) => _ = loaded.refused.insert(name, reason),
            }
        }
        Ok(loaded)
    }
}

/// The server that an entry describes; `None` for a disabled one.
pub(crate) fn server(name: &str, entry: &str, expand: &Expand) -> Result<Option<Server>, String> {
    checked_name(name)?;
    let entry: Entry = serde_json::from_str(entry).map_err(|error| format!("cannot be used: {error}"))?;
    if entry.disabled {
        return Ok(None);
    }
    let prefix = entry.prefix;
    transport(entry, expand).map(|transport| Some(Server { transport, prefix }))
}

/// A name becomes part of tool names, which clients restrict.
fn checked_name(name: &str) -> Result<(), String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    match name {
        "" => Err("name must not be empty".to_owned()),
        _ if name.chars().count() > 64 => Err("name must have at most 64 characters".to_owned()),
        _ if !name.chars().all(is_good) => {
            Err(format!("name {name:?} must consist of letters, digits, '_', '-' and '.'"))
        }
        _ => Ok(()),
    }
}

fn transport(entry: Entry, expand: &Expand) -> Result<Transport, String> {
    let kind = entry.kind.as_deref().unwrap_or(if entry.url.is_some() { "url" } else { "stdio" });
    match (kind, &entry.url, &entry.command) {
        ("stdio", None, Some(_)) => stdio(entry, expand).map(Transport::Stdio),
        ("stdio", _, _) => Err("needs a command (and no url)".to_owned()),
        (_, _, Some(_)) => Err("has both url and command; it must be one of them".to_owned()),
        ("ws" | "http" | "streamable-http" | "url", Some(url), None) => remote(kind, url, &entry, expand),
        ("ws" | "http" | "streamable-http", None, None) => Err(format!("needs a url, as its type is {kind}")),
        ("sse", _, _) => Err("type sse (the HTTP+SSE transport of 2024-11-05) is not supported; use http".to_owned()),
        _ => Err(format!("type {kind:?} must be ws, http or stdio")),
    }
}

fn remote(kind: &str, url: &str, entry: &Entry, expand: &Expand) -> Result<Transport, String> {
    let text = expand.expand(url)?;
    let url = Url::parse(&text).map_err(|error| format!("url {text:?}: {error}"))?;
    let mut headers = HeaderMap::new();
    for (name, value) in &entry.headers {
        let value = expand.expand(value)?;
        let name = HeaderName::try_from(name).map_err(|_| format!("header {name:?} is no header name"))?;
        // The value may be a secret and is not told.
        let mut value = HeaderValue::try_from(value).map_err(|_| format!("header {name} has an impossible value"))?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    match (kind, url.scheme()) {
        ("ws" | "url", "ws" | "wss") => Ok(Transport::WebSocket { url, headers }),
        ("http" | "streamable-http" | "url", "http" | "https") => Ok(Transport::Http { url, headers }),
        ("ws", _) => Err(format!("url {text:?} must begin with ws:// or wss://")),
        ("url", _) => Err(format!("url {text:?} must begin with ws://, wss://, http:// or https://")),
        _ => Err(format!("url {text:?} must begin with http:// or https://")),
    }
}

fn stdio(entry: Entry, expand: &Expand) -> Result<StdioServer, String> {
    let command = expand.expand(&entry.command.unwrap_or_default())?;
    if command.is_empty() {
        return Err("command must not be empty".to_owned());
    }
    let args = entry.args.iter().map(|arg| expand.expand(arg)).collect::<Result<_, _>>()?;
    let env =
        entry.env.into_iter().map(|(name, value)| Ok((name, expand.expand(&value)?))).collect::<Result<_, String>>()?;
    let cwd = entry.cwd.map(|cwd| expand.expand(&cwd)).transpose()?;
    Ok(StdioServer { command, args, env, cwd })
}

impl Transport {
    /// For people and for `relay_list_servers`: no headers, no variables, no credentials of a URL.
    pub(crate) fn describe(&self) -> String {
        match self {
            Transport::WebSocket { url, .. } | Transport::Http { url, .. } => {
                let mut url = url.clone();
                let _ = url.set_username("");
                let _ = url.set_password(None);
                url.to_string()
            }
            Transport::Stdio(server) => {
                let words = std::iter::once(&server.command).chain(&server.args);
                words.map(String::as_str).collect::<Vec<_>>().join(" ")
            }
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Transport::WebSocket { .. } => "ws",
            Transport::Http { .. } => "http",
            Transport::Stdio(_) => "stdio",
        }
    }
}

#[cfg(test)]
mod tests;
