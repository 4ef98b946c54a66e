//! Undoing `Content-Encoding`, for reading only: what is stored and forwarded stays as it was on the wire.
//!
//! Guaranteed: no input makes the output larger than `max`, and a body that breaks off, as recorded ones do, yields
//! what it holds up to there.
//!
//! Refused: codings other than the registered ones that model APIs answer with (gzip, deflate, br, zstd).

use std::borrow::Cow;
use std::io::{ErrorKind, Read};

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::{Decompress, FlushDecompress, Status};

/// The largest zstd window, as a power of two: RFC 9659 allows no more than 8 MiB on the wire.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const BUFFER_BYTES: usize = 16 * 1024;

/// Why a body could not be decoded whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The encoded bytes end too early; the bytes are what they decode to.
    #[error("the encoded body breaks off after {} decoded bytes", .0.len())]
    Truncated(Vec<u8>),
    /// The encoded bytes are damaged, or something follows them; the bytes are what precedes the damage.
    #[error("the encoded body is damaged after {} decoded bytes", .0.len())]
    Corrupt(Vec<u8>),
    /// The decoded body is larger than the caller's bound, in bytes.
    #[error("the decoded body is larger than {0} bytes")]
    TooLarge(usize),
    /// A coding that is not known here.
    #[error("content coding {0:?} is not known")]
    Unsupported(String),
}

impl DecodeError {
    /// What could be decoded before the error; empty when there is nothing.
    pub fn into_decoded(self) -> Vec<u8> {
        match self {
            Self::Truncated(decoded) | Self::Corrupt(decoded) => decoded,
            Self::TooLarge(_) | Self::Unsupported(_) => Vec::new(),
        }
    }
}

/// Decodes a body by its `Content-Encoding`: one coding or a list, in the order in which they were applied. An empty
/// header and `identity` give the body itself. Neither the result nor any stage in between exceeds `max` bytes.
///
/// # Errors
/// See [`DecodeError`]; what can be decoded of a truncated or damaged body is in the error.
pub fn decode<'b>(content_encoding: &str, body: &'b [u8], max: usize) -> Result<Cow<'b, [u8]>, DecodeError> {
    let mut stage = Stage { bytes: Cow::Borrowed(body), flaw: None };
    for coding in content_encoding.rsplit(',').map(str::trim).filter(|coding| !coding.is_empty()) {
        let coding = Coding::from_name(coding)?;
        let next = coding.undo(&stage.bytes, max)?;
        let Some((bytes, flaw)) = next else { continue };
        stage = Stage { bytes: Cow::Owned(bytes), flaw: stage.flaw.or(flaw) };
    }
    if stage.bytes.len() > max {
        return Err(DecodeError::TooLarge(max));
    }
    match stage.flaw {
        None => Ok(stage.bytes),
        Some(Flaw::Truncated) => Err(DecodeError::Truncated(stage.bytes.into_owned())),
        Some(Flaw::Corrupt) => Err(DecodeError::Corrupt(stage.bytes.into_owned())),
    }
}

/// What the codings undone so far have given. With several of them, the first flaw met is the cause of the others.
struct Stage<'b> {
    bytes: Cow<'b, [u8]>,
    flaw: Option<Flaw>,
}

#[derive(Clone, Copy, PartialEq)]
enum Flaw {
    Truncated,
    Corrupt,
}

type Decoded = (Vec<u8>, Option<Flaw>);

enum Coding {
    Identity,
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

impl Coding {
    fn from_name(name: &str) -> Result<Self, DecodeError> {
        match name.to_ascii_lowercase().as_str() {
            "identity" => Ok(Self::Identity),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            "br" => Ok(Self::Brotli),
            "zstd" => Ok(Self::Zstd),
            _ => Err(DecodeError::Unsupported(name.to_owned())),
        }
    }

