//! An answer as it goes over the wire: its pieces, its pace and its ending, proper or not.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};

use super::answer::event;

/// How the end of the body is made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimiter {
    /// `Transfer-Encoding: chunked`, a chunk for each piece.
    Chunked,
    /// `Content-Length` of what is sent.
    Length,
    /// `Content-Length` of so many bytes, whatever is sent.
    Claim(usize),
    /// The end of the connection.
    Close,
}

/// How much of the head is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadPart {
    /// All.
    Whole,
    /// Its first half.
    Half,
    /// Nothing, and no body.
    Nothing,
}

/// What comes after the last piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// What the delimiter asks for.
    Proper,
    /// An orderly close of the connection (FIN).
    Fin,
    /// A reset of the connection (RST).
    Reset,
    /// Nothing: the connection stays open until the client closes it.
    Hang,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Fields; those that delimit the body are added when it is sent.
    pub fields: Vec<(String, String)>,
    /// The body, in the pieces in which it is written.
    pub pieces: Vec<Vec<u8>>,
    /// How its end is made known.
    pub delimiter: Delimiter,
    /// How much of the head is sent.
    pub head: HeadPart,
    /// What comes after the last piece.
    pub end: End,
    /// Pause before each piece but the first.
    pub pace: Duration,
    /// Gate to pass before each piece.
    pub lockstep: Option<String>,
    /// Gate to pass before the end, when it is not the proper one.
    pub gate: Option<String>,
}

impl Reply {
    /// A complete answer of one piece.
    pub fn whole(status: u16, content_type: &str, body: Vec<u8>) -> Self {
        Self {
            status,
            fields: vec![("content-type".to_owned(), content_type.to_owned())],
            pieces: vec![body],
            delimiter: Delimiter::Length,
            head: HeadPart::Whole,
            end: End::Proper,
            pace: Duration::ZERO,
            lockstep: None,
            gate: None,
        }
    }

    /// A complete JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::whole(status, "application/json", serde_json::to_vec(body).expect("JSON"))
    }

    /// An event stream.
    pub fn stream(events: Vec<Vec<u8>>) -> Self {
        let mut reply = Self::whole(200, "text/event-stream; charset=utf-8", Vec::new());
        reply.fields.push(("cache-control".to_owned(), "no-cache".to_owned()));
        reply.pieces = events;
        reply.delimiter = Delimiter::Chunked;
        reply
    }

    /// An error in the API's own form.
    pub fn error(status: u16, kind: &str, message: &str) -> Self {
        Self::json(status, &json!({"type": "error", "error": {"type": kind, "message": message}}))
    }

    /// The same answer with one more field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The body compressed with gzip, piece by piece, so that a stream stays one.
    pub fn gzip(self) -> Self {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut pieces = Vec::new();
        for piece in &self.pieces {
            encoder.write_all(piece).and_then(|()| encoder.flush()).expect("a vector can be written");
            pieces.push(std::mem::take(encoder.get_mut()));
        }
        pieces.push(encoder.finish().expect("a vector can be written"));
        Self { pieces, ..self }.field("content-encoding", "gzip")
    }

    /// Size of the body.
    pub fn size(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum()
    }

    /// The fields as they are sent.
    pub fn all_fields(&self) -> Vec<(String, String)> {
        let mut fields = self.fields.clone();
        let mut add = |name: &str, value: String| fields.push((name.to_owned(), value));
        match self.delimiter {
            _ if self.status == 204 => {}
            Delimiter::Chunked => add("transfer-encoding", "chunked".to_owned()),
            Delimiter::Length => add("content-length", self.size().to_string()),
            Delimiter::Claim(size) => add("content-length", size.to_string()),
            Delimiter::Close => add("connection", "close".to_owned()),
        }
        fields
    }

    /// The head as it is sent.
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in self.all_fields() {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        match self.head {
            HeadPart::Whole => text.into_bytes(),
            HeadPart::Half => text.as_bytes()[..text.len() / 2].to_vec(),
            HeadPart::Nothing => Vec::new(),
        }
    }
}

