//! The configuration: a file, the environment and the command line, the later above the earlier.
//!
//! Guaranteed: every key means the same wherever it is set, because one parser reads it; an unknown key is an error that
//! names the nearest known one; each value knows where it came from, so that `iccm doctor` can say it.
//! Refused: guessing. A value that does not parse is an error, never a default.

mod error;
mod folders;
mod keys;
mod limits;
mod servers;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kgb::gateway::Proxies;
use url::Url;

pub(crate) use error::ConfigError;
pub(crate) use folders::relay_file;
pub(crate) use keys::unknown_variables;
pub(crate) use values::{
    Durability, Listen, WhenSpoolFull, durability_name, parse_database, parse_durability, parse_listen, parse_upstream,
    parse_when_spool_full, policy_name,
};

/// Base URLs of the providers that are configured without anybody's doing, by the first path segment that selects them.
const SHIPPED_PROVIDERS: [(&str, &str); 6] = [
    ("anthropic", "https://api.anthropic.com"),
    ("gemini", "https://generativelanguage.googleapis.com"),
    ("ollama", "http://127.0.0.1:11434"),
    ("openai", "https://api.openai.com"),
    ("together", "https://api.together.xyz"),
    ("xai", "https://api.x.ai"),
];

const DEFAULT_UPSTREAM: &str = "https://api.anthropic.com";
const DEFAULT_LISTEN: &str = "127.0.0.1:8089";
const DEFAULT_DEWEY_LISTEN: &str = "127.0.0.1:9020";
/// Below the service manager's `$CREDENTIALS_DIRECTORY`.
const FIEDLER_CREDENTIAL: &str = "iccm-fiedler-key";
/// Inside the data folder.
const DEFAULT_IMPORT_FOLDER: &str = "import";

/// Where a value was set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Origin {
    #[default]
    Default,
    File(PathBuf),
    Environment(String),
    Flag,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Environment(name) => write!(f, "environment variable {name}"),
            Origin::Flag => f.write_str("command line"),
        }
    }
}

/// A value and where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Setting<T> {
    fn default(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }

    fn override_with(&mut self, flag: Option<T>) {
        if let Some(value) = flag {
            *self = Self { value, origin: Origin::Flag };
        }
    }
}

/// Everything that can be configured.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The configuration file that was read, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Where record, spool and keys live.
    pub(crate) data_dir: Setting<PathBuf>,
    /// `sqlite:` (inside the data folder), `sqlite:PATH` or `postgres://…`.
    pub(crate) database_url: Setting<String>,
    /// Where requests go that name no provider.
    pub(crate) upstream: Setting<Url>,
    /// Where the HTTP gateway listens.
    pub(crate) gateway_listen: Setting<Listen>,
    /// Where Dewey listens.
    pub(crate) dewey_listen: Setting<Listen>,
    /// The names, beside loopback ones, under which clients may reach the MCP servers.
    pub(crate) allowed_hosts: Setting<Vec<String>>,
    /// Where files of messages may be read from; none for the one inside the data folder.
    import_folders: Setting<Vec<PathBuf>>,
    /// Where Fiedler's tools may take files from, beside the import folders and its own answers.
    fiedler_folders: Setting<Vec<PathBuf>>,
    /// What opens Fiedler's encrypted file of keys.
    fiedler_key_file: Setting<Option<PathBuf>>,
    /// What must be true of bytes before they are passed on.
    pub(crate) durability: Setting<Durability>,
    /// What happens to traffic that cannot be recorded.
    pub(crate) when_spool_full: Setting<WhenSpoolFull>,
    /// The file of the credential that the upstream gets in place of the word that clients send.
    pub(crate) upstream_credential_file: Setting<Option<PathBuf>>,
    /// Certificates of authorities that are trusted beside the platform's.
    pub(crate) upstream_ca_file: Setting<Option<PathBuf>>,
    /// The certificate that upstreams may demand of us.
    pub(crate) upstream_client_cert: Setting<Option<PathBuf>>,
    /// Its key.
    pub(crate) upstream_client_key: Setting<Option<PathBuf>>,
    /// Whether listening on anything but loopback is allowed.
    pub(crate) allow_remote: Setting<bool>,
    /// What bounds spool, clients and waiting.
    pub(crate) bounds: limits::Bounds,
    /// Proxies on the way to the upstreams, from the variables that all programs share.
    pub(crate) proxies: Proxies,
    /// The MCP servers behind the spy, and where it and ours listen.
    pub(crate) servers: servers::Servers,
    /// Base URLs of the other providers, by name.
    pub(crate) providers: BTreeMap<String, Setting<Url>>,
    /// What it was loaded from, to load it again.
    source: Source,
}

