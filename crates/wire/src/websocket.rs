//! WebSocket frames, as they lie in a stream of bytes (RFC 6455, section 5), and the messages that they make up.
//!
//! Guaranteed: however the stream is cut into chunks, the same messages come out; nothing is held back but a frame's
//! header (14 bytes) and a control frame's payload (125 bytes), so that a message of any size needs no memory.
//!
//! Refused: judging. Reserved bits, bad UTF-8, fragmented or oversized control frames, a message within a message: all of
//! it is read as what its header says, because what to make of it is the receiver's business. Only a length that no frame
//! can have (its highest bit is set) ends the framing; the rest of the stream then is [`Event::Unframed`].

/// What the first frame of a message says that its payload is; the numbers are those of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opcode(pub u8);

impl Opcode {
    /// More of the message before.
    pub const CONTINUATION: Self = Self(0);
    /// UTF-8 text.
    pub const TEXT: Self = Self(1);
    /// Bytes.
    pub const BINARY: Self = Self(2);
    /// The end of the conversation.
    pub const CLOSE: Self = Self(8);

    /// Whether a frame of this kind may stand between the frames of a message, and is none of it.
    pub fn is_control(self) -> bool {
        self.0 & 8 != 0
    }
}

/// How a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With its last frame.
    Whole,
    /// Another message begins before its last frame; the protocol forbids that.
    Interrupted,
}

/// What a chunk of the stream brings.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes of a message, unmasked.
    Part {
        /// What the message is.
        opcode: Opcode,
        /// Whether the message begins here.
        first: bool,
        /// Possibly none.
        bytes: &'a [u8],
        /// Whether, and how, the message ends here.
        last: Option<Ending>,
    },
    /// A control frame, whole; of one that is larger than allowed, the first 125 bytes.
    Control {
        /// Which.
        opcode: Opcode,
        /// Its payload, unmasked.
        payload: &'a [u8],
    },
    /// Bytes in which no frames can be found any more.
    Unframed(&'a [u8]),
}

/// A control frame's payload at most.
const MAX_CONTROL_BYTES: usize = 125;
/// A frame's header at most.
const MAX_HEADER_BYTES: usize = 14;

