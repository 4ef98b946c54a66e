//! One connection of the fake API, request after request.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Shared;
use super::log::{Entry, Sent};
use super::reply::{Delimiter, End, HeadPart, Reply};
use crate::http::{self, Ending, Head};
use crate::wait::PATIENCE;

/// Serves a connection until one side ends it.
pub(super) fn serve(stream: TcpStream, number: usize, shared: &Shared) {
    let prepared = stream.set_nodelay(true).and_then(|()| Ok((stream.try_clone()?, stream.try_clone()?)));
    let Ok((registered, reading)) = prepared else { return };
    shared.open.lock().expect("no panic under this lock").insert(number, registered);
    let mut connection = Connection { stream, reader: BufReader::new(reading), number, shared };
    while connection.exchange() {}
    // Closed here, after the last copy of the socket has left the map: a reset is only sent by the last close.
    shared.open.lock().expect("no panic under this lock").remove(&number);
}

struct Connection<'a> {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
    number: usize,
    shared: &'a Shared,
}

impl Connection<'_> {
    /// One exchange; false when there can be no further one.
    fn exchange(&mut self) -> bool {
        let Ok(head) = http::read_head(&mut self.reader) else {
            return false;
        };
        if head.get("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
            && self.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
        {
            return false;
        }
        let mut body = Vec::new();
        let framing = head.request_framing();
        let ending = http::read_body(&mut self.reader, framing, &mut |piece| body.extend_from_slice(piece));
        let mut entry = entry(&head, body, self.number);
        if ending != Ending::Complete {
            entry.sent = Sent::RequestBroken;
            let number = self.shared.log.begin(entry);
            self.shared.log.update(number, |_| {});
            return false;
        }
        let (reply, script, fault) = self.shared.reply(&entry);
        entry.script = script;
        entry.fault = fault;
        if reply.head == HeadPart::Whole {
            entry.status = reply.status;
            entry.response_fields = reply.all_fields();
        }
        let number = self.shared.log.begin(entry);
        let sent = self.send(&reply, head.word(0), number);
        self.shared.log.update(number, |entry| entry.sent = sent);
        let last = head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        sent == Sent::Whole && reply.delimiter != Delimiter::Close && !last
    }

    fn send(&mut self, reply: &Reply, method: &str, number: usize) -> Sent {
        let body = if method == "HEAD" || reply.status == 204 { &[][..] } else { &reply.pieces[..] };
        if self.stream.write_all(&reply.head_bytes()).is_err() {
            return Sent::ClientGone;
        }
        for (i, piece) in body.iter().enumerate() {
            if i > 0 {
                pause(reply.pace);
            }
            if let Some(gate) = &reply.lockstep {
                self.shared.gates.pass(gate, PATIENCE);
            }
            if self.write_piece(reply.delimiter, piece).is_err() {
                return Sent::ClientGone;
            }
            self.shared.log.update(number, |entry| entry.response_body.extend_from_slice(piece));
        }
        if let (Some(gate), true) = (&reply.gate, matches!(reply.end, End::Fin | End::Reset)) {
            self.shared.gates.pass(gate, PATIENCE);
        }
        self.end(reply, method)
    }

    fn write_piece(&mut self, delimiter: Delimiter, piece: &[u8]) -> std::io::Result<()> {
        match delimiter {
            Delimiter::Chunked if piece.is_empty() => Ok(()),
            Delimiter::Chunked => {
                let framed = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
                self.stream.write_all(&framed)
            }
            _ => self.stream.write_all(piece),
        }
    }

    fn end(&mut self, reply: &Reply, method: &str) -> Sent {
        match reply.end {
            End::Proper if reply.delimiter == Delimiter::Chunked && method != "HEAD" && reply.status != 204 => {
                if self.stream.write_all(b"0\r\n\r\n").is_err() { Sent::ClientGone } else { Sent::Whole }
            }
            End::Proper => Sent::Whole,
            End::Fin => {
                drop(self.stream.shutdown(Shutdown::Write));
                Sent::BrokenOff
            }
            End::Reset => {
                drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)));
                Sent::BrokenOff
            }
            End::Hang => {
                let mut rest = [0; 1024];
                while matches!(self.reader.read(&mut rest), Ok(n) if n > 0) {}
                Sent::ClientGone
            }
        }
    }
}

/// The pace of a stream is what is being played here, not a wait for something to happen.
fn pause(pace: Duration) {
    if !pace.is_zero() {
        std::thread::sleep(pace);
    }
}

fn entry(head: &Head, request_body: Vec<u8>, connection: usize) -> Entry {
    Entry {
        number: 0,
        connection,
        method: head.word(0).to_owned(),
        target: head.word(1).to_owned(),
        request_fields: head.fields.clone(),
        request_body,
        status: 0,
        response_fields: Vec::new(),
        response_body: Vec::new(),
        sent: Sent::Running,
        script: None,
        fault: None,
    }
}