/// Flags and environment of the process. Not printed: the environment may hold secrets.
#[derive(Clone, Default)]
struct Source(Arc<(Flags, Environment)>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

/// What the command line says; absent values leave file and environment as they are.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    pub(crate) database: Option<String>,
    pub(crate) upstream: Option<Url>,
    pub(crate) gateway_listen: Option<Listen>,
    pub(crate) dewey_listen: Option<Listen>,
    pub(crate) spy_listen: Option<Listen>,
    pub(crate) fiedler_listen: Option<Listen>,
    pub(crate) durability: Option<Durability>,
    pub(crate) when_spool_full: Option<WhenSpoolFull>,
    pub(crate) allow_remote: bool,
}

/// The environment as the program found it; a type of its own so that tests need not touch the process's.
#[derive(Clone, Debug, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The process's own.
    pub(crate) fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// A variable that is set, not empty and valid Unicode; an empty one counts as unset, as shells make it easy to
    /// leave one behind.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(std::ffi::OsStr::new(name))?.to_str().filter(|value| !value.is_empty())
    }

    /// Like [`Environment::text`], for paths, which need not be Unicode.
    pub(crate) fn path(&self, name: &str) -> Option<&Path> {
        self.0.get(std::ffi::OsStr::new(name)).filter(|value| !value.is_empty()).map(Path::new)
    }

    /// All variables that are valid Unicode.
    pub(crate) fn texts(&self) -> Vec<(String, String)> {
        self.0
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?.to_owned(), value.to_str()?.to_owned())))
            .collect()
    }

    /// Names of the variables that begin with `prefix`.
    pub(crate) fn names_with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().filter_map(|name| name.to_str()).filter(move |name| name.starts_with(prefix))
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Config {
    /// Reads file and environment and puts the command line above them.
    pub(crate) fn load(flags: Flags, env: &Environment) -> Result<Self, ConfigError> {
        let mut config = Self::shipped();
        if let Some(path) = folders::config_file(flags.config.as_deref(), env) {
            config.read_file(&path)?;
            config.file = Some(path);
        }
        config.read_environment(env)?;
        config.proxies = Proxies::from_variables(|name| env.text(name));
        config.source = Source(Arc::new((flags.clone(), env.clone())));
        config.read_flags(flags)?;
        if config.data_dir.value.as_os_str().is_empty() {
            config.data_dir.value = folders::data_dir(env).ok_or(ConfigError::NoDataFolder)?;
        }
        Ok(config)
    }

    /// Reads the file again; flags and environment are what they were. With the names of the keys that have another value now
    /// and that only a restart can change.
    pub(crate) fn reload(&self) -> Result<(Self, Vec<&'static str>), ConfigError> {
        let (flags, env) = &*self.source.0;
        let new = Self::load(flags.clone(), env)?;
        let needs_restart = [
            ("data_dir", self.data_dir.value != new.data_dir.value),
            ("database_url", self.database_url.value != new.database_url.value),
            ("gateway_listen", self.gateway_listen.value != new.gateway_listen.value),
            ("dewey_listen", self.dewey_listen.value != new.dewey_listen.value),
            ("allowed_hosts", self.allowed_hosts.value != new.allowed_hosts.value),
            ("import_folders", self.import_folders.value != new.import_folders.value),
            ("fiedler_folders", self.fiedler_folders.value != new.fiedler_folders.value),
            ("fiedler_key_file", self.fiedler_key_file.value != new.fiedler_key_file.value),
            ("durability", self.durability.value != new.durability.value),
            ("when_spool_full", self.when_spool_full.value != new.when_spool_full.value),
        ];
        let changed = needs_restart.into_iter().filter(|(_, is_other)| *is_other).map(|(key, _)| key);
        let changed =
            changed.chain(self.bounds.changed(&new.bounds)).chain(self.servers.changed(&new.servers)).collect();
        Ok((new, changed))
    }

    /// The database's file, if the database is one.
    pub(crate) fn database_file(&self) -> Option<PathBuf> {
        winni::sqlite_path(&self.database_url.value, &self.data_dir.value).ok()
    }

    /// The address to listen on, if it may be listened on: there is no authentication yet, so whoever can reach the
    /// gateway can spend the owner's money through it.
    pub(crate) fn checked_listen(&self) -> Result<SocketAddr, String> {
        self.checked(self.gateway_listen.value)
    }

    /// The address for the spy to listen on, if it may be listened on.
    pub(crate) fn checked_spy_listen(&self) -> Result<SocketAddr, String> {
        self.checked(self.servers.spy_listen.value)
    }

    /// The MCP servers that the spy may connect to, by name.
    pub(crate) fn allowed_servers(&self) -> BTreeMap<String, kgb::spy::ServerUrls> {
        self.servers.allowed(self.dewey_listen.value)
    }

    /// The same where our servers listen at these addresses: whoever let the system choose a port learns it only then.
    pub(crate) fn with_servers_at(mut self, dewey: Option<SocketAddr>, fiedler: Option<SocketAddr>) -> Self {
        let at = |listen: &mut Setting<Listen>, address: Option<SocketAddr>| {
            listen.value = address.map_or(listen.value, Listen);
        };
        at(&mut self.dewey_listen, dewey);
        at(&mut self.servers.fiedler_listen, fiedler);
        self
    }

    fn checked(&self, Listen(address): Listen) -> Result<SocketAddr, String> {
        if address.ip().is_loopback() || self.allow_remote.value {
            return Ok(address);
        }
        Err(format!(
            "refusing to listen on {address}: anyone who can reach it could use and record through it, for there is \
             no authentication yet; listen on 127.0.0.1, or add --allow-remote if the network is trusted"
        ))
    }

    /// The address that Dewey is to listen on, if it may be listened on: whoever can reach it can read all conversations, and
    /// delete them.
    pub(crate) fn checked_dewey_listen(&self) -> Result<SocketAddr, String> {
        let Listen(address) = self.dewey_listen.value;
        if address.ip().is_loopback() || self.allow_remote.value {
            return Ok(address);
        }
        Err(format!(
            "refusing to listen on {address}: anyone who can reach it could read and delete every conversation through Dewey, \
             which has no authentication yet; listen on 127.0.0.1, or add --allow-remote if the network is trusted"
        ))
    }

    /// Where files of messages may be read from.
    pub(crate) fn import_folders(&self) -> Vec<PathBuf> {
        match self.import_folders.value.as_slice() {
            [] => vec![self.data_dir.value.join(DEFAULT_IMPORT_FOLDER)],
            folders => folders.to_vec(),
        }
    }

    /// The address that Fiedler is to listen on, if it may be listened on: whoever can reach it can ask models at the owner's
    /// expense.
    pub(crate) fn checked_fiedler_listen(&self) -> Result<SocketAddr, String> {
        self.checked(self.servers.fiedler_listen.value)
    }

    /// Whether somebody chose the address that Fiedler listens on.
    pub(crate) fn is_fiedler_listen_chosen(&self) -> bool {
        self.servers.fiedler_listen.origin != Origin::Default
    }

    /// Where Fiedler's tools may take files from.
    pub(crate) fn fiedler_folders(&self) -> Vec<PathBuf> {
        self.import_folders().into_iter().chain(self.fiedler_folders.value.iter().cloned()).collect()
    }

    /// What opens Fiedler's encrypted file of keys: the file that is configured, else the service manager's credential.
    pub(crate) fn fiedler_key_file(&self) -> Option<PathBuf> {
        let credential = || Some(self.environment().path("CREDENTIALS_DIRECTORY")?.join(FIEDLER_CREDENTIAL));
        self.fiedler_key_file.value.clone().or_else(|| credential().filter(|file| file.is_file()))
    }

    /// The environment that it was loaded from.
    pub(crate) fn environment(&self) -> &Environment {
        let (_, env) = &*self.source.0;
        env
    }

    fn shipped() -> Self {
        let providers = SHIPPED_PROVIDERS.iter().filter_map(|(name, url)| {
            let url = parse_upstream(url).ok()?;
            Some(((*name).to_owned(), Setting::default(url)))
        });
        Self {
            file: None,
            data_dir: Setting::default(PathBuf::new()),
            database_url: Setting::default("sqlite:".to_owned()),
            upstream: Setting::default(values::constant_url(DEFAULT_UPSTREAM)),
            gateway_listen: Setting::default(values::constant_listen(DEFAULT_LISTEN)),
            dewey_listen: Setting::default(values::constant_listen(DEFAULT_DEWEY_LISTEN)),
            allowed_hosts: Setting::default(Vec::new()),
            import_folders: Setting::default(Vec::new()),
            fiedler_folders: Setting::default(Vec::new()),
            fiedler_key_file: Setting::default(None),
            durability: Setting::default(Durability::Process),
            when_spool_full: Setting::default(WhenSpoolFull::PassUnrecorded),
            upstream_ca_file: Setting::default(None),
            upstream_client_cert: Setting::default(None),
            upstream_credential_file: Setting::default(None),
            upstream_client_key: Setting::default(None),
            allow_remote: Setting::default(false),
            bounds: limits::Bounds::default(),
            proxies: Proxies::default(),
            servers: servers::Servers::default(),
            providers: providers.collect(),
            source: Source::default(),
        }
    }

    fn read_flags(&mut self, flags: Flags) -> Result<(), ConfigError> {
        self.data_dir.override_with(flags.data_dir);
        // Here and not where the command line is parsed: an error of the parser would repeat the URL, password and all.
        let database = flags
            .database
            .as_deref()
            .map(parse_database)
            .transpose()
            .map_err(|problem| ConfigError::Value { origin: Origin::Flag, key: "--database".into(), problem })?;
        self.database_url.override_with(database);
        self.upstream.override_with(flags.upstream);
        self.gateway_listen.override_with(flags.gateway_listen);
        self.dewey_listen.override_with(flags.dewey_listen);
        self.servers.spy_listen.override_with(flags.spy_listen);
        self.servers.fiedler_listen.override_with(flags.fiedler_listen);
        self.durability.override_with(flags.durability);
        self.when_spool_full.override_with(flags.when_spool_full);
        self.allow_remote.override_with(flags.allow_remote.then_some(true));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
