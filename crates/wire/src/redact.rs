//! Credentials, kept out of the record: a keyed fingerprint stands in for each.
//!
//! Guaranteed: the value of every header and query parameter that [names a credential](Redactor::header) is replaced
//! whole before a head is written anywhere, and equal secrets give equal fingerprints wherever they stood
//! (`authorization: Bearer X`, `x-api-key: X` and `?key=X` agree), so that usage by key can be told apart. Without the
//! key of the fingerprint nobody can test a guessed secret against the record.
//!
//! Refused: looking into bodies. They are stored exactly as they were, but for [one](ToolKeyFilter): the key in a call of
//! `fiedler_set_key`.
//!
//! Names are matched generously: a harmless header that is masked costs a little readability, a secret that is not
//! cannot be taken back.

mod tool_key;

use std::borrow::Cow;
use std::fmt;

use crate::digest::{hex_value, keyed, write_hex};

pub use tool_key::{ToolKeyFilter, without_tool_key};

/// What the record keeps of a secret: 64 bits of its keyed BLAKE3. Displayed as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 8]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// Replaces credentials by fingerprints. The key never leaves it, not even through `Debug`.
#[derive(Clone)]
pub struct Redactor {
    key: [u8; 32],
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

impl Redactor {
    /// A redactor whose fingerprints are those of every other one with this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The fingerprint of a bare secret.
    pub fn fingerprint(&self, secret: &[u8]) -> Fingerprint {
        let digest = keyed(&self.key, secret);
        let mut short = [0; 8];
        short.copy_from_slice(&digest.0[..8]);
        Fingerprint(short)
    }

    /// What to record in place of this header's value; `None` when the value may stand as it is.
    ///
    /// A credential becomes `[redacted FINGERPRINT]`, after the scheme where one is named (`Bearer [redacted …]`). In
    /// headers that hold a URL only what [`target`](Self::target) would replace is replaced.
    pub fn header(&self, name: &str, value: &[u8]) -> Option<Vec<u8>> {
        match role(name) {
            Role::Credential => {
                let (scheme, secret) = split_scheme(value);
                let mut replacement = scheme.to_vec();
                let stand_in = format!("[redacted {}]", self.fingerprint(secret));
                replacement.extend_from_slice(stand_in.as_bytes());
                Some(replacement)
            }
            Role::Url => self.url(value),
            Role::Tokens => self.tokens(value),
            Role::Plain => None,
        }
    }

    /// The target with the credentials in its query (and in its user info, if it has any) replaced by
    /// `[redacted-FINGERPRINT]`. Nothing else changes.
    pub fn target<'t>(&self, target: &'t str) -> Cow<'t, str> {
        match self.url(target.as_bytes()) {
            None => Cow::Borrowed(target),
            // Cuts are made at ASCII delimiters only, so what was UTF-8 still is.
            Some(clean) => Cow::Owned(String::from_utf8_lossy(&clean).into_owned()),
        }
    }

    /// The fingerprint of the credential that pays for the request: `x-api-key`, else `authorization`, else
    /// `x-goog-api-key`, else `api-key`, else the first credential in the query. Empty ones do not count.
    pub fn main_credential<'h>(
        &self,
        target: &str,
        headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    ) -> Option<Fingerprint> {
        let mut main = MainCredential::default();
        headers.for_each(|(name, value)| main.offer(name, value));
        main.fingerprint(self, target)
    }

    /// Subprotocols of a WebSocket: browsers, which can set no other header there, put their credentials among them, as
    /// `openai-insecure-api-key.SECRET`.
    fn tokens(&self, value: &[u8]) -> Option<Vec<u8>> {
        let mut clean: Vec<Vec<u8>> = Vec::new();
        let mut found = false;
        for token in value.split(|byte| *byte == b',') {
            let (before, secret) = token.split_at(secret_in_token(token).unwrap_or(token.len()));
            found |= !secret.is_empty();
            let stand_in =
                if secret.is_empty() { String::new() } else { format!("[redacted-{}]", self.fingerprint(secret)) };
            clean.push([before, stand_in.as_bytes()].concat());
        }
        found.then(|| clean.join(&b","[..]))
    }

    fn url(&self, url: &[u8]) -> Option<Vec<u8>> {
        let mut clean = Vec::new();
        let mut copied = 0;
        for (start, end) in user_info(url).into_iter().chain(secret_parameters(url)) {
            clean.extend_from_slice(&url[copied..start]);
            let stand_in = format!("[redacted-{}]", self.fingerprint(&percent_decoded(&url[start..end])));
            clean.extend_from_slice(stand_in.as_bytes());
            copied = end;
        }
        (copied > 0).then(|| {
            clean.extend_from_slice(&url[copied..]);
            clean
        })
    }
}

/// Headers that can name the main credential, the best one first.
const MAIN_CREDENTIALS: [&str; 4] = ["x-api-key", "authorization", "x-goog-api-key", "api-key"];

/// The search for the main credential while headers pass by once.
#[derive(Default)]
pub(crate) struct MainCredential<'h> {
    found: [Option<&'h [u8]>; MAIN_CREDENTIALS.len()],
}

impl<'h> MainCredential<'h> {
    pub(crate) fn offer(&mut self, name: &str, value: &'h [u8]) {
        let rank = MAIN_CREDENTIALS.iter().position(|known| known.eq_ignore_ascii_case(name));
        let Some(place) = rank.and_then(|rank| self.found.get_mut(rank)) else {
            return;
        };
        let (_, secret) = split_scheme(value);
        if place.is_none() && !secret.is_empty() {
            *place = Some(secret);
        }
    }

