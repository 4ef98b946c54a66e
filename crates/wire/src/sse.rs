//! Server-sent events, parsed as the bytes arrive (WHATWG HTML, section 9.2).
//!
//! Guaranteed: the events do not depend on how the bytes were cut into chunks, not even inside a character or between
//! CR and LF. Invalid UTF-8 becomes U+FFFD, as the standard says.
//!
//! One deliberate difference: an event that the end of the stream cut short is not dropped but handed out by
//! [`Parser::finish`], marked as unterminated. A recorder wants to know what had arrived.

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's name; `message` when the stream gave none.
    pub event: String,
    /// The data lines, joined by LF.
    pub data: String,
    /// The stream's last event id at this point; empty when it never set one.
    pub id: String,
    /// Whether the blank line that ends an event was seen.
    pub terminated: bool,
}

/// An incremental parser. It holds no more than the event under way.
#[derive(Debug, Default)]
pub struct Parser {
    /// The line under way, without its end.
    line: Vec<u8>,
    /// The last byte was a CR that ended a line, so an LF that follows belongs to it.
    after_cr: bool,
    /// The first line is behind us, so that a byte order mark is no longer one.
    begun: bool,
    event: String,
    /// The data lines so far, an LF after each; `None` before the first one.
    data: Option<String>,
    id: String,
}

impl Parser {
    /// A parser at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives the events that they complete.
    pub fn feed(&mut self, bytes: &[u8]) -> impl Iterator<Item = Event> + use<> {
        let mut events = Vec::new();
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            self.after_cr = false;
        }
        while let Some(end) = memchr::memchr2(b'\r', b'\n', rest) {
            let (line, tail) = rest.split_at(end);
            events.extend(self.end_line(line));
            rest = match tail {
                [b'\r', b'\n', tail @ ..] => tail,
                [b'\r'] => {
                    self.after_cr = true;
                    &[]
                }
                [_, tail @ ..] => tail,
                [] => &[],
            };
        }
        self.line.extend_from_slice(rest);
        events.into_iter()
    }

    /// Ends the stream: the event that it cut short, if data of one had arrived.
    pub fn finish(&mut self) -> Option<Event> {
        let ended = if self.line.is_empty() { None } else { self.end_line(&[]) };
        ended.or_else(|| self.dispatch()).map(|event| Event { terminated: false, ..event })
    }

    fn end_line(&mut self, tail: &[u8]) -> Option<Event> {
        let mut held = std::mem::take(&mut self.line);
        let mut line = if held.is_empty() {
            tail
        } else {
            held.extend_from_slice(tail);
            &held
        };
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        let dispatched = if line.is_empty() { self.dispatch() } else { None };
        self.field(line);
        // The buffer's memory serves the next line.
        held.clear();
        self.line = held;
        dispatched
    }

    fn field(&mut self, line: &[u8]) {
        let (name, value) = match memchr::memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match name {
            b"event" => self.event = value.into_owned(),
            b"data" => {
                let data = self.data.get_or_insert_default();
                data.push_str(&value);
                data.push('\n');
            }
            b"id" if !value.contains('\0') => self.id = value.into_owned(),
            // Comments (an empty name), `retry`, and names that the standard does not know.
            _ => {}
        }
    }

    fn dispatch(&mut self) -> Option<Event> {
        let event = std::mem::take(&mut self.event);
        let mut data = self.data.take()?;
        data.pop();
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Event { event, data, id: self.id.clone(), terminated: true })
    }
}

/// All events of a recorded stream, the one that its end cut short included.
pub fn events(stream: &[u8]) -> impl Iterator<Item = Event> {
    // Piecewise, so that the events of a large stream never exist all at once.
    const PIECE_BYTES: usize = 16 * 1024;
    let mut parser = Parser::new();
    let mut pieces = stream.chunks(PIECE_BYTES);
    let mut ready = Parser::new().feed(&[]);
    let mut ended = false;
    std::iter::from_fn(move || {
        loop {
            if let Some(event) = ready.next() {
                return Some(event);
            }
            match pieces.next() {
                Some(piece) => ready = parser.feed(piece),
                None if ended => return None,
                None => {
                    ended = true;
                    return parser.finish();
                }
            }
        }
    })
}

#[cfg(test)]
mod tests;
