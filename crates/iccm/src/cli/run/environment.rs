//! Where the command is told to send its requests, and where other parts of `iccm` that it starts are to record.
//!
//! Each variable that a client in the field reads for a provider's base URL is pointed at the gateway. If one is set
//! already, its value becomes the provider's upstream, so that requests end where they would have ended anyway; but what
//! is configured explicitly (file, environment, flag) goes above it.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, anyhow};
use url::Url;

use crate::config::{Config, Environment, Origin, Setting, durability_name, parse_upstream, policy_name};

/// A provider's variables, and the path that its clients expect at the end of the base URL.
struct Known {
    provider: &'static str,
    variables: &'static [&'static str],
    suffix: &'static str,
}

/// Anthropic's is not among them: it is the gateway's default upstream.
const KNOWN: [Known; 5] = [
    // OPENAI_BASE_URL: OpenAI's SDKs (Python ≥ 1.0, JavaScript) and Codex; OPENAI_API_BASE: Python < 1.0, LiteLLM, Aider.
    Known { provider: "openai", variables: &["OPENAI_BASE_URL", "OPENAI_API_BASE"], suffix: "/v1" },
    // Google's GenAI SDKs and Gemini CLI; they add the API's version themselves.
    Known { provider: "gemini", variables: &["GOOGLE_GEMINI_BASE_URL"], suffix: "" },
    // xAI's own SDK reads none; these two are what clients of its OpenAI-like API read (GROK_BASE_URL: grok-cli).
    Known { provider: "xai", variables: &["XAI_BASE_URL", "GROK_BASE_URL"], suffix: "/v1" },
    // Together's SDKs.
    Known { provider: "together", variables: &["TOGETHER_BASE_URL"], suffix: "/v1" },
    // Ollama's command line and SDKs; for `ollama serve` the same variable says where to listen (see `Plan::make`).
    Known { provider: "ollama", variables: &[OLLAMA_HOST], suffix: "" },
];

const ANTHROPIC_BASE_URL: &str = "ANTHROPIC_BASE_URL";
const OLLAMA_HOST: &str = "OLLAMA_HOST";
const PROXIES: [&str; 6] = ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// Host and port of this run's spy: for `ws://$ICCM_SPY?upstream=NAME` and `http://$ICCM_SPY/mcp/NAME`, which an `mcpServers`
/// file writes as `${ICCM_SPY}`.
const SPY: &str = "ICCM_SPY";

/// With any of these Claude Code talks to a cloud of another vendor, with signed requests, and reads no base URL.
const ELSEWHERE: [&str; 3] = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY"];

