//! What is recorded of a request's body and of a response's, and when.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use winni::model::Outcome;

use super::body::{Broken, RecordedBody, Tap, Verdict};
use super::cause::is_reset;
use super::client_io::ClientState;
use crate::entry::{REQUEST_BODY, REQUEST_TRAILERS, RESPONSE_BODY, RESPONSE_TRAILERS};
use crate::recorder::{Kept, Recording, Running};

/// Where a request's body goes that the upstream did not take: the service fetches it from here, to read it to its end
/// before it answers (a client that is still sending may not look at an answer, and loses it when we close).
#[derive(Clone, Default)]
pub(crate) struct Unread(Arc<Mutex<Option<Incoming>>>);

impl Unread {
    pub(super) fn take(&self) -> Option<Incoming> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, rest: Incoming) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rest);
    }

    /// The answer has come before the request's end: reads the rest and throws it away, so that the client, which may
    /// look at the answer only when it has sent everything, gets to see it.
    fn discard(&self) {
        if let Some(rest) = self.take() {
            tokio::spawn(tokio::time::timeout(DISCARD_FOR, discard(rest)));
        }
    }
}

const DISCARD_FOR: Duration = Duration::from_secs(30);
const DISCARD_BYTES: usize = 64 << 20;

/// Reads a body to its end, or until it is unreasonable.
pub(super) async fn discard(mut body: Incoming) {
    let mut left = DISCARD_BYTES;
    while let Some(Ok(frame)) = body.frame().await {
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        match left.checked_sub(bytes) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// A request's body on its way to the upstream.
pub(super) type RequestBody = RecordedBody<RequestTap>;

/// Records the request's side of an exchange.
pub(super) struct RequestTap {
    pub(super) running: Arc<Running>,
    pub(super) unread: Unread,
}

impl RequestTap {
    fn whole(&self) -> Verdict {
        self.running.request_whole();
        if self.running.needs_sync() { synced(&self.running) } else { Verdict::Pass }
    }
}

impl Tap for RequestTap {
    fn frame(&mut self, frame: &Frame<Bytes>, last: bool) -> Verdict {
        let kept = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if !data.is_empty() => self.running.keep(&[(REQUEST_BODY, data)]),
            (_, Some(trailers)) => {
                self.running.keep(&[(REQUEST_TRAILERS, &self.running.recorder().trailers(trailers))])
            }
            _ => Kept::Unrecorded,
        };
        match kept {
            Kept::MustNotPass => Verdict::Cut(Broken::Unrecordable),
            Kept::Ended => Verdict::Cut(Broken::NotWanted),
            Kept::At(_) | Kept::Unrecorded if last => self.whole(),
            Kept::At(_) | Kept::Unrecorded => Verdict::Pass,
        }
    }

    fn end(&mut self) -> Verdict {
        self.whole()
    }

    fn broke(&mut self, _: &hyper::Error) -> Option<Arc<ClientState>> {
        self.running.request_broken();
        None
    }

    fn unread(&mut self, rest: Incoming) {
        self.unread.put(rest);
        if self.running.is_ended() {
            self.unread.discard();
        }
    }
}

/// The request is whole already: nothing of it may go on before it is as durable as it has to be.
pub(crate) async fn settle_request(recording: &Recording) -> Result<(), spool::Error> {
    let running = recording.running();
    running.request_whole();
    if running.needs_sync() {
        running.recorder().sync(running.written()).await?;
    }
    Ok(())
}

/// Records the response's side of an exchange, and its end.
pub(crate) struct ResponseTap {
    /// None: the end is on record.
    pub(super) recording: Option<Recording>,
    pub(super) client: Arc<ClientState>,
    /// What the upstream has left of the request.
    pub(super) unread: Unread,
}

impl ResponseTap {
    fn finish(&mut self, parts: &[(spool::Channel, &[u8])]) -> Verdict {
        let Some(recording) = self.recording.take() else {
            return Verdict::Pass;
        };
        let running = recording.running().clone();
        let kept = recording.finish(parts, Outcome::Complete);
        self.unread.discard();
        match kept {
            Kept::MustNotPass => Verdict::Cut(Broken::Unrecordable),
            _ if running.needs_sync() => synced(&running),
            _ => Verdict::Pass,
        }
    }

    /// Records the response's head, with the data that came at once; `last`: that is all.
    pub(super) fn head(&mut self, parts: [Option<(spool::Channel, &[u8])>; 2], last: bool) -> Kept {
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let Some(recording) = self.recording.take() else {
            return Kept::Ended;
        };
        if last {
            let kept = recording.finish(&parts, Outcome::Complete);
            self.unread.discard();
            return kept;
        }
        let kept = recording.running().keep(&parts);
        if kept == Kept::MustNotPass {
            recording.finish(&[], Outcome::Refused);
        } else {
            self.recording = Some(recording);
        }
        kept
    }

    fn part(&mut self, part: (spool::Channel, &[u8]), last: bool) -> Verdict {
        if last {
            return self.finish(&[part]);
        }
        match self.recording.as_ref().map(|recording| recording.running().keep(&[part])) {
            Some(Kept::MustNotPass) => {
                if let Some(recording) = self.recording.take() {
                    recording.finish(&[], Outcome::Refused);
                }
                Verdict::Cut(Broken::Unrecordable)
            }
            _ => Verdict::Pass,
        }
    }
}

impl Tap for ResponseTap {
    fn frame(&mut self, frame: &Frame<Bytes>, last: bool) -> Verdict {
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) if !data.is_empty() => self.part((RESPONSE_BODY, data), last),
            (_, Some(trailers)) => {
                let lines = self.recording.as_ref().map(|recording| recording.running().recorder().trailers(trailers));
                self.part((RESPONSE_TRAILERS, &lines.unwrap_or_default()), last)
            }
            _ if last => self.finish(&[]),
            _ => Verdict::Pass,
        }
    }

    fn end(&mut self) -> Verdict {
        self.finish(&[])
    }

    fn broke(&mut self, error: &hyper::Error) -> Option<Arc<ClientState>> {
        let recording = self.recording.take()?;
        if recording.is_request_broken() {
            recording.finish(&[], Outcome::ClientAborted);
            return None;
        }
        tracing::info!(exchange = %recording.id(), %error, "the upstream broke off; so does the client's connection");
        recording.finish(&[], Outcome::UpstreamAborted);
        if is_reset(error) {
            self.client.reset_on_close();
        }
        Some(self.client.clone())
    }

    fn unread(&mut self, _: Incoming) {}
}

/// Everything that was recorded by now, on stable storage.
fn synced(running: &Arc<Running>) -> Verdict {
    let (recorder, position) = (running.recorder().clone(), running.written());
    Verdict::After(Box::pin(async move { recorder.sync(position).await }))
}
