//! The list of allowed servers, and which of them a request names.

use std::collections::BTreeMap;

use url::Url;
use winni::model::FrameSource;

use crate::error::RouteError;
use crate::gateway::asked::Asked;
use crate::gateway::hop;
use crate::gateway::route::Upstream;
use crate::gateway::ways::{Server, Stray, Way, Ways, session_header};

/// The server of a client that names none.
pub const DEFAULT_SERVER: &str = "fiedler";

/// The first segment of the paths of Streamable HTTP endpoints.
const HTTP_PREFIX: &str = "/mcp/";
/// Parameters of a target that are the spy's own, and do not go on.
const SERVER_PARAMETER: &str = "upstream";
const SESSION_PARAMETER: &str = "session";

/// Where a server is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerUrls {
    /// `ws://` or `wss://`.
    pub websocket: Option<Url>,
    /// `http://` or `https://`: its Streamable HTTP endpoint.
    pub http: Option<Url>,
}

/// All servers that may be reached.
pub(super) struct Backends(BTreeMap<String, Backend>);

struct Backend {
    websocket: Option<Upstream>,
    http: Option<Upstream>,
}

impl Backends {
    pub(super) fn new(servers: &BTreeMap<String, ServerUrls>) -> Result<Self, RouteError> {
        let backend = |(name, urls): (&String, &ServerUrls)| {
            let backend = Backend {
                websocket: urls.websocket.as_ref().map(websocket).transpose()?,
                http: urls.http.as_ref().map(Upstream::parse).transpose()?,
            };
            Ok((name.clone(), backend))
        };
        servers.iter().map(backend).collect::<Result<_, RouteError>>().map(Self)
    }
}

/// The spy's: by name.
impl Ways for Backends {
    fn find(&self, asked: &Asked) -> Result<Way<'_>, Stray> {
        let target = asked.target.as_str();
        if hop::wants_websocket(asked) {
            return self.find_websocket(asked, target);
        }
        let below = target.strip_prefix(HTTP_PREFIX).ok_or(Stray::Nowhere)?;
        let (name, rest) = below.split_at(below.find(['/', '?']).unwrap_or(below.len()));
        let Some(upstream) = self.0.get(name).and_then(|backend| backend.http.as_ref()) else {
            return Err(self.not_allowed(name, |backend| backend.http.is_some()));
        };
        let server = Server { name: name.to_owned(), source: FrameSource::SpyHttp, session: session_header(asked) };
        Ok(Way { upstream, uri: upstream.endpoint(rest), server })
    }

    fn any_https(&self) -> bool {
        let all = self.0.values().flat_map(|backend| [&backend.websocket, &backend.http]);
        all.flatten().any(Upstream::is_https)
    }
}

impl Backends {
    fn find_websocket(&self, asked: &Asked, target: &str) -> Result<Way<'_>, Stray> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut own = (None, None);
        let mut others: Vec<&str> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match decoded(parameter) {
                (name, value) if name == SERVER_PARAMETER => own.0 = Some(value),
                (name, value) if name == SESSION_PARAMETER => own.1 = Some(value),
                _ => others.push(parameter),
            }
        }
        let name = own.0.filter(|name| !name.is_empty()).unwrap_or_else(|| DEFAULT_SERVER.to_owned());
        let Some(upstream) = self.0.get(&name).and_then(|backend| backend.websocket.as_ref()) else {
            return Err(self.not_allowed(&name, |backend| backend.websocket.is_some()));
        };
        let rest = if others.is_empty() { path.to_owned() } else { format!("{path}?{}", others.join("&")) };
        let session = own.1.filter(|session| !session.is_empty()).or_else(|| session_header(asked));
        Ok(Way { upstream, uri: upstream.endpoint(&rest), server: Server { name, source: FrameSource::Spy, session } })
    }

    fn not_allowed(&self, asked: &str, can: impl Fn(&Backend) -> bool) -> Stray {
        let allowed = self.0.iter().filter(|(_, backend)| can(backend)).map(|(name, _)| name.clone()).collect();
        Stray::Server { asked: asked.to_owned(), allowed }
    }
}