/// What the command's environment will be.
pub(super) struct Plan {
    /// Variables, and the path on the gateway that each is pointed at.
    routes: Vec<(&'static str, String)>,
    /// What the user should know before the command starts.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// Takes the base URLs that are set already into the configuration, and decides about the variables.
    pub(super) fn make(config: &mut Config, env: &Environment, program: &OsStr) -> anyhow::Result<Self> {
        let mut plan = Self { routes: vec![(ANTHROPIC_BASE_URL, String::new())], notes: Vec::new() };
        plan.take_anthropic(config, env)?;
        // For the server the variable is where to listen, and the gateway's port is taken.
        let is_ollama = Path::new(program).file_name() == Some(OsStr::new("ollama"));
        for known in KNOWN.iter().filter(|known| !(is_ollama && known.provider == "ollama")) {
            if let Some(upstream) = config.providers.get_mut(known.provider) {
                plan.take_provider(known, upstream, env);
            }
        }
        for variable in ELSEWHERE.into_iter().filter(|variable| env.text(variable).is_some()) {
            plan.notes.push(format!("{variable} is set: Claude Code will bypass the recorder; unset it to record"));
        }
        Ok(plan)
    }

    /// The variables to set, with the addresses of gateway and spy in them.
    pub(super) fn variables(
        &self,
        gateway: SocketAddr,
        spy: Option<SocketAddr>,
        env: &Environment,
    ) -> Vec<(String, String)> {
        let routes = self.routes.iter().map(|(name, path)| ((*name).to_owned(), format!("http://{gateway}{path}")));
        let spy = spy.map(|address| (SPY.to_owned(), address.to_string()));
        routes.chain(spy).chain(past_the_proxy(gateway, env)).collect()
    }

    fn take_anthropic(&mut self, config: &mut Config, env: &Environment) -> anyhow::Result<()> {
        let Some(existing) = env.text(ANTHROPIC_BASE_URL) else {
            return Ok(());
        };
        if config.upstream.origin != Origin::Default {
            return Ok(());
        }
        let url = parse_upstream(existing).map_err(|problem| anyhow!("{problem}")).context(ANTHROPIC_BASE_URL)?;
        let own = config.gateway_listen.value.0;
        if url.port_or_known_default() == Some(own.port()) && is_loopback(&url) {
            self.notes.push(format!(
                "{ANTHROPIC_BASE_URL}={existing} looks like an iccm that is recording already; unset it, or everything will \
                 be on record twice"
            ));
        }
        config.upstream = Setting { value: url, origin: Origin::Environment(ANTHROPIC_BASE_URL.into()) };
        Ok(())
    }

    fn take_provider(&mut self, known: &Known, upstream: &mut Setting<Url>, env: &Environment) {
        let existing = known.variables.iter().find_map(|name| Some((*name, env.text(name)?)));
        let mut suffix = known.suffix;
        if let Some((name, text)) = existing.filter(|_| upstream.origin == Origin::Default) {
            let parsed = if name == OLLAMA_HOST { ollama_url(text) } else { parse_upstream(text) };
            match parsed {
                Ok(url) => {
                    let (base, kept) = split_suffix(url, known.suffix);
                    suffix = kept;
                    *upstream = Setting { value: base, origin: Origin::Environment(name.into()) };
                }
                Err(problem) => {
                    self.notes
                        .push(format!("{name} {problem}; it is left alone, and what it leads to is not recorded"));
                    return;
                }
            }
        }
        let path = format!("/{}{suffix}", known.provider);
        self.routes.extend(known.variables.iter().map(|name| (*name, path.clone())));
    }
}

/// What the relay, and every other `iccm` below the command, needs in order to record where this run records.
pub(super) fn record(config: &Config) -> Vec<(String, OsString)> {
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).into_os_string();
    let mut variables = vec![("ICCM_DATA_DIR".to_owned(), absolute(&config.data_dir.value))];
    variables.extend(config.file.as_deref().map(|file| ("ICCM_CONFIG".to_owned(), absolute(file))));
    // The others find what file and environment say by themselves.
    let flags = [
        ("ICCM_DATABASE_URL", &config.database_url.origin, config.database_url.value.as_str()),
        ("ICCM_DURABILITY", &config.durability.origin, durability_name(config.durability.value)),
        ("ICCM_WHEN_SPOOL_FULL", &config.when_spool_full.origin, policy_name(config.when_spool_full.value)),
    ];
    let given = flags.into_iter().filter(|(_, origin, _)| **origin == Origin::Flag);
    variables.extend(given.map(|(name, _, value)| (name.to_owned(), value.into())));
    variables
}

/// Takes a base URL's usual ending off, so that recorded paths are whole (`/v1/chat/completions`). A base URL with another ending
/// stays as it is, and clients are then pointed at the provider's root.
fn split_suffix(mut url: Url, suffix: &'static str) -> (Url, &'static str) {
    let path = url.path().trim_end_matches('/').to_owned();
    match path.strip_suffix(suffix) {
        Some(base) if !suffix.is_empty() => {
            url.set_path(base);
            (url, suffix)
        }
        _ => (url, ""),
    }
}