    /// `None` when there is nothing to undo. An empty body needs no undoing in any coding: replies to HEAD have none.
    fn undo(&self, body: &[u8], max: usize) -> Result<Option<Decoded>, DecodeError> {
        if body.is_empty() {
            return Ok(None);
        }
        match self {
            Self::Identity => Ok(None),
            Self::Gzip => read(flate2::bufread::MultiGzDecoder::new(body), max).map(Some),
            Self::Deflate => deflate(body, max).map(Some),
            Self::Brotli => brotli_decode(body, max).map(Some),
            Self::Zstd => zstd_decode(body, max).map(Some),
        }
    }
}

fn zstd_decode(body: &[u8], max: usize) -> Result<Decoded, DecodeError> {
    let decoder = zstd::stream::read::Decoder::with_buffer(body).and_then(|mut decoder| {
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        Ok(decoder)
    });
    match decoder {
        Ok(decoder) => read(decoder, max),
        Err(_) => Ok((Vec::new(), Some(Flaw::Corrupt))),
    }
}

/// The crate's reader reports an early end as damage, so this stream is driven by hand as well. Strict: the window stays
/// below the 16 MiB of RFC 7932.
fn brotli_decode(body: &[u8], max: usize) -> Result<Decoded, DecodeError> {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let mut out = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut input_left, mut consumed, mut total) = (body.len(), 0, 0);
    loop {
        let (mut room, mut written) = (buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut input_left,
            &mut consumed,
            body,
            &mut room,
            &mut written,
            &mut buffer,
            &mut total,
            &mut state,
        );
        if out.len() + written > max {
            return Err(DecodeError::TooLarge(max));
        }
        out.extend_from_slice(&buffer[..written]);
        match result {
            BrotliResult::NeedsMoreOutput => {}
            BrotliResult::ResultSuccess => return Ok((out, None)),
            BrotliResult::NeedsMoreInput => return Ok((out, Some(Flaw::Truncated))),
            BrotliResult::ResultFailure => return Ok((out, Some(Flaw::Corrupt))),
        }
    }
}

fn read(mut decoder: impl Read, max: usize) -> Result<Decoded, DecodeError> {
    let mut out = Vec::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = match decoder.read(&mut buffer) {
            Ok(0) => return Ok((out, None)),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok((out, Some(Flaw::Truncated))),
            Err(_) => return Ok((out, Some(Flaw::Corrupt))),
        };
        if out.len() + length > max {
            return Err(DecodeError::TooLarge(max));
        }
        out.extend_from_slice(&buffer[..length]);
    }
}

/// The standard means zlib by `deflate`, some servers send the bare stream; a zlib header is hardly ever a coincidence,
/// and where it is, the zlib reading fails.
fn deflate(body: &[u8], max: usize) -> Result<Decoded, DecodeError> {
    let looks_like_zlib = match body {
        [method, flags, ..] => method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]) % 31 == 0,
        [method] => method & 0x0f == 8,
        [] => false,
    };
    if !looks_like_zlib {
        return inflate(body, false, max);
    }
    match inflate(body, true, max) {
        Ok((decoded, Some(Flaw::Corrupt))) => match inflate(body, false, max) {
            Ok((bare, None)) => Ok((bare, None)),
            _ => Ok((decoded, Some(Flaw::Corrupt))),
        },
        other => other,
    }
}

/// flate2's readers take the end of the input for the end of the stream, so the stream is driven by hand.
fn inflate(body: &[u8], zlib: bool, max: usize) -> Result<Decoded, DecodeError> {
    let mut stream = Decompress::new(zlib);
    let mut out = Vec::new();
    let mut rest = body;
    loop {
        out.reserve(BUFFER_BYTES);
        let (read_before, written_before) = (stream.total_in(), out.len());
        let status = stream.decompress_vec(rest, &mut out, FlushDecompress::None);
        let consumed = usize::try_from(stream.total_in() - read_before).unwrap_or(rest.len());
        rest = rest.get(consumed..).unwrap_or_default();
        if out.len() > max {
            return Err(DecodeError::TooLarge(max));
        }
        match status {
            Err(_) => return Ok((out, Some(Flaw::Corrupt))),
            Ok(Status::StreamEnd) => return Ok((out, None)),
            Ok(_) if consumed == 0 && out.len() == written_before => return Ok((out, Some(Flaw::Truncated))),
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
