//! What the values may be. Each parser's error says what the value must be, so that it reads after the key's name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

pub(crate) use kgb::WhenSpoolFull;
use toml::Value;
use url::Url;
pub(crate) use winni::model::Durability;

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(pub(crate) SocketAddr);

pub(crate) fn parse_durability(text: &str) -> Result<Durability, String> {
    match text {
        "process" => Ok(Durability::Process),
        "power" => Ok(Durability::Power),
        _ => Err(format!("must be `process` or `power`, not `{text}`")),
    }
}

/// As [`parse_durability`] reads it.
pub(crate) fn durability_name(level: Durability) -> &'static str {
    match level {
        Durability::Process => "process",
        Durability::Power => "power",
    }
}

/// As [`parse_when_spool_full`] reads it.
pub(crate) fn policy_name(policy: WhenSpoolFull) -> &'static str {
    match policy {
        WhenSpoolFull::PassUnrecorded => "pass-unrecorded",
        WhenSpoolFull::Refuse => "refuse",
    }
}

pub(crate) fn parse_when_spool_full(text: &str) -> Result<WhenSpoolFull, String> {
    match text {
        // The underscore spelling is how metrics and records name the policy.
        "pass-unrecorded" | "pass_unrecorded" => Ok(WhenSpoolFull::PassUnrecorded),
        "refuse" => Ok(WhenSpoolFull::Refuse),
        _ => Err(format!("must be `pass-unrecorded` or `refuse`, not `{text}`")),
    }
}

/// A value of the file as the text that an environment variable would hold; `None` where it is several.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Boolean(_) | Value::Integer(_) | Value::Float(_) => Some(value.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// `IP:PORT`, or `localhost:PORT`. Other names are refused: what they resolve to, and so who can reach us, may change.
pub(crate) fn parse_listen(text: &str) -> Result<Listen, String> {
    let wrong = || format!("must be an address and a port like 127.0.0.1:8089, not `{text}`");
    if let Some(port) = text.strip_prefix("localhost:") {
        let port = port.parse().map_err(|_| wrong())?;
        return Ok(Listen(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
    }
    text.parse().map(Listen).map_err(|_| wrong())
}

/// Host names, commas between them.
pub(super) fn parse_hosts(text: &str) -> Result<Vec<String>, String> {
    let names: Vec<&str> = text.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let is_name = |name: &&str| name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    match names.iter().find(|name| !is_name(name)) {
        Some(wrong) => {
            Err(format!("must be host names like dewey.example, commas between them and no port, not `{wrong}`"))
        }
        None => Ok(names.into_iter().map(str::to_owned).collect()),
    }
}

/// Absolute folders, separated as in `PATH`.
pub(super) fn parse_folders(text: &str) -> Result<Vec<PathBuf>, String> {
    let folders: Vec<PathBuf> = std::env::split_paths(text).filter(|folder| !folder.as_os_str().is_empty()).collect();
    match folders.iter().find(|folder| !folder.is_absolute()) {
        Some(wrong) => Err(format!("must be absolute folders, colons between them, not `{}`", wrong.display())),
        None => Ok(folders),
    }
}

/// An http or https base URL without credentials, query or fragment.
pub(crate) fn parse_upstream(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|e| format!("must be a URL like https://api.anthropic.com, not `{text}` ({e})"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("must begin with http:// or https://, not `{}://`", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: it would end up in the record".into());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("must not have a query or fragment: `{text}`"));
    }
    Ok(url)
}

/// A URL that can never be opened is an error at once, as nobody would find out later: recording goes on without a database.
/// It is not repeated: it may hold a password.
pub(crate) fn parse_database(text: &str) -> Result<String, String> {
    match winni::check_url(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(error) if winni::is_postgres(text) => Err(format!("cannot be used: {error}")),
        Err(_) => Err("must be `sqlite:`, `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/DATABASE`".into()),
    }
}

pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" => Ok(false),
        _ => Err(format!("must be `true` or `false`, not `{text}`")),
    }
}

/// A provider's name is the first segment of a path, and must not hide what is the gateway's or the default upstream's own.
pub(super) fn parse_provider_name(name: &str) -> Result<String, String> {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_');
    if name.is_empty() || !plain {
        return Err("must have a name of lower-case letters, digits, - and _".into());
    }
    if matches!(name, "health" | "ready" | "metrics" | "v1" | "api") {
        return Err(format!("cannot be called `{name}`: requests to /{name} are not a provider's"));
    }
    Ok(name.to_owned())
}

#[expect(clippy::expect_used, reason = "the text is a constant of this program, and a test loads it")]
pub(super) fn constant_url(text: &str) -> Url {
    Url::parse(text).expect("a constant URL parses")
}

#[expect(clippy::expect_used, reason = "the text is a constant of this program, and a test loads it")]
pub(super) fn constant_listen(text: &str) -> Listen {
    parse_listen(text).expect("a constant address parses")
}

/// The known name that is the fewest edits away.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known.min_by_key(|candidate| edit_distance(name, candidate)).unwrap_or_default().to_owned()
}

/// Levenshtein's distance, in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distances() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }

    #[test]
    fn a_listen_address_is_an_ip_or_localhost() {
        assert_eq!(parse_listen("localhost:1").map(|l| l.0.to_string()), Ok("127.0.0.1:1".into()));
        assert_eq!(parse_listen("[::1]:8089").map(|l| l.0.to_string()), Ok("[::1]:8089".into()));
        assert!(parse_listen("example.com:80").is_err());
        assert!(parse_listen(":80").is_err());
    }

    #[test]
    fn hosts_are_names_and_folders_are_absolute() {
        assert_eq!(parse_hosts("dewey, a.example,"), Ok(vec!["dewey".into(), "a.example".into()]));
        assert!(parse_hosts("dewey:9020").is_err());
        assert!(parse_hosts("http://dewey").is_err());
        assert_eq!(parse_folders("/a:/b"), Ok(vec!["/a".into(), "/b".into()]));
        assert!(parse_folders("/a:b").is_err());
    }

    #[test]
    fn an_upstream_with_a_password_is_refused_without_repeating_it() {
        let error = parse_upstream("https://me:secret@example.com").unwrap_err();
        assert!(!error.contains("secret"), "{error}");
        assert!(parse_upstream("ftp://example.com").is_err());
        assert!(parse_upstream("api.anthropic.com").is_err());
    }

    #[test]
    fn provider_names_cannot_hide_the_gateways_own_paths() {
        assert!(parse_provider_name("v1").is_err());
        assert!(parse_provider_name("Open AI").is_err());
        assert_eq!(parse_provider_name("my-llm"), Ok("my-llm".into()));
    }
}
