//! Bodies that are on record before they are passed on.
//!
//! [`RecordedBody`] wraps what hyper receives and hands each frame on when its [`Tap`] has recorded it; it holds one
//! frame at most. Nothing is polled ahead: a slow reader slows its writer down, and memory does not grow with the body.
//!
//! A body ends once: whole, broken, cut or dropped. The tap gives that end its record *before* the other side can see it:
//! with the last frame where its being the last is known, else before the end itself is passed on. At the level `power`
//! the last thing to be passed on, frame or end, waits for the disk.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::client_io::ClientState;

/// Why a body breaks off in front of its reader.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// The other side broke it.
    #[error("the sender broke off: {0}")]
    BySender(#[from] hyper::Error),
    /// It could not be recorded, and policy forbids to pass it on.
    #[error("it could not be recorded")]
    Unrecordable,
    /// The response ended before the request did; the rest of the request is neither recorded nor forwarded.
    #[error("the response ended before the request")]
    NotWanted,
}

/// What the sender gives: a frame, its failure, or the end.
type Item = Option<Result<Frame<Bytes>, hyper::Error>>;
/// What the reader gets: a frame, a break, or the end.
type Passed = Option<Result<Frame<Bytes>, Broken>>;
type Wait = Pin<Box<dyn Future<Output = Result<(), spool::Error>> + Send>>;

/// What a tap says of a frame or an end.
pub(crate) enum Verdict {
    /// Pass it on.
    Pass,
    /// Pass it on when this is done.
    After(Wait),
    /// Break the body off instead.
    Cut(Broken),
}

/// Records what passes in one direction.
pub(crate) trait Tap: Send + Unpin + 'static {
    /// A frame has come; `last`: it is known that none follows.
    fn frame(&mut self, frame: &Frame<Bytes>, last: bool) -> Verdict;
    /// The end has come by itself.
    fn end(&mut self) -> Verdict;
    /// The sender broke off. Gives the connection whose buffers have to be written out before the reader is told.
    fn broke(&mut self, error: &hyper::Error) -> Option<Arc<ClientState>>;
    /// Nobody wants the rest of the body.
    fn unread(&mut self, rest: Incoming);
}

/// What a body holds while it waits.
enum State {
    /// Nothing: the sender is asked.
    Flowing,
    /// What the sender gave when it was asked ahead of time, not recorded yet.
    Peeked(Item),
    /// Recorded; `None` is the end.
    Recorded(Option<Frame<Bytes>>),
    /// Recorded, not yet on stable storage.
    Syncing(Wait, Option<Frame<Bytes>>),
    /// Broken; the reader is told when the connection has written out everything before.
    Breaking(Broken, Pin<Box<dyn Future<Output = ()> + Send>>),
    /// Over.
    Over,
}

/// What the first look into a body found, without waiting.
pub(super) struct Peeked {
    item: Option<Item>,
    /// No frame follows this one.
    pub(super) last: bool,
}

impl Peeked {
    /// Looks whether something has arrived already. A small body has, most of the time; then one write takes it to the
    /// spool together with the head.
    pub(super) async fn look(body: &mut Incoming) -> Self {
        if body.is_end_stream() {
            return Self { item: None, last: true };
        }
        let item = std::future::poll_fn(|cx| match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(item) => Poll::Ready(Some(item)),
            Poll::Pending => Poll::Ready(None),
        })
        .await;
        let last = self::data(&item).is_some() && body.is_end_stream();
        Self { item, last }
    }

    /// The bytes that were found.
    pub(super) fn data(&self) -> Option<&Bytes> {
        data(&self.item)
    }
}

fn data(item: &Option<Item>) -> Option<&Bytes> {
    let frame = item.as_ref()?.as_ref()?.as_ref().ok()?;
    frame.data_ref()
}

/// A body under way.
pub(crate) struct RecordedBody<T: Tap> {
    /// None: taken away, because nobody wants the rest.
    inner: Option<Incoming>,
    tap: T,
    state: State,
    /// Bytes still to come, if the sender said how many.
    remaining: Option<u64>,
}

