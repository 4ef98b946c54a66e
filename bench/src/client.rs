//! One connection that asks and compares what comes back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::sessions::Session;
use crate::upstream;

/// A page as text, over a connection of its own. Must be called within a `LocalSet`.
pub(crate) async fn get(from: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut connection = Connection::open(from).await?;
    let request = Request::get(path).header("host", from.to_string()).body(Full::default())?;
    let (page, _) = connection.ask_whole(request).await?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Has the model API make the answers of these sessions, so that no measurement waits for it.
pub(crate) async fn prepare(to: SocketAddr, seeds: impl Iterator<Item = u64>) -> anyhow::Result<()> {
    let local = tokio::task::LocalSet::new();
    let asking = async {
        let mut connection = Connection::open(to).await?;
        for seed in seeds {
            let mut request = connection.post(upstream::Answer::Json, None, Bytes::new())?;
            request.headers_mut().insert(upstream::SESSION, seed.into());
            request.headers_mut().insert(upstream::TURN, 0.into());
            connection.ask_whole(request).await?;
        }
        Ok(())
    };
    local.run_until(asking).await
}

pub(crate) struct Connection {
    to: SocketAddr,
    sender: SendRequest<Full<Bytes>>,
}

/// When the parts of an answer came, counted from the request.
pub(crate) struct Cadence {
    pub(crate) first: Duration,
    pub(crate) largest_gap: Duration,
    pub(crate) bytes: Bytes,
}

impl Connection {
    /// Must be called within a `LocalSet`.
    pub(crate) async fn open(to: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(to).await.with_context(|| format!("nothing answers on {to}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::task::spawn_local(connection);
        Ok(Self { to, sender })
    }

    /// The whole answer, and how long it took.
    pub(crate) async fn ask_whole(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<(Bytes, Duration)> {
        self.sender.ready().await?;
        let began = Instant::now();
        let answer = self.sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        Ok((answer, began.elapsed()))
    }

    /// The whole answer, and when its parts came.
    pub(crate) async fn ask_timed(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Cadence> {
        self.sender.ready().await?;
        let began = Instant::now();
        let mut body = self.sender.send_request(request).await?.into_body();
        let (mut first, mut last, mut largest_gap) = (None, began, Duration::ZERO);
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let now = Instant::now();
            match first {
                None => first = Some(now - began),
                Some(_) => largest_gap = largest_gap.max(now - last),
            }
            last = now;
            bytes.extend_from_slice(&data);
        }
        Ok(Cadence { first: first.context("an answer without a body")?, largest_gap, bytes: bytes.into() })
    }

    pub(crate) fn post(
        &self,
        kind: upstream::Answer,
        turn: Option<(&Session, usize)>,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post("/v1/messages")
            .header("host", self.to.to_string())
            .header("content-type", "application/json")
            .header("x-api-key", "sk-ant-test-000")
            .header(upstream::ANSWER, kind.name());
        if let Some((session, turn)) = turn {
            request = request.header("x-claude-code-session-id", &session.id);
            request = request.header(upstream::SESSION, session.seed).header(upstream::TURN, turn);
        }
        Ok(request.body(Full::new(body))?)
    }
}