/// Reads one direction of a connection. Behind the HTTP heads, from the first frame on.
#[derive(Debug)]
pub struct Messages {
    frame: Frame,
    /// The message whose last frame has not come.
    open: Option<Opcode>,
    control: Vec<u8>,
    /// Where payload is unmasked.
    clear: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Frame {
    /// So many bytes of the next header have come.
    Header([u8; MAX_HEADER_BYTES], usize),
    Payload(Payload),
    Unframed,
}

#[derive(Clone, Copy, Debug)]
struct Payload {
    opcode: Opcode,
    fin: bool,
    mask: Option<[u8; 4]>,
    /// Nothing of it has been told yet.
    starts: bool,
    done: u64,
    left: u64,
}

/// A whole header, or none.
enum Header {
    Incomplete,
    Impossible,
    Whole(Payload),
}

impl Default for Messages {
    fn default() -> Self {
        Self { frame: Frame::START, open: None, control: Vec::new(), clear: Vec::new() }
    }
}

impl Messages {
    /// Reads on; `each` is told of everything that this chunk brings, in order.
    pub fn read(&mut self, chunk: &[u8], mut each: impl FnMut(Event<'_>)) {
        let mut rest = chunk;
        while !rest.is_empty() || self.is_frame_due() {
            match self.frame {
                Frame::Header(header, have) => self.header(header, have, &mut rest, &mut each),
                Frame::Payload(payload) => self.payload(payload, &mut rest, &mut each),
                Frame::Unframed => each(Event::Unframed(std::mem::take(&mut rest))),
            }
        }
    }

    /// Whether the stream could end here without breaking anything off.
    pub fn is_between_messages(&self) -> bool {
        self.open.is_none() && matches!(self.frame, Frame::Header(_, 0))
    }

    /// The message whose last byte has not come.
    pub fn open_message(&self) -> Option<Opcode> {
        self.open
    }

    /// A frame without payload is told of without waiting for more.
    fn is_frame_due(&self) -> bool {
        matches!(self.frame, Frame::Payload(Payload { left: 0, .. }))
    }

    fn header(
        &mut self,
        mut header: [u8; MAX_HEADER_BYTES],
        mut have: usize,
        rest: &mut &[u8],
        each: &mut impl FnMut(Event<'_>),
    ) {
        while let Some((&byte, behind)) = rest.split_first() {
            header[have] = byte;
            have += 1;
            *rest = behind;
            match parse(&header[..have]) {
                Header::Incomplete => {}
                Header::Whole(payload) => {
                    self.frame = Frame::Payload(payload);
                    return;
                }
                Header::Impossible => {
                    self.interrupt(each);
                    self.frame = Frame::Unframed;
                    return each(Event::Unframed(&header[..have]));
                }
            }
        }
        self.frame = Frame::Header(header, have);
    }

    fn payload(&mut self, mut payload: Payload, rest: &mut &[u8], each: &mut impl FnMut(Event<'_>)) {
        let take = usize::try_from(payload.left).unwrap_or(usize::MAX).min(rest.len());
        let (bytes, behind) = rest.split_at(take);
        *rest = behind;
        payload.left -= take as u64;
        if payload.opcode.is_control() {
            self.take_control(&payload, bytes, each);
        } else {
            self.take_data(&payload, bytes, each);
        }
        payload.starts = false;
        payload.done += take as u64;
        self.frame = if payload.left == 0 { Frame::START } else { Frame::Payload(payload) };
    }

    fn take_control(&mut self, payload: &Payload, bytes: &[u8], each: &mut impl FnMut(Event<'_>)) {
        if payload.starts {
            self.control.clear();
        }
        let fits = bytes.len().min(MAX_CONTROL_BYTES - self.control.len());
        let start = self.control.len();
        self.control.extend_from_slice(&bytes[..fits]);
        unmask(&mut self.control[start..], payload.mask, payload.done);
        if payload.left == 0 {
            each(Event::Control { opcode: payload.opcode, payload: &self.control });
        }
    }

    fn take_data(&mut self, payload: &Payload, bytes: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let mut first = false;
        if payload.starts && (payload.opcode != Opcode::CONTINUATION || self.open.is_none()) {
            self.interrupt(each);
            self.open = Some(payload.opcode);
            first = true;
        }
        let opcode = self.open.unwrap_or(payload.opcode);
        let ends = payload.left == 0 && payload.fin;
        if ends {
            self.open = None;
        }
        let bytes = match payload.mask {
            None => bytes,
            mask => {
                self.clear.clear();
                self.clear.extend_from_slice(bytes);
                unmask(&mut self.clear, mask, payload.done);
                &self.clear
            }
        };
        each(Event::Part { opcode, first, bytes, last: ends.then_some(Ending::Whole) });
    }

    fn interrupt(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if let Some(opcode) = self.open.take() {
            each(Event::Part { opcode, first: false, bytes: &[], last: Some(Ending::Interrupted) });
        }
    }
}

impl Frame {
    const START: Self = Self::Header([0; MAX_HEADER_BYTES], 0);
}

fn parse(header: &[u8]) -> Header {
    let [first, second, behind @ ..] = header else {
        return Header::Incomplete;
    };
    let (masked, short) = (second & 0x80 != 0, second & 0x7f);
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let Some((length, behind)) = behind.split_at_checked(length_bytes) else {
        return Header::Incomplete;
    };
    let left = match short {
        126 | 127 => length.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)),
        short => u64::from(short),
    };
    if left >> 63 != 0 {
        return Header::Impossible;
    }
    let mask = match (masked, behind.first_chunk()) {
        (false, _) => None,
        (true, Some(mask)) => Some(*mask),
        (true, None) => return Header::Incomplete,
    };
    Header::Whole(Payload { opcode: Opcode(first & 0x0f), fin: first & 0x80 != 0, mask, starts: true, done: 0, left })
}

/// `done`: bytes of the payload that came before these.
fn unmask(bytes: &mut [u8], mask: Option<[u8; 4]>, done: u64) {
    let Some(mut mask) = mask else { return };
    mask.rotate_left((done % 4) as usize);
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut eights = bytes.chunks_exact_mut(8);
    for eight in &mut eights {
        let mut word = [0; 8];
        word.copy_from_slice(eight);
        eight.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    eights.into_remainder().iter_mut().zip([a, b, c, d, a, b, c]).for_each(|(byte, key)| *byte ^= key);
}

/// What a close frame says: its code, if it has one, and its reason (bad UTF-8 replaced).
pub fn close_reason(payload: &[u8]) -> (Option<u16>, String) {
    match payload.split_first_chunk() {
        Some((code, reason)) => (Some(u16::from_be_bytes(*code)), String::from_utf8_lossy(reason).into_owned()),
        None => (None, String::new()),
    }
}

/// A frame that a server sends: whole, unmasked.
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode.0];
    match payload.len() {
        short @ 0..=125 => frame.push(short as u8),
        medium @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            frame.push(127);
            frame.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

/// The payload of a close frame. A reason that does not fit is cut at a character's end.
pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    let mut payload = code.to_be_bytes().to_vec();
    let end = reason.floor_char_boundary(MAX_CONTROL_BYTES - payload.len());
    payload.extend_from_slice(&reason.as_bytes()[..end]);
    payload
}

#[cfg(test)]
mod tests;