/// Every fault by name; what each does is said by [`play`].
pub const FAULTS: [&str; 24] = [
    "status_400",
    "status_401",
    "status_403",
    "status_404",
    "status_413",
    "status_429",
    "status_500",
    "status_503",
    "status_529",
    "html_502",
    "no_content",
    "close_without_reply",
    "reset_without_reply",
    "hang",
    "half_head",
    "fin_mid_stream",
    "reset_mid_stream",
    "stall_mid_stream",
    "fin_mid_length",
    "early_end",
    "error_event",
    "pings",
    "close_delimited",
    "lockstep",
];

/// The good answer `reply`, spoilt by the fault of that name. An unknown name is a mistake in a test.
pub fn play(fault: &str, reply: Reply) -> Reply {
    match fault {
        "html_502" => Reply::whole(502, "text/html", HTML_502.as_bytes().to_vec()),
        "no_content" => Reply { status: 204, pieces: Vec::new(), fields: Vec::new(), ..reply },
        "close_without_reply" => Reply { head: HeadPart::Nothing, pieces: Vec::new(), end: End::Fin, ..reply },
        "reset_without_reply" => Reply { head: HeadPart::Nothing, pieces: Vec::new(), end: End::Reset, ..reply },
        "hang" => Reply { head: HeadPart::Nothing, pieces: Vec::new(), end: End::Hang, ..reply },
        "half_head" => Reply { head: HeadPart::Half, pieces: Vec::new(), end: End::Fin, ..reply },
        "fin_mid_stream" => Reply { end: End::Fin, ..first_half(reply) },
        "reset_mid_stream" => Reply { end: End::Reset, ..first_half(reply) },
        "stall_mid_stream" => Reply { end: End::Hang, ..first_half(reply) },
        "fin_mid_length" => {
            let delimiter = Delimiter::Claim(reply.size());
            Reply { delimiter, end: End::Fin, ..first_half(reply) }
        }
        "early_end" => first_half(reply),
        "error_event" => {
            let mut reply = first_half(reply);
            let error = json!({"type": "overloaded_error", "message": "Overloaded"});
            reply.pieces.push(event(&json!({"type": "error", "error": error})));
            reply
        }
        "pings" => {
            let ping = event(&json!({"type": "ping"}));
            let between = |piece: Vec<u8>| [piece, ping.clone(), b": still here\n\n".to_vec()];
            Reply { pieces: reply.pieces.into_iter().flat_map(between).collect(), ..reply }
        }
        "close_delimited" => Reply { delimiter: Delimiter::Close, ..reply },
        "lockstep" => Reply { lockstep: Some(reply.gate.clone().expect("lockstep needs x-fake-gate")), ..reply },
        other => match other.strip_prefix("status_").and_then(|status| status.parse().ok()) {
            Some(status) => status_error(status),
            None => panic!("no fault is called {other}"),
        },
    }
}

fn first_half(mut reply: Reply) -> Reply {
    match reply.pieces.as_mut_slice() {
        [only] => only.truncate(only.len() / 2),
        pieces => {
            let half = pieces.len() / 2;
            reply.pieces.truncate(half);
        }
    }
    reply
}

fn status_error(status: u16) -> Reply {
    let (kind, message) = match status {
        400 => ("invalid_request_error", "messages.0: scripted complaint about “Grüße”"),
        401 => ("authentication_error", "invalid x-api-key"),
        403 => ("permission_error", "Your API key does not have permission to use the specified resource."),
        404 => ("not_found_error", "Not found"),
        413 => ("request_too_large", "Request exceeds the maximum size"),
        429 => ("rate_limit_error", "This request would exceed your rate limit."),
        529 => ("overloaded_error", "Overloaded"),
        _ => ("api_error", "Internal server error"),
    };
    let reply = Reply::error(status, kind, message);
    if matches!(status, 429 | 503 | 529) { reply.field("retry-after", "1") } else { reply }
}

const HTML_502: &str = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n\
    <center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>cloudflare</center>\r\n</body>\r\n</html>\r\n";

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        413 => "Payload Too Large",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "",
    }
}
