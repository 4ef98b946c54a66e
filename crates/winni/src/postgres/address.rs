//! Where a PostgreSQL database is, and how far the way there is to be trusted.
//!
//! `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…&sslrootcert=…`, as libpq reads it. Refused: options that are not
//! known. Guaranteed: nothing that is made from an address for people to read shows the password, or any part of a URL
//! that could not be read.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::store::{Error, Result};

/// How long the server may take to answer a connection's first word.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After so long without an acknowledgement of what was sent, the other side counts as gone.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Options that are passed on to the driver as they are.
const PASSED_ON: [&str; 12] = [
    "user",
    "password",
    "dbname",
    "host",
    "port",
    "hostaddr",
    "options",
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "target_session_attrs",
    "channel_binding",
];

/// What has to be true of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// Nothing: what is sent is hidden from who listens, and not from who stands in between.
    Anyone,
    /// It leads to an authority that is trusted.
    Authority,
    /// It leads to an authority that is trusted, and names the host.
    Host,
}

/// A database's address.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) config: Config,
    pub(super) trust: Trust,
    /// Authorities that are trusted; without it, those of the platform.
    pub(super) root_cert: Option<PathBuf>,
}

impl Address {
    /// Reads a URL.
    pub(super) fn parse(url: &str) -> Result<Self> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = url::form_urlencoded::Serializer::new(String::new());
        let (mut mode, mut root_cert) = ("prefer".to_owned(), None);
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "sslmode" => mode = value.into_owned(),
                "sslrootcert" if value == "system" => root_cert = None,
                "sslrootcert" => root_cert = Some(PathBuf::from(value.into_owned())),
                name if PASSED_ON.contains(&name) => {
                    kept.append_pair(name, &value);
                }
                // Not repeated: it may be the rest of a password with a `?` in it.
                _ => return Err(unreadable("it has an option that is not known (a `?` in a password is written %3F)")),
            }
        }
        let kept = kept.finish().replace('+', "%20");
        // The parser's words are not repeated either, they quote what they could not read.
        let mut config: Config = format!("{base}?{kept}").parse().map_err(|_| unreadable("it cannot be parsed"))?;
        if config.get_hosts().is_empty() {
            return Err(unreadable("it names no host"));
        }
        let trust = security(&mode, root_cert.is_some(), &mut config)?;
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.tcp_user_timeout(TCP_USER_TIMEOUT).application_name("iccm");
        Ok(Self { config, trust, root_cert })
    }

    /// Where it is, for people: user, host, port and database.
    pub(super) fn shown(&self) -> String {
        let hosts: Vec<String> = self.config.get_hosts().iter().map(host).collect();
        let ports: Vec<String> = self.config.get_ports().iter().map(u16::to_string).collect();
        let user = self.config.get_user().unwrap_or_default();
        let at = if user.is_empty() { "" } else { "@" };
        let colon = if ports.is_empty() { "" } else { ":" };
        let database = self.config.get_dbname().unwrap_or(user);
        format!("postgres://{user}{at}{}{colon}{}/{database}", hosts.join(","), ports.join(","))
    }
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    }
}

fn security(mode: &str, has_root: bool, config: &mut Config) -> Result<Trust> {
    let (ssl_mode, trust) = match mode {
        "disable" => (SslMode::Disable, Trust::Anyone),
        "prefer" => (SslMode::Prefer, Trust::Anyone),
        // As libpq does: who names an authority wants it to be asked.
        "require" if has_root => (SslMode::Require, Trust::Authority),
        "require" => (SslMode::Require, Trust::Anyone),
        "verify-ca" => (SslMode::Require, Trust::Authority),
        "verify-full" => (SslMode::Require, Trust::Host),
        _ => return Err(unreadable("sslmode is disable, prefer, require, verify-ca or verify-full")),
    };
    config.ssl_mode(ssl_mode);
    Ok(trust)
}

fn unreadable(why: &str) -> Error {
    Error::Invalid(format!(
        "the database URL is not usable: {why}; it looks like postgres://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full"
    ))
}

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sslmode_says_what_is_asked_of_the_server() {
        let read = |query: &str| {
            let address = Address::parse(&format!("postgres://u:p@db.example:5433/iccm{query}")).unwrap();
            (address.config.get_ssl_mode(), address.trust)
        };
        assert_eq!(read(""), (SslMode::Prefer, Trust::Anyone));
        assert_eq!(read("?sslmode=disable"), (SslMode::Disable, Trust::Anyone));
        assert_eq!(read("?sslmode=require"), (SslMode::Require, Trust::Anyone));
        assert_eq!(read("?sslmode=require&sslrootcert=/a.pem"), (SslMode::Require, Trust::Authority));
        assert_eq!(read("?sslmode=verify-ca"), (SslMode::Require, Trust::Authority));
        assert_eq!(read("?sslmode=verify-full&sslrootcert=system"), (SslMode::Require, Trust::Host));
    }

    #[test]
    fn nothing_shown_holds_the_password() {
        let url = "postgres://me:s3cret%3F@db.example:5433/iccm?sslmode=require&connect_timeout=3";
        let address = Address::parse(url).unwrap();
        assert_eq!(address.shown(), "postgres://me@db.example:5433/iccm");
        assert_eq!(format!("{address:?}"), address.shown());
        assert_eq!(address.config.get_password(), Some(&b"s3cret?"[..]));
        for wrong in [
            "postgres://me:s3cret?x@db/iccm",
            "postgres://me:s3cret@db/iccm?sslmode=s3cret",
            "postgres://me:s3cret@db:port/iccm",
            "postgres:///iccm",
        ] {
            let error = Address::parse(wrong).map(|_| ()).unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("sslmode=verify-full"), "{error}");
        }
    }

    #[test]
    fn a_socket_s_folder_is_a_host() {
        let address = Address::parse("postgres://iccm@%2Frun%2Fpostgresql/iccm").unwrap();
        assert_eq!(address.shown(), "postgres://iccm@/run/postgresql:5432/iccm");
    }
}