impl<T: Tap> RecordedBody<T> {
    /// `peeked` has been taken from `inner`; if it holds data, they are on record. `size` is what `inner` said of its
    /// size before it was looked into.
    pub(super) fn new(inner: Incoming, size: Option<u64>, peeked: Peeked, tap: T) -> Self {
        let state = match peeked.item {
            None if peeked.last => State::Over,
            None => State::Flowing,
            Some(Some(Ok(frame))) if frame.is_data() => State::Recorded(Some(frame)),
            Some(item) => State::Peeked(item),
        };
        Self { inner: Some(inner), tap, state, remaining: size }
    }

    /// One step: gives the frame or end to pass on, or changes the state.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Option<Passed>> {
        match std::mem::replace(&mut self.state, State::Over) {
            State::Flowing => {
                let Some(inner) = &mut self.inner else {
                    return Poll::Ready(Some(None));
                };
                match Pin::new(inner).poll_frame(cx) {
                    Poll::Ready(item) => self.state = State::Peeked(item),
                    Poll::Pending => {
                        self.state = State::Flowing;
                        return Poll::Pending;
                    }
                }
            }
            State::Peeked(item) => return Poll::Ready(self.arrived(item)),
            State::Recorded(frame) => return Poll::Ready(Some(self.pass(frame))),
            State::Syncing(mut sync, frame) => match sync.as_mut().poll(cx) {
                Poll::Ready(Ok(())) => self.state = State::Recorded(frame),
                Poll::Ready(Err(_)) => return Poll::Ready(Some(Some(Err(Broken::Unrecordable)))),
                Poll::Pending => {
                    self.state = State::Syncing(sync, frame);
                    return Poll::Pending;
                }
            },
            State::Breaking(broken, mut written_out) => {
                if written_out.as_mut().poll(cx).is_pending() {
                    self.state = State::Breaking(broken, written_out);
                    return Poll::Pending;
                }
                return Poll::Ready(Some(Some(Err(broken))));
            }
            State::Over => return Poll::Ready(Some(None)),
        }
        Poll::Ready(None)
    }

    fn arrived(&mut self, item: Item) -> Option<Passed> {
        let (verdict, frame) = match item {
            Some(Ok(frame)) => (self.tap.frame(&frame, self.is_last(&frame)), Some(frame)),
            None => (self.tap.end(), None),
            Some(Err(error)) => {
                let waits_for = self.tap.broke(&error);
                let broken = Broken::BySender(error);
                let Some(client) = waits_for else {
                    return Some(Some(Err(broken)));
                };
                self.state = State::Breaking(broken, Box::pin(client.written_out()));
                return None;
            }
        };
        match verdict {
            Verdict::Pass => Some(self.pass(frame)),
            Verdict::After(sync) => {
                self.state = State::Syncing(sync, frame);
                None
            }
            Verdict::Cut(broken) => {
                self.give_up();
                Some(Some(Err(broken)))
            }
        }
    }

    /// Hands over what is left unread.
    fn give_up(&mut self) {
        if let Some(rest) = self.inner.take().filter(|inner| !inner.is_end_stream()) {
            self.tap.unread(rest);
        }
    }

    fn pass(&mut self, frame: Option<Frame<Bytes>>) -> Passed {
        let frame = frame?;
        if !self.is_last(&frame) {
            self.state = State::Flowing;
        }
        if let (Some(remaining), Some(data)) = (&mut self.remaining, frame.data_ref()) {
            *remaining = remaining.saturating_sub(data.len() as u64);
        }
        Some(Ok(frame))
    }

    /// Where a length was announced the last data frame is known; trailers always are the last.
    fn is_last(&self, frame: &Frame<Bytes>) -> bool {
        frame.is_trailers() || self.inner.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl<T: Tap> Body for RecordedBody<T> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        loop {
            if let Some(item) = ready!(self.step(cx)) {
                return Poll::Ready(item);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl<T: Tap> Drop for RecordedBody<T> {
    fn drop(&mut self) {
        if !matches!(self.state, State::Over) {
            self.give_up();
        }
    }
}
