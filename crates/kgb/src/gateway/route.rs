//! Where a request goes: by its first path segment to a named provider, else to the default upstream.
//!
//! A base URL may have a path of its own, which is put in front of what the client asked for. Targets are forwarded as
//! they came, byte for byte; nothing is normalised or decoded.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use url::Url;

use super::credential::Credential;
use crate::error::RouteError;

/// One upstream.
#[derive(Clone, Debug)]
pub(crate) struct Upstream {
    scheme: Scheme,
    authority: Authority,
    /// Path that is put in front, without a slash at its end; often empty.
    prefix: String,
    /// The path as it was configured.
    path: String,
    /// The value of `Host`.
    pub(crate) host: HeaderValue,
    /// As the record names it.
    pub(crate) base: String,
    /// What goes there in place of the placeholder; the default upstream's alone.
    pub(super) credential: Option<Arc<Credential>>,
}

impl Upstream {
    pub(crate) fn parse(url: &Url) -> Result<Self, RouteError> {
        let scheme = match url.scheme() {
            "http" => Scheme::HTTP,
            "https" => Scheme::HTTPS,
            // A WebSocket begins as an HTTP request.
            "ws" => Scheme::HTTP,
            "wss" => Scheme::HTTPS,
            _ => return Err(RouteError::Scheme(url.to_string())),
        };
        let host_name = url.host_str().unwrap_or_default();
        if !url.username().is_empty() || url.password().is_some() {
            return Err(RouteError::Credentials(host_name.to_owned()));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(RouteError::NotABase(url.to_string()));
        }
        // `port()` is None for the scheme's default, which a `Host` header leaves out.
        let host = match url.port() {
            Some(port) => format!("{host_name}:{port}"),
            None => host_name.to_owned(),
        };
        let unusable = || RouteError::Host(url.to_string());
        Ok(Self {
            scheme,
            authority: host.parse().map_err(|_| unusable())?,
            prefix: url.path().trim_end_matches('/').to_owned(),
            path: url.path().to_owned(),
            host: HeaderValue::from_str(&host).map_err(|_| unusable())?,
            base: url.as_str().trim_end_matches('/').to_owned(),
            credential: None,
        })
    }

    pub(crate) fn is_https(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// The URI to ask for, given what the client asked for (a path, with or without query).
    pub(super) fn uri(&self, target: &PathAndQuery, rest: &str) -> Option<Uri> {
        let path_and_query = if self.prefix.is_empty() && rest.len() == target.as_str().len() {
            target.clone()
        } else if rest.starts_with('/') {
            format!("{}{rest}", self.prefix).parse().ok()?
        } else {
            format!("{}/{rest}", self.prefix).parse().ok()?
        };
        self.at(path_and_query)
    }

    /// The URI of an endpoint: the configured path as it is, or with what the client asked for below it. `rest`: a path,
    /// possibly empty, and a query.
    pub(crate) fn endpoint(&self, rest: &str) -> Option<Uri> {
        let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let path_and_query = match path {
            "" | "/" => format!("{}{query}", self.path),
            below => format!("{}{below}{query}", self.prefix),
        };
        self.at(path_and_query.parse().ok()?)
    }

    fn at(&self, path_and_query: PathAndQuery) -> Option<Uri> {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(path_and_query);
        Uri::from_parts(parts).ok()
    }
}

/// All upstreams.
pub(crate) struct Routes {
    default: Upstream,
    providers: BTreeMap<String, Upstream>,
}

impl Routes {
    pub(super) fn new(default: &Url, providers: &BTreeMap<String, Url>) -> Result<Self, RouteError> {
        let named = |(name, url): (&String, &Url)| Ok((provider_name(name)?.to_owned(), Upstream::parse(url)?));
        Ok(Self {
            default: Upstream::parse(default)?,
            providers: providers.iter().map(named).collect::<Result<_, RouteError>>()?,
        })
    }

    pub(super) fn with_credential(mut self, credential: Option<Credential>) -> Self {
        self.default.credential = credential.map(Arc::new);
        self
    }

    /// The upstream for a target, and what to ask it for.
    pub(super) fn choose<'t>(&self, target: &'t str) -> (&Upstream, &'t str) {
        let provider = target.strip_prefix('/').and_then(|path| {
            let end = path.find(['/', '?']).unwrap_or(path.len());
            let upstream = self.providers.get(&path[..end])?;
            Some((upstream, &path[end..]))
        });
        provider.unwrap_or((&self.default, target))
    }

    pub(super) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        std::iter::once(&self.default).chain(self.providers.values())
    }
}

fn provider_name(name: &str) -> Result<&str, RouteError> {
    let own = ["health", "ready", "metrics"];
    let is_segment = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_segment && !own.contains(&name) { Ok(name) } else { Err(RouteError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let providers = [
            ("openai".to_owned(), "https://api.openai.example/base/".parse().unwrap()),
            ("ollama".to_owned(), "http://127.0.0.1:11434".parse().unwrap()),
        ];
        Routes::new(&"https://api.example.com".parse().unwrap(), &providers.into()).unwrap()
    }

    fn asked(target: &str) -> String {
        let target: PathAndQuery = target.parse().unwrap();
        let routes = routes();
        let (upstream, rest) = routes.choose(target.as_str());
        upstream.uri(&target, rest).unwrap().to_string()
    }

    #[test]
    fn the_first_segment_chooses_the_provider() {
        assert_eq!(asked("/v1/messages?beta=true"), "https://api.example.com/v1/messages?beta=true");
        assert_eq!(asked("/openai/v1/chat?x=%2F"), "https://api.openai.example/base/v1/chat?x=%2F");
        assert_eq!(asked("/openai"), "https://api.openai.example/base/");
        assert_eq!(asked("/openai?a=b"), "https://api.openai.example/base/?a=b");
        assert_eq!(asked("/ollama/api//x/../y"), "http://127.0.0.1:11434/api//x/../y");
        assert_eq!(asked("/openaix/v1"), "https://api.example.com/openaix/v1");
        assert_eq!(asked("/"), "https://api.example.com/");
    }

    #[test]
    fn bases_that_cannot_be_forwarded_to_are_refused() {
        let parse = |url: &str| Upstream::parse(&url.parse().unwrap());
        assert!(matches!(parse("ftp://a"), Err(RouteError::Scheme(_))));
        assert!(matches!(parse("https://u:p@a"), Err(RouteError::Credentials(_))));
        assert!(matches!(parse("https://a/?q"), Err(RouteError::NotABase(_))));
        let name = |name: &str| {
            Routes::new(&"http://a".parse().unwrap(), &[(name.to_owned(), "http://a".parse().unwrap())].into())
        };
        assert!(matches!(name("health"), Err(RouteError::Name(_))));
        assert!(matches!(name("a/b"), Err(RouteError::Name(_))));
    }

    #[test]
    fn the_default_port_is_left_out_of_host() {
        let parse = |url: &str| Upstream::parse(&url.parse().unwrap()).unwrap().host;
        assert_eq!(parse("https://a:443"), "a");
        assert_eq!(parse("http://a:8080"), "a:8080");
        assert_eq!(parse("http://[::1]:80"), "[::1]");
    }
}
