//! The key in a call of `fiedler_set_key`, the one message whose content is a secret by its meaning.
//!
//! Guaranteed: however a message is cut into pieces, what is kept of them together is the same; what is a key is left out
//! before anything of it is given away, and every other byte is given at once. `[redacted]` stands in for each.
//!
//! Nothing is held back, because a reader in front of a connection must not make its two ends wait for each other. So where
//! a call's arguments come before its tool's name, an `api_key` among them is left out whoever's tool it is: what was
//! written down could not be taken back when the name comes.
//!
//! Refused: bytes in which the call can not be read, because they are compressed or no JSON. No server takes a key from them.

use std::borrow::Cow;

const TOOL: &str = "fiedler_set_key";
const STAND_IN: &[u8] = b"[redacted]";
/// More than any name has, each character of it written as an escape.
const NAME_BYTES: usize = 1024;

/// A whole message as it may be kept: the same bytes, without the key if it is such a call.
pub fn without_tool_key(message: &[u8]) -> Cow<'_, [u8]> {
    ToolKeyFilter::default().pass(message)
}

/// Reads along a message, or a body of several, that goes to a server; for each piece it gives what may be kept of it.
#[derive(Debug, Default)]
pub struct ToolKeyFilter {
    lexer: Lexer,
    depth: usize,
    /// Depth within a message: one more in a batch.
    message: usize,
    /// Depth within its `params`, and within their `arguments`.
    params: Option<usize>,
    arguments: Option<usize>,
    /// Depth within what is secret whatever it holds.
    secret: Option<usize>,
    tool: Tool,
    /// The member whose value comes next.
    member: Member,
    /// The text of a name that matters, as it was written.
    text: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Lexer {
    /// Between strings.
    #[default]
    Structure,
    /// Within one.
    String { kept: bool, noted: bool, escaped: bool },
}

/// Whose call it is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Tool {
    #[default]
    NotKnown,
    SetKey,
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Member {
    /// No value of a member comes next.
    #[default]
    None,
    Params,
    Name,
    Arguments,
    Provider,
    ApiKey,
    Other,
}

impl ToolKeyFilter {
    /// What may be kept of the next piece.
    pub fn pass<'p>(&mut self, piece: &'p [u8]) -> Cow<'p, [u8]> {
        let mut kept = Kept { piece, clean: None, from: 0 };
        let mut at = 0;
        while at < piece.len() {
            at = match self.lexer {
                Lexer::Structure => self.structure(piece[at], at, &mut kept),
                Lexer::String { kept: is_kept, noted, escaped } => {
                    let end = string_piece(&piece[at..], escaped).map_or(piece.len(), |length| at + length);
                    self.string(&piece[at..end], is_kept, noted, escaped);
                    if !is_kept {
                        let closes = self.lexer == Lexer::Structure;
                        kept.leave_out(at, end - usize::from(closes));
                    }
                    end
                }
            };
        }
        kept.finish()
    }

    /// One byte outside of strings; gives the place of the next.
    fn structure(&mut self, byte: u8, at: usize, kept: &mut Kept<'_>) -> usize {
        match byte {
            b'"' => {
                let is_secret = self.is_secret();
                if is_secret {
                    kept.stand_in(at + 1);
                }
                self.text.clear();
                self.lexer = Lexer::String { kept: !is_secret, noted: !is_secret && self.is_noted(), escaped: false };
            }
            b':' => self.member = self.member_named(),
            b'{' | b'[' => self.open(byte == b'{'),
            b'}' | b']' => self.close(),
            b',' => self.member = Member::None,
            _ => {}
        }
        at + 1
    }

    /// A piece of a string: up to and with its end, or an escape's first character, or what has come.
    fn string(&mut self, piece: &[u8], kept: bool, noted: bool, escaped: bool) {
        let room = NAME_BYTES + 1 - self.text.len();
        if noted {
            self.text.extend_from_slice(&piece[..piece.len().min(room)]);
        }
        self.lexer = match piece.last() {
            Some(b'"') if !escaped => Lexer::Structure,
            Some(b'\\') if !escaped => Lexer::String { kept, noted, escaped: true },
            _ => Lexer::String { kept, noted, escaped: false },
        };
        if self.lexer == Lexer::Structure {
            if noted && self.member == Member::Name && self.tool != Tool::SetKey {
                self.tool = self.named().map_or(self.tool, |name| tool_named(&name));
            }
            self.member = Member::None;
        }
    }

    fn open(&mut self, is_object: bool) {
        if self.depth == 0 {
            self.message = if is_object { 1 } else { 2 };
        }
        let is_secret = self.is_secret();
        self.depth += 1;
        match self.member {
            Member::Arguments if is_object && self.secret.is_none() => self.arguments = Some(self.depth),
            _ if is_secret => self.secret = self.secret.or(Some(self.depth)),
            Member::Params if is_object => self.params = Some(self.depth),
            _ => {}
        }
        self.member = Member::None;
    }

    fn close(&mut self) {
        let left = Some(self.depth);
        if self.secret == left {
            self.secret = None;
        }
        if self.arguments == left {
            self.arguments = None;
        }
        if self.params == left {
            (self.params, self.tool) = (None, Tool::NotKnown);
        }
        self.depth = self.depth.saturating_sub(1);
        self.member = Member::None;
    }

    /// Whether the value that begins here is not to be kept.
    fn is_secret(&self) -> bool {
        match (self.tool, self.member) {
            _ if self.secret.is_some() => true,
            (Tool::NotKnown | Tool::SetKey, Member::ApiKey) => true,
            // A parameter that this tool does not have is a key in the wrong place.
            (Tool::SetKey, Member::Other) => self.arguments == Some(self.depth),
            (Tool::SetKey, Member::Arguments) => true,
            _ => false,
        }
    }

    /// Whether a string that begins here may be the name of something.
    fn is_noted(&self) -> bool {
        let depth = Some(self.depth);
        let may_be_a_name = depth == Some(self.message) || depth == self.params || depth == self.arguments;
        may_be_a_name && matches!(self.member, Member::None | Member::Name)
    }

    /// The member whose name was read last.
    fn member_named(&self) -> Member {
        let depth = Some(self.depth);
        let name = self.named();
        match name.as_deref().unwrap_or_default() {
            "params" if depth == Some(self.message) => Member::Params,
            "name" if depth == self.params => Member::Name,
            "arguments" if depth == self.params => Member::Arguments,
            "provider" if depth == self.arguments => Member::Provider,
            "api_key" if depth == self.arguments => Member::ApiKey,
            _ => Member::Other,
        }
    }

    /// The text that was noted; none if it is too long or no text.
    fn named(&self) -> Option<Cow<'_, str>> {
        let raw = self.text.strip_suffix(b"\"").filter(|raw| raw.len() < NAME_BYTES)?;
        if raw.contains(&b'\\') {
            let quoted = [b"\"", raw, b"\""].concat();
            return serde_json::from_slice(&quoted).ok().map(Cow::Owned);
        }
        std::str::from_utf8(raw).ok().map(Cow::Borrowed)
    }
}

