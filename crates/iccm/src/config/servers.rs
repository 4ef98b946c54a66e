//! The MCP servers behind the spy, and where it and ours listen.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use kgb::spy::ServerUrls;
use toml::Value;
use url::Url;

use super::error::{unknown, value_error};
use super::values::{constant_listen, scalar};
use super::{ConfigError, Environment, Listen, Origin, Setting};

pub(super) const MCP_SERVERS: &str = "mcp_servers";
const WEBSOCKET: &str = "ws";
const HTTP: &str = "http";
const VARIABLES: &str = "ICCM_MCP_SERVERS_";

/// Where servers are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Servers {
    /// Where the spy listens.
    pub(crate) spy_listen: Setting<Listen>,
    /// Where Fiedler listens.
    pub(crate) fiedler_listen: Setting<Listen>,
    /// The other servers that the spy connects to, by name; they go before ours.
    named: BTreeMap<String, ServerUrls>,
}

impl Default for Servers {
    fn default() -> Self {
        Self {
            spy_listen: Setting::default(constant_listen("127.0.0.1:9000")),
            fiedler_listen: Setting::default(constant_listen("127.0.0.1:9010")),
            named: BTreeMap::new(),
        }
    }
}

impl Servers {
    /// All servers that the spy may connect to: ours at the addresses where they listen, and those that are configured.
    pub(crate) fn allowed(&self, dewey: Listen) -> BTreeMap<String, ServerUrls> {
        let own = [("dewey", dewey), ("fiedler", self.fiedler_listen.value)];
        let own = own.into_iter().map(|(name, Listen(address))| (name.to_owned(), own_server(address)));
        own.chain(self.named.clone()).collect()
    }

    /// The keys whose values are other ones in `new` and that only a restart changes.
    pub(super) fn changed(&self, new: &Self) -> impl Iterator<Item = &'static str> {
        let changed = [
            ("spy_listen", self.spy_listen.value != new.spy_listen.value),
            ("fiedler_listen", self.fiedler_listen.value != new.fiedler_listen.value),
        ];
        changed.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key)
    }

    pub(super) fn read_file(&mut self, value: &Value, origin: &Origin) -> Result<(), ConfigError> {
        let shape =
            "must be a table like [mcp_servers.notes] with ws = \"wss://…\" or http = \"https://…/mcp\", or both";
        let table = value.as_table().ok_or_else(|| value_error(origin, MCP_SERVERS, shape.into()))?;
        for (name, server) in table {
            let full_name = format!("{MCP_SERVERS}.{name}");
            let server = server.as_table().ok_or_else(|| value_error(origin, &full_name, shape.into()))?;
            for (key, url) in server {
                let key_name = format!("{full_name}.{key}");
                if ![WEBSOCKET, HTTP].contains(&key.as_str()) {
                    return Err(unknown(origin, &format!("{full_name}."), key, [WEBSOCKET, HTTP].into_iter()));
                }
                let text = scalar(url).unwrap_or_default();
                self.set(name, key, &text).map_err(|problem| value_error(origin, &key_name, problem))?;
            }
        }
        Ok(())
    }

    pub(super) fn read_environment(&mut self, env: &Environment) -> Result<(), ConfigError> {
        for variable in env.names_with_prefix(VARIABLES) {
            let (Some((name, key)), Some(text)) = (of_variable(variable), env.text(variable)) else { continue };
            // A variable cannot hold a hyphen; an existing server of that spelling is meant before a new one.
            let name = self.named.keys().find(|known| known.replace('-', "_") == name).cloned().unwrap_or(name);
            let wrong = |problem| {
                value_error(&Origin::Environment(variable.to_owned()), &format!("{MCP_SERVERS}.{name}.{key}"), problem)
            };
            self.set(&name, key, text).map_err(wrong)?;
        }
        Ok(())
    }

    fn set(&mut self, name: &str, key: &str, text: &str) -> Result<(), String> {
        let is_plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
        if name.is_empty() || !is_plain {
            return Err("must have a name of lower-case letters, digits, - and _".into());
        }
        let url = Some(parse_server(key, text)?);
        let server = self.named.entry(name.to_owned()).or_default();
        match key {
            WEBSOCKET => server.websocket = url,
            _ => server.http = url,
        }
        Ok(())
    }
}

/// Whether a variable names a server's URL.
pub(super) fn is_variable(variable: &str) -> bool {
    of_variable(variable).is_some()
}

fn of_variable(variable: &str) -> Option<(String, &'static str)> {
    let rest = variable.strip_prefix(VARIABLES)?;
    let (name, key) = rest.rsplit_once('_')?;
    let key = match key {
        "WS" => WEBSOCKET,
        "HTTP" => HTTP,
        _ => return None,
    };
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), key))
}

fn parse_server(key: &str, text: &str) -> Result<Url, String> {
    let schemes: [&str; 2] = if key == WEBSOCKET { ["ws", "wss"] } else { ["http", "https"] };
    let url = Url::parse(text).map_err(|e| format!("must be a URL like {}://…, not `{text}` ({e})", schemes[1]))?;
    if !schemes.contains(&url.scheme()) {
        return Err(format!("must begin with {}:// or {}://, not `{}://`", schemes[0], schemes[1], url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: it would end up in the record".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must not have a query or fragment; let the client send it".into());
    }
    Ok(url)
}

/// A server of ours. One that listens on all addresses is reached on loopback.
fn own_server(mut address: SocketAddr) -> ServerUrls {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let url = |text: String| Url::parse(&text).ok();
    ServerUrls { websocket: url(format!("ws://{address}/")), http: url(format!("http://{address}/mcp")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn ours_are_allowed_where_they_listen_and_others_as_configured() {
        let mut servers = Servers::default();
        servers.read_environment(&env(&[("ICCM_MCP_SERVERS_FAR_WS", "wss://far.example/x")])).unwrap();
        let file: toml::Table = "[far-off]\nhttp = \"https://far.example/mcp/\"".parse().unwrap();
        servers.read_file(&Value::Table(file), &Origin::Default).unwrap();
        let allowed = servers.allowed(constant_listen("0.0.0.0:7"));
        assert_eq!(allowed.keys().collect::<Vec<_>>(), ["dewey", "far", "far-off", "fiedler"]);
        let url = |url: &Option<Url>| url.as_ref().map(Url::to_string);
        assert_eq!(url(&allowed["dewey"].websocket).as_deref(), Some("ws://127.0.0.1:7/"));
        assert_eq!(url(&allowed["fiedler"].http).as_deref(), Some("http://127.0.0.1:9010/mcp"));
        assert_eq!(url(&allowed["far"].websocket).as_deref(), Some("wss://far.example/x"));
        assert_eq!(url(&allowed["far-off"].http).as_deref(), Some("https://far.example/mcp/"));
    }

    #[test]
    fn what_cannot_be_a_server_is_an_error_that_says_why() {
        let problem = |key: &str, url: &str| Servers::default().set("x", key, url).unwrap_err();
        assert!(problem("ws", "http://a").contains("ws:// or wss://"));
        assert!(problem("http", "ws://a").contains("http:// or https://"));
        assert!(!problem("ws", "ws://me:secret@a").contains("secret"));
        assert!(problem("ws", "ws://a?b").contains("query"));
        assert!(Servers::default().set("A b", "ws", "ws://a").is_err());
        let file: toml::Table = "[far]\nurl = \"https://far.example\"".parse().unwrap();
        let error = Servers::default().read_file(&Value::Table(file), &Origin::Default).unwrap_err();
        assert!(error.to_string().contains("mcp_servers.far.url"), "{error}");
    }
}
