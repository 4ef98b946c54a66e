//! A client that shows what is on the wire.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::http::{self, Ending, Head};

/// How long a client listens to a silent connection before it says [`Ending::Silence`].
pub const LISTENING: Duration = Duration::from_secs(20);

/// A request, sent exactly as written here.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Fields, in order; `Content-Length` is added when the body is not empty and nothing else delimits it.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without fields and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self { method: method.to_owned(), target: target.to_owned(), fields: Vec::new(), body: Vec::new() }
    }

    /// A call of the Messages API with the fields that matter to a recorder.
    pub fn message(body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", "/v1/messages?beta=true")
            .field("Content-Type", "application/json")
            .field("X-Api-Key", crate::DUMMY_KEY)
            .field("Anthropic-Version", "2023-06-01")
            .body(body)
    }

    /// The same request with one more field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same request with this body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// What goes over the wire to `host`.
    pub fn bytes(&self, host: SocketAddr) -> Vec<u8> {
        let has = |name: &str| self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let mut text = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !has("host") {
            text.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !has("content-length") && !has("transfer-encoding") && (!self.body.is_empty() || self.method == "POST") {
            text.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        text.push_str("\r\n");
        [text.as_bytes(), &self.body].concat()
    }
}

/// What a client saw of a response.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The head, if one came whole.
    pub head: Option<Head>,
    /// What came of a head that did not come whole.
    pub fragment: Vec<u8>,
    /// The body's bytes, without framing.
    pub body: Vec<u8>,
    /// How it ended.
    pub ending: Ending,
}

impl Seen {
    /// The status, if a head came.
    pub fn status(&self) -> Option<u16> {
        self.head.as_ref().and_then(Head::status)
    }

    /// A field of the response's head.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.head.as_ref().and_then(|head| head.get(name))
    }

    /// The id under which the gateway recorded the exchange.
    pub fn exchange_id(&self) -> Option<&str> {
        self.get("x-iccm-exchange-id")
    }
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    peer: SocketAddr,
}

impl Connection {
    /// Connects; the error is the operating system's.
    pub fn open(peer: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&peer, LISTENING)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LISTENING))?;
        stream.set_write_timeout(Some(LISTENING))?;
        let reader = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, reader, peer })
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends a request whole.
    pub fn request(&mut self, request: &Request) -> std::io::Result<()> {
        let bytes = request.bytes(self.peer);
        self.send(&bytes)
    }

    /// Reads the response to a request with that method.
    pub fn response(&mut self, method: &str) -> Seen {
        self.response_seen(method, &mut |_| {})
    }

    /// Reads a response and tells `progress` the body's bytes as they come, all of them so far.
    pub fn response_seen(&mut self, method: &str, progress: &mut dyn FnMut(&[u8])) -> Seen {
        let mut body = Vec::new();
        let seen = self.response_pieces(method, &mut |piece| {
            body.extend_from_slice(piece);
            progress(&body);
        });
        Seen { body, ..seen }
    }

    /// Reads a response of any size and hands on the pieces of its body as they come; what is returned has none of them.
    pub fn response_pieces(&mut self, method: &str, piece: &mut dyn FnMut(&[u8])) -> Seen {
        let seen = |head, fragment, ending| Seen { head, fragment, body: Vec::new(), ending };
        match http::read_head(&mut self.reader) {
            Ok(head) => {
                let ending = http::read_body(&mut self.reader, head.response_framing(method), piece);
                seen(Some(head), Vec::new(), ending)
            }
            Err((fragment, ending)) => seen(None, fragment, ending),
        }
    }

    /// How long [`Self::response`] listens to a silent connection.
    pub fn listen_for(&self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a read timeout can be set");
    }

    /// Closes with a reset: whatever has not been read is thrown away.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER can be set");
    }

    /// Says that nothing more will be sent.
    pub fn shut_sending(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("a connected socket can be shut");
    }
}

/// One request on a connection of its own.
pub fn exchange(server: SocketAddr, request: &Request) -> Seen {
    let mut connection = Connection::open(server).unwrap_or_else(|e| panic!("no connection to {server}: {e}"));
    // A server may answer, or close, before it has read everything: what it said is worth more than the failed write.
    drop(connection.request(request));
    connection.response(&request.method)
}
