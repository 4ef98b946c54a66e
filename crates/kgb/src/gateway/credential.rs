//! A credential that lives with the gateway and not with its clients: they send a word in its place, and never hold it.
//!
//! Guaranteed: it goes to the default upstream alone, and only in place of [`PLACEHOLDER`] in a header that carries
//! credentials; a client's own credential passes as it came. It is put in before the request is recorded, so that the record
//! holds its fingerprint like that of any other. It is never displayed.
//! Refused: a file without a credential that a header can hold, at the start and by name.

use std::path::Path;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::error::{Error, Result};

/// What clients send in place of the credential.
pub const PLACEHOLDER: &str = "held-by-kgb";

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const BEARER: &str = "Bearer ";

/// The credential, in both forms that the API knows.
#[derive(Clone)]
pub(crate) struct Credential {
    api_key: HeaderValue,
    bearer: HeaderValue,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credential")
    }
}

impl Credential {
    /// The only word in a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let unusable = |problem: String| Error::CredentialFile { path: path.to_owned(), problem };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        let secret = text.trim();
        if secret.is_empty() || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(unusable("it must hold one key or token and nothing else".into()));
        }
        let value = |text: &str| {
            let mut value = HeaderValue::from_str(text).map_err(|error| unusable(error.to_string()))?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        };
        Ok(Self { api_key: value(secret)?, bearer: value(&format!("{BEARER}{secret}"))? })
    }

    /// Puts it in place of the placeholder; the headers keep their order and their case.
    pub(super) fn put_into(&self, headers: &mut HeaderMap) {
        for (name, credential) in [(API_KEY, &self.api_key), (AUTHORIZATION, &self.bearer)] {
            if headers.get(&name).is_some_and(is_placeholder) {
                headers.insert(name, credential.clone());
            }
        }
    }
}

fn is_placeholder(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let secret = match value.split_at_checked(BEARER.len()) {
        Some((scheme, secret)) if scheme.eq_ignore_ascii_case(BEARER.as_bytes()) => secret,
        _ => value,
    };
    secret == PLACEHOLDER.as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn after(name: &'static str, value: &'static str) -> String {
        let credential = Credential::read(file("sk-ant-test-000\n").path()).unwrap();
        let mut headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
        credential.put_into(&mut headers);
        assert_eq!(headers.len(), 1);
        headers[name].to_str().unwrap().to_owned()
    }

    #[test]
    fn only_the_placeholder_is_replaced_and_only_where_credentials_stand() {
        assert_eq!(after("x-api-key", "held-by-kgb"), "sk-ant-test-000");
        assert_eq!(after("authorization", "Bearer held-by-kgb"), "Bearer sk-ant-test-000");
        assert_eq!(after("authorization", "bearer held-by-kgb"), "Bearer sk-ant-test-000");
        assert_eq!(after("x-api-key", "sk-ant-own"), "sk-ant-own");
        assert_eq!(after("x-other", "held-by-kgb"), "held-by-kgb");
    }

    #[test]
    fn what_cannot_be_a_credential_is_refused_by_the_files_name_and_never_repeated() {
        for content in ["", "  \n", "sk-ant two", "sk-änt"] {
            let file = file(content);
            let error = Credential::read(file.path()).unwrap_err().to_string();
            assert!(error.contains(file.path().to_str().unwrap()), "{error}");
            assert!(content.trim().is_empty() || !error.contains(content.trim()), "{error}");
        }
        assert!(Credential::read(Path::new("/nowhere/key")).unwrap_err().to_string().contains("/nowhere/key"));
        assert_eq!(format!("{:?}", Credential::read(file("sk-ant-test-000").path()).unwrap()), "Credential");
    }
}
