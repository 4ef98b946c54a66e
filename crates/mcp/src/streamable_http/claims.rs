//! What a request's HTTP headers say about it, so that whoever stands between need not read its body, and whether that is
//! true (2026-07-28: a wrong or missing header is refused).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::message::{HEADER_MISMATCH, RpcError};
use crate::version::Version;

const VERSION: &str = "mcp-protocol-version";
const METHOD: &str = "mcp-method";
const NAME: &str = "mcp-name";

/// The headers that mirror a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    version: Option<String>,
    method: Option<String>,
    name: Option<String>,
}

impl Claims {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self { version: text(VERSION), method: text(METHOD), name: text(NAME) }
    }

    /// The version, or the name of one that is not known; absent where nothing is said.
    pub(crate) fn version(&self) -> Option<Result<Version, String>> {
        self.version.as_ref().map(|name| Version::parse(name).ok_or_else(|| name.clone()))
    }

    pub(crate) fn is_stateless(&self) -> bool {
        matches!(self.version(), Some(Ok(version)) if version.is_stateless())
    }

    pub(crate) fn check_version(&self, said: &str) -> Result<(), RpcError> {
        matches("MCP-Protocol-Version", self.version.as_deref(), said)
    }

    /// Checks the method, and the name of what it is about for methods that have one.
    pub(crate) fn check_method(&self, method: &str, name: impl FnOnce() -> Option<String>) -> Result<(), RpcError> {
        matches("Mcp-Method", self.method.as_deref(), method)?;
        match name() {
            Some(name) => matches("Mcp-Name", self.name.as_deref().map(decoded).as_deref(), &name),
            None => Ok(()),
        }
    }
}

fn matches(header: &str, claimed: Option<&str>, said: &str) -> Result<(), RpcError> {
    let problem = match claimed {
        Some(claimed) if claimed == said => return Ok(()),
        Some(claimed) => format!("{header} header value '{claimed}' does not match body value '{said}'"),
        None => format!("the {header} header is missing"),
    };
    Err(RpcError::new(HEADER_MISMATCH, format!("Header mismatch: {problem}")))
}

/// A value that no header can carry stands there in Base64, between marks.
fn decoded(value: &str) -> String {
    let marked = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?="));
    let bytes = marked.and_then(|text| STANDARD.decode(text).ok());
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_else(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(fields: [(&'static str, &'static str); 3]) -> Claims {
        Claims::of(&fields.into_iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect())
    }

    #[test]
    fn true_headers_pass_and_false_or_missing_ones_do_not() {
        let claims = claims([(VERSION, "2026-07-28"), (METHOD, "tools/call"), (NAME, "=?base64?aMOp?=")]);
        assert_eq!(claims.check_version("2026-07-28"), Ok(()));
        assert_eq!(claims.check_method("tools/call", || Some("hé".into())), Ok(()));
        assert!(claims.check_version("2025-11-25").is_err());
        assert!(claims.check_method("tools/list", || None).is_err());
        assert!(claims.check_method("tools/call", || Some("he".into())).is_err());
        let none = Claims::default();
        assert_eq!(none.check_version("2026-07-28").unwrap_err().code, HEADER_MISMATCH);
        assert!(none.version().is_none());
    }
}
