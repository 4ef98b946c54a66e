//! The model API of the benches: reads the request to its end and gives the answer that the request names.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::sessions::Session;

/// Which answer is wanted, where it belongs to no session.
pub(crate) const ANSWER: &str = "x-bench-answer";
/// Which session's answer is wanted, by its seed, and which of its turns.
pub(crate) const SESSION: &str = "x-bench-session";
pub(crate) const TURN: &str = "x-bench-turn";

/// The time between two events of [`Answer::Paced`].
pub(crate) const PACE: Duration = Duration::from_millis(10);
const PACED_EVENTS: usize = 20;

/// What is answered to what belongs to no session.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Answer {
    Json,
    /// Events as fast as they go, each flushed by itself.
    Events,
    /// Some events with [`PACE`] between them.
    Paced,
}

impl Answer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Answer::Json => "json",
            Answer::Events => "events",
            Answer::Paced => "paced",
        }
    }
}

/// The bytes of the answer to what belongs to no session.
pub(crate) fn fixed_answer(answer: Answer) -> Vec<u8> {
    match answer {
        Answer::Json => {
            let text = "y".repeat(1400);
            format!(r#"{{"type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}]}}"#)
                .into_bytes()
        }
        Answer::Events => events().concat(),
        Answer::Paced => paced_events().concat(),
    }
}

fn paced_events() -> Vec<Vec<u8>> {
    events().into_iter().take(PACED_EVENTS).collect()
}

fn events() -> Vec<Vec<u8>> {
    let event = |kind: &str, data: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{data}}}\n\n").into_bytes();
    let mut events = vec![
        event(
            "message_start",
            r#","message":{"role":"assistant","model":"claude-sonnet-4-5","usage":{"input_tokens":1}}"#,
        ),
        event("content_block_start", r#","index":0,"content_block":{"type":"text","text":""}"#),
        event("ping", ""),
    ];
    let words = |n: usize| format!(r#","index":0,"delta":{{"type":"text_delta","text":"word {n} of it"}}"#);
    events.extend((0..40).map(|n| event("content_block_delta", &words(n))));
    events.push(event("content_block_stop", r#","index":0"#));
    events.push(event("message_delta", r#","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":40}"#));
    events.push(event("message_stop", ""));
    events
}

/// Events one by one: each is flushed before the next is given.
struct Events {
    events: std::vec::IntoIter<Vec<u8>>,
    pace: Option<Interval>,
    flushed: bool,
}

impl Events {
    fn new(events: Vec<Vec<u8>>, pace: Option<Duration>) -> Self {
        let pace = pace.map(|pace| {
            let mut pace = interval(pace);
            pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
            pace
        });
        Self { events: events.into_iter(), pace, flushed: false }
    }
}

impl Body for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll_tick(cx));
        } else {
            self.flushed = !self.flushed;
            if self.flushed {
                // Between two events the connection is polled, and writes what it has.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(self.events.next().map(|event| Ok(Frame::data(Bytes::from(event)))))
    }
}

/// Serves on a free port, which it prints, until it is killed.
pub(crate) async fn serve() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(reply)));
    }
}

/// More sessions than one round has.
const MAX_SESSIONS: usize = 600;

thread_local! {
    static SESSIONS: RefCell<HashMap<u64, Vec<Vec<u8>>>> = RefCell::default();
}

/// The events that answer a turn of a session.
fn answer_of(seed: u64, turn: usize) -> Option<Vec<Vec<u8>>> {
    SESSIONS.with_borrow_mut(|sessions| {
        if sessions.len() > MAX_SESSIONS {
            sessions.clear();
        }
        let answer = sessions.entry(seed).or_insert_with(|| Session::of(seed).answers).get(turn)?;
        let text = std::str::from_utf8(answer).ok()?;
        Some(text.split_inclusive("\n\n").map(|event| event.as_bytes().to_vec()).collect())
    })
}

async fn reply(request: Request<Incoming>) -> Result<Response<BoxBody<Bytes, Infallible>>, hyper::Error> {
    let text = |name: &str| request.headers().get(name).and_then(|v| v.to_str().ok());
    let number = |name: &str| text(name).and_then(|v| v.parse::<u64>().ok());
    let turn = number(SESSION).zip(number(TURN)).and_then(|(seed, turn)| answer_of(seed, turn as usize));
    let answer = [Answer::Events, Answer::Paced].into_iter().find(|a| text(ANSWER) == Some(a.name()));
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    let events = match answer {
        Some(Answer::Paced) => Some(Events::new(paced_events(), Some(PACE))),
        Some(_) => Some(Events::new(turn.unwrap_or_else(events), None)),
        None => None,
    };
    let (kind, body) = match events {
        Some(events) => ("text/event-stream", events.boxed()),
        None => ("application/json", http_body_util::Full::new(Bytes::from(fixed_answer(Answer::Json))).boxed()),
    };
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}