    pub(crate) fn fingerprint(&self, redactor: &Redactor, target: &str) -> Option<Fingerprint> {
        if let Some(secret) = self.found.iter().flatten().next() {
            return Some(redactor.fingerprint(secret));
        }
        let url = target.as_bytes();
        let (start, end) = secret_parameters(url).find(|(start, end)| start < end)?;
        Some(redactor.fingerprint(&percent_decoded(&url[start..end])))
    }
}

enum Role {
    Credential,
    Url,
    Tokens,
    Plain,
}

/// Where the secret begins in a subprotocol's name: behind what names it a credential, up to a dot.
fn secret_in_token(token: &[u8]) -> Option<usize> {
    const NAMES: [&str; 7] = ["key", "token", "bearer", "authorization", "auth", "secret", "jwt"];
    let dot = memchr::memchr(b'.', token)?;
    let mut name = token[..dot].trim_ascii().to_vec();
    name.make_ascii_lowercase();
    NAMES.iter().any(|known| name.ends_with(known.as_bytes())).then_some(dot + 1)
}

fn role(name: &str) -> Role {
    // Endings, because every gateway and cloud has its own prefix (`x-goog-`, `ocp-apim-`, `cf-aig-` …).
    const CREDENTIALS: [&str; 12] = [
        "api-key",
        "apikey",
        "subscription-key",
        "access-key",
        "functions-key",
        "authorization",
        "-auth",
        "-token",
        "-secret",
        "-password",
        "cookie",
        "cookie2",
    ];
    const URLS: [&str; 6] = ["location", "referer", "link", "refresh", "-url", "-uri"];
    let ends_with = |suffix: &&str| -> bool {
        let start = name.len().checked_sub(suffix.len());
        start
            .and_then(|start| name.as_bytes().get(start..))
            .is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
    };
    if CREDENTIALS.iter().any(&ends_with) {
        Role::Credential
    } else if URLS.iter().any(&ends_with) {
        Role::Url
    } else if name.eq_ignore_ascii_case("sec-websocket-protocol") {
        Role::Tokens
    } else {
        Role::Plain
    }
}

/// Splits `Bearer X` into the scheme with its blanks and the bare secret. Only registered schemes (and two that are in
/// use without being registered) are taken for one: the first word of anything else may be part of the secret.
fn split_scheme(value: &[u8]) -> (&[u8], &[u8]) {
    const SCHEMES: [&str; 10] =
        ["Bearer", "Basic", "Digest", "DPoP", "Negotiate", "NTLM", "HOBA", "Token", "ApiKey", "AWS4-HMAC-SHA256"];
    let value = value.trim_ascii();
    let blank = value.iter().position(u8::is_ascii_whitespace);
    let Some((scheme, rest)) = blank.and_then(|at| value.split_at_checked(at)) else {
        return (b"", value);
    };
    if !SCHEMES.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(scheme)) {
        return (b"", value);
    }
    let secret = rest.trim_ascii_start();
    (&value[..value.len() - secret.len()], secret)
}

/// Where the user info of an absolute target stands: `user:password` in `http://user:password@host/`.
fn user_info(url: &[u8]) -> Option<(usize, usize)> {
    let scheme_end = memchr::memmem::find(url, b"://")?;
    if !url[..scheme_end].iter().all(|byte| byte.is_ascii_alphanumeric() || b"+-.<".contains(byte)) {
        return None;
    }
    let start = scheme_end + 3;
    let authority = url[start..]
        .iter()
        .position(|byte| b"/?#".contains(byte))
        .map_or(&url[start..], |end| &url[start..start + end]);
    let at = memchr::memrchr(b'@', authority)?;
    Some((start, start + at))
}

/// The values of the credential parameters, in order. Fragments count, since some redirects carry tokens there.
fn secret_parameters(url: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let is_delimiter = |byte: &u8| b"?&;#".contains(byte);
    let mut position = memchr::memchr2(b'?', b'#', url).map_or(url.len(), |at| at + 1);
    std::iter::from_fn(move || {
        while position < url.len() {
            let start = position;
            let end = url[start..].iter().position(is_delimiter).map_or(url.len(), |length| start + length);
            position = end + 1;
            let Some(equals) = memchr::memchr(b'=', &url[start..end]) else {
                continue;
            };
            if names_secret(&url[start..start + equals]) {
                return Some((start + equals + 1, end));
            }
        }
        None
    })
}

fn names_secret(parameter: &[u8]) -> bool {
    const SECRETS: [&str; 23] = [
        "key",
        "api-key",
        "apikey",
        "x-api-key",
        "x-goog-api-key",
        "subscription-key",
        "access-key",
        "access-token",
        "auth-token",
        "id-token",
        "refresh-token",
        "session-token",
        "token",
        "auth",
        "authorization",
        "secret",
        "client-secret",
        "password",
        "sig",
        "signature",
        "x-amz-signature",
        "x-amz-security-token",
        "x-amz-credential",
    ];
    let mut name = percent_decoded(parameter).into_owned();
    name.make_ascii_lowercase();
    name.iter_mut().filter(|byte| **byte == b'_').for_each(|byte| *byte = b'-');
    SECRETS.iter().any(|secret| secret.as_bytes() == name)
}

fn percent_decoded(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let escaped = match rest {
            [b'%', high, low, ..] => hex_value(*high).zip(hex_value(*low)),
            _ => None,
        };
        decoded.push(escaped.map_or(*first, |(high, low)| (high << 4) | low));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests;
