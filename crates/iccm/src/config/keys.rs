//! The keys, and how file and environment set them.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::error::{unknown, value_error};
use super::servers::{MCP_SERVERS, is_variable};
use super::values::{
    nearest, parse_bool, parse_database, parse_durability, parse_folders, parse_hosts, parse_listen,
    parse_provider_name, parse_upstream, parse_when_spool_full, scalar,
};
use super::{Config, ConfigError, Environment, Origin, Setting};

/// One key: its name in the file, and what a text means for it. Its environment variable is `ICCM_` and the name in capitals.
struct Key {
    name: &'static str,
    set: fn(&mut Config, &str, Origin) -> Result<(), String>,
}

const KEYS: [Key; 26] = [
    Key { name: "data_dir", set: |c, text, origin| put(&mut c.data_dir, parse_path(text), origin) },
    Key { name: "database_url", set: |c, text, origin| put(&mut c.database_url, parse_database(text), origin) },
    Key { name: "upstream", set: |c, text, origin| put(&mut c.upstream, parse_upstream(text), origin) },
    Key { name: "gateway_listen", set: |c, text, origin| put(&mut c.gateway_listen, parse_listen(text), origin) },
    Key { name: "dewey_listen", set: |c, text, origin| put(&mut c.dewey_listen, parse_listen(text), origin) },
    Key { name: "allowed_hosts", set: |c, text, origin| put(&mut c.allowed_hosts, parse_hosts(text), origin) },
    Key { name: "import_folders", set: |c, text, origin| put(&mut c.import_folders, parse_folders(text), origin) },
    Key { name: "fiedler_folders", set: |c, text, origin| put(&mut c.fiedler_folders, parse_folders(text), origin) },
    Key { name: "fiedler_key_file", set: |c, text, origin| put(&mut c.fiedler_key_file, parse_file(text), origin) },
    Key { name: "spy_listen", set: |c, text, origin| put(&mut c.servers.spy_listen, parse_listen(text), origin) },
    Key {
        name: "fiedler_listen",
        set: |c, text, origin| put(&mut c.servers.fiedler_listen, parse_listen(text), origin),
    },
    Key { name: "durability", set: |c, text, origin| put(&mut c.durability, parse_durability(text), origin) },
    Key {
        name: "when_spool_full",
        set: |c, text, origin| put(&mut c.when_spool_full, parse_when_spool_full(text), origin),
    },
    Key { name: "upstream_ca_file", set: |c, text, origin| put(&mut c.upstream_ca_file, parse_file(text), origin) },
    Key {
        name: "upstream_credential_file",
        set: |c, text, origin| put(&mut c.upstream_credential_file, parse_file(text), origin),
    },
    Key {
        name: "upstream_client_cert",
        set: |c, text, origin| put(&mut c.upstream_client_cert, parse_file(text), origin),
    },
    Key {
        name: "upstream_client_key",
        set: |c, text, origin| put(&mut c.upstream_client_key, parse_file(text), origin),
    },
    Key { name: "allow_remote", set: |c, text, origin| put(&mut c.allow_remote, parse_bool(text), origin) },
    Key { name: "spool_segment_bytes", set: |c, text, origin| c.bounds.set_segment_bytes(text, origin) },
    Key { name: "spool_max_bytes", set: |c, text, origin| c.bounds.set_max_bytes(text, origin) },
    Key { name: "max_connections", set: |c, text, origin| c.bounds.set_max_connections(text, origin) },
    Key { name: "header_timeout_seconds", set: |c, text, origin| c.bounds.set_header_timeout(text, origin) },
    Key { name: "idle_timeout_seconds", set: |c, text, origin| c.bounds.set_idle_timeout(text, origin) },
    Key { name: "peer_timeout_seconds", set: |c, text, origin| c.bounds.set_peer_timeout(text, origin) },
    Key { name: "connect_timeout_seconds", set: |c, text, origin| c.bounds.set_connect_timeout(text, origin) },
    Key { name: "shutdown_grace_seconds", set: |c, text, origin| c.bounds.set_shutdown_grace(text, origin) },
];

const PROVIDERS: &str = "providers";
const PROVIDER_UPSTREAM: &str = "upstream";

/// How base URLs end that have an API's version in them; recorded paths have it, too.
const VERSIONS: [&str; 2] = ["/v1", "/v1beta"];

/// Variables that begin with `ICCM_` and are no keys.
const OTHER_VARIABLES: [&str; 4] = ["ICCM_CONFIG", "ICCM_LOG", "ICCM_RELAY_CONFIG", "ICCM_SPY"];

