//! MCP over Streamable HTTP: a POST for each message, an event stream where the server wants one.
//!
//! Legacy servers (2025-03-26 to 2025-11-25) may give a session, may send of their own accord on a GET stream, and may let a
//! stream be resumed; modern ones (2026-07-28) have none of these. A server that no longer knows our session has taken
//! nothing: the request is handed back ([`Event::Expired`]) to be sent in a new session. Nothing else is ever sent twice.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use url::Url;

use super::connector::Connector;
use super::http_peer::{Peer, Posted};
use super::http_post::{listen, post};
use super::{Ends, Event, Link, Outgoing, Seen};

/// A link to the server. Nothing is sent yet.
pub(crate) fn open(connector: &Connector, url: &Url, headers: &HeaderMap, seen: Seen) -> (Link, Arc<Peer>) {
    let peer = Arc::new(Peer::new(connector, url, headers, seen.clone()));
    let (mut link, ends) = Link::new(seen);
    link.own(tokio::spawn(serve(peer.clone(), ends)));
    (link, peer)
}

async fn serve(peer: Arc<Peer>, ends: Ends) {
    let Ends { mut outgoing, events, stop, .. } = ends;
    let mut posts = Posts { peer: peer.clone(), events, tasks: JoinSet::new(), requests: HashMap::new() };
    loop {
        let next = tokio::select! {
            next = outgoing.recv() => next,
            Some(_) = posts.tasks.join_next() => continue,
            () = stop.cancelled() => None,
        };
        match next {
            Some(outgoing) => posts.take(outgoing).await,
            None => break,
        }
    }
    posts.tasks.shutdown().await;
    peer.end_session().await;
}

/// The exchanges under way.
struct Posts {
    peer: Arc<Peer>,
    events: mpsc::Sender<Event>,
    tasks: JoinSet<()>,
    requests: HashMap<u64, AbortHandle>,
}

impl Posts {
    async fn take(&mut self, outgoing: Outgoing) {
        let (peer, events) = (self.peer.clone(), self.events.clone());
        match outgoing {
            Outgoing::Request { id, bytes, about } => {
                self.requests.retain(|_, task| !task.is_finished());
                let task = self.tasks.spawn(async move { post(&peer, id, Posted { bytes, about }, &events).await });
                self.requests.insert(id, task);
            }
            Outgoing::Other { bytes } => {
                self.tasks.spawn(async move { notify(&peer, bytes).await });
            }
            Outgoing::Streamless { .. } if peer.is_modern() => {}
            Outgoing::Streamless { bytes } => {
                self.tasks.spawn(async move { notify(&peer, bytes).await });
            }
            Outgoing::InOrder { bytes } => notify(&peer, bytes).await,
            Outgoing::Abandon { id } => {
                if let Some(task) = self.requests.remove(&id) {
                    task.abort();
                }
            }
            Outgoing::OpenStream => {
                self.tasks.spawn(async move { listen(&peer, &events).await });
            }
        }
    }
}

/// Sends what gets no answer; a server that does not want it has said so in its log or nowhere.
async fn notify(peer: &Peer, bytes: Bytes) {
    match peer.send(&Posted { bytes, about: None }).await {
        Ok(response) if response.status().is_success() => {}
        Ok(response) => tracing::debug!(status = %response.status(), "a server refused a notification"),
        Err(failure) => tracing::debug!(%failure, "a notification did not arrive"),
    }
}