/// `OLLAMA_HOST` in the forms that Ollama takes: a URL, or host and port, each with a default; a server's wildcard address
/// means the local one to a client.
fn ollama_url(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url = parse_upstream(&with_scheme)?;
    let authority = with_scheme.split("://").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or("");
    let has_port = authority.rsplit(']').next().is_some_and(|end| end.contains(':'));
    if url.scheme() == "http" && !has_port {
        let _ = url.set_port(Some(11434));
    }
    if url.host_str() == Some("0.0.0.0") {
        let _ = url.set_host(Some("127.0.0.1"));
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Where a proxy is set, the gateway must be reached without it. Clients differ in which spelling they read, so both are set.
fn past_the_proxy(gateway: SocketAddr, env: &Environment) -> Vec<(String, String)> {
    if !PROXIES.iter().any(|name| env.text(name).is_some()) {
        return Vec::new();
    }
    let existing = NO_PROXY.iter().find_map(|name| env.text(name)).unwrap_or("");
    if existing.trim() == "*" {
        return Vec::new();
    }
    let mut hosts: Vec<String> =
        existing.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    for host in [gateway.ip().to_string(), "localhost".to_owned()] {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    NO_PROXY.iter().map(|name| ((*name).to_owned(), hosts.join(","))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::Flags;

    const GATEWAY: &str = "127.0.0.1:4000";
    const SPY_ADDRESS: &str = "127.0.0.1:4001";

    /// The configuration and the variables that an environment leads to.
    fn planned(pairs: &[(&str, &str)], program: &str) -> (Config, BTreeMap<String, String>, Vec<String>) {
        let env: Environment = pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let flags = Flags { data_dir: Some("/d".into()), ..Flags::default() };
        let mut config = Config::load(flags, &env).unwrap();
        let plan = Plan::make(&mut config, &env, OsStr::new(program)).unwrap();
        let variables =
            plan.variables(GATEWAY.parse().unwrap(), Some(SPY_ADDRESS.parse().unwrap()), &env).into_iter().collect();
        (config, variables, plan.notes)
    }

    #[test]
    fn every_known_variable_points_at_the_gateway() {
        let (config, variables, notes) = planned(&[], "claude");
        let expected = [
            ("ANTHROPIC_BASE_URL", "http://127.0.0.1:4000"),
            ("GOOGLE_GEMINI_BASE_URL", "http://127.0.0.1:4000/gemini"),
            ("GROK_BASE_URL", "http://127.0.0.1:4000/xai/v1"),
            ("ICCM_SPY", "127.0.0.1:4001"),
            ("OLLAMA_HOST", "http://127.0.0.1:4000/ollama"),
            ("OPENAI_API_BASE", "http://127.0.0.1:4000/openai/v1"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:4000/openai/v1"),
            ("TOGETHER_BASE_URL", "http://127.0.0.1:4000/together/v1"),
            ("XAI_BASE_URL", "http://127.0.0.1:4000/xai/v1"),
        ];
        assert_eq!(variables, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(config.upstream.value.as_str(), "https://api.anthropic.com/");
        assert!(notes.is_empty());
    }

    #[test]
    fn who_records_below_the_command_is_told_the_record() {
        let flags = Flags {
            data_dir: Some("d".into()),
            database: Some("postgres://iccm@db/iccm".into()),
            durability: Some(crate::config::Durability::Power),
            ..Flags::default()
        };
        let config = Config::load(flags, &Environment::default()).unwrap();
        let variables: BTreeMap<String, OsString> = record(&config).into_iter().collect();
        assert!(Path::new(&variables["ICCM_DATA_DIR"]).is_absolute());
        assert_eq!(variables["ICCM_DATABASE_URL"], "postgres://iccm@db/iccm");
        assert_eq!(variables["ICCM_DURABILITY"], "power");
        assert_eq!(variables.len(), 3, "what nobody gave is not given: {variables:?}");
    }

    #[test]
    fn what_is_set_already_becomes_the_upstream() {
        let set = [
            ("ANTHROPIC_BASE_URL", "https://proxy.example/anthropic"),
            ("OPENAI_BASE_URL", "https://eu.example/api/v1/"),
            ("XAI_BASE_URL", "https://x.example/custom"),
        ];
        let (config, variables, _) = planned(&set, "claude");
        assert_eq!(config.upstream.value.as_str(), "https://proxy.example/anthropic");
        assert_eq!(config.providers["openai"].value.as_str(), "https://eu.example/api");
        assert_eq!(variables["OPENAI_BASE_URL"], "http://127.0.0.1:4000/openai/v1");
        assert_eq!(config.providers["xai"].value.as_str(), "https://x.example/custom");
        assert_eq!(variables["XAI_BASE_URL"], "http://127.0.0.1:4000/xai");
    }

    #[test]
    fn what_is_configured_goes_above_what_is_set() {
        let set = [("ANTHROPIC_BASE_URL", "https://a.example"), ("ICCM_UPSTREAM", "https://b.example")];
        assert_eq!(planned(&set, "claude").0.upstream.value.as_str(), "https://b.example/");
    }

    #[test]
    fn a_proxy_is_told_to_leave_the_gateway_alone() {
        let set = [("HTTPS_PROXY", "http://proxy:3128"), ("no_proxy", "internal.example, localhost")];
        let (_, variables, _) = planned(&set, "claude");
        assert_eq!(variables["NO_PROXY"], "internal.example,localhost,127.0.0.1");
        assert_eq!(variables["no_proxy"], variables["NO_PROXY"]);
    }

    #[test]
    fn ollamas_variable_has_forms_of_its_own() {
        let url = |text: &str| ollama_url(text).unwrap().to_string();
        assert_eq!(url("0.0.0.0"), "http://127.0.0.1:11434/");
        assert_eq!(url("gpu:8080"), "http://gpu:8080/");
        assert_eq!(url("http://gpu:80"), "http://gpu/");
        assert_eq!(url("https://gpu.example"), "https://gpu.example/");
        assert!(!planned(&[], "/usr/bin/ollama").1.contains_key("OLLAMA_HOST"));
    }

    #[test]
    fn what_cannot_be_recorded_is_told() {
        let set = [
            ("CLAUDE_CODE_USE_BEDROCK", "1"),
            ("OPENAI_BASE_URL", "nonsense"),
            ("ANTHROPIC_BASE_URL", "http://localhost:8089"),
        ];
        let (_, variables, notes) = planned(&set, "claude");
        assert_eq!(notes.len(), 3, "{notes:?}");
        assert!(!variables.contains_key("OPENAI_BASE_URL"));
    }
}