impl Config {
    pub(super) fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        let table: Table = text.parse().map_err(|error: toml::de::Error| {
            // Without the line itself, which may hold a database's password.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let message = format!("line {line}: {}", error.message().split_whitespace().collect::<Vec<_>>().join(" "));
            ConfigError::Syntax { path: path.to_owned(), message }
        })?;
        let origin = Origin::File(path.to_owned());
        for (name, value) in &table {
            if name == PROVIDERS {
                self.read_providers(value, &origin)?;
            } else if name == MCP_SERVERS {
                self.servers.read_file(value, &origin)?;
            } else {
                self.read_key(name, value, &origin)?;
            }
        }
        Ok(())
    }

    fn read_key(&mut self, name: &str, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
        let Some(key) = KEYS.iter().find(|key| key.name == name) else {
            let known = KEYS.iter().map(|key| key.name).chain([PROVIDERS, MCP_SERVERS]);
            return Err(unknown(origin, "", name, known));
        };
        let text = scalar(value).ok_or_else(|| value_error(origin, name, "must be a single value".into()))?;
        (key.set)(self, &text, origin.clone()).map_err(|problem| value_error(origin, name, problem))
    }

    fn read_providers(&mut self, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
        let shape = "must be a table like [providers.openai] with upstream = \"https://api.openai.com\"";
        let table = value.as_table().ok_or_else(|| value_error(origin, PROVIDERS, shape.into()))?;
        for (name, provider) in table {
            let full_name = format!("{PROVIDERS}.{name}");
            let provider = provider.as_table().ok_or_else(|| value_error(origin, &full_name, shape.into()))?;
            if let Some(key) = provider.keys().find(|key| *key != PROVIDER_UPSTREAM) {
                return Err(unknown(origin, &format!("{full_name}."), key, [PROVIDER_UPSTREAM].into_iter()));
            }
            let Some(upstream) = provider.get(PROVIDER_UPSTREAM) else {
                continue;
            };
            let text = scalar(upstream).unwrap_or_default();
            self.set_provider(name, &text, origin)
                .map_err(|problem| value_error(origin, &format!("{full_name}.{PROVIDER_UPSTREAM}"), problem))?;
        }
        Ok(())
    }

    pub(super) fn read_environment(&mut self, env: &Environment) -> Result<(), ConfigError> {
        for key in &KEYS {
            let variable = variable_of(key.name);
            if let Some(text) = env.text(&variable) {
                let origin = Origin::Environment(variable);
                (key.set)(self, text, origin.clone()).map_err(|problem| value_error(&origin, key.name, problem))?;
            }
        }
        self.servers.read_environment(env)?;
        self.read_base_urls(env)?;
        for variable in env.names_with_prefix("ICCM_PROVIDERS_") {
            let (Some(name), Some(text)) = (provider_of_variable(variable), env.text(variable)) else {
                continue;
            };
            let origin = Origin::Environment(variable.to_owned());
            // A variable cannot hold a hyphen; an existing provider of that spelling is meant before a new one.
            let existing = self.providers.keys().find(|known| known.replace('-', "_") == name).cloned();
            let name = existing.unwrap_or(name);
            self.set_provider(&name, text, &origin)
                .map_err(|problem| value_error(&origin, &format!("{PROVIDERS}.{name}.{PROVIDER_UPSTREAM}"), problem))?;
        }
        Ok(())
    }

    /// `ICCM_OPENAI_BASE_URL` and the like: a provider's base URL as its clients write it, with or without the API's version
    /// at the end.
    fn read_base_urls(&mut self, env: &Environment) -> Result<(), ConfigError> {
        let known: Vec<String> = self.providers.keys().cloned().collect();
        for name in known {
            let variable = base_url_variable(&name);
            let Some(text) = env.text(&variable) else { continue };
            let origin = Origin::Environment(variable.clone());
            let text = text.trim_end_matches('/');
            let base = VERSIONS.iter().find_map(|version| text.strip_suffix(version)).unwrap_or(text);
            self.set_provider(&name, base, &origin).map_err(|problem| value_error(&origin, &variable, problem))?;
        }
        Ok(())
    }

    fn set_provider(&mut self, name: &str, text: &str, origin: &Origin) -> Result<(), String> {
        let name = parse_provider_name(name)?;
        let value = parse_upstream(text)?;
        self.providers.insert(name, Setting { value, origin: origin.clone() });
        Ok(())
    }
}

/// Variables that begin with `ICCM_` but mean nothing, each with the nearest one that does. Not an error, as the environment is
/// shared with other programs and versions; `iccm doctor` tells of them.
pub(crate) fn unknown_variables(env: &Environment) -> Vec<(String, String)> {
    let known: Vec<String> =
        KEYS.iter().map(|key| variable_of(key.name)).chain(OTHER_VARIABLES.iter().map(|v| (*v).to_owned())).collect();
    env.names_with_prefix("ICCM_")
        .filter(|name| !known.iter().any(|k| k == name) && provider_of_variable(name).is_none() && !is_variable(name))
        .filter(|name| !is_base_url(name))
        .map(|name| (name.to_owned(), nearest(name, known.iter().map(String::as_str))))
        .collect()
}

fn variable_of(key: &str) -> String {
    format!("ICCM_{}", key.to_ascii_uppercase())
}

fn base_url_variable(provider: &str) -> String {
    format!("ICCM_{}_BASE_URL", provider.to_ascii_uppercase().replace('-', "_"))
}

fn is_base_url(variable: &str) -> bool {
    variable.strip_suffix("_BASE_URL").is_some_and(|start| start.len() > "ICCM_".len())
}

fn provider_of_variable(variable: &str) -> Option<String> {
    let name = variable.strip_prefix("ICCM_PROVIDERS_")?.strip_suffix("_UPSTREAM")?;
    (!name.is_empty()).then(|| name.to_ascii_lowercase())
}

fn put<T>(setting: &mut Setting<T>, value: Result<T, String>, origin: Origin) -> Result<(), String> {
    *setting = Setting { value: value?, origin };
    Ok(())
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("must be a folder, not empty".into()) } else { Ok(PathBuf::from(text)) }
}

/// An empty text takes back what was set below.
fn parse_file(text: &str) -> Result<Option<PathBuf>, String> {
    Ok((!text.is_empty()).then(|| PathBuf::from(text)))
}
