//! The providers' keys: where they are kept, and in which order they are looked for.
//!
//! 1. The system's keyring, where there is one ([`keyring`]).
//! 2. The encrypted file `keys.sealed` below the data folder, where the operator gives the file or credential that opens it
//!    ([`sealed`]).
//! 3. Environment variables, which are only read.
//!
//! Guaranteed: a key leaves this module as a [`Secret`], which prints as nothing and goes into a header and nowhere else; no
//! error text holds one.

mod keyring;
mod sealed;

use std::fmt;
use std::path::PathBuf;

use http::HeaderValue;

use crate::models::Provider;
pub(crate) use sealed::SealedFile;

/// A key. Neither printed nor serialised.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A key as a user gives it; or what it must be, without repeating it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() || text.len() > 4096 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("must be a key of 1 to 4096 visible ASCII characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// For a request's header, which is told not to print itself.
    pub(crate) fn header(&self, before: &str) -> Result<HeaderValue, String> {
        let mut value = HeaderValue::from_str(&format!("{before}{}", self.0))
            .map_err(|_| "the key cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// A text of somebody else's, without this key in it.
    pub(crate) fn removed_from(&self, text: &str) -> String {
        // A key of a few characters would tear words apart, and is none.
        if self.0.len() < 6 { text.to_owned() } else { text.replace(&self.0, "[key]") }
    }

    fn expose(&self) -> &str {
        &self.0
    }
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Keyring,
    SealedFile,
    Environment(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Keyring => f.write_str("system keyring"),
            Source::SealedFile => f.write_str("encrypted file"),
            Source::Environment(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// A look-up of environment variables.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// All places of keys.
pub(crate) struct Keys {
    keyring: Option<keyring::Keyring>,
    sealed: SealedFile,
    variables: Variables,
}

impl Keys {
    pub(crate) fn new(sealed: PathBuf, opened_by: Option<PathBuf>, variables: Variables) -> Self {
        let keyring = keyring::Keyring::find(&variables);
        Self { keyring, sealed: SealedFile::new(sealed, opened_by), variables }
    }

    /// The provider's key, from the first place that has one.
    pub(crate) async fn get(&self, provider: &Provider) -> Result<Option<(Secret, Source)>, String> {
        if let Some(keyring) = &self.keyring
            && let Some(key) = keyring.get(&provider.name).await?
        {
            return Ok(Some((key, Source::Keyring)));
        }
        if let Some(key) = self.sealed.get(&provider.name)? {
            return Ok(Some((key, Source::SealedFile)));
        }
        let found = provider.key_variables.iter().find_map(|name| {
            let key = Secret::parse(&(self.variables)(name)?).ok()?;
            Some((key, Source::Environment(name.clone())))
        });
        Ok(found)
    }

    /// Keeps a key; where.
    pub(crate) async fn set(&self, provider: &str, key: &Secret) -> Result<Source, String> {
        if let Some(keyring) = &self.keyring {
            keyring.set(provider, key).await?;
            return Ok(Source::Keyring);
        }
        self.sealed.set(provider, key)?;
        Ok(Source::SealedFile)
    }

    /// Forgets a provider's key wherever it is kept; whether there was one.
    pub(crate) async fn delete(&self, provider: &str) -> Result<bool, String> {
        let mut deleted = false;
        if let Some(keyring) = &self.keyring {
            deleted |= keyring.delete(provider).await?;
        }
        Ok(self.sealed.delete(provider)? | deleted)
    }
}

#[cfg(test)]
mod tests;