/// Relays put words in front of a tool's name.
fn tool_named(name: &str) -> Tool {
    if name.ends_with(TOOL) { Tool::SetKey } else { Tool::Other }
}

/// The length of what comes of a string, with the character that ends it or begins an escape; none if neither is there.
fn string_piece(bytes: &[u8], escaped: bool) -> Option<usize> {
    if escaped {
        return Some(1);
    }
    memchr::memchr2(b'"', b'\\', bytes).map(|place| place + 1)
}

/// What is kept of a piece: itself, as long as nothing is left out.
struct Kept<'p> {
    piece: &'p [u8],
    clean: Option<Vec<u8>>,
    /// From here on nothing is decided.
    from: usize,
}

impl<'p> Kept<'p> {
    /// Here the stand-in goes.
    fn stand_in(&mut self, at: usize) {
        let clean = self.clean.get_or_insert_default();
        clean.extend_from_slice(&self.piece[self.from..at]);
        clean.extend_from_slice(STAND_IN);
        self.from = at;
    }

    fn leave_out(&mut self, start: usize, end: usize) {
        let clean = self.clean.get_or_insert_default();
        clean.extend_from_slice(&self.piece[self.from..start]);
        self.from = end;
    }

    fn finish(self) -> Cow<'p, [u8]> {
        match self.clean {
            None => Cow::Borrowed(self.piece),
            Some(mut clean) => {
                clean.extend_from_slice(&self.piece[self.from..]);
                Cow::Owned(clean)
            }
        }
    }
}

#[cfg(test)]
mod tests;
