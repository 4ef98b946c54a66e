//! How a client frames its requests, seen beside hyper in the same bytes.
//!
//! hyper makes some requests plain before it shows them: of an encoding and a length it drops the length, of lengths that agree it
//! keeps one, and white space before a value is gone. RFC 9112 (section 6.3) allows that to a server; but somebody in front of
//! us may have understood the other way, so they are refused, as nginx does.
//!
//! Guaranteed: for each head that hyper takes for a request there is one verdict, in their order, and it is there before hyper
//! asks. Refused: any other judgement. Where the bytes make no sense hyper says so and closes the connection; here everything
//! just stops.

use std::collections::VecDeque;

/// A line of more bytes is refused by hyper, whatever it says.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// What is ambiguous about a head's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ambiguous {
    /// Both a Content-Length and a Transfer-Encoding.
    LengthAndEncoding,
    /// More than one Content-Length.
    Lengths,
    /// A Transfer-Encoding that is `chunked` for some and not for others.
    Encoding,
}

/// What is known of a head of which lines are still to come.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    lengths: usize,
    length: u64,
    encodings: usize,
    is_odd: bool,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Before a request's first line.
    Start,
    Fields(Head),
    /// So many bytes of a body are to come.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk and its line end are to come.
    Chunk(u64),
    Trailers,
    /// Where the next request begins is not known.
    Lost,
}

/// Follows one connection's requests.
#[derive(Debug)]
pub(super) struct Framing {
    place: Place,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    verdicts: VecDeque<Option<Ambiguous>>,
}

impl Default for Framing {
    fn default() -> Self {
        Self { place: Place::Start, line: Vec::new(), verdicts: VecDeque::new() }
    }
}

impl Framing {
    /// What is ambiguous about the next head that hyper shows.
    pub(super) fn next(&mut self) -> Option<Ambiguous> {
        self.verdicts.pop_front().flatten()
    }

    /// Whether a head has come that hyper has not shown yet.
    pub(super) fn has_unseen_head(&self) -> bool {
        !self.verdicts.is_empty()
    }

    /// These bytes have come.
    pub(super) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.place {
                Place::Lost => return,
                Place::Body(left) => self.skip(bytes, left, Place::Body, Place::Start),
                Place::Chunk(left) => self.skip(bytes, left, Place::Chunk, Place::ChunkSize),
                _ => self.read_line(bytes),
            };
        }
    }

    fn skip<'b>(&mut self, bytes: &'b [u8], left: u64, going_on: fn(u64) -> Place, then: Place) -> &'b [u8] {
        let skipped = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - skipped as u64;
        self.place = if left == 0 { then } else { going_on(left) };
        &bytes[skipped..]
    }

    fn read_line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.line.extend_from_slice(bytes);
            if self.line.len() > MAX_LINE_BYTES {
                self.line = Vec::new();
                self.place = Place::Lost;
            }
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.line.is_empty() {
            self.take_line(line);
        } else {
            let mut whole = std::mem::take(&mut self.line);
            whole.extend_from_slice(line);
            self.take_line(&whole);
        }
        rest
    }

    fn take_line(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.place = match self.place {
            // hyper, too, passes over empty lines in front of a request.
            Place::Start if line.is_empty() => Place::Start,
            Place::Start => Place::Fields(Head::default()),
            Place::Fields(head) if line.is_empty() => self.end_head(head),
            Place::Fields(head) => Place::Fields(head.with(line)),
            Place::ChunkSize => match chunk_size(line) {
                Some(0) => Place::Trailers,
                Some(size) => Place::Chunk(size.saturating_add(2)),
                None => Place::Lost,
            },
            Place::Trailers if line.is_empty() => Place::Start,
            place => place,
        };
    }

    fn end_head(&mut self, head: Head) -> Place {
        self.verdicts.push_back(head.problem());
        match head {
            Head { is_odd: true, .. } => Place::Lost,
            Head { encodings: 1.., .. } => Place::ChunkSize,
            Head { length: 1.., .. } => Place::Body(head.length),
            _ => Place::Start,
        }
    }
}

