//! HTTP/1.1 as it is on the wire: heads and bodies read byte by byte, and how a body really ended.
//!
//! An HTTP library repairs, normalises and retries; that is what these tests must see through. So this reads a head
//! without changing it and a body with the one thing that matters kept apart: its bytes, and its ending.

use std::io::{self, BufRead, Read};

/// The start line and the fields of a message, as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Request line or status line, without the line's end.
    pub start: String,
    /// Names and values in order; bytes above 0x7f as Latin-1.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first field of that name, whatever its case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The `n`th word of the start line.
    pub fn word(&self, n: usize) -> &str {
        self.start.splitn(3, ' ').nth(n).unwrap_or_default()
    }

    /// The status code of a response.
    pub fn status(&self) -> Option<u16> {
        self.word(1).parse().ok()
    }

    /// How a request's body is delimited.
    pub fn request_framing(&self) -> Framing {
        match (self.chunked(), self.length()) {
            (true, _) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        }
    }

    /// How the body of a response to `method` is delimited.
    pub fn response_framing(&self, method: &str) -> Framing {
        let bodiless = method == "HEAD" || matches!(self.status(), Some(100..=199 | 204 | 304));
        match (bodiless, self.chunked(), self.length()) {
            (true, ..) => Framing::Length(0),
            (false, true, _) => Framing::Chunked,
            (false, false, Some(length)) => Framing::Length(length),
            (false, false, None) => Framing::UntilClose,
        }
    }

    fn chunked(&self) -> bool {
        self.get("transfer-encoding").is_some_and(|value| value.to_ascii_lowercase().contains("chunked"))
    }

    fn length(&self) -> Option<u64> {
        self.get("content-length").and_then(|value| value.trim().parse().ok())
    }
}

/// What says where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    /// A chunk of size zero.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// How a message, or the wait for it, really ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As its framing says.
    Complete,
    /// The connection was closed in an orderly way before the message was complete.
    Closed,
    /// The connection was reset.
    Reset,
    /// Nothing more came within the reader's patience; the connection is still open.
    Silence,
    /// What came is not HTTP.
    Malformed(String),
}

impl Ending {
    /// What an error while reading means.
    pub fn of(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Silence,
            _ => Self::Malformed(error.to_string()),
        }
    }
}

/// Reads a head, the blank line included. On an early end, gives the bytes that came.
pub fn read_head(stream: &mut impl BufRead) -> Result<Head, (Vec<u8>, Ending)> {
    let mut raw = Vec::new();
    while !raw.ends_with(b"\r\n\r\n") {
        let before = raw.len();
        match stream.read_until(b'\n', &mut raw) {
            Ok(_) if raw.len() == before => return Err((raw, Ending::Closed)),
            Ok(_) if !raw.ends_with(b"\n") => return Err((raw, Ending::Closed)),
            Ok(_) if raw == b"\r\n" => raw.clear(),
            Ok(_) => {}
            Err(error) => return Err((raw, Ending::of(&error))),
        }
    }
    parse_head(&raw).ok_or_else(|| (raw.clone(), Ending::Malformed(String::from_utf8_lossy(&raw).into_owned())))
}

fn parse_head(raw: &[u8]) -> Option<Head> {
    let text: String = raw.iter().map(|byte| char::from(*byte)).collect();
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let start = lines.next()?.to_owned();
    let fields = lines
        .map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
        .collect::<Option<_>>()?;
    Some(Head { start, fields })
}

/// Reads a body to its end, handing every piece to `seen` as it comes (the chunks' bytes, not their framing).
pub fn read_body(stream: &mut impl BufRead, framing: Framing, seen: &mut dyn FnMut(&[u8])) -> Ending {
    let result = match framing {
        Framing::Length(length) => copy_exactly(stream, length, seen),
        Framing::Chunked => read_chunks(stream, seen),
        Framing::UntilClose => copy_to_end(stream, seen),
    };
    result.map_or_else(|error| Ending::of(&error), |()| Ending::Complete)
}

fn read_chunks(stream: &mut impl BufRead, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    loop {
        let line = read_line(stream)?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = u64::from_str_radix(digits, 16).map_err(|_| malformed(format!("chunk size {line:?}")))?;
        if size == 0 {
            while !read_line(stream)?.is_empty() {}
            return Ok(());
        }
        copy_exactly(stream, size, seen)?;
        let end = read_line(stream)?;
        if !end.is_empty() {
            return Err(malformed(format!("after a chunk: {end:?}")));
        }
    }
}

fn read_line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.read_until(b'\n', &mut line)?;
    match line.strip_suffix(b"\r\n") {
        Some(text) => Ok(String::from_utf8_lossy(text).into_owned()),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn copy_exactly(stream: &mut impl Read, mut left: u64, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        match read_some(stream, &mut buffer[..wanted])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => {
                seen(&buffer[..n]);
                left -= n as u64;
            }
        }
    }
    Ok(())
}

fn copy_to_end(stream: &mut impl Read, seen: &mut dyn FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match read_some(stream, &mut buffer)? {
            0 => return Ok(()),
            n => seen(&buffer[..n]),
        }
    }
}

fn read_some(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn malformed(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
