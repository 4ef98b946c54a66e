//! Whether a request is meant for us.
//!
//! A web page can make its own name resolve to 127.0.0.1 and then talk to whatever listens there (DNS rebinding). The
//! browser gives it away: `Host` is the page's name, and so is `Origin`. So only loopback names, the very address that was
//! connected to, and the names that are configured are ours. An address cannot be rebound; a name can.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::{HOST, ORIGIN};

/// The names under which a server may be reached, beside loopback ones.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Loopback, and these names.
    pub fn loopback_and(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Checks a request's headers; `local` is the address that the client connected to.
    pub(crate) fn check(&self, headers: &HeaderMap, local: IpAddr) -> Result<(), String> {
        let mut hosts = headers.get_all(HOST).iter();
        let (host, further) = (hosts.next().and_then(|value| value.to_str().ok()), hosts.next());
        match host.map(authority_host) {
            Some(Some(host)) if further.is_none() && self.is_ours(host, local) => {}
            _ => return Err(refusal("Host", host)),
        }
        for origin in headers.get_all(ORIGIN) {
            let origin = origin.to_str().ok();
            if !origin.and_then(origin_host).is_some_and(|host| self.is_ours(host, local)) {
                return Err(refusal("Origin", origin));
            }
        }
        Ok(())
    }

    fn is_ours(&self, host: &str, local: IpAddr) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return address.is_loopback() || address == local.to_canonical();
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        name == "localhost" || self.0.contains(&name)
    }
}

fn refusal(header: &str, value: Option<&str>) -> String {
    let value: String = value.unwrap_or("(none)").chars().take(100).collect();
    format!("{header} {value} is not allowed here: only loopback names, and those that allowed_hosts configures")
}

/// The host of `host[:port]`.
fn authority_host(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(_) => authority.split_at(authority.find(']')? + 1),
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let is_port = |rest: &str| rest.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    (!host.is_empty() && (rest.is_empty() || is_port(rest))).then_some(host)
}

fn origin_host(origin: &str) -> Option<&str> {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"))?;
    authority_host(authority)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(host: &str, origin: Option<&str>) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        Hosts::loopback_and(["Dewey".to_owned()]).check(&headers, IpAddr::from([10, 0, 0, 7])).is_ok()
    }

    #[test]
    fn loopback_the_address_itself_and_configured_names_are_ours() {
        for host in
            ["localhost", "LOCALHOST:9020", "127.0.0.1:1", "127.9.9.9", "[::1]:9020", "10.0.0.7:9020", "dewey:1"]
        {
            assert!(check(host, None), "{host}");
        }
        assert!(check("localhost", Some("http://localhost:5173")));
        assert!(check("localhost", Some("https://dewey")));
    }

    #[test]
    fn anything_else_is_refused() {
        for host in
            ["evil.example", "localhost.evil.example", "10.0.0.8", "127.0.0.1.nip.io", "", "localhost:x", "[::1"]
        {
            assert!(!check(host, None), "{host}");
        }
        for origin in ["http://evil.example", "null", "file://localhost", "http://localhost.evil.example", "localhost"]
        {
            assert!(!check("localhost", Some(origin)), "{origin}");
        }
        assert!(Hosts::default().check(&HeaderMap::new(), IpAddr::from([127, 0, 0, 1])).is_err());
    }
}