impl Head {
    fn with(mut self, line: &[u8]) -> Self {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            self.lengths += 1;
            // What is no number hyper refuses.
            let digits = str::from_utf8(&value[1..]).ok().map(str::trim);
            self.length = digits.and_then(|digits| digits.parse().ok()).unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.encodings += 1;
            self.is_odd |= !trim_spaces(&value[1..]).eq_ignore_ascii_case(b"chunked");
        }
        self
    }

    fn problem(&self) -> Option<Ambiguous> {
        match self {
            Self { encodings: 1.., lengths: 1.., .. } => Some(Ambiguous::LengthAndEncoding),
            Self { lengths: 2.., .. } => Some(Ambiguous::Lengths),
            Self { is_odd: true, .. } => Some(Ambiguous::Encoding),
            _ => None,
        }
    }
}

/// Without the spaces around it; other white space stays, because not everybody takes it for any.
fn trim_spaces(value: &[u8]) -> &[u8] {
    let begin = value.iter().position(|byte| *byte != b' ').unwrap_or(value.len());
    let end = value.iter().rposition(|byte| *byte != b' ').map_or(begin, |last| last + 1);
    &value[begin..end]
}

/// The number in front of a chunk, whatever extension is behind it.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    u64::from_str_radix(str::from_utf8(&line[..digits]).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Ambiguous::{Encoding, LengthAndEncoding, Lengths};

    fn post(fields: &str, body: &str) -> String {
        format!("POST / HTTP/1.1\r\n{fields}\r\n{body}")
    }

    /// The verdicts, for whichever pieces the bytes come in.
    fn verdicts(bytes: &str) -> Vec<Option<Ambiguous>> {
        let in_pieces = |size: usize| {
            let mut framing = Framing::default();
            bytes.as_bytes().chunks(size).for_each(|piece| framing.read(piece));
            framing.verdicts.into_iter().collect::<Vec<_>>()
        };
        let whole = in_pieces(bytes.len());
        for size in 1..40 {
            assert_eq!(in_pieces(size), whole, "in pieces of {size}");
        }
        whole
    }

    #[test]
    fn each_head_gets_its_verdict() {
        for (fields, verdict) in [
            ("Content-Length: 0\r\n", None),
            ("Host: h\r\n", None),
            ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Some(LengthAndEncoding)),
            ("transfer-encoding: CHUNKED\r\nX: y\r\ncontent-length: 5\r\n", Some(LengthAndEncoding)),
            ("Content-Length: 0\r\nContent-Length: 0\r\n", Some(Lengths)),
            ("Transfer-Encoding:  chunked \r\n", None),
            ("Transfer-Encoding:\tchunked\r\n", Some(Encoding)),
            ("Transfer-Encoding: gzip, chunked\r\n", Some(Encoding)),
            ("X-Transfer-Encoding: gzip\r\nNo colon\r\n", None),
        ] {
            assert_eq!(verdicts(&post(fields, "")), [verdict], "{fields}");
        }
    }

    #[test]
    fn the_next_request_begins_behind_the_body() {
        let next = post("Content-Length: 0\r\nContent-Length: 0\r\n", "");
        let hidden = "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n";
        let length = format!("Content-Length: {}\r\n", hidden.len());
        let chunk = format!("{:x};extension\r\n{hidden}\r\n5\r\nhello\r\n0\r\nTrailer: 1\r\n\r\n", hidden.len());
        for first in [post("", ""), post(&length, hidden), post("Transfer-Encoding: chunked\r\n", &chunk)] {
            assert_eq!(verdicts(&format!("\r\n{first}{next}{next}")), [None, Some(Lengths), Some(Lengths)], "{first}");
        }
    }

    #[test]
    fn behind_nonsense_there_is_nothing() {
        let next = post("", "");
        assert_eq!(verdicts(&post("Transfer-Encoding: chunked\r\n", &format!("x\r\n{next}"))), [None]);
        assert_eq!(verdicts(&post("Transfer-Encoding: x\r\n", &next)), [Some(Encoding)]);
    }
}