fn websocket(url: &Url) -> Result<Upstream, RouteError> {
    Upstream::parse(url)
}

/// A parameter's name and value.
fn decoded(parameter: &str) -> (String, String) {
    let mut pairs = url::form_urlencoded::parse(parameter.as_bytes());
    pairs.next().map_or_else(Default::default, |(name, value)| (name.into_owned(), value.into_owned()))
}

#[cfg(test)]
mod tests {
    use http::header::{CONNECTION, UPGRADE};
    use http::{HeaderMap, HeaderValue, Method, Version};

    use super::*;

    fn backends() -> Backends {
        let urls = |websocket: &str, http: &str| ServerUrls {
            websocket: (!websocket.is_empty()).then(|| websocket.parse().unwrap()),
            http: (!http.is_empty()).then(|| http.parse().unwrap()),
        };
        let servers = [
            ("fiedler".to_owned(), urls("ws://127.0.0.1:9010/", "http://127.0.0.1:9010/mcp")),
            ("far".to_owned(), urls("wss://far.example/socket", "")),
            ("slashed".to_owned(), urls("", "https://api.example/mcp/")),
        ];
        Backends::new(&servers.into()).unwrap()
    }

    fn asked(target: &str, websocket: bool) -> Asked {
        let mut headers = HeaderMap::new();
        if websocket {
            headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        }
        headers.insert("x-claude-code-session-id", HeaderValue::from_static("head"));
        let extensions = http::Extensions::new();
        Asked {
            method: Method::GET,
            target: target.parse().unwrap(),
            somebody_else: None,
            version: Version::HTTP_11,
            headers,
            extensions,
        }
    }

    fn found(target: &str, websocket: bool) -> (String, String, String) {
        let backends = backends();
        let way = backends.find(&asked(target, websocket)).unwrap();
        (way.server.name, way.uri.unwrap().to_string(), way.server.session.unwrap())
    }

    #[test]
    fn a_websocket_names_its_server_in_the_query() {
        let expect = |target, name: &str, uri: &str, session: &str| {
            assert_eq!(found(target, true), (name.into(), uri.into(), session.into()), "{target}");
        };
        expect("/?upstream=far", "far", "https://far.example/socket", "head");
        expect("/", "fiedler", "http://127.0.0.1:9010/", "head");
        expect("/deep?a=1&upstream=far&b=%20", "far", "https://far.example/socket/deep?a=1&b=%20", "head");
        expect("/?session=S%201&upstream=fiedler", "fiedler", "http://127.0.0.1:9010/", "S 1");
    }

    #[test]
    fn an_http_endpoint_is_asked_for_as_it_is_configured() {
        let expect = |target, uri: &str| assert_eq!(found(target, false).1, uri, "{target}");
        expect("/mcp/fiedler", "http://127.0.0.1:9010/mcp");
        expect("/mcp/fiedler?x=1", "http://127.0.0.1:9010/mcp?x=1");
        expect("/mcp/fiedler/below?x", "http://127.0.0.1:9010/mcp/below?x");
        expect("/mcp/slashed", "https://api.example/mcp/");
    }

    #[test]
    fn what_is_not_on_the_list_is_told_the_list() {
        let backends = backends();
        let stray = |target, websocket| backends.find(&asked(target, websocket)).err().unwrap();
        assert!(
            matches!(stray("/?upstream=x", true), Stray::Server { asked, allowed } if asked == "x" && allowed == ["far", "fiedler"])
        );
        assert!(matches!(stray("/mcp/far", false), Stray::Server { allowed, .. } if allowed == ["fiedler", "slashed"]));
        assert!(matches!(stray("/?upstream=far", false), Stray::Nowhere));
        assert!(matches!(stray("/mcp", false), Stray::Nowhere));
    }
}
