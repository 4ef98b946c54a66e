//! `${NAME}` and `${NAME:-default}` in the values of an entry, as other MCP clients expand them; and what of the relay's
//! environment its children get.

use std::collections::BTreeMap;

/// What a child gets of the relay's environment. All else (keys, tokens: the relay was started by an agent) reaches a child
/// only if its entry's `env` names it.
const INHERITED: [&str; 39] = [
    "HOME",
    "LOGNAME",
    "USER",
    "PATH",
    "SHELL",
    "TERM",
    "COLORTERM",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "DBUS_SESSION_BUS_ADDRESS",
    "SSH_AUTH_SOCK",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "NODE_EXTRA_CA_CERTS",
    "NVM_DIR",
    "NVM_BIN",
    "VOLTA_HOME",
    "NPM_CONFIG_REGISTRY",
    "npm_config_registry",
    "NPM_CONFIG_CAFILE",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "UV_CACHE_DIR",
    "JAVA_HOME",
    "CLAUDE_PROJECT_DIR",
    "CLAUDE_CODE_SESSION_ID",
    "ICCM_SPY",
];
const INHERITED_PREFIXES: [&str; 2] = ["LC_", "XDG_"];

/// The relay's environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expand(BTreeMap<String, String>);

impl Expand {
    pub(crate) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().collect())
    }

    /// What children get without asking.
    pub(crate) fn inherited(&self) -> Vec<(String, String)> {
        let is_inherited =
            |name: &str| INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        self.0.iter().filter(|(name, _)| is_inherited(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// The text with variables in the place of their names. One that is not set and has no default is an error: a server
    /// that gets `${TOKEN}` itself as its token fails in a way that nobody understands.
    pub(crate) fn expand(&self, text: &str) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            let (before, after) = rest.split_at(start);
            let Some(end) = after.find('}') else { break };
            out.push_str(before);
            let inner = &after[2..end];
            let (name, default) = inner.split_once(":-").map_or((inner, None), |(name, default)| (name, Some(default)));
            match (self.0.get(name).filter(|value| default.is_none() || !value.is_empty()), default) {
                (Some(value), _) => out.push_str(value),
                (None, Some(default)) => out.push_str(default),
                (None, None) => return Err(format!("the variable {name} is not set")),
            }
            rest = &after[end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_and_missing_ones_told() {
        let expand = Expand::new([("A".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())]);
        assert_eq!(expand.expand("x${A}y${A}").as_deref(), Ok("x1y1"));
        assert_eq!(expand.expand("${B:-two}${EMPTY:-three}").as_deref(), Ok("twothree"));
        assert_eq!(expand.expand("plain $A ${open").as_deref(), Ok("plain $A ${open"));
        assert_eq!(expand.expand("${B}"), Err("the variable B is not set".to_owned()));
    }

    #[test]
    fn secrets_are_not_inherited() {
        let names = ["PATH", "LC_ALL", "ANTHROPIC_API_KEY", "CLAUDE_CODE_MESSAGING_TOKEN", "GITHUB_TOKEN"];
        let expand = Expand::new(names.map(|name| (name.to_owned(), "x".to_owned())));
        let inherited: Vec<_> = expand.inherited().into_iter().map(|(name, _)| name).collect();
        assert_eq!(inherited, ["LC_ALL", "PATH"]);
    }
}
