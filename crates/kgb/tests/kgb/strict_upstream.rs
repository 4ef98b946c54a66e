//! An upstream that takes HTTP/1.1 by the letter, and remembers every request that reached it whole.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A request as it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct StrictUpstream {
    pub(crate) port: u16,
    /// Requests, and complaints about what could be understood in two ways.
    log: Arc<Mutex<Vec<Result<Seen, String>>>>,
}

impl StrictUpstream {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log: Arc<Mutex<Vec<_>>> = Arc::default();
        let shared = log.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, shared.clone()));
            }
        });
        Self { port, log }
    }

    /// What has come since it was asked last.
    pub(crate) fn take(&self) -> Vec<Result<Seen, String>> {
        std::mem::take(&mut *self.log.lock().unwrap())
    }
}

async fn serve(stream: TcpStream, log: Arc<Mutex<Vec<Result<Seen, String>>>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let request = match read(&mut stream).await {
            Ok(Some(seen)) => Ok(seen),
            // It broke off: nothing that an upstream would act on.
            Ok(None) => return,
            Err(complaint) => Err(complaint),
        };
        let target = request.as_ref().map_or_else(String::clone, |seen| seen.target.clone());
        let is_good = request.is_ok();
        log.lock().unwrap().push(request);
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
        if stream.get_mut().write_all(answer.as_bytes()).await.is_err() || !is_good {
            return;
        }
    }
}

/// `None`: it ended before the request did.
async fn read(stream: &mut BufReader<TcpStream>) -> Result<Option<Seen>, String> {
    let Some(start) = line(stream).await? else { return Ok(None) };
    let mut headers: Vec<(String, String)> = Vec::new();
    loop {
        let Some(field) = line(stream).await? else { return Ok(None) };
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').ok_or(format!("no colon: {field:?}"))?;
        let is_token =
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
        if !is_token {
            return Err(format!("no name: {field:?}"));
        }
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let [method, target, "HTTP/1.1"] = start.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!("no request line: {start:?}"));
    };
    let all = |name: &str| headers.iter().filter(|header| header.0 == name).map(|h| h.1.clone()).collect::<Vec<_>>();
    if all("host").len() != 1 {
        return Err(format!("{} hosts", all("host").len()));
    }
    let body = match (&all("content-length")[..], &all("transfer-encoding")[..]) {
        ([], []) => Some(Vec::new()),
        ([length], []) if length.bytes().all(|b| b.is_ascii_digit()) => {
            exactly(stream, length.parse().map_err(|_| format!("length {length:?}"))?).await
        }
        ([], [encoding]) if encoding.eq_ignore_ascii_case("chunked") => chunks(stream).await?,
        (lengths, encodings) => return Err(format!("framed by {lengths:?} and {encodings:?}")),
    };
    Ok(body.map(|body| Seen { method: method.into(), target: target.into(), body }))
}

async fn chunks(stream: &mut BufReader<TcpStream>) -> Result<Option<Vec<u8>>, String> {
    let mut body = Vec::new();
    loop {
        let Some(size) = line(stream).await? else { return Ok(None) };
        if size.is_empty() || size.len() > 8 || !size.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(format!("chunk size {size:?}"));
        }
        let size = usize::from_str_radix(&size, 16).map_err(|_| format!("chunk size {size:?}"))?;
        if size == 0 {
            // Trailers, up to the empty line.
            while let Some(field) = line(stream).await? {
                if field.is_empty() {
                    return Ok(Some(body));
                }
            }
            return Ok(None);
        }
        let Some(chunk) = exactly(stream, size).await else { return Ok(None) };
        body.extend(chunk);
        match line(stream).await? {
            None => return Ok(None),
            Some(end) if end.is_empty() => {}
            Some(end) => return Err(format!("after a chunk: {end:?}")),
        }
    }
}

/// A line without its CRLF; anything else that might be taken for a line's end is an error.
async fn line(stream: &mut BufReader<TcpStream>) -> Result<Option<String>, String> {
    let mut line = Vec::new();
    match stream.read_until(b'\n', &mut line).await {
        Ok(_) if line.ends_with(b"\n") => {}
        _ => return Ok(None),
    }
    let text = String::from_utf8_lossy(&line).into_owned();
    let Some(text) = text.strip_suffix("\r\n") else { return Err(format!("bare line feed: {text:?}")) };
    if text.contains(['\r', '\0']) { Err(format!("control character: {text:?}")) } else { Ok(Some(text.to_owned())) }
}

async fn exactly(stream: &mut BufReader<TcpStream>, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}
