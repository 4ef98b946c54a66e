//! Heads of requests and responses, as the record keeps them.
//!
//! The encoded form is the text of HTTP/1.1, whichever version was spoken: one start line, then `Name: value` lines,
//! each ended by CRLF, without the blank line that would end a head. It keeps the order, the case and the bytes of the
//! headers as they were received, repeated names included.
//!
//! Guaranteed: what [`write_request_head`] and [`write_response_head`] write holds no credential, and `decode` gives
//! back what was encoded. A CR, LF or NUL inside a part, which no conforming peer can send, becomes a space (RFC 9110,
//! section 5.5), so that a head cannot forge lines of its own.
//!
//! Refused: reason phrases (they carry nothing, and HTTP/2 has none), and any text that `encode` would not write.

use crate::redact::{Fingerprint, MainCredential, Redactor};

/// Header fields in the order and case in which they were received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, Vec<u8>)>);

impl Headers {
    /// The first value of that name, in any case; `None` also when it is not UTF-8.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    fn lines(&self, line_end: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.iter().for_each(|(name, value)| write_line(&mut out, name, value, line_end));
        out
    }

    fn decode<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Self, HeadError> {
        lines.map(decode_header).collect::<Result<_, _>>().map(Self)
    }
}

/// The head of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHead {
    /// As sent, e.g. `POST`.
    pub method: String,
    /// Path and query, without credentials.
    pub target: String,
    /// As in a start line, e.g. `HTTP/1.1`.
    pub version: String,
    /// The fields, without credentials.
    pub headers: Headers,
}

impl RequestHead {
    /// The recorded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_request_line(&mut out, &self.method, &self.target, &self.version);
        self.headers.iter().for_each(|(name, value)| write_line(&mut out, name, value, b"\r\n"));
        out
    }

    /// Reads the recorded form.
    ///
    /// # Errors
    /// When `encode` would not have written these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut lines = lines(bytes)?;
        let start = start_line(&mut lines)?;
        // A method and a version hold no space; whatever lies between them is the target.
        let (method, rest) = start.split_once(' ').ok_or(HeadError::StartLine)?;
        let (target, version) = rest.rsplit_once(' ').ok_or(HeadError::StartLine)?;
        Ok(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: version.to_owned(),
            headers: Headers::decode(lines)?,
        })
    }

    /// The fields alone, as lines `Name: value`, each ended by LF.
    pub fn header_lines(&self) -> Vec<u8> {
        self.headers.lines(b"\n")
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseHead {
    /// The status code, e.g. 200.
    pub status: u16,
    /// As in a start line, e.g. `HTTP/1.1`.
    pub version: String,
    /// The fields, without credentials.
    pub headers: Headers,
}

impl ResponseHead {
    /// The recorded form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        write_status_line(&mut out, self.status, &self.version);
        self.headers.iter().for_each(|(name, value)| write_line(&mut out, name, value, b"\r\n"));
        out
    }

    /// Reads the recorded form.
    ///
    /// # Errors
    /// When `encode` would not have written these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeadError> {
        let mut lines = lines(bytes)?;
        let start = start_line(&mut lines)?;
        let (version, status) = start.split_once(' ').ok_or(HeadError::StartLine)?;
        let status = status.parse().map_err(|_| HeadError::StartLine)?;
        Ok(Self { status, version: version.to_owned(), headers: Headers::decode(lines)? })
    }

    /// The fields alone, as lines `Name: value`, each ended by LF.
    pub fn header_lines(&self) -> Vec<u8> {
        self.headers.lines(b"\n")
    }
}

/// Why bytes are not the recorded form of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Nothing follows the last line's end, and every line has one.
    #[error("a line of the head has no end")]
    Unterminated,
    /// The first line is not that of a request or, respectively, of a response.
    #[error("the start line of the head is malformed")]
    StartLine,
    /// A field has no colon, or its name is not UTF-8.
    #[error("a header line of the head is malformed")]
    HeaderLine,
}

/// Appends the recorded form of a request's head with its credentials replaced, and gives the fingerprint of the main
/// one (see [`Redactor::main_credential`]). The bytes are those of [`RequestHead::encode`] on the redacted parts; no
/// such value is built, because this stands on the way of every request.
pub fn write_request_head<'h>(
    out: &mut Vec<u8>,
    method: &str,
    target: &str,
    version: &str,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    redactor: &Redactor,
) -> Option<Fingerprint> {
    let mut main = MainCredential::default();
    write_request_line(out, method, &redactor.target(target), version);
    for (name, value) in headers {
        main.offer(name, value);
        write_redacted(out, name, value, redactor);
    }
    main.fingerprint(redactor, target)
}

/// Appends the recorded form of a response's head with its credentials (cookies, first of all) replaced.
pub fn write_response_head<'h>(
    out: &mut Vec<u8>,
    status: u16,
    version: &str,
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    redactor: &Redactor,
) {
    write_status_line(out, status, version);
    headers.for_each(|(name, value)| write_redacted(out, name, value, redactor));
}

fn write_redacted(out: &mut Vec<u8>, name: &str, value: &[u8], redactor: &Redactor) {
    match redactor.header(name, value) {
        Some(replacement) => write_line(out, name, &replacement, b"\r\n"),
        None => write_line(out, name, value, b"\r\n"),
    }
}

fn write_request_line(out: &mut Vec<u8>, method: &str, target: &str, version: &str) {
    write_clean(out, method.as_bytes());
    out.push(b' ');
    write_clean(out, target.as_bytes());
    out.push(b' ');
    write_clean(out, version.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_status_line(out: &mut Vec<u8>, status: u16, version: &str) {
    write_clean(out, version.as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.to_string().as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut Vec<u8>, name: &str, value: &[u8], line_end: &[u8]) {
    write_clean(out, name.as_bytes());
    out.extend_from_slice(b": ");
    write_clean(out, value);
    out.extend_from_slice(line_end);
}

fn write_clean(out: &mut Vec<u8>, part: &[u8]) {
    out.extend(part.iter().map(|byte| if matches!(byte, b'\r' | b'\n' | 0) { b' ' } else { *byte }));
}

fn lines(bytes: &[u8]) -> Result<impl Iterator<Item = &[u8]>, HeadError> {
    let mut rest = bytes;
    if !rest.ends_with(b"\r\n") {
        return Err(HeadError::Unterminated);
    }
    Ok(std::iter::from_fn(move || {
        let end = memchr::memmem::find(rest, b"\r\n")?;
        let line = &rest[..end];
        rest = &rest[end + 2..];
        Some(line)
    }))
}

fn start_line<'a>(lines: &mut impl Iterator<Item = &'a [u8]>) -> Result<&'a str, HeadError> {
    let line = lines.next().ok_or(HeadError::StartLine)?;
    std::str::from_utf8(line).map_err(|_| HeadError::StartLine)
}

fn decode_header(line: &[u8]) -> Result<(String, Vec<u8>), HeadError> {
    let colon = memchr::memmem::find(line, b": ").ok_or(HeadError::HeaderLine)?;
    let name = std::str::from_utf8(&line[..colon]).map_err(|_| HeadError::HeaderLine)?;
    Ok((name.to_owned(), line[colon + 2..].to_vec()))
}

#[cfg(test)]
mod tests;
